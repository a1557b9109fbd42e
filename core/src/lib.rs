//! The rules of kubeagents, without I/O.
