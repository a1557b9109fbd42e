//! Passing signals on to the command.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::runtime::Runtime;
use tokio::signal::unix::{self, SignalKind, signal};

use crate::shutdown::ignored;

/// The signals that are passed on, and whether a terminal sends them to the command by itself.
const PASSED: [(Signal, bool); 6] = [
    (Signal::HUP, false),
    (Signal::INT, true),
    (Signal::QUIT, true),
    (Signal::TERM, false),
    (Signal::USR1, false),
    (Signal::USR2, false),
];

/// Those that tell to stop.
const STOPS: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// How long a signal may be noticed here after it has ended the command.
const BEHIND: Duration = Duration::from_millis(500);

/// For how long a command that fails after a signal does so because of it. One that lives on has taken it
/// for something else.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// A signal that is caught.
struct Caught {
    signal: Signal,
    by_terminal: bool,
    stream: unix::Signal,
}

/// Signals that do not end this process any more.
pub(super) struct Signals(Option<(Runtime, Vec<Caught>)>);

impl Signals {
    /// Catches what is to be passed on. What is ignored stays ignored, also by the command.
    pub(super) fn catch() -> Self {
        let is_ignored = ignored();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        // Without them the command runs all the same.
        let Ok(runtime) = runtime else {
            return Self(None);
        };
        let caught = {
            let _context = runtime.enter();
            let caught = PASSED.iter().filter_map(|(passed, by_terminal)| {
                if is_ignored(*passed) {
                    return None;
                }
                Some(Caught {
                    signal: *passed,
                    by_terminal: *by_terminal,
                    stream: signal(SignalKind::from_raw(passed.as_raw())).ok()?,
                })
            });
            caught.collect()
        };
        Self(Some((runtime, caught)))
    }

    /// Passes them on until the command has ended: how it did, and whether this process was told to stop.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub(super) fn pass_to_until_end(self, child: &mut Child) -> io::Result<(ExitStatus, bool)> {
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let target = Arc::new(Mutex::new(id));
        let (stop, stops) = channel();
        if let Some((runtime, caught)) = self.0 {
            let target = target.clone();
            thread::spawn(move || runtime.block_on(pass(caught, &target, &stop)));
        }
        // Not yet asked how it ended, its id is no other's.
        if let Some(id) = id {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while waitid(WaitId::Pid(id), ended)
                .is_err_and(|error| error == rustix::io::Errno::INTR)
            {}
        }
        *target.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let ended = child.wait()?;
        Ok((ended, !ended.success() && is_stopped(ended, &stops)))
    }
}

/// A signal that tells this process to stop, and when it came.
type Stop = (i32, Instant);

/// Checks whether a command ended because this process was told to stop.
fn is_stopped(ended: ExitStatus, stops: &Receiver<Stop>) -> bool {
    let signal = ended.signal();
    // A command that catches it may say so as shells do.
    let signal = signal.or_else(|| Some(ended.code()? - 128));
    let is_one = signal.is_some_and(|signal| STOPS.iter().any(|stop| stop.as_raw() == signal));
    // A key on the terminal may reach the command first.
    let patience = if is_one { BEHIND } else { Duration::ZERO };
    while let Ok((stop, at)) = stops.recv_timeout(patience) {
        if signal == Some(stop) || at.elapsed() < AFTERWARDS {
            return true;
        }
    }
    false
}

async fn pass(mut caught: Vec<Caught>, target: &Mutex<Option<Pid>>, stop: &Sender<Stop>) {
    loop {
        let mut next: FuturesUnordered<_> = caught
            .iter_mut()
            .map(|caught| async {
                caught.stream.recv().await;
                (caught.signal, caught.by_terminal)
            })
            .collect();
        let Some((signal, by_terminal)) = next.next().await else {
            return;
        };
        if STOPS.contains(&signal) {
            // Nobody asks any more once the command has ended.
            let _ = stop.send((signal.as_raw(), Instant::now()));
        }
        if by_terminal && is_in_foreground() {
            continue;
        }
        let target = target.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = *target {
            // It may have ended by now.
            let _ = kill_process(id, signal);
        }
    }
}

/// Checks whether keys on the terminal are signals to this process, and so to the command too.
fn is_in_foreground() -> bool {
    let stat = fs::read_to_string("/proc/self/stat");
    let fields = stat.as_ref().ok().and_then(|stat| {
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        Some((*fields.get(2)?, *fields.get(5)?))
    });
    match fields {
        Some((group, in_foreground)) => group == in_foreground,
        None => io::stdin().is_terminal(),
    }
}
