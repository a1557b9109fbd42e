//! Runs the Spin application without Spin: the component in wasmtime, and of Spin just the
//! interfaces that it imports, on a real SQLite, a real PostgreSQL and a real network.

mod bindings;
mod build;
mod host;
mod manifest;
mod outbound;
#[expect(clippy::result_large_err, reason = "the interface makes the error")]
mod postgres;
mod sqlite;
mod state;
mod stream;
mod variables;

pub use build::{Built, manifest, store_suite};
pub use host::{Compiled, Options, Reuse, SpinHost};
pub use manifest::{BuildCommand, Component, Manifest, Variable};
