//! The official libraries of [Standard Webhooks](https://www.standardwebhooks.com), put to what a
//! receiver got.
//!
//! They are installed from PyPI and npm in the versions that are pinned in `tests/webhooks/`, below
//! `target/`, once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::tools::Packages;

/// The libraries for Python and JavaScript.
#[derive(Debug)]
pub struct WebhookLibraries(Packages);

impl WebhookLibraries {
    /// Installs them where they are not yet.
    ///
    /// # Panics
    /// When that fails.
    pub fn install() -> Self {
        Self(Packages::install(&sources(), "webhooks"))
    }

    /// Checks whether a request is signed by this secret, and not too long ago.
    ///
    /// # Panics
    /// When a library cannot be run, or the two are not of one opinion.
    pub fn verify(&self, secret: &str, headers: &HeaderMap, body: &str) -> bool {
        let headers: Map<String, Value> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
            .collect();
        let request = json!({"secret": secret, "headers": headers, "body": body}).to_string();
        let programs = [("python", "verify.py"), ("node", "verify.mjs")];
        let answers = programs.map(|(program, script)| self.run(program, script, &request));
        let signed = answers.each_ref().map(|answer| answer == "signed");
        assert_eq!(signed[0], signed[1], "{answers:?}");
        signed[0]
    }

    fn run(&self, program: &str, script: &str, request: &str) -> String {
        let mut child = Command::new(self.0.program(program))
            .arg(sources().join(script))
            .current_dir(self.0.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(request.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{script} fails");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("webhooks")
}
