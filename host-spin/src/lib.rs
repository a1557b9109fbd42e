//! The Spin component: bindings of the shared parts to Spin. Everything here exists on `wasm32` only.

#[cfg(target_arch = "wasm32")]
mod component;
