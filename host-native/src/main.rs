//! The native kubeagents server.
fn main() {}
