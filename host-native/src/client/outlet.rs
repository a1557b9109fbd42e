//! Handing over what happened: to the spool, from which the watcher sends it.

use std::env;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use http::HeaderValue;
use kubeagents_core::settings::{CLIENT_SETTINGS, ClientValues, Host, Texts};
use kubeagents_core::sha256_hex;
use serde::{Deserialize, Serialize};

use super::config::ClientConfig;
use super::folders;
use super::spool::{Destination, Event, Spool, private};
use crate::config::ConfigError;

/// What the watcher is started by. It is no command for people.
pub(super) const WATCHER: &str = "hook-watcher";

/// What stands for the stored key, which may be replaced by another for the same address.
pub(super) const STORED: &str = "stored";

/// How often to look whether an event is sent.
const LOOK: Duration = Duration::from_millis(5);

/// Variables that the watcher needs. Others could be a repository's, and the watcher serves all.
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
    place: Place,
    spool: Spool,
    pub(super) to: Destination,
    /// The key, where it is not the stored one.
    own_key: Option<String>,
}

impl Outlet {
    /// The way to the server of these settings; `None` without a home.
    pub(super) fn new(values: &ClientValues, stored: &ClientConfig) -> Option<Self> {
        let place = Place::find()?;
        let key = values.api_key.as_ref().and_then(key_of);
        let own_key = key.filter(|key| Some(*key) != stored.key.as_deref());
        Some(Self {
            spool: Spool::below(&place.state),
            place,
            to: Destination {
                url: values.server_url.clone(),
                key: own_key
                    .map(fingerprint)
                    .or_else(|| key.map(|_| STORED.into())),
            },
            own_key: own_key.map(str::to_owned),
        })
    }

    /// Takes an event, and sees to it that somebody sends it; its number.
    ///
    /// # Errors
    /// Those of the file system: then the event is lost.
    pub(super) fn take(&self, event: &Event) -> io::Result<u64> {
        let number = self.spool.take(event)?;
        // The event is safe; whoever comes next wakes the watcher.
        let _ = self.wake();
        Ok(number)
    }

    fn wake(&self) -> io::Result<()> {
        let key = self.own_key.clone();
        let note = serde_json::to_vec(&Note {
            version: env!("CARGO_PKG_VERSION").into(),
            key: key.map(|key| (self.to.url.clone(), key)),
        })?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match socket.send_to(&note, &self.place.socket) {
            Ok(_) => Ok(()),
            // With so much to read it is awake.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => self.start_watcher(),
        }
    }

    /// Starts a watcher, unless there is one that does not listen yet, or no more: it looks into the
    /// spool after that. The lock goes over to it as its standard input, so that there is never a second
    /// one.
    fn start_watcher(&self) -> io::Result<()> {
        let lock = private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.place.lock)?;
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let kept = KEPT
            .iter()
            .filter_map(|name| Some((name, env::var_os(name)?)));
        let key = self.own_key.as_ref();
        Command::new(env::current_exe()?)
            .arg(WATCHER)
            .current_dir("/")
            .env_clear()
            .envs(kept)
            .envs(key.map(|key| ("KUBEAGENTS_API_KEY", key)))
            .envs(key.map(|_| ("KUBEAGENTS_SERVER_URL", &self.to.url)))
            .stdin(lock)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(())
    }

    /// Waits until an event is sent, or long enough.
    pub(super) fn wait(&self, number: u64, patience: Duration) {
        let begin = Instant::now();
        while self.spool.holds(number) && begin.elapsed() < patience {
            sleep(LOOK);
        }
    }
}

/// What the environment and the stored configuration say together.
///
/// # Errors
/// [`ConfigError`] for a value that breaks its rule.
pub(crate) fn settings() -> Result<(ClientValues, ClientConfig), ConfigError> {
    let mut texts = given();
    let stored = ClientConfig::read()?;
    stored.complete(&mut texts);
    Ok((ClientValues::read(Host::Native, texts)?, stored))
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
