//! Handing over what happened: to the spool, from which the watcher sends it. Where nothing can be kept, a
//! process for each event tries to send it.

use std::env;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use http::HeaderValue;
use kubeagents_core::hook::Detail;
use kubeagents_core::settings::{CLIENT_SETTINGS, ClientValues, Host, Texts};
use kubeagents_core::sha256_hex;
use serde::{Deserialize, Serialize};

use super::config::{ClientConfig, DETAIL, KEY, KEY_FILE, URL};
use super::folders;
use super::spool::{self, Destination, Event, Spool, private};
use crate::config::ConfigError;

/// What the watcher is started by. It is no command for people.
pub(super) const WATCHER: &str = "hook-watcher";

/// The watcher as a program of its own, which takes less memory: beside this one where it is installed.
const WATCHER_PROGRAM: &str = "kubeagents-watcher";

/// What the process is started by that sends one event. It is no command for people.
pub(super) const SENDER: &str = "hook-sender";

/// How often to look whether an event is sent.
const LOOK: Duration = Duration::from_millis(5);

/// Variables that those processes need. Others could be a repository's, and the watcher serves all.
const KEPT: &[&str] = &[
    "HOME",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// Where the processes of one user meet.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Where everything is kept.
    pub(super) state: PathBuf,
    /// Where the watcher listens.
    pub(super) socket: PathBuf,
    /// The file whose lock is the watcher's.
    pub(super) lock: PathBuf,
}

impl Place {
    /// This user's; `None` without a home.
    pub(super) fn find() -> Option<Self> {
        let state = folders::state()?;
        Some(Self {
            socket: folders::runtime()
                .unwrap_or_else(|| state.clone())
                .join("watcher.sock"),
            lock: state.join("watcher.lock"),
            state,
        })
    }
}

/// What the watcher is woken with.
#[derive(Serialize, Deserialize)]
pub(super) struct Note {
    /// The version of the program that wakes it.
    pub(super) version: String,
    /// A key that is not stored, and the address that it is for.
    pub(super) key: Option<(String, String)>,
}

/// Takes what happens on its way to one server.
pub(super) struct Outlet {
    /// `None` without a home.
    place: Option<Place>,
    pub(super) to: Destination,
    /// The key, where it is not the stored one.
    own_key: Option<String>,
}

/// An event on its way.
pub(super) enum Taken {
    /// It waits in the spool, under this number.
    Spooled(Spool, u64),
    /// This process tries to send it.
    Sending(Child),
}

impl Taken {
    /// Waits until it is sent, or long enough.
    pub(super) fn wait(mut self, patience: Duration) {
        let begin = Instant::now();
        while self.is_on_its_way() && begin.elapsed() < patience {
            sleep(LOOK);
        }
    }

    fn is_on_its_way(&mut self) -> bool {
        match self {
            Self::Spooled(spool, number) => spool.holds(*number),
            Self::Sending(sender) => matches!(sender.try_wait(), Ok(None)),
        }
    }
}

impl Outlet {
    /// The way to the server of these settings.
    pub(super) fn new(settings: &ClientSettings) -> Self {
        let key = settings.values.api_key.as_ref().and_then(key_of);
        let own_key = key.filter(|key| Some(*key) != settings.stored.key.as_deref());
        Self {
            place: Place::find(),
            to: Destination {
                url: settings.values.server_url.clone(),
                key: own_key.map(fingerprint),
            },
            own_key: own_key.map(str::to_owned),
        }
    }

    /// Where events wait; `None` without a home.
    pub(super) fn spool(&self) -> Option<Spool> {
        Some(Spool::below(&self.place.as_ref()?.state))
    }

    /// Takes an event, and sees to it that somebody sends it.
    ///
    /// # Errors
    /// Those of starting a process where nothing can be kept: then the event is lost.
    pub(super) fn take(&self, event: &Event) -> io::Result<Taken> {
        if let Some(place) = &self.place {
            let spool = Spool::below(&place.state);
            if let Ok(number) = spool.take(event) {
                // The event is safe; whoever comes next wakes the watcher.
                let _ = self.wake(place);
                return Ok(Taken::Spooled(spool, number));
            }
        }
        let mut sender = self
            .detached(&env::current_exe()?, SENDER)
            .stdin(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = sender.stdin.take() {
            // It is far shorter than what a pipe holds, so nobody is waited for.
            input.write_all(&serde_json::to_vec(&(spool::now(), event))?)?;
        }
        Ok(Taken::Sending(sender))
    }

    fn wake(&self, place: &Place) -> io::Result<()> {
        let key = self.own_key.clone();
        let note = serde_json::to_vec(&Note {
            version: env!("CARGO_PKG_VERSION").into(),
            key: key.map(|key| (self.to.url.clone(), key)),
        })?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match socket.send_to(&note, &place.socket) {
            Ok(_) => Ok(()),
            // With so much to read it is awake.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => self.start_watcher(place),
        }
    }

    /// Starts a watcher, unless there is one that does not listen yet, or no more: it looks into the
    /// spool after that. The lock goes over to it as its standard input, so that there is never a second
    /// one.
    fn start_watcher(&self, place: &Place) -> io::Result<()> {
        let lock = private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&place.lock)?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let own = env::current_exe()?;
        let program = own.with_file_name(WATCHER_PROGRAM);
        let program = if program.exists() { program } else { own };
        self.detached(&program, WATCHER).stdin(lock).spawn()?;
        Ok(())
    }

    /// A process that stays behind, and knows the key.
    fn detached(&self, program: &Path, name: &str) -> Command {
        let kept = KEPT
            .iter()
            .filter_map(|name| Some((name, env::var_os(name)?)));
        let key = self.own_key.as_ref();
        let mut command = Command::new(program);
        command
            .arg(name)
            .current_dir("/")
            .env_clear()
            .envs(kept)
            .envs(key.map(|key| (KEY, key)))
            .envs(key.map(|_| (URL, &self.to.url)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

/// What the environment and the stored configuration say together.
pub(crate) struct ClientSettings {
    pub(crate) values: ClientValues,
    pub(crate) stored: ClientConfig,
    /// What breaks its rule and is passed over, for a person.
    pub(crate) problems: Vec<String>,
}

impl ClientSettings {
    /// Says on standard error what is passed over.
    pub(super) fn tell_problems(&self) {
        for problem in &self.problems {
            eprintln!("kubeagents: {problem}");
        }
    }
}

/// What the environment and the stored configuration say together. A mistake in what is not needed to
/// report leaves it out, and one in how much is told has the least told.
///
/// # Errors
/// [`ConfigError`] for a server or a key that breaks its rule, and for a file that cannot be read.
pub(crate) fn settings() -> Result<ClientSettings, ConfigError> {
    let mut texts = given();
    texts.retain(|_, text| !text.is_empty());
    let mut problems = Vec::new();
    pass_over(&mut texts, &mut problems);
    let stored = ClientConfig::read_leniently(&mut problems)?;
    problems.extend(stored.add_key(&mut texts, env::var_os(KEY_FILE))?);
    stored.complete(&mut texts);
    pass_over(&mut texts, &mut problems);
    let values = ClientValues::read(Host::Native, texts)?;
    Ok(ClientSettings {
        values,
        stored,
        problems,
    })
}

/// Takes out what breaks its rule and need not be known.
fn pass_over(texts: &mut Texts, problems: &mut Vec<String>) {
    let needed = [URL, KEY];
    let is_needed = |name: &&str| needed.contains(name);
    let names: Vec<&'static str> = texts
        .keys()
        .copied()
        .filter(|name| !is_needed(name))
        .collect();
    for name in names {
        let alone = Texts::from_iter(texts.get(name).map(|text| (name, text.clone())));
        let Err(error) = ClientValues::read(Host::Native, alone) else {
            continue;
        };
        match name {
            DETAIL => {
                problems.push(format!("{error}: only status and reason are told"));
                texts.insert(name, Detail::None.as_str().into());
            }
            _ => {
                problems.push(format!("{error}: it is not used"));
                texts.remove(name);
            }
        }
    }
}

/// What the environment says.
pub(crate) fn given() -> Texts {
    let given = CLIENT_SETTINGS.iter().filter_map(|setting| {
        let variable = setting.variable;
        Some((variable, env::var(variable).ok()?))
    });
    given.collect()
}

/// The key in an `Authorization`.
fn key_of(authorization: &HeaderValue) -> Option<&str> {
    authorization.to_str().ok()?.strip_prefix("Bearer ")
}

/// What tells keys apart, and does not tell them.
pub(super) fn fingerprint(key: &str) -> String {
    let mut hash = sha256_hex(key);
    hash.truncate(16);
    hash
}
