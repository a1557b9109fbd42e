//! The kubeagents component for wasmCloud: the core's rules behind `wasi:http`, with their state in
//! `wasmcloud:keyvalue` or `wasmcloud:postgres`. It talks to the platform and exists on `wasm32` only.

#[cfg(target_arch = "wasm32")]
mod component;
