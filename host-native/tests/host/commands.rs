//! The commands for the machine that agents work on: hooks, what watches agents, and what people and
//! scripts call.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Answer, Server, eventually};

const KEY: &str = "a-key-for-the-team";

/// A user's home on a machine called "desk".
struct Home {
    folder: tempfile::TempDir,
    /// Programs that are agents to their hooks.
    agent: PathBuf,
}

impl Home {
    /// A home whose configuration names this server, with more lines of it.
    fn new(url: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join(".config/kubeagents");
        fs::create_dir_all(&config).unwrap();
        let text = format!("url = {url:?}\nhost = \"desk\"\n{more}");
        fs::write(config.join("config.toml"), text).unwrap();
        let run = folder.path().join("run");
        fs::DirBuilder::new().mode(0o700).create(run).unwrap();
        // A shell by its own name would be passed over.
        let agent = folder.path().join("claude");
        fs::copy("/bin/bash", &agent).unwrap();
        Self { folder, agent }
    }

    fn of(server: &Server) -> Self {
        Self::new(&format!("http://{}", server.address), "")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A program in this home, with nothing else around it.
    fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path())
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("KUBEAGENTS", env!("CARGO_BIN_EXE_kubeagents"))
            .current_dir(self.path());
        command
    }

    fn kubeagents(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_kubeagents"));
        command.args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.kubeagents(arguments).output().unwrap()
    }

    /// Hands an event to a hook, and waits until it leaves.
    fn hook(&self, tool: &str, payload: &Value) -> Output {
        hand_over(
            self.kubeagents(&["hook", tool]),
            payload.to_string().as_bytes(),
        )
    }

    fn agent(&self, arguments: &[&str]) -> Agent {
        let mut command = self.program(&self.agent);
        command.args(arguments);
        Agent::start(command, self.path())
    }

    /// Every file and folder below the folders of state and sockets.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![
            self.path().join(".local/state/kubeagents"),
            self.path().join("run/kubeagents"),
        ];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            found.push(folder);
            for entry in entries {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path),
                }
            }
        }
        found
    }

    /// What waits to be sent.
    fn spooled(&self) -> Vec<String> {
        let files = self.files().into_iter();
        let events = files.filter(|file| {
            file.parent()
                .is_some_and(|folder| folder.ends_with("spool"))
        });
        let events = events.filter(|file| file.extension().is_some_and(|name| name == "json"));
        events
            .filter_map(|file| fs::read_to_string(file).ok())
            .collect()
    }

    /// The processes that hooks have left behind.
    fn watchers(&self) -> Vec<Pid> {
        let is_of_home = |process: &Path| {
            let read = |name| fs::read(process.join(name)).unwrap_or_default();
            let home = format!("HOME={}\0", self.path().display());
            String::from_utf8_lossy(&read("cmdline")).contains("\0hook-watcher\0")
                && String::from_utf8_lossy(&read("environ")).contains(&home)
        };
        let processes = fs::read_dir("/proc").unwrap();
        let processes = processes.map(|entry| entry.unwrap().path());
        let ids = processes.filter(|process| is_of_home(process));
        ids.filter_map(|process| {
            let id = process.file_name()?.to_str()?.parse().ok()?;
            Pid::from_raw(id)
        })
        .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for watcher in self.watchers() {
            // It may have left by itself.
            let _ = kill_process(watcher, Signal::KILL);
        }
    }
}

fn hand_over(mut command: Command, payload: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It need not read everything, or anything.
    drop(child.stdin.take().unwrap().write_all(payload));
    child.wait_with_output().unwrap()
}

/// Something that hooks take for an agent.
struct Agent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    payload: PathBuf,
}

impl Agent {
    fn start(mut command: Command, folder: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            payload: folder.join("payload.json"),
            child,
        }
    }

    /// Has the agent call a hook, by way of a shell, and wait for it.
    fn hook(&mut self, payload: &Value) {
        fs::write(&self.payload, payload.to_string()).unwrap();
        let file = self.payload.display();
        let hook = format!("sh -c '\"$KUBEAGENTS\" hook claude-code < {file}; true'; echo done $?");
        writeln!(self.input, "{hook}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "done 0\n");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn event(name: &str, session: &str) -> Value {
    json!({"hook_event_name": name, "session_id": session, "cwd": "/tmp"})
}

fn prompt(session: &str, text: &str) -> Value {
    let mut event = event("UserPromptSubmit", session);
    event["prompt"] = json!(text);
    event
}

fn tool(name: &str, session: &str, command: &str) -> Value {
    let mut event = event(name, session);
    event["tool_name"] = json!("Bash");
    event["tool_input"] = json!({"command": command});
    event
}

/// What the server says of a session of Claude Code on this machine.
async fn session(server: &Server, topic: &str) -> Answer {
    let path = format!("/api/agents/claude-code%40desk/sessions/{topic}");
    server.get(&path).await
}

/// Status and reason of a session as soon as they are these.
async fn is_told(server: &Server, topic: &str, status: &str, reason: &str) -> Value {
    let begin = Instant::now();
    loop {
        let answer = session(server, topic).await;
        let told = &answer.body["session"];
        let now = told["reason"].as_str().unwrap_or_default();
        if answer.status == StatusCode::OK && told["current_status"] == status && now == reason {
            return answer.body;
        }
        let waited = begin.elapsed();
        assert!(
            waited < crate::support::PATIENCE,
            "{topic} is not {status} {reason}: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every request that arrives at a port, answered as a server would.
fn listen() -> (SocketAddr, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let received = heads.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).is_ok_and(|length| length > 2) {}
            received.lock().unwrap().push(head);
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    (address, heads)
}

#[tokio::test]
async fn many_hooks_at_once_keep_the_order_of_their_sessions() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    thread::scope(|scope| {
        for name in &names {
            let home = &home;
            scope.spawn(move || {
                home.hook("claude-code", &prompt(name, "go"));
                for number in 0..4 {
                    let command = format!("make {number}");
                    home.hook("claude-code", &tool("PermissionRequest", name, &command));
                    home.hook("claude-code", &tool("PostToolUse", name, &command));
                }
                home.hook("claude-code", &event("Stop", name));
            });
        }
    });
    for name in &names {
        let told = is_told(&server, name, "success", "turn").await;
        let history = told["status_history"].as_array().unwrap();
        let told: Vec<String> = history
            .iter()
            .rev()
            .map(|status| {
                let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
                format!("{} {}", text("status"), text("message"))
            })
            .collect();
        let work = (0..4).flat_map(|number| {
            let wait = format!("pending Bash: make {number}");
            [wait, format!("running Bash: make {number}")]
        });
        let expected: Vec<String> = ["running go".to_owned()].into_iter().chain(work).collect();
        assert_eq!(told[..9], expected, "{name}");
        assert!(told[9].starts_with("success"), "{told:?}");
        assert_eq!(told.len(), 10, "{told:?}");
    }
    assert_eq!(home.watchers().len(), 1);
}

#[tokio::test]
async fn what_hooks_take_while_the_server_is_away_arrives_as_the_latest_state() {
    let server = Server::start(&[]);
    let port = server.address.port().to_string();
    let home = Home::of(&server);
    drop(server);
    home.hook("claude-code", &prompt("s", "Fix the login page"));
    for number in 0..5 {
        home.hook(
            "claude-code",
            &tool("PostToolUse", "s", &format!("make {number}")),
        );
    }
    home.hook(
        "claude-code",
        &tool("PermissionRequest", "s", "make install"),
    );
    home.hook("claude-code", &prompt("other", "Write docs"));
    home.hook("claude-code", &event("Stop", "other"));
    eventually("only news is left", || {
        (home.spooled().len() == 4).then_some(())
    })
    .await;

    let server = Server::start(&[("PORT", port.as_str())]);
    let told = is_told(&server, "s", "pending", "permission").await;
    assert_eq!(told["session"]["title"], "Fix the login page");
    assert_eq!(told["session"]["context"]["host"], "desk");
    assert_eq!(
        told["status_history"].as_array().unwrap().len(),
        2,
        "{told}"
    );
    is_told(&server, "other", "success", "turn").await;
    eventually("an empty spool", || home.spooled().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_watcher_that_is_killed_loses_nothing_and_is_followed_by_another() {
    let server = Server::start(&[]);
    let port = server.address.port().to_string();
    let home = Home::of(&server);
    let mut agent = home.agent(&[]);
    agent.hook(&prompt("watched", "go"));
    is_told(&server, "watched", "running", "").await;
    drop(server);
    agent.hook(&tool("PermissionRequest", "watched", "make"));
    for watcher in home.watchers() {
        kill_process(watcher, Signal::KILL).unwrap();
    }
    eventually("no watcher", || home.watchers().is_empty().then_some(())).await;
    assert_eq!(home.spooled().len(), 1);

    let server = Server::start(&[("PORT", port.as_str())]);
    home.hook("claude-code", &prompt("another", "go"));
    is_told(&server, "watched", "pending", "permission").await;
    is_told(&server, "another", "running", "").await;
    // The new one watches whom the old one watched.
    agent.kill();
    is_told(&server, "watched", "failed", "crashed").await;
}

#[tokio::test]
async fn state_folders_that_share_a_folder_of_sockets_have_each_their_own_watcher() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    home.hook("claude-code", &prompt("one", "go"));
    is_told(&server, "one", "running", "").await;
    let mut other = home.kubeagents(&["hook", "claude-code"]);
    other.env("XDG_STATE_HOME", home.path().join("other"));
    hand_over(other, prompt("two", "go").to_string().as_bytes());
    is_told(&server, "two", "running", "").await;
    assert_eq!(home.watchers().len(), 2);
}

#[tokio::test]
async fn an_agent_that_dies_is_noticed_and_one_that_says_goodbye_is_not_taken_for_dead() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let (mut dying, mut leaving) = (home.agent(&[]), home.agent(&[]));
    let mut turned = home.agent(&[]);
    for (agent, name) in [
        (&mut dying, "dying"),
        (&mut leaving, "leaving"),
        (&mut turned, "turned"),
    ] {
        agent.hook(&prompt(name, "go"));
        is_told(&server, name, "running", "").await;
    }
    dying.hook(&tool("PostToolUse", "dying", "make"));
    turned.hook(&event("Stop", "turned"));
    leaving.hook(&event("SessionEnd", "leaving"));
    is_told(&server, "turned", "success", "turn").await;
    let left = session(&server, "leaving").await.body;
    assert_eq!(
        left["session"]["reason"], "stopped",
        "sent in the foreground: {left}"
    );
    leaving.kill();
    dying.kill();
    turned.kill();
    is_told(&server, "dying", "failed", "crashed").await;
    is_told(&server, "turned", "success", "closed").await;
    is_told(&server, "leaving", "failed", "stopped").await;
}

#[tokio::test]
async fn a_session_is_renewed_while_its_agent_lives() {
    let server = Server::start(&[("DEFAULT_TTL_MINUTES", "1")]);
    let home = Home::of(&server);
    let mut agent = home.agent(&[]);
    agent.hook(&prompt("quiet", "go"));
    let told = is_told(&server, "quiet", "running", "").await;
    let updated = told["session"]["last_updated"].clone();
    let renewed = async {
        loop {
            let told = session(&server, "quiet").await.body;
            if told["session"]["last_updated"] != updated {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let told = tokio::time::timeout(crate::support::PATIENCE, renewed)
        .await
        .unwrap();
    assert_eq!(told["session"]["current_status"], "running");
    assert_eq!(
        told["status_history"].as_array().unwrap().len(),
        1,
        "{told}"
    );
}

#[tokio::test]
async fn the_end_of_a_turn_without_a_person_is_sent_before_the_hook_leaves() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let mut agent = home.agent(&["-p"]);
    agent.hook(&prompt("headless", "go"));
    agent.hook(&event("Stop", "headless"));
    let told = session(&server, "headless").await.body;
    assert_eq!(told["session"]["context"]["mode"], "headless", "{told}");
    assert_ne!(told["session"]["current_status"], "running", "{told}");
}

#[tokio::test]
async fn the_stored_key_goes_to_its_server_only_whatever_the_environment_says() {
    let (own, own_heads) = listen();
    let (foreign, foreign_heads) = listen();
    let home = Home::new(&format!("http://{own}"), &format!("key = {KEY:?}\n"));
    let to = |variables: &[(&str, &str)], session: &str| {
        let mut command = home.kubeagents(&["hook", "claude-code"]);
        command.envs(variables.iter().copied());
        hand_over(command, prompt(session, "go").to_string().as_bytes());
    };
    let url = format!("http://{foreign}");
    to(&[], "own");
    to(&[("KUBEAGENTS_SERVER_URL", &url)], "foreign");
    to(
        &[
            ("KUBEAGENTS_SERVER_URL", &url),
            ("KUBEAGENTS_API_KEY", "another-key"),
        ],
        "paired",
    );
    to(
        &[("KUBEAGENTS_SERVER_URL", &url), ("KUBEAGENTS_API_KEY", KEY)],
        "stolen",
    );
    let file = home.path().join("another-secret");
    let another_secret = "a-secret-of-another-program";
    fs::write(&file, another_secret).unwrap();
    let file = file.to_str().unwrap();
    to(
        &[
            ("KUBEAGENTS_SERVER_URL", &url),
            ("KUBEAGENTS_API_KEY_FILE", file),
        ],
        "named",
    );
    to(&[], "own-again");
    let posts = |heads: &std::sync::Mutex<Vec<String>>| {
        let heads = heads.lock().unwrap();
        let posts = heads.iter().filter(|head| head.starts_with("POST"));
        posts.cloned().collect::<Vec<String>>()
    };
    eventually("what is for the own server", || {
        (posts(&own_heads).len() >= 2).then_some(())
    })
    .await;
    eventually("the rest", || {
        (posts(&foreign_heads).len() >= 4).then_some(())
    })
    .await;
    for head in own_heads.lock().unwrap().iter() {
        let expected = format!("authorization: Bearer {KEY}");
        assert!(
            head.to_lowercase().contains(&expected.to_lowercase()),
            "{head}"
        );
    }
    for head in foreign_heads.lock().unwrap().iter() {
        assert!(!head.contains(KEY), "{head}");
        assert!(!head.contains(another_secret), "{head}");
    }
    let paired = |head: &String| head.contains("Bearer another-key");
    assert_eq!(
        posts(&foreign_heads)
            .iter()
            .filter(|head| paired(head))
            .count(),
        1
    );
}

#[tokio::test]
async fn what_hooks_leave_is_for_this_user_only_and_holds_no_secret() {
    let home = Home::new(
        "http://127.0.0.1:1",
        &format!("key = {KEY:?}\ndetail = \"title\"\n"),
    );
    home.hook(
        "claude-code",
        &prompt("s", "use ghp_abcdefghijklmnop please"),
    );
    home.hook(
        "claude-code",
        &tool("PostToolUse", "s", "deploy --token hunter2 everything"),
    );
    eventually("a watcher", || (!home.watchers().is_empty()).then_some(())).await;
    eventually("its socket", || {
        let files = home.files();
        files
            .iter()
            .any(|file| file.ends_with("watcher.sock"))
            .then_some(())
    })
    .await;
    let files = home.files();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        // What is being replaced may be gone.
        let Ok(metadata) = fs::symlink_metadata(&file) else {
            continue;
        };
        let mode = metadata.permissions().mode() & 0o777;
        let name = file.display();
        match metadata.file_type() {
            kind if kind.is_dir() => assert_eq!(mode, 0o700, "{name}"),
            kind if kind.is_file() => assert_eq!(mode, 0o600, "{name}"),
            // Nobody else comes as far as the socket.
            _ => assert!(name.to_string().ends_with(".sock"), "{name}"),
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        for secret in [KEY, "ghp_abc", "hunter2", "everything"] {
            assert!(!text.contains(secret), "{secret} in {name}: {text}");
        }
    }
}

#[test]
fn a_hook_prints_only_what_its_tool_demands_and_never_fails() {
    let home = Home::new("http://127.0.0.1:1", "");
    let run = |home: &Home, arguments: &[&str], payload: &[u8]| {
        let output = hand_over(home.kubeagents(arguments), payload);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let more_than_a_pipe_holds = vec![b'x'; 1 << 20];
    let payloads: [&[u8]; 6] = [
        &more_than_a_pipe_holds,
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        br#"{"hook_event_name": "Stop", "session_id": 7}"#,
    ];
    for payload in payloads {
        for tool in [
            "claude-code",
            "codex",
            "copilot",
            "opencode",
            "emacs",
            "--flag",
        ] {
            assert_eq!(run(&home, &["hook", tool], payload), "");
        }
        assert_eq!(run(&home, &["hook", "gemini"], payload), "{}\n");
        assert_eq!(run(&home, &["hook"], payload), "");
    }
    let prompt =
        br#"{"hook_event_name": "beforeSubmitPrompt", "conversation_id": "c", "prompt": "go"}"#;
    assert_eq!(
        run(&home, &["hook", "cursor"], prompt),
        "{\"continue\":true}\n"
    );
    let turn = r#"{"type": "agent-turn-complete", "thread-id": "t", "cwd": "/tmp"}"#;
    assert_eq!(run(&home, &["hook", "codex-notify", turn], b""), "");
    assert!(
        home.spooled()
            .iter()
            .any(|event| event.contains("agent-turn-complete"))
    );

    let broken = Home::new("no address", "");
    assert_eq!(
        run(
            &broken,
            &["hook", "claude-code"],
            event("Stop", "s").to_string().as_bytes()
        ),
        ""
    );
    assert!(broken.files().is_empty());
}

#[tokio::test]
async fn where_nothing_can_be_kept_events_are_sent_at_once_and_doctor_says_so() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.address);
    let home = Home::of(&server);
    let without = |arguments: &[&str]| {
        let mut command = home.kubeagents(arguments);
        command.env("XDG_STATE_HOME", "/proc/nowhere");
        command
    };
    let homeless = |arguments: &[&str]| {
        let mut command = home.kubeagents(arguments);
        command
            .env_remove("HOME")
            .env("KUBEAGENTS_SERVER_URL", &url);
        command.env("KUBEAGENTS_HOST", "desk");
        command
    };
    for name in ["without", "homeless"] {
        let command = |arguments: &[&str]| match name {
            "without" => without(arguments),
            _ => homeless(arguments),
        };
        let hook = |payload: Value| {
            let hook = command(&["hook", "claude-code"]);
            let output = hand_over(hook, payload.to_string().as_bytes());
            assert_eq!((output.status.code(), output.stdout), (Some(0), Vec::new()));
        };
        hook(prompt(name, "go"));
        is_told(&server, name, "running", "").await;
        hook(tool("PermissionRequest", name, "make"));
        is_told(&server, name, "pending", "permission").await;
        hook(event("SessionEnd", name));
        let told = session(&server, name).await.body;
        assert_eq!(
            told["session"]["current_status"], "failed",
            "waited for: {told}"
        );
        let run = command(&["run", "--agent", name, "--topic", "t", "--", "false"]).output();
        assert_eq!(run.unwrap().status.code(), Some(1));
        let told = server
            .get(&format!("/api/agents/{name}/sessions/t"))
            .await
            .body;
        assert_eq!(told["session"]["current_status"], "failed", "{told}");
    }
    let doctor = without(&["doctor"]).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        said.contains("/proc/nowhere") && said.contains("XDG_STATE_HOME"),
        "{said}"
    );
    assert!(home.files().is_empty() && home.watchers().is_empty());
}

#[tokio::test]
async fn what_was_taken_without_a_key_is_sent_with_the_one_that_is_stored_later() {
    let server = Server::start(&[("AUTH_MODE", "required"), ("KUBEAGENTS_API_KEY", KEY)]);
    let (foreign, foreign_heads) = listen();
    let home = Home::of(&server);
    let mut elsewhere = home.kubeagents(&["hook", "claude-code"]);
    elsewhere.env("KUBEAGENTS_SERVER_URL", format!("http://{foreign}"));
    home.hook("claude-code", &prompt("s", "Fix the login page"));
    hand_over(elsewhere, prompt("elsewhere", "go").to_string().as_bytes());
    eventually("the other server's event", || {
        (home.spooled().len() == 1).then_some(())
    })
    .await;
    let config = home.path().join(".config/kubeagents/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\nkey = {KEY:?}\n")).unwrap();
    // What comes later does not overtake it.
    home.hook("claude-code", &tool("PostToolUse", "s", "make"));
    eventually("an empty spool", || home.spooled().is_empty().then_some(())).await;
    let path = "/api/agents/claude-code%40desk/sessions/s";
    let told = server
        .send(Method::GET, path, Some(KEY), &Value::Null)
        .await;
    assert_eq!(
        told.body["session"]["title"], "Fix the login page",
        "{told:?}"
    );
    assert_eq!(told.body["session"]["message"], "Bash: make", "{told:?}");
    for head in foreign_heads.lock().unwrap().iter() {
        assert!(!head.contains(KEY), "{head}");
    }
}

#[tokio::test]
async fn what_a_limit_refuses_for_a_while_is_sent_later_and_stands_in_nobodys_way_for_good() {
    let server = Server::start(&[
        ("AUTH_MODE", "required"),
        ("KUBEAGENTS_API_KEY", KEY),
        ("REPORTS_PER_MINUTE", "20"),
        ("MAX_AGENTS", "1"),
    ]);
    let url = format!("http://{}", server.address);
    let home = Home::new(&url, &format!("key = {KEY:?}\n"));
    let post = async || {
        let nothing = json!({});
        server
            .send(Method::POST, "/webhook/status", Some(KEY), &nothing)
            .await
    };
    let refused = loop {
        let answer = post().await;
        match answer.status {
            StatusCode::BAD_REQUEST => {}
            _ => break answer,
        }
    };
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");

    home.hook("claude-code", &prompt("s", "Fix the login page"));
    home.hook("claude-code", &tool("PermissionRequest", "s", "make"));
    eventually("an empty spool", || home.spooled().is_empty().then_some(())).await;
    // There is no room for another agent.
    home.hook("codex", &prompt("other", "Write docs"));
    home.hook("claude-code", &event("Stop", "s"));
    eventually("an empty spool", || home.spooled().is_empty().then_some(())).await;
    let path = "/api/agents/claude-code%40desk/sessions/s";
    let get = async |path| {
        server
            .send(Method::GET, path, Some(KEY), &Value::Null)
            .await
    };
    let told = get(path).await.body;
    let history = told["status_history"].as_array().unwrap();
    let statuses: Vec<&str> = history
        .iter()
        .map(|status| status["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["success", "pending", "running"], "{told}");
    let agents = get("/api/agents").await.body;
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1, "{agents}");
}

#[tokio::test]
async fn what_a_session_is_opened_with_is_told_with_its_first_report() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let mut agent = home.agent(&[]);
    let mut start = event("SessionStart", "s");
    start["model"] = json!("claude-opus");
    agent.hook(&start);
    eventually("an empty spool", || home.spooled().is_empty().then_some(())).await;
    assert_eq!(session(&server, "s").await.status, StatusCode::NOT_FOUND);
    // The next watcher knows it too.
    for watcher in home.watchers() {
        kill_process(watcher, Signal::KILL).unwrap();
    }
    eventually("no watcher", || home.watchers().is_empty().then_some(())).await;
    agent.hook(&prompt("s", "go"));
    let told = is_told(&server, "s", "running", "").await;
    assert_eq!(told["session"]["context"]["model"], "claude-opus", "{told}");
}

#[tokio::test]
async fn an_agent_that_dies_at_once_is_noticed_whatever_it_is_called() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let node = home.path().join("node");
    fs::copy(&home.agent, &node).unwrap();
    let mut nameless = Agent::start(home.program(&node), home.path());
    nameless.hook(&event("SessionStart", "nameless"));
    nameless.hook(&prompt("nameless", "go"));
    nameless.kill();
    let mut named = home.agent(&[]);
    named.hook(&prompt("named", "go"));
    named.kill();
    is_told(&server, "nameless", "failed", "crashed").await;
    is_told(&server, "named", "failed", "crashed").await;
}

#[tokio::test]
async fn a_hook_does_not_wait_for_ever_for_what_it_reads() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    for (payload, is_whole) in [
        (prompt("open", "go").to_string(), true),
        ("{\"hook_event_name\": ".to_owned(), false),
        (String::new(), false),
    ] {
        let mut hook = home.kubeagents(&["hook", "claude-code"]);
        let mut hook = hook.stdin(Stdio::piped()).spawn().unwrap();
        let mut input = hook.stdin.take().unwrap();
        input.write_all(payload.as_bytes()).unwrap();
        let ended = eventually("the hook leaves", || hook.try_wait().unwrap()).await;
        assert_eq!(ended.code(), Some(0));
        drop(input);
        if is_whole {
            is_told(&server, "open", "running", "").await;
        }
    }
}

#[tokio::test]
async fn a_mistake_in_what_need_not_be_known_loses_no_event() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let long = "x".repeat(60);
    let with = |arguments: &[&str]| {
        let mut command = home.kubeagents(arguments);
        command
            .env("HOOK_DETAIL", "bogus")
            .env("KUBEAGENTS_HOST", &long);
        command.env("KUBEAGENTS_AUTO_REPORT_ENABLED", "perhaps");
        command
    };
    let payload = prompt("s", "a secret plan").to_string();
    let output = hand_over(with(&["hook", "claude-code"]), payload.as_bytes());
    assert_eq!(
        output,
        Output {
            status: output.status,
            stdout: vec![],
            stderr: vec![]
        }
    );
    let told = is_told(&server, "s", "running", "").await;
    assert!(!told.to_string().contains("secret plan"), "{told}");
    let doctor = with(&["doctor"]).output().unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    for name in [
        "HOOK_DETAIL must be full, title or none",
        "KUBEAGENTS_HOST",
        "AUTO_REPORT",
    ] {
        assert!(said.contains(name), "{name} in {said}");
    }
}

#[tokio::test]
async fn a_status_line_is_passed_on_and_its_context_reported_without_history() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let shown = json!({
        "session_id": "s", "cwd": "/tmp", "model": {"id": "claude-opus", "display_name": "Opus"},
        "cost": {"total_cost_usd": 0.5}, "context_window": {"used_percentage": 12},
    });
    let line = |command: &[&str], shown: &Value| {
        let command = home.kubeagents(&[&["statusline", "--"], command].concat());
        hand_over(command, shown.to_string().as_bytes())
    };
    let output = line(&["sh", "-c", "cat; echo; exit 4"], &shown);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("{shown}\n")
    );
    eventually("an empty spool", || home.spooled().is_empty().then_some(())).await;
    assert_eq!(
        session(&server, "s").await.status,
        StatusCode::NOT_FOUND,
        "no work yet"
    );

    let mut other = shown.clone();
    other["session_id"] = json!("t");
    home.hook("claude-code", &prompt("t", "go"));
    let before = is_told(&server, "t", "running", "").await;
    assert!(line(&[], &other).stdout.is_empty());
    let told = async || session(&server, "t").await.body;
    let begin = Instant::now();
    while told().await["session"]["context"]["cost_usd"] != "0.50" {
        assert!(
            begin.elapsed() < crate::support::PATIENCE,
            "{}",
            told().await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = told().await;
    assert_eq!(now["session"]["context"]["model"], "claude-opus");
    assert_eq!(now["session"]["context"]["context_percent"], "12");
    assert_eq!(now["status_history"], before["status_history"]);
    // What comes too soon is told later, also where nothing comes any more.
    other["cost"]["total_cost_usd"] = json!(0.6);
    line(&[], &other);
    home.hook("claude-code", &event("Stop", "t"));
    is_told(&server, "t", "success", "turn").await;
    for file in home.files() {
        let is_last = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("last-");
        if file.file_name().is_some_and(is_last) {
            // As if half a minute had passed.
            let mut last: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            last["taken"] = json!(0);
            fs::write(&file, last.to_string()).unwrap();
        }
    }
    let begin = Instant::now();
    while told().await["session"]["context"]["cost_usd"] != "0.60" {
        assert!(
            begin.elapsed() < crate::support::PATIENCE,
            "{}",
            told().await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_others_put_into_the_spool_calls_nothing_but_reports() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    home.hook("claude-code", &prompt("s", "go"));
    is_told(&server, "s", "running", "").await;
    eventually("an empty spool", || home.spooled().is_empty().then_some(())).await;
    let mut folders = home.files().into_iter();
    let spool = folders.find(|file| file.ends_with("spool")).unwrap();
    let forged = json!({
        "to": {"url": format!("http://{}", server.address), "key": null},
        "message": {
            "path": "/api/channels",
            "body": {"name": "theirs", "url": "http://127.0.0.1:9/theirs"},
        },
        "session": "theirs", "stage": "Working", "watched": null,
    });
    let number = fs::read_to_string(spool.join("number")).unwrap();
    fs::write(spool.join(format!("{number}.json")), forged.to_string()).unwrap();
    home.hook("claude-code", &event("Stop", "s"));
    is_told(&server, "s", "success", "turn").await;
    eventually("an empty spool", || home.spooled().is_empty().then_some(())).await;
    let channels = server.get("/api/channels").await.body;
    assert_eq!(channels["channels"], json!([]));
}

#[tokio::test]
async fn a_folder_of_state_that_is_a_link_or_anothers_is_written_to_by_nobody() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let hook = |name: &str| {
        let mut hook = home.kubeagents(&["hook", "claude-code"]);
        // As the settings of a repository can have it.
        hook.env("XDG_STATE_HOME", home.path().join("repository"));
        hand_over(hook, prompt(name, "go").to_string().as_bytes());
    };
    hook("first");
    is_told(&server, "first", "running", "").await;
    for watcher in home.watchers() {
        kill_process(watcher, Signal::KILL).unwrap();
    }
    let state = home.path().join("repository/kubeagents");
    let state = fs::read_dir(state).unwrap().next().unwrap().unwrap().path();
    let spool = state.join("spool");
    let mine = home.path().join("mine");
    fs::create_dir(&mine).unwrap();
    let notes = mine.join("notes");
    fs::write(&notes, "mine").unwrap();

    fs::remove_file(spool.join("number")).unwrap();
    symlink(&notes, spool.join("number")).unwrap();
    hook("by-a-link");
    is_told(&server, "by-a-link", "running", "").await;
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine");

    fs::remove_dir_all(&spool).unwrap();
    symlink(&mine, &spool).unwrap();
    hook("in-a-link");
    is_told(&server, "in-a-link", "running", "").await;
    assert_eq!(fs::read_dir(&mine).unwrap().count(), 1);

    if rustix::process::geteuid().is_root() {
        fs::remove_file(&spool).unwrap();
        chown(&state, Some(12345), None).unwrap();
        hook("in-anothers");
        is_told(&server, "in-anothers", "running", "").await;
        assert!(!spool.exists());
        fs::remove_dir_all(&state).unwrap();
        chown(state.parent().unwrap(), Some(12345), None).unwrap();
        hook("below-anothers");
        is_told(&server, "below-anothers", "running", "").await;
        assert!(!state.exists());
    }
}

#[tokio::test]
async fn the_watcher_is_a_program_of_its_own_where_that_is_installed() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let program_of = |watcher: Pid| {
        let program = fs::read_link(format!("/proc/{}/exe", watcher.as_raw_pid())).unwrap();
        program.file_name().unwrap().to_string_lossy().into_owned()
    };
    home.hook("claude-code", &prompt("s", "go"));
    is_told(&server, "s", "running", "").await;
    assert_eq!(program_of(home.watchers()[0]), "kubeagents-watcher");

    let alone = Home::of(&server);
    let program = alone.path().join("kubeagents");
    fs::copy(env!("CARGO_BIN_EXE_kubeagents"), &program).unwrap();
    let mut hook = alone.program(&program);
    hook.args(["hook", "claude-code"]);
    hand_over(hook, prompt("alone", "go").to_string().as_bytes());
    is_told(&server, "alone", "running", "").await;
    assert_eq!(program_of(alone.watchers()[0]), "kubeagents");
}

#[tokio::test]
async fn a_command_is_reported_from_start_to_end_and_keeps_its_exit_code() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let run = [
        "run", "--agent", "night", "--topic", "backup", "--", "sh", "-c",
    ];
    let script = "echo out; echo step one >&2; echo key=hunter2 TOKEN=hunter2 >&2; exit 7";
    let output = home.output(&[&run[..], &[script]].concat());
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "out\n");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .starts_with("step one\n")
    );
    let told = server.get("/api/agents/night/sessions/backup").await.body;
    let [failed, running] = told["status_history"].as_array().unwrap().as_slice() else {
        panic!("two reports: {told}");
    };
    assert_eq!(
        (&running["status"], &failed["status"]),
        (&json!("running"), &json!("failed"))
    );
    assert_eq!(failed["message"], "exit code 7");
    let content = failed["content"].as_str().unwrap();
    assert!(
        content.starts_with("step one\n") && !content.contains("TOKEN=hunter2"),
        "{content}"
    );
    assert!(
        running["message"]
            .as_str()
            .unwrap()
            .starts_with("sh -c echo out"),
        "{told}"
    );
    assert_eq!(told["session"]["context"]["host"], "desk");

    let output = home.output(&["run", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(output.status.code(), Some(128 + 9));
    let told = server
        .get("/api/agents/sh%40desk/sessions/sh%20-c%20kill%20-9%20%24%24")
        .await
        .body;
    assert_eq!(told["session"]["message"], "killed by SIGKILL", "{told}");
    assert_eq!(told["session"]["reason"], "sigkill", "{told}");
    home.output(&["run", "--topic", "term", "--", "sh", "-c", "kill $$"]);
    let told = server.get("/api/agents/sh%40desk/sessions/term").await.body;
    assert_eq!(
        told["session"]["reason"], "sigterm",
        "nobody stopped it: {told}"
    );
    let output = home.output(&["run", "--topic", "none", "--", "/no/such/program"]);
    assert_eq!(output.status.code(), Some(127));
    let told = server
        .get("/api/agents/program%40desk/sessions/none")
        .await
        .body;
    assert_eq!(told["session"]["current_status"], "failed", "{told}");
    assert_eq!(home.output(&["run", "--", "true"]).status.code(), Some(0));
}

#[tokio::test]
async fn signals_reach_the_command_and_a_killed_run_is_noticed() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    let script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let start = |topic: &str| {
        let mut command = home.kubeagents(&[
            "run", "--agent", "a", "--topic", topic, "--", "sh", "-c", script,
        ]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        (child, output)
    };
    let id = |child: &Child| Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let (mut child, mut output) = start("told");
    kill_process(id(&child), Signal::TERM).unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "told\n");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let stopped = server.get("/api/agents/a/sessions/told").await.body;
    assert_eq!(stopped["session"]["reason"], "stopped", "{stopped}");

    let (mut child, _output) = start("killed");
    let told = |topic: &'static str| {
        let server = &server;
        async move {
            server
                .get(&format!("/api/agents/a/sessions/{topic}"))
                .await
                .body
        }
    };
    let begin = Instant::now();
    while told("killed").await["session"]["current_status"] != "running" {
        assert!(begin.elapsed() < crate::support::PATIENCE);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    while told("killed").await["session"]["reason"] != "crashed" {
        assert!(begin.elapsed() < crate::support::PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_command_runs_as_ever_where_nothing_can_be_reported() {
    let home = Home::new("http://127.0.0.1:1", "");
    let output = home.output(&["run", "--", "sh", "-c", "echo out; exit 4"]);
    assert_eq!(
        (output.status.code(), output.stdout),
        (Some(4), b"out\n".to_vec())
    );
    let broken = Home::new("no address", "");
    let output = broken.output(&["run", "--", "sh", "-c", "echo out; exit 5"]);
    assert_eq!(
        (output.status.code(), output.stdout),
        (Some(5), b"out\n".to_vec())
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("not reported: KUBEAGENTS_SERVER_URL must be"),
        "{said}"
    );
}

#[tokio::test]
async fn scripts_report_and_learn_by_the_exit_code_what_became_of_it() {
    let server = Server::start(&[("AUTH_MODE", "required"), ("KUBEAGENTS_API_KEY", KEY)]);
    let url = format!("http://{}", server.address);
    let home = Home::new(&url, &format!("key = {KEY:?}\n"));
    let report = |more: &[&str]| home.output(&[&["report"], more].concat());
    let output = report(&[
        "pending",
        "--topic",
        "release",
        "--agent",
        "ci",
        "--message",
        "may I?",
        "--title",
        "Release 1.2",
        "--reason",
        "input",
        "--ttl",
        "30",
        "--context",
        "pr=42",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let path = "/api/agents/ci/sessions/release";
    let told = server
        .send(Method::GET, path, Some(KEY), &Value::Null)
        .await
        .body;
    for (field, value) in [
        ("/session/title", json!("Release 1.2")),
        ("/session/reason", json!("input")),
        ("/session/message", json!("may I?")),
        ("/session/ttl_minutes", json!(30)),
        ("/session/context/pr", json!("42")),
        ("/session/context/host", json!("desk")),
    ] {
        assert_eq!(told.pointer(field), Some(&value), "{field} of {told}");
    }

    let wrong = report(&["running", "--topic", &"x".repeat(501)]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        said.contains("session_topic must be 1-500 characters"),
        "{said}"
    );
    assert_eq!(report(&["sleeping", "--topic", "t"]).status.code(), Some(2));

    let mut long = home.kubeagents(&[
        "report",
        "running",
        "--topic",
        "long",
        "--agent",
        "ci",
        "--content",
        "-",
    ]);
    let odd = std::ffi::OsString::from_vec(b"odd \xff".to_vec());
    long.arg("--message")
        .arg("m".repeat(2000))
        .arg("--title")
        .arg(odd);
    let log = [b"x".repeat(3 << 20), b"\nlast \xe4\xb8 line\0".to_vec()].concat();
    assert_eq!(hand_over(long, &log).status.code(), Some(0));
    let path = "/api/agents/ci/sessions/long";
    let told = server
        .send(Method::GET, path, Some(KEY), &Value::Null)
        .await
        .body;
    assert_eq!(
        told["status_history"][0]["content"],
        "last \u{fffd} line\u{fffd}"
    );
    assert_eq!(told["session"]["message"], "m".repeat(1000));
    assert_eq!(told["session"]["title"], "odd \u{fffd}");
    let stranger = Home::new(&url, "");
    let refused = stranger.output(&["report", "running", "--topic", "t"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("wants an API key"), "{said}");
    let away = Home::new("http://127.0.0.1:1", "");
    for arguments in [&["report", "running", "--topic", "t"][..], &["ps"]] {
        let output = away.output(arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("http://127.0.0.1:1 cannot be reached"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_terminal_shows_who_waits_first_and_scripts_get_json() {
    let server = Server::start(&[]);
    let home = Home::of(&server);
    for (status, topic, more) in [
        ("running", "building", &[][..]),
        (
            "pending",
            "asking",
            &[
                "--reason",
                "question",
                "--title",
                "Release 1.2",
                "--message",
                "may I?",
            ],
        ),
        ("success", "turned", &["--reason", "turn"]),
        ("success", "done", &[]),
    ] {
        let arguments = [&["report", status, "--topic", topic, "--agent", "ci"], more].concat();
        assert_eq!(home.output(&arguments).status.code(), Some(0));
    }
    let topics = |arguments: &[&str]| -> Vec<String> {
        let shown = home.output(arguments);
        assert_eq!(shown.status.code(), Some(0), "{shown:?}");
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let sessions = shown["sessions"].as_array().unwrap();
        let topics = sessions
            .iter()
            .filter_map(|session| session["session_topic"].as_str());
        topics.map(str::to_owned).collect()
    };
    assert_eq!(topics(&["ps", "--json"]), ["asking", "building", "turned"]);
    assert_eq!(
        topics(&["ps", "--json", "--all"]),
        ["asking", "building", "turned", "done"]
    );
    let table = String::from_utf8(home.output(&["ps"]).stdout).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    for text in ["waiting: question", "ci", "Release 1.2", "may I?"] {
        assert!(lines[1].contains(text), "{text} in {table}");
    }
    assert!(lines[3].starts_with("your turn"), "{table}");

    let mut watching = home.kubeagents(&["ps", "--watch", "--json"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = BufReader::new(watching.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        shown.read_line(&mut line).unwrap();
        line
    };
    assert!(!next().contains("another"));
    server.report("another", "running").await;
    assert!(next().contains("another"), "only a change is shown");
    watching.kill().unwrap();
    watching.wait().unwrap();
}
