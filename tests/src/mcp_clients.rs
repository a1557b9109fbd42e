//! The official clients of the Model Context Protocol, put to a server.
//!
//! The scripts in `tests/mcp/` connect in every revision that each client speaks, report a session,
//! and read it back over REST. Their packages, Node.js among them, are installed from PyPI and npm
//! in the versions that are pinned there, below `target/`, once.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{Packages, succeed};

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
    let installed = Packages::install(&sources(), "mcp-clients");
    for (program, script) in [("python", "check.py"), ("node", "check.mjs")] {
        let mut command = Command::new(installed.program(program));
        command
            .arg(sources().join(script))
            .args(arguments)
            .current_dir(installed.folder())
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
