//! Orderly shutdown.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Time that queued notifications and mails get once requests are done.
const BACKGROUND: Duration = Duration::from_secs(5);

/// Starts listening for SIGTERM and SIGINT. The returned future ends with the first of them; the
/// second ends the process at once.
///
/// # Errors
/// When the system refuses.
pub(crate) fn on_signals() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; a second signal stops at once");
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("stopped at once");
            std::process::exit(1);
        });
    })
}

/// Waits a limited time for tasks that have been told to stop.
pub(crate) async fn finish_background(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    let deadline = Instant::now() + BACKGROUND;
    for task in tasks {
        match timeout_at(deadline, task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a background task has failed"),
            Err(_) => tracing::warn!("what is not delivered within {BACKGROUND:?} is left"),
        }
    }
}
