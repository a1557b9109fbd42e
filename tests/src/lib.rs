//! The HTTP contract as an executable suite.
