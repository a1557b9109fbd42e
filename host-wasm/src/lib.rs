//! What kubeagents' WebAssembly components share: reading the configuration, the ports of the core
//! that every platform has, delivery of notifications after the answer, and the log.
//!
//! The crate has no bindings to a platform: what the standard library lacks, a component hands in
//! as a [`Platform`]. An [`Instance`] is what one instance of a component keeps while it is reused.
#![forbid(unsafe_code)]

mod body;
mod config;
mod delivery;
mod instance;
pub mod log;
mod platform;
mod ports;
mod reports;
mod store;

pub use config::{Config, ConfigError};
pub use instance::{Instance, StartError};
pub use kubeagents_core::delivery::{Answer, PostError};
pub use platform::{Platform, answer};
pub use ports::WasmPorts;
pub use reports::GroupedReports;
pub use store::EitherStore;
