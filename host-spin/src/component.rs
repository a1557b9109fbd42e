//! What runs on Spin: the application or, for its tests, the shared store suite.

mod databases;
#[cfg(not(feature = "store-suite"))]
mod platform;
#[cfg(not(feature = "store-suite"))]
mod serve;
#[cfg(not(feature = "store-suite"))]
mod store;
#[cfg(feature = "store-suite")]
mod suite;
