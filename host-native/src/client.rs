//! The commands that report to a server from the machine that agents work on, and what they share.

pub(crate) mod config;
mod folders;
