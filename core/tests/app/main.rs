//! The application as a whole, on ports that a test holds in its hands.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod audit;
mod cookies;
mod limits;
mod links;
mod mcp;
mod openapi;
mod operator;
mod pages;
mod reads;
mod server;
mod sessions;
mod settings;
mod teams;
mod tokens;
