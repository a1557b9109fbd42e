//! What runs on Spin: the application or, for its tests, the shared store suite.

#[cfg(not(feature = "store-suite"))]
mod platform;
mod postgres;
#[cfg(not(feature = "store-suite"))]
mod serve;
mod sqlite;
#[cfg(feature = "store-suite")]
mod suite;
