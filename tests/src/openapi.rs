//! The OpenAPI document of a server, put to a validator, and the server put to its document.
//!
//! `openapi-spec-validator` and `schemathesis` are installed from PyPI in the versions that
//! `tests/openapi/requirements.txt` pins, below `target/`, once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{install_python, succeed};

/// Validates the document of the server at `base_url`, which has no slash at its end, and sends the
/// server the same requests every time that the document allows and forbids. `token` is an access
/// token.
///
/// # Panics
/// When a program cannot be installed, or finds a fault: with all that it says.
pub fn check(base_url: &str, token: &str) {
    let programs = install();
    let document = format!("{base_url}/api/openapi.json");
    succeed(Command::new(programs.join("python")).args(["-c", VALIDATE, &document]));
    succeed(
        Command::new(programs.join("st"))
            .arg("--config-file")
            .arg(sources().join("schemathesis.toml"))
            .args(["run", &document, "--url", base_url])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .current_dir(programs),
    );
}

const VALIDATE: &str = "\
import json, sys, urllib.request
from openapi_spec_validator import validate
validate(json.load(urllib.request.urlopen(sys.argv[1])))";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi")
}

/// Installs the programs, unless that has been done; returns where they are.
fn install() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/openapi");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let requirements = sources().join("requirements.txt");
    let versions = fs::read_to_string(&requirements).unwrap();
    let (venv, done) = (folder.join("venv"), folder.join("installed"));
    if !fs::read_to_string(&done).is_ok_and(|installed| installed == versions) {
        install_python(&venv, &requirements);
        fs::write(done, versions).unwrap();
    }
    venv.join("bin").canonicalize().unwrap()
}
