//! What the native server does beyond the HTTP contract: its configuration, its clients' limits, its
//! end, and what it sends by itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod access;
mod channels;
mod clients;
mod commands;
mod configuration;
mod deploy;
mod events;
mod guides;
mod logins;
mod mail;
mod manual;
mod mcp;
mod memory;
mod metrics;
mod notifications;
mod openapi;
mod operator;
mod page;
mod postgres;
mod proxy;
mod release;
mod secrets;
mod setup;
mod shutdown;
mod spans;
mod sqlite;
mod support;
mod tls;
