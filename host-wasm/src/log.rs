//! The log: standard error, which every platform collects.

use tracing::Level;

/// Sends what is logged at `info` and above to standard error, a line each. The first call counts.
pub fn init() {
    let _ = tracing_subscriber::fmt()
        .with_max_level(Level::INFO)
        .with_ansi(false)
        .with_target(false)
        .with_writer(std::io::stderr)
        .try_init();
}
