//! Processes of this machine, told apart even when their ids are used again.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// How far up to look for an agent above what it starts for a hook.
const MAX_LEVELS: usize = 16;

/// Programs that agents start their hooks by, and people their agents.
const BETWEEN: &[&str] = &[
    "ash",
    "bash",
    "busybox",
    "csh",
    "dash",
    "env",
    "fish",
    "kubeagents",
    "ksh",
    "mksh",
    "nice",
    "nohup",
    "nu",
    "pwsh",
    "setsid",
    "sh",
    "stdbuf",
    "tcsh",
    "timeout",
    "xonsh",
    "zsh",
];

/// A process: its id, and when it started, since ids are used again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) id: u32,
    start: String,
}

/// What the system says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    parent: u32,
    start: String,
    name: String,
    /// True if it has ended, and its parent has not asked how.
    is_zombie: bool,
}

impl Process {
    /// The process that runs with this id.
    pub(super) fn of(id: u32) -> Option<Self> {
        let seen = look(id).ok()??;
        Some(Self {
            id,
            start: seen.start,
        })
    }

    /// The nearest process above this one that is no shell: the agent whose hook this is.
    pub(super) fn agent() -> Option<Self> {
        let mut id = u32::try_from(rustix::process::getppid()?.as_raw_pid()).ok()?;
        for _ in 0..MAX_LEVELS {
            // The first process of all starts agents, and is none.
            if id <= 1 {
                return None;
            }
            let seen = look(id).ok()??;
            if !is_between(&seen.name) {
                let start = seen.start;
                return Some(Self { id, start });
            }
            id = seen.parent;
        }
        None
    }

    /// Checks whether it still runs. Where that cannot be known it does.
    pub(super) fn is_alive(&self) -> bool {
        match look(self.id) {
            Ok(Some(seen)) => seen.start == self.start && !seen.is_zombie,
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// Checks whether it is for sure a second older than this process, and so was not started for it.
    pub(super) fn is_settled(&self) -> bool {
        /// The parts of a second in which starts are told, on every Linux.
        const TICKS: u64 = 100;
        let ticks = |process: &Self| process.start.split_once(' ')?.0.parse::<u64>().ok();
        let own = Self::of(std::process::id());
        let ages = own.and_then(|own| ticks(&own)?.checked_sub(ticks(self)?));
        ages.is_some_and(|older| cfg!(target_os = "linux") && older > TICKS)
    }

    /// The words of its command line; empty where they cannot be known.
    pub(super) fn words(&self) -> Vec<String> {
        let line = match cfg!(target_os = "linux") {
            true => fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default(),
            false => ask_ps(self.id, "args=").unwrap_or_default(),
        };
        let words = line.split(|byte| {
            matches!(byte, 0 | b'\n') || cfg!(not(target_os = "linux")) && *byte == b' '
        });
        let words = words.filter(|word| !word.is_empty());
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }
}

/// Checks whether a program of this name stands between an agent and its hooks.
fn is_between(name: &str) -> bool {
    let name = Path::new(name).file_name().and_then(|name| name.to_str());
    let name = name.unwrap_or_default().trim_start_matches('-');
    BETWEEN.contains(&name)
}

/// Looks for a process; an error where that is not possible.
fn look(id: u32) -> io::Result<Option<Seen>> {
    match cfg!(target_os = "linux") {
        true => by_proc(id),
        false => by_ps(id),
    }
}

fn by_proc(id: u32) -> io::Result<Option<Seen>> {
    const ENDED: i32 = rustix::io::Errno::SRCH.raw_os_error();
    let stat = match fs::read(format!("/proc/{id}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.raw_os_error() == Some(ENDED) => return Ok(None),
        // Without /proc nobody is there, which says nothing.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && Path::new("/proc/self").exists() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    let parsed = parse_stat(&stat, boot.trim());
    parsed
        .map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The name stands in parentheses and may hold any.
fn parse_stat(stat: &str, boot: &str) -> Option<Seen> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    Some(Seen {
        is_zombie: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: fields.get(1)?.parse().ok()?,
        // In ticks since the machine has started.
        start: format!("{} {boot}", fields.get(19)?),
        name: name.to_owned(),
    })
}

/// What other systems say.
fn by_ps(id: u32) -> io::Result<Option<Seen>> {
    let line = ask_ps(id, "ppid=,stat=,lstart=,comm=")?;
    let line = String::from_utf8_lossy(&line);
    if line.trim().is_empty() {
        return Ok(None);
    }
    parse_ps(&line)
        .map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn ask_ps(id: u32, columns: &str) -> io::Result<Vec<u8>> {
    let output = Command::new("ps")
        .args(["-o", columns, "-p", &id.to_string()])
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .output()?;
    Ok(output.stdout)
}

fn parse_ps(line: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [parent, state, start @ ..] = words.as_slice() else {
        return None;
    };
    let (start, name) = start.split_at_checked(5)?;
    Some(Seen {
        parent: parent.parse().ok()?,
        is_zombie: state.starts_with('Z'),
        start: start.join(" "),
        name: name.join(" "),
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Stdio};

    use super::*;

    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            let mut command = Command::new("sleep");
            Self(command.arg("600").stdout(Stdio::null()).spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn a_process_is_alive_until_it_ends_even_before_its_parent_asks() {
        let mut sleeper = Sleeper::start();
        let process = Process::of(sleeper.0.id()).unwrap();
        assert!(process.is_alive());
        sleeper.0.kill().unwrap();
        let begin = std::time::Instant::now();
        while process.is_alive() {
            assert!(begin.elapsed().as_secs() < 60, "it is killed");
            std::thread::yield_now();
        }
        sleeper.0.wait().unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn another_process_of_the_same_id_is_not_the_same() {
        let sleeper = Sleeper::start();
        let process = Process::of(sleeper.0.id()).unwrap();
        let earlier = Process {
            start: "1 of another boot".into(),
            ..process
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn both_ways_to_look_agree() {
        let sleeper = Sleeper::start();
        let by_proc = by_proc(sleeper.0.id()).unwrap().unwrap();
        let by_ps = by_ps(sleeper.0.id()).unwrap().unwrap();
        assert_eq!(
            (by_proc.parent, by_proc.is_zombie),
            (std::process::id(), false)
        );
        assert_eq!((by_ps.parent, by_ps.is_zombie), (std::process::id(), false));
        assert_eq!(
            (by_proc.name.as_str(), by_ps.name.as_str()),
            ("sleep", "sleep")
        );
    }

    #[test]
    fn names_may_hold_anything() {
        let fields = "S 7 8 8 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4321 1 1";
        let seen = parse_stat(&format!("12 (a) (b) {fields}"), "boot").unwrap();
        assert_eq!((seen.parent, seen.start.as_str()), (7, "4321 boot"));
        assert_eq!(seen.name, "a) (b");
        let seen = parse_ps("   7 Ss   Thu Nov 26 02:48:52 2026 /Applications/My Agent").unwrap();
        assert_eq!(
            (seen.parent, seen.name.as_str()),
            (7, "/Applications/My Agent")
        );
        assert!(is_between("/bin/zsh") && is_between("-bash") && !is_between("claude"));
    }
}
