//! What runs on Spin: the application or, for its tests, the shared store suite.

mod databases;
#[cfg(not(feature = "store-suite"))]
mod platform;
#[cfg(not(feature = "store-suite"))]
mod serve;
#[cfg(feature = "store-suite")]
mod suite;
