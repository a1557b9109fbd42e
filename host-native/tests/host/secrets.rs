//! Secrets that stand in files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::{Method, StatusCode};
use kubeagents_contract::succeed;
use serde_json::Value;
use tempfile::TempDir;

use crate::configuration::{run, settings};
use crate::support::{Server, command, report};

const KEY: &str = "a-key-for-the-team";

/// A file with this content, in a folder of its own.
fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The variables that name files of secrets, and the settings.
fn files() -> impl Iterator<Item = (String, &'static str)> {
    let secrets = settings().filter(|setting| setting.secret);
    secrets.map(|setting| (format!("{}_FILE", setting.variable), setting.variable))
}

#[test]
fn every_secret_may_stand_in_a_file_or_in_its_variable_but_not_in_both() {
    let (folder, path) = file("hidden-hidden-hidden");
    let missing = folder.path().join("missing");
    assert!(files().count() >= 7);
    for (variable, setting) in files() {
        let (code, stdout, stderr) = run(&[(&variable, text(&missing))], &[]);
        let expected = format!(
            "{variable}: {}: No such file or directory (os error 2)\n",
            missing.display()
        );
        assert_eq!((code, stdout, stderr), (Some(2), String::new(), expected));

        let both = [(setting, "hidden-hidden-hidden"), (&variable, text(&path))];
        let (code, _, stderr) = run(&both, &[]);
        let expected = format!("{setting} and {variable} are both set: unset one of them\n");
        assert_eq!((code, stderr), (Some(2), expected));
    }
}

#[test]
fn a_file_that_holds_no_secret_stops_the_start_and_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let refusal = |problem: &str| format!("JWT_SECRET_FILE: {}: {problem}\n", path.display());
    let large = "hidden!!".repeat(8 * 1024 + 1);
    for (content, problem) in [
        (&b""[..], "is empty"),
        (b"\n", "is empty"),
        (b"\r\n", "is empty"),
        (b"hidden \xff\xfe", "is not UTF-8"),
        (large.as_bytes(), "is larger than 64 KiB"),
    ] {
        fs::write(&path, content).unwrap();
        let (code, _, stderr) = run(&[("JWT_SECRET_FILE", text(&path))], &[]);
        assert_eq!((code, stderr), (Some(2), refusal(problem)));
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let ends = || run(&[], &["--jwt-secret-file", text(&path)]);
    assert_eq!(ends().2, refusal("is not a regular file"));
    // Nobody ever writes into it.
    fs::remove_dir(&path).unwrap();
    succeed(Command::new("mkfifo").arg(&path));
    assert_eq!(ends().2, refusal("is not a regular file"));

    fs::remove_file(&path).unwrap();
    fs::write(&path, "hidden").unwrap();
    let (code, _, stderr) = ends();
    let rule = "JWT_SECRET must be at least 32 bytes";
    let expected = format!("{rule} (from the file of JWT_SECRET_FILE)\n");
    assert_eq!((code, stderr), (Some(2), expected));
}

#[tokio::test]
async fn a_server_takes_its_secrets_from_files() {
    let (folder, key) = file(format!("{KEY}\n"));
    let database = folder.path().join("kubeagents.db");
    let url = folder.path().join("url");
    fs::write(&url, format!("sqlite://{}\n", database.display())).unwrap();
    // As Kubernetes mounts secrets.
    let link = folder.path().join("link");
    symlink(&key, &link).unwrap();
    let mut command = command(&[
        ("AUTH_MODE", "required"),
        ("DATABASE_URL_FILE", text(&url)),
        ("DATABASE_URL", ""),
        ("JWT_SECRET_FILE", ""),
        ("PORT", "0"),
    ]);
    let server = Server::of(command.args(["--kubeagents-api-key-file", text(&link)]));
    let body = report("topic", "running");
    let stored = server.send(Method::POST, "/webhook/status", Some(KEY), &body);
    assert_eq!(stored.await.status, StatusCode::OK);
    assert!(database.exists());
    let lines = server.process.log().lines();
    assert!(!lines.iter().any(|line| line.contains("WARN")), "{lines:?}");
}

#[test]
fn the_demonstration_reads_no_file_of_a_database() {
    let variables = [("DATABASE_URL_FILE", "/missing"), ("PORT", "70000")];
    let (_, _, stderr) = run(&variables, &["demo"]);
    assert!(stderr.starts_with("PORT must be"), "{stderr}");
}

#[tokio::test]
async fn commands_take_the_key_from_a_file() {
    let server = Server::start(&[("AUTH_MODE", "required"), ("KUBEAGENTS_API_KEY", KEY)]);
    let url = format!("http://{}", server.address);
    let (folder, path) = file(format!("{KEY}\n"));
    let variables = [
        ("HOME", text(folder.path())),
        ("KUBEAGENTS_SERVER_URL", &url),
        ("KUBEAGENTS_API_KEY_FILE", text(&path)),
    ];
    let (code, _, stderr) = run(&variables, &["report", "running", "--topic", "by file"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let path_of_agents = "/api/sessions?search=by+file";
    let found = server.send(Method::GET, path_of_agents, Some(KEY), &Value::Null);
    assert_eq!(found.await.body["sessions"].as_array().unwrap().len(), 1);

    fs::write(&path, "a-key-of-another-team").unwrap();
    let (code, _, stderr) = run(&variables, &["ps"]);
    assert_eq!(code, Some(1));
    let problem = "does not accept KUBEAGENTS_API_KEY_FILE (invalid or expired token)";
    assert!(stderr.contains(problem), "{stderr}");

    fs::remove_file(&path).unwrap();
    for command in ["ps", "mcp"] {
        let (code, _, stderr) = run(&variables, &[command]);
        let problem = format!("KUBEAGENTS_API_KEY_FILE: {}: No such file", path.display());
        assert!(stderr.contains(&problem), "{stderr}");
        assert_eq!(code, Some(2));
    }
}
