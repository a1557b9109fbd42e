//! Orderly shutdown.

use std::time::Duration;
use std::{fs, io};

use futures_util::future::OptionFuture;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Time that queued notifications and mails get once requests are done.
const BACKGROUND: Duration = Duration::from_secs(5);

/// Starts listening for SIGTERM, SIGINT and, unless it is ignored, SIGHUP. The returned future ends with
/// the first of them; a SIGTERM or SIGINT after it ends the process at once.
///
/// # Errors
/// When the system refuses.
pub(crate) fn on_signals() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let is_ignored = ignored();
    // To catch it would undo nohup.
    let mut hangup = match is_ignored(Signal::HUP) {
        true => None,
        false => Some(signal(SignalKind::hangup())?),
    };
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            Some(_) = OptionFuture::from(hangup.as_mut().map(|hangup| hangup.recv())) => {}
        }
        tracing::info!("stopping; a second signal stops at once");
        tokio::spawn(async move {
            // Of one terminal that closes, two SIGHUPs may come: the system's and the shell's.
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("stopped at once");
            std::process::exit(1);
        });
    })
}

/// Tells of a signal whether this process was told to ignore it, where the system says.
pub(crate) fn ignored() -> impl Fn(Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let mask = mask.unwrap_or_default();
    move |signal| mask >> (signal.as_raw() - 1) & 1 == 1
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
