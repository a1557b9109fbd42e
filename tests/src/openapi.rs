//! The OpenAPI document of a server, put to a validator, and the server put to its document.
//!
//! `openapi-spec-validator` and `schemathesis` are installed from PyPI in the versions that
//! `tests/openapi/requirements.txt` pins, below `target/`, once.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{Packages, succeed};

/// Validates the document of the server at `base_url`, which has no slash at its end, and sends the
/// server the same requests every time that the document allows and forbids. `token` is an access
/// token.
///
/// # Panics
/// When a program cannot be installed, or finds a fault: with all that it says.
pub fn check(base_url: &str, token: &str) {
    let programs = Packages::install(&sources(), "openapi");
    let document = format!("{base_url}/api/openapi.json");
    succeed(Command::new(programs.program("python")).args(["-c", VALIDATE, &document]));
    succeed(
        Command::new(programs.program("st"))
            .arg("--config-file")
            .arg(sources().join("schemathesis.toml"))
            .args(["run", &document, "--url", base_url])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .current_dir(programs.folder()),
    );
}

const VALIDATE: &str = "\
import json, sys, urllib.request
from openapi_spec_validator import validate
validate(json.load(urllib.request.urlopen(sys.argv[1])))";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi")
}
