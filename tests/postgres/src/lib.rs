//! PostgreSQL for tests: private clusters from the installed binaries, and databases on them.
//!
//! [`database`] gives a test an empty database of its own, on the server that `TEST_DATABASE_URL`
//! names or else on a private cluster which all tests of a process share. [`Cluster::start`] gives
//! a cluster that a test may kill, and [`SmallDisk::mount`] a disk that it may fill. Where
//! PostgreSQL is missing, it is installed with `apt-get`.
//!
//! A cluster dies with the process that started it, however that ends.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test whose database cannot be made has failed"
)]

use std::fs::{File, Permissions};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The superuser of a private cluster.
pub const USER: &str = "postgres";

/// The superuser's password, asked for over TCP.
pub const PASSWORD: &str = "test-password";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// An empty database of the test's own; dropped with this value.
pub fn database() -> Database {
    match std::env::var("TEST_DATABASE_URL") {
        Ok(server) => Database::create(&server),
        Err(_) => {
            static SHARED: OnceLock<Cluster> = OnceLock::new();
            // Nothing here survives a test, so flushing would only cost time.
            SHARED
                .get_or_init(|| Cluster::start(&[("fsync", "off")]))
                .database()
        }
    }
}

/// A database that exists as long as this value.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    fn create(server: &str) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        // template0, so that nobody's connection to template1 is in the way.
        psql(
            server,
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        );
        Self {
            server: server.to_owned(),
            name,
        }
    }

    /// Returns the database's URL, with user and password.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("a URL with a database");
        let query = match self.server.split_once('?') {
            Some((_, query)) => format!("?{query}"),
            None => String::new(),
        };
        format!("{server}/{}{query}", self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a script in it and returns what it prints: one row a line, fields with `|` between.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn psql(&self, script: &str) -> String {
        psql(&self.url(), script)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A cluster that was killed has no databases left to drop.
        let _ = psql_command(&self.server)
            .args([
                "-c",
                &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

fn psql_command(url: &str) -> Command {
    let mut command = Command::new(binaries().join("psql"));
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]);
    command
}

fn psql(url: &str, script: &str) -> String {
    let output = psql_command(url)
        .args(["-c", script])
        .output()
        .expect("psql runs");
    assert!(
        output.status.success(),
        "psql: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.trim_end().to_owned()
}

/// A private cluster, in a directory of its own.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    /// Stops the server when this process lets go of its standard input.
    keeper: Option<Child>,
}

impl Cluster {
    /// Makes a cluster and starts it with these settings. Its default collation is a language's
    /// where the version allows it, so that a comparison that depends on it shows.
    ///
    /// # Panics
    /// When that fails, or takes a minute.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kubeagents-postgres-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a new directory");
        if let Some((user, group)) = server_user() {
            chown(&directory, Some(user), Some(group)).unwrap();
        }
        let mut cluster = Self {
            directory,
            port: free_port(),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            keeper: None,
        };

        let mut initdb = as_server_user(&binaries().join("initdb"));
        initdb.args(["--no-sync", "--username", USER, "--encoding", "UTF8"]);
        initdb.args(["--locale", "C.UTF-8"]);
        if major_version() >= 15 {
            initdb.args(["--locale-provider", "icu", "--icu-locale", "en-US"]);
        }
        initdb.args(["--auth-local", "trust", "--auth-host", "scram-sha-256"]);
        initdb.arg("--pwfile");
        initdb.arg(cluster.write("password", PASSWORD));
        initdb.arg("-D").arg(cluster.directory.join("data"));
        let made = initdb.output().expect("initdb runs");
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );

        cluster.launch();
        cluster
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A directory that the server may write to.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a file into the server's directory that the server alone may read, and returns its
    /// path.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.directory.join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = server_user() {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    /// The address of the superuser's own database.
    pub fn url(&self) -> String {
        format!(
            "postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres",
            self.port
        )
    }

    /// A new, empty database; dropped with the value returned.
    pub fn database(&self) -> Database {
        Database::create(&self.url())
    }

    /// Runs a script in the superuser's own database and returns what it prints.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn psql(&self, script: &str) -> String {
        psql(&self.url(), script)
    }

    /// Kills the server and all its processes at once, as a crash would (`SIGKILL`).
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        let postmaster = self.postmaster();
        let mut victims = vec![postmaster];
        victims.extend(children(postmaster));
        let pids = victims.iter().map(u32::to_string);
        Command::new("kill").arg("-9").args(pids).status().unwrap();
        let gone = || victims.iter().all(|pid| !is_running(*pid));
        wait_for("the server's processes to end", gone);
        if let Some(mut keeper) = self.keeper.take() {
            keeper.stdin.take().unwrap().write_all(b"keep\n").unwrap();
            keeper.wait().unwrap();
        }
    }

    /// Starts the server again after [`Cluster::kill`], and waits until it answers.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub fn restart(&mut self) {
        assert!(self.keeper.is_none(), "the server is running");
        let _ = std::fs::remove_file(self.directory.join("data/postmaster.pid"));
        self.launch();
    }

    fn postmaster(&self) -> u32 {
        let file = std::fs::read_to_string(self.directory.join("data/postmaster.pid"));
        let file = file.expect("the server is running");
        file.lines().next().unwrap().trim().parse().unwrap()
    }

    fn launch(&mut self) {
        const KEEPER: &str = "\
            directory=$1; shift; \"$@\" & pid=$!; read -r word; \
            kill -INT $pid 2>/dev/null; wait $pid; \
            [ \"$word\" = keep ] || rm -rf \"$directory\"";
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("log"))
            .unwrap();
        let mut keeper = as_server_user(Path::new("sh"));
        keeper.args(["-c", KEEPER, "sh"]).arg(&self.directory);
        keeper.arg(binaries().join("postgres"));
        keeper.arg("-D").arg(self.directory.join("data"));
        keeper.arg("-k").arg(&self.directory);
        let port = self.port.to_string();
        let own = [
            ("port", port.as_str()),
            ("listen_addresses", "127.0.0.1"),
            ("max_connections", "200"),
        ];
        let given = self
            .settings
            .iter()
            .map(|(name, value)| (&**name, &**value));
        for (name, value) in own.into_iter().chain(given) {
            keeper.args(["-c", &format!("{name}={value}")]);
        }
        keeper
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.keeper = Some(keeper.spawn().expect("sh runs"));
        wait_for("the server to answer", || {
            psql_command(&self.url())
                .args(["-c", "SELECT 1"])
                .output()
                .unwrap()
                .status
                .success()
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// PgBouncer before a cluster.
#[derive(Debug)]
pub struct PgBouncer {
    process: Child,
    port: u16,
}

impl PgBouncer {
    /// Starts a pooler with this `pool_mode`.
    ///
    /// # Panics
    /// When that fails, or takes a minute.
    pub fn start(cluster: &Cluster, pool_mode: &str) -> Self {
        let find = || {
            let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];
            places.map(Path::new).into_iter().find(|path| path.exists())
        };
        let script = "apt-get update && apt-get install -y --no-install-recommends pgbouncer";
        let program = found_or_installed("pgbouncer", find, script);
        let port = free_port();
        let users = cluster.write(
            &format!("{port}.users"),
            &format!("\"{USER}\" \"{PASSWORD}\"\n"),
        );
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = {pool_mode}\n",
            cluster.port(),
            users.display()
        );
        let settings = cluster.write(&format!("{port}.ini"), &settings);
        let process = as_server_user(program)
            .arg("-q")
            .arg(settings)
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer runs");
        let pooler = Self { process, port };
        wait_for("the pooler to answer", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        pooler
    }

    /// The address of a database behind it.
    pub fn url(&self, database: &Database) -> String {
        let name = database.name();
        format!(
            "postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{name}",
            self.port
        )
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A disk of a few MiB, for a tablespace that a test may fill; unmounted with this value, which must
/// therefore outlive the cluster.
#[derive(Debug)]
pub struct SmallDisk {
    mount_point: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk in memory.
    ///
    /// # Panics
    /// When mounting is not permitted, as it is for root alone.
    pub fn mount(mebibytes: u32) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kubeagents-disk-{}-{number}", std::process::id());
        let mount_point = std::env::temp_dir().join(name);
        std::fs::create_dir(&mount_point).expect("a new directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={mebibytes}m,mode=0755"))
            .arg("tmpfs")
            .arg(&mount_point)
            .output()
            .expect("mount runs");
        if !mounted.status.success() {
            let _ = std::fs::remove_dir(&mount_point);
            panic!(
                "a full disk can only be tested where a tmpfs may be mounted (as root, in a \
                 container with CAP_SYS_ADMIN): {}",
                String::from_utf8_lossy(&mounted.stderr)
            );
        }
        let disk = Self { mount_point };
        let tablespace = disk.tablespace();
        std::fs::create_dir(&tablespace).unwrap();
        if let Some((user, group)) = server_user() {
            chown(&tablespace, Some(user), Some(group)).unwrap();
        }
        disk
    }

    /// An empty directory on it that belongs to the server.
    pub fn tablespace(&self) -> PathBuf {
        self.mount_point.join("tablespace")
    }

    /// Lets nobody write to it any more. Nobody may have a file on it open for writing.
    pub fn read_only(&self) {
        let remounted = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.mount_point)
            .status()
            .expect("mount runs");
        assert!(remounted.success(), "{remounted}");
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        let full = loop {
            if let Err(error) = filler.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    /// Gives back the room that [`SmallDisk::fill`] took.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.mount_point.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that it also goes while something still has a file of it open.
        let _ = Command::new("umount")
            .arg("-l")
            .arg(&self.mount_point)
            .status();
        let _ = std::fs::remove_dir(&self.mount_point);
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// When it does not within a minute.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A free port of 127.0.0.1 for a server that is started again: it lies below those that outgoing
/// connections are given, so none takes it while the server is away.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 10_000..32_000;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    // Processes that ask at the same time begin at places of their own.
    let start = std::process::id().wrapping_mul(97).wrapping_add(number);
    let mut ports = (0..PORTS.end - PORTS.start).map(|offset| {
        let place = start.wrapping_add(offset) % (PORTS.end - PORTS.start);
        u16::try_from(PORTS.start + place).unwrap()
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("a free port")
}

/// The processes that this one started and that are alive.
fn children(parent: u32) -> Vec<u32> {
    let parent = format!("PPid:\t{parent}");
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| status.lines().any(|line| line == parent))
        })
        .collect()
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| !status.contains("State:\tZ"))
}

/// PostgreSQL refuses to run as root: the user and group to run it as instead, where that is needed.
fn server_user() -> Option<(u32, u32)> {
    static USER_AND_GROUP: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER_AND_GROUP.get_or_init(|| {
        let id = |arguments: &[&str]| -> u32 {
            let output = Command::new("id").args(arguments).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.trim().parse().expect("the user postgres exists")
        };
        (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
    })
}

fn as_server_user(program: &Path) -> Command {
    let Some((user, group)) = server_user() else {
        return Command::new(program);
    };
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={user}"),
        &format!("--regid={group}"),
        "--clear-groups",
        "--",
    ]);
    command.arg(program).current_dir("/");
    command
}

fn major_version() -> u32 {
    let output = Command::new(binaries().join("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(|c: char| !c.is_ascii_digit())
        .find(|digits| !digits.is_empty())
        .and_then(|digits| digits.parse().ok())
        .expect("a version")
}

/// The folder of the newest PostgreSQL there is; installs one where there is none.
fn binaries() -> &'static Path {
    const SCRIPT: &str = "\
        apt-get update && \
        apt-get install -y --no-install-recommends postgresql-common && \
        sed -i 's/^#\\?create_main_cluster.*/create_main_cluster = false/' \
            /etc/postgresql-common/createcluster.conf && \
        apt-get install -y --no-install-recommends postgresql";
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let what = "PostgreSQL 13 or newer (or TEST_DATABASE_URL)";
        found_or_installed(what, installed, SCRIPT)
    })
}

/// The place of a program that comes with PostgreSQL's server.
pub fn program(name: &str) -> PathBuf {
    binaries().join(name)
}

fn installed() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let newest = debian
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, folder)| folder.join("initdb").exists())
        .max();
    if let Some((_, folder)) = newest {
        return Some(folder);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|folder| {
        ["postgres", "initdb", "psql"]
            .iter()
            .all(|program| folder.join(program).exists())
    })
}

/// Returns what `find` finds. Where that is missing, first runs `script`, which installs it with
/// `apt-get`.
///
/// # Panics
/// When that fails.
pub fn found_or_installed<T>(what: &str, find: impl Fn() -> Option<T>, script: &str) -> T {
    if let Some(found) = find() {
        return found;
    }
    // Test binaries of several crates may find it missing at the same time.
    let lock = File::create(std::env::temp_dir().join("kubeagents-install.lock")).unwrap();
    lock.lock().unwrap();
    if let Some(found) = find() {
        return found;
    }
    let output = Command::new("sh")
        .args(["-c", script])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .expect("sh runs");
    assert!(
        output.status.success(),
        "{what} is needed and could not be installed with apt-get: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    find().unwrap_or_else(|| panic!("{what} is installed and yet not to be found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_empty_and_gone_afterwards() {
        let database = database();
        let name = database.name().to_owned();
        let server = database.server.clone();
        assert_eq!(database.psql("SELECT current_database()"), name);
        drop(database);
        let left = psql(
            &server,
            &format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'"),
        );
        assert_eq!(left, "0");
    }

    #[test]
    fn a_killed_cluster_keeps_what_was_committed() {
        let mut cluster = Cluster::start(&[]);
        cluster.psql("CREATE TABLE t AS SELECT 7 AS x");
        cluster.kill();
        assert!(
            !psql_command(&cluster.url())
                .args(["-c", "SELECT 1"])
                .output()
                .unwrap()
                .status
                .success()
        );
        cluster.restart();
        assert_eq!(cluster.psql("SELECT x FROM t"), "7");
    }
}
