//! The official clients of the Model Context Protocol, put to a server.
//!
//! The scripts in `tests/mcp/` connect in every revision that each client speaks, report a session,
//! and read it back over REST. Their packages, Node.js among them, are installed from PyPI and npm
//! in the versions that are pinned there, below `target/`, once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{install_python, succeed};

/// Puts the clients to `POST /mcp` of the server at `base_url`, which has no slash at its end.
/// `token` is a bearer token that may report and read, where one is needed.
///
/// # Panics
/// When a client cannot be installed, or meets what it does not expect: with all that it says.
pub fn check(base_url: &str, token: Option<&str>) {
    run(&[base_url.as_ref()], token);
}

/// Puts the clients to the `kubeagents mcp` of the binary at `kubeagents`, in front of the server at
/// `base_url`.
///
/// # Panics
/// As [`check`] does.
pub fn check_command(kubeagents: &Path, base_url: &str, token: Option<&str>) {
    run(&[base_url.as_ref(), kubeagents, "mcp".as_ref()], token);
}

fn run(arguments: &[&Path], token: Option<&str>) {
    let installed = Installed::new();
    for (program, script) in [("python", "check.py"), ("node", "check.mjs")] {
        let mut command = Command::new(installed.program(program));
        command
            .arg(sources().join(script))
            .args(arguments)
            .current_dir(&installed.0)
            .env("KUBEAGENTS_SERVER_URL", arguments[0])
            .env_remove("KUBEAGENTS_API_KEY")
            .env_remove("MCP_TOKEN");
        if let Some(token) = token {
            command.env("KUBEAGENTS_API_KEY", token);
            command.env("MCP_TOKEN", token);
        }
        succeed(&mut command);
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mcp")
}

/// The folder where the clients are.
struct Installed(PathBuf);

impl Installed {
    /// Installs the clients, unless that has been done.
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/mcp-clients");
        fs::create_dir_all(&folder).unwrap();
        let installed = Self(folder.canonicalize().unwrap());
        // Several tests may want it at once.
        let lock = File::create(installed.0.join("lock")).unwrap();
        lock.lock().unwrap();
        installed.install();
        installed
    }

    fn install(&self) {
        let pinned = ["requirements.txt", "package.json", "package-lock.json"];
        let versions: String = pinned
            .iter()
            .map(|file| fs::read_to_string(sources().join(file)).unwrap())
            .collect();
        let done = self.0.join("installed");
        if fs::read_to_string(&done).is_ok_and(|installed| installed == versions) {
            return;
        }
        for file in pinned {
            fs::copy(sources().join(file), self.0.join(file)).unwrap();
        }
        install_python(&self.0.join("venv"), &self.0.join("requirements.txt"));
        succeed(
            Command::new(self.program("npm"))
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
                .current_dir(&self.0),
        );
        fs::write(done, versions).unwrap();
    }

    fn program(&self, name: &str) -> PathBuf {
        self.0.join("venv/bin").join(name)
    }
}
