//! The wasmCloud component as it runs in earnest: built, loaded by the real `wash`, on NATS.
//!
//! What is missing on the machine is installed for these tests alone, under `target/`. What is
//! started ends with the process that started it, however that ends.
#![forbid(unsafe_code)]

mod nats;
mod tools;
mod wash;

pub use nats::Nats;
pub use wash::{Instances, Storage, Wash};
