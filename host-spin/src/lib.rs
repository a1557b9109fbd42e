//! The Spin component.
//!
//! [`sqlite`] is the store on Spin's SQLite; it needs nothing of Spin but a connection. Everything
//! that does exists on `wasm32` only.

#[cfg(target_arch = "wasm32")]
mod component;
pub mod sqlite;
