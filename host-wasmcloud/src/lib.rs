//! The kubeagents component for wasmCloud: the core's rules behind `wasi:http`, with their state in
//! `wasmcloud:keyvalue` or `wasmcloud:postgres`.
//!
//! [`KeyValueStore`] needs nothing of wasmCloud but the four operations of
//! [`KeyValue`](key_value::KeyValue). What talks to the platform exists on `wasm32` only.

#[cfg(target_arch = "wasm32")]
mod component;
pub mod key_value;
mod store;

pub use store::KeyValueStore;
