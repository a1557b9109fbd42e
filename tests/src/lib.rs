//! The HTTP contract of kubeagents as an executable suite.
//!
//! A [`Host`] says where a server listens and how it was configured; [`trials`] turns the
//! contract into [`libtest_mimic`] trials against it, and [`run`] runs them. The suite knows
//! nothing of the server but its HTTP interface and, for accounts, the verification links in
//! its [`Log`].

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the crate is a test suite: a panic is how a scenario fails"
)]

mod accounts;
pub mod agent_tools;
mod api_keys;
mod audit;
mod channels;
mod client;
mod cookies;
mod cors;
mod credentials;
mod events;
mod gates;
mod hooks;
mod host;
mod jwt;
mod limits;
pub mod mcp_clients;
mod notifications;
pub mod openapi;
mod operations;
mod page;
pub mod page_in_browser;
mod paging;
mod paths;
mod process;
mod queries;
mod receiver;
pub mod recorded;
mod report_fields;
mod reports;
mod scenario;
mod sessions;
mod settings;
mod teams;
mod tokens;
mod tools;
mod webhook_libraries;
mod workspaces;
mod world;

pub use host::{Host, MEMBERS, Mode, SETTINGS};
pub use libtest_mimic::{Arguments, Conclusion, Trial};
pub use process::{Log, Process};
pub use receiver::Receiver;
pub use scenario::{run, trials};
pub use tools::{COMPONENT_TARGET, Packages, build_component, succeed};
pub use webhook_libraries::WebhookLibraries;
