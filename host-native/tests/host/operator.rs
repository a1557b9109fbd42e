//! `kubeagents key` and `kubeagents user`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::{Method, StatusCode};
use kubeagents_test_postgres::database;
use serde_json::{Value, json};

use crate::support::{Answer, Server, command, eventually, report};

const EMAIL: &str = "alice@example.com";
const PASSWORD: &str = "correct horse";

/// What a command prints and how it ends, with this on its standard input.
fn output(variables: &[(&str, &str)], arguments: &[&str], input: &str) -> Output {
    let mut child = command(variables)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that asks for nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The exit code of a command, and what it says.
fn refusal(variables: &[(&str, &str)], arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let output = output(variables, arguments, input);
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    (output.status.code(), text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What an operator does at one database, and clients at its server.
struct Instance<'a> {
    url: &'a str,
    server: Server,
}

impl<'a> Instance<'a> {
    fn start(url: &'a str) -> Self {
        let variables = [
            ("DATABASE_URL", url),
            ("AUTH_MODE", "required"),
            ("SHARED_WORKSPACE_MEMBERS", EMAIL),
        ];
        Self {
            url,
            server: Server::start(&variables),
        }
    }

    /// What a command prints that must succeed.
    fn told(&self, arguments: &[&str], input: &str) -> String {
        let output = output(&[("DATABASE_URL", self.url)], arguments, input);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        text(&output.stdout)
    }

    /// The key that a command makes, and what it says beside that.
    fn key(&self, arguments: &[&str]) -> String {
        let arguments = [&["key"], arguments].concat();
        let printed = self.told(&arguments, "");
        let key = printed.strip_suffix('\n').unwrap();
        assert_eq!(key.len(), 44, "{printed:?}");
        key.to_owned()
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        let get = self
            .server
            .send(Method::GET, path, Some(token), &Value::Null);
        get.await
    }

    async fn report(&self, topic: &str, key: &str) -> StatusCode {
        let body = report(topic, "running");
        let path = "/webhook/status";
        let answer = self.server.send(Method::POST, path, Some(key), &body);
        answer.await.status
    }

    async fn login(&self, password: &str) -> Answer {
        let body = json!({"email": EMAIL, "password": password});
        self.server.post("/api/auth/login", &body).await
    }

    /// Waits until a key is refused.
    async fn refused(&self, key: &str) {
        for attempt in 0_u32.. {
            if self.report("refused", key).await == StatusCode::UNAUTHORIZED {
                return;
            }
            assert!(attempt < 600, "the key is still accepted");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The cells of the line of a table that holds a word.
fn row<'a>(table: &'a str, word: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.contains(word));
    line.unwrap_or_else(|| panic!("{word} in {table}"))
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

async fn keys_and_accounts_are_made_beside_a_running_server(url: &str) {
    let instance = Instance::start(url);

    let reporter = instance.key(&[]);
    assert_eq!(instance.report("first", &reporter).await, StatusCode::OK);
    let answer = instance.get("/api/agents", &reporter).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let options = [
        "--name",
        "laptop 1",
        "--scopes",
        "report,read",
        "--expires-in",
        "90",
    ];
    let reader = instance.key(&options);
    let answer = instance.get("/api/sessions", &reader).await;
    let session = &answer.body["sessions"][0];
    assert_eq!(session["session_topic"], "first", "{answer:?}");
    assert_eq!(session["context"]["user"], Value::Null, "nobody's");

    let list = instance.told(&["key", "list"], "");
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(!list.contains(&reader) && !list.contains(&reporter));
    let cells = row(&list, "laptop 1");
    assert_eq!(cells[1], &reader[..8]);
    assert!(cells[2].starts_with("until 20"), "{cells:?}");
    assert_eq!(cells[3..5], ["report,read", "shared"]);
    let cells = row(&list, &reporter[..8]);
    assert_eq!(cells[2..5], ["valid", "report", "shared"]);
    assert_eq!(cells[6], "made by the operator");
    instance.told(&["key", "revoke", cells[0]], "");
    instance.refused(&reporter).await;
    assert_eq!(
        row(&instance.told(&["key", "list"], ""), cells[0])[2],
        "revoked"
    );
    assert_eq!(instance.report("second", &reader).await, StatusCode::OK);

    let printed = instance.told(&["user", "add", EMAIL, "--name", "Alice"], PASSWORD);
    assert_eq!(printed, "");
    let answer = instance.login(PASSWORD).await;
    assert_eq!(answer.body["user"]["email_verified"], true, "{answer:?}");
    assert_eq!(answer.body["user"]["name"], "Alice");
    let list = instance.told(&["user", "list"], "");
    assert_eq!(list.lines().count(), 2, "{list}");
    assert_eq!(row(&list, EMAIL)[1], "yes");

    let own = instance.key(&["--user", EMAIL, "--scopes", "report,read"]);
    assert_eq!(instance.report("third", &own).await, StatusCode::OK);
    let answer = instance.get("/api/sessions", &own).await;
    let sessions = answer.body["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(sessions[0]["session_topic"], "third");
    let variables = [("DATABASE_URL", url), ("SHARED_WORKSPACE_MEMBERS", EMAIL)];
    let shared = ["key", "--user", EMAIL, "--shared"];
    let (code, said) = refusal(&variables[..1], &shared, "");
    assert!(
        said.contains("is no member of the shared workspace"),
        "{said}"
    );
    assert_eq!(code, Some(1));
    let member = output(&variables, &shared, "");
    let member = text(&member.stdout);
    assert_eq!(
        instance.report("fourth", member.trim()).await,
        StatusCode::OK
    );
    let answer = instance.get("/api/sessions?search=fourth", &reader).await;
    assert_eq!(answer.body["sessions"][0]["context"]["user"], "Alice");
    let list = instance.told(&["key", "list", "--user", EMAIL], "");
    assert_eq!(list.lines().count(), 3, "{list}");

    let made = instance.told(&["user", "password", EMAIL, "--generate"], "");
    assert_eq!(
        instance.login(PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(instance.login(made.trim()).await.status, StatusCode::OK);
    assert!(made.trim().len() >= 24, "{made:?}");

    instance.told(&["user", "remove", EMAIL, "--yes"], "");
    assert_eq!(
        instance.login(made.trim()).await.status,
        StatusCode::UNAUTHORIZED
    );
    instance.refused(&own).await;
    assert_eq!(instance.told(&["user", "list"], "").lines().count(), 1);
    assert_eq!(instance.report("fifth", &reader).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_accounts_are_made_beside_a_server_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("kubeagents.db").display());
    keys_and_accounts_are_made_beside_a_running_server(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_accounts_are_made_beside_a_server_on_postgresql() {
    let database = database();
    keys_and_accounts_are_made_beside_a_running_server(&database.url()).await;
}

#[tokio::test]
async fn a_key_may_be_made_before_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("kubeagents.db").display());
    let made = output(&[("DATABASE_URL", &url)], &["key"], "");
    let instance = Instance::start(&url);
    let key = text(&made.stdout);
    assert_eq!(instance.report("topic", key.trim()).await, StatusCode::OK);
}

#[tokio::test]
async fn nobody_can_be_the_account_of_the_operators_keys() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("kubeagents.db").display());
    let instance = Instance::start(&url);
    instance.key(&[]);
    for email in ["operator", "Operator"] {
        let body = json!({"email": email, "password": PASSWORD});
        for (path, status) in [
            ("/api/auth/register", StatusCode::BAD_REQUEST),
            ("/api/auth/login", StatusCode::UNAUTHORIZED),
            ("/api/auth/forgot", StatusCode::OK),
        ] {
            let answer = instance.server.post(path, &body).await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
        }
        let variables = [("DATABASE_URL", url.as_str())];
        for arguments in [
            &["user", "remove", email, "--yes"][..],
            &["user", "password", email],
            &["key", "--user", email],
        ] {
            let (code, said) = refusal(&variables, arguments, PASSWORD);
            assert_eq!(said, format!("no account has the address {email}\n"));
            assert_eq!(code, Some(1));
        }
    }
    // A mail to somebody else comes after theirs.
    instance.told(&["user", "add", EMAIL], PASSWORD);
    let body = json!({"email": EMAIL});
    instance.server.post("/api/auth/forgot", &body).await;
    instance.server.link_token("reset", EMAIL).await;
    let lines = instance.server.process.log().lines();
    let links = lines.iter().filter(|line| line.contains("/reset?token="));
    assert_eq!(links.count(), 1, "{lines:?}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("kubeagents.db").display());
    let on_file = [("DATABASE_URL", url.as_str())];
    let nowhere = "DATABASE_URL must be set: without a database a server keeps accounts and keys in its own \
                   memory, where no other process reaches them; KUBEAGENTS_API_KEY gives it a static key";
    for (variables, arguments, input, code, problem) in [
        (&[][..], &["key"][..], "", 2, nowhere),
        (&[], &["user", "list"], "", 2, nowhere),
        (
            &[("DATABASE_URI", "sqlite:x.db")],
            &["key"],
            "",
            2,
            "DATABASE_URI is no setting, did you mean DATABASE_URL? Storage would be memory: set DATABASE_URL, or \
             unset DATABASE_URI",
        ),
        (
            &on_file,
            &["key", "--user", EMAIL],
            "",
            1,
            "no account has the address alice@example.com",
        ),
        (
            &on_file,
            &["key", "--scopes", "write"],
            "",
            2,
            "scopes must be report, read",
        ),
        (&on_file, &["key", "--name", " "], "", 2, "name is required"),
        (
            &on_file,
            &["key", "--expires-in", "40000"],
            "",
            2,
            "expires_in must be 0-36500 days",
        ),
        (
            &on_file,
            &["key", "revoke", "none"],
            "",
            1,
            "there is no API key none",
        ),
        (
            &on_file,
            &["user", "add", "alice"],
            PASSWORD,
            2,
            "invalid email format",
        ),
        (
            &on_file,
            &["user", "add", EMAIL],
            "short\n",
            2,
            "password must be at least 8 characters",
        ),
        (
            &on_file,
            &["user", "add", EMAIL],
            "",
            2,
            "password must be at least 8 characters",
        ),
        (
            &on_file,
            &["user", "remove", EMAIL],
            EMAIL,
            2,
            "--yes must be given where nobody can be asked",
        ),
    ] {
        let expected = (Some(code), format!("{problem}\n"));
        assert_eq!(
            refusal(variables, arguments, input),
            expected,
            "{arguments:?}"
        );
    }
    let add = ["user", "add", EMAIL];
    assert_eq!(output(&on_file, &add, PASSWORD).status.code(), Some(0));
    let again = refusal(&on_file, &["user", "add", "ALICE@example.com"], PASSWORD);
    let taken = "an account has the address ALICE@example.com already\n";
    assert_eq!(again, (Some(1), taken.to_owned()));
}

/// A command at a terminal of its own.
struct Terminal {
    process: Child,
    shown: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    fn start(variables: &[(&str, &str)], arguments: &str) -> Self {
        let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_kubeagents"));
        let mut process = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let mut output = process.stdout.take().unwrap();
        let keep = shown.clone();
        let reader = thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                keep.lock().unwrap().push_str(&text);
            }
        });
        Self {
            process,
            shown,
            reader: Some(reader),
        }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits for a prompt, and types.
    async fn answer(&mut self, prompt: &str, typed: &str) {
        eventually(prompt, || self.shown().contains(prompt).then_some(())).await;
        let input = self.process.stdin.as_mut().unwrap();
        input.write_all(typed.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    async fn end(&mut self) -> Option<i32> {
        let ended = eventually("its end", || self.process.try_wait().unwrap());
        let code = ended.await.code();
        // Then everything is shown.
        self.reader.take().unwrap().join().unwrap();
        code
    }
}

#[tokio::test]
async fn a_password_is_typed_twice_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("kubeagents.db").display());
    let variables = [("DATABASE_URL", url.as_str())];
    let add = format!("user add {EMAIL}");

    let mut terminal = Terminal::start(&variables, &add);
    terminal.answer("Password: ", "correct horse\r").await;
    terminal.answer("The same again: ", "another horse\r").await;
    assert_eq!(terminal.end().await, Some(1));
    let shown = terminal.shown();
    assert!(shown.contains("the two passwords differ"), "{shown}");

    let mut terminal = Terminal::start(&variables, &add);
    terminal
        .answer("Password: ", "correct house\u{7f}\u{7f}\u{7f}rse\r")
        .await;
    terminal.answer("The same again: ", "correct horse\r").await;
    assert_eq!(terminal.end().await, Some(0));
    let shown = terminal.shown();
    assert!(
        !shown.contains("horse") && !shown.contains("house"),
        "{shown}"
    );

    let mut terminal = Terminal::start(&variables, &format!("user remove {EMAIL}"));
    terminal
        .answer("Type its address to go on: ", "bob@example.com\n")
        .await;
    assert_eq!(terminal.end().await, Some(2));
    let mut terminal = Terminal::start(&variables, &format!("user remove {EMAIL}"));
    terminal
        .answer("Type its address to go on: ", &format!("{EMAIL}\n"))
        .await;
    assert_eq!(terminal.end().await, Some(0));
    let list = output(&variables, &["user", "list"], "");
    assert_eq!(text(&list.stdout).lines().count(), 1);
}

#[test]
fn root_leaves_nothing_behind_that_the_servers_user_cannot_use() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeagents.db");
    let url = format!("sqlite://{}", file.display());
    let problem = format!(
        "DATABASE_URL: {} cannot be used: it belongs to another user: run this as that user, as whom the server \
         runs\n",
        file.display()
    );
    let ends = || refusal(&[("DATABASE_URL", &url)], &["key"], "");
    chown(folder.path(), Some(1), None).unwrap();
    assert_eq!(ends(), (Some(2), problem.clone()));
    assert!(!file.exists());

    fs::write(&file, "").unwrap();
    chown(folder.path(), Some(0), None).unwrap();
    chown(&file, Some(1), None).unwrap();
    assert_eq!(ends(), (Some(2), problem));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
