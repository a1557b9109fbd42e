use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use http::StatusCode;
use kubeagents_core::settings::{CLIENT_SETTINGS, Host, SETTINGS, Setting, Unset};

use crate::support::{PATIENCE, Server, command};

/// The settings of the native server.
pub(crate) fn settings() -> impl Iterator<Item = &'static Setting> {
    SETTINGS
        .iter()
        .filter(|setting| setting.is_on(Host::Native))
}

pub(crate) fn run(variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(variables);
    command.args(arguments).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() && start.elapsed() < PATIENCE {
        sleep(Duration::from_millis(5));
    }
    // Only a server that should not have started is still there.
    let _ = child.kill();
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_bad_value_stops_the_start_with_one_line_that_says_what_would_be_right() {
    let webhook_rule = "must be a URL that starts with http:// or https://";
    let log_rule = "must be error, warn, info, debug, trace or off, or directives such as \
                    info,kubeagents=debug";
    let expiry_rule = "must be a duration of at least a second such as 90s, 15m or 1h30m";
    let origins_rule = "must be *, or origins such as https://app.example.com or \
                        https://*.example.com, with commas between them";
    for (variable, value, rule) in [
        (
            "HOST",
            "example",
            "must be localhost or an IP address such as 127.0.0.1, 0.0.0.0 or ::",
        ),
        ("PORT", "65536", "must be a port number from 0 to 65535"),
        (
            "PORT",
            "tcp://10.0.0.1:80",
            "must be a port number (Kubernetes sets this variable for a Service of that name: set \
             enableServiceLinks: false in the pod)",
        ),
        ("AUTH_MODE", "closed", "must be open or required"),
        ("CORS_ALLOWED_ORIGINS", "app.example.com", origins_rule),
        ("REGISTRATION_ENABLED", "yes", "must be true or false"),
        (
            "DEFAULT_TTL_MINUTES",
            "0",
            "must be a number of minutes from 1 to 1440",
        ),
        (
            "NOTIFICATION_TIMEOUT_SECONDS",
            "61",
            "must be a number of seconds from 1 to 60",
        ),
        (
            "NOTIFICATION_ALLOW_PRIVATE_ADDRESSES",
            "no",
            "must be true or false",
        ),
        ("APP_BASE_URL", "localhost", webhook_rule),
        ("JWT_ACCESS_TOKEN_EXPIRY", "15", expiry_rule),
        ("JWT_REFRESH_TOKEN_EXPIRY", "7d", expiry_rule),
        (
            "SMTP_HOST",
            "mail:25",
            "must be a host name or an IP address, without a port",
        ),
        ("SMTP_PORT", "smtp", "must be a port number from 1 to 65535"),
        (
            "SMTP_FROM",
            "kubeagents",
            "must be an address such as kubeagents@example.com, with or without a name",
        ),
        ("LOG_FORMAT", "xml", "must be text or json"),
        ("RUST_LOG", "loud", log_rule),
        ("RUST_LOG", "kubeagents", log_rule),
        ("RUST_LOG", "info,kubeagents=loud", log_rule),
    ] {
        let (code, stdout, stderr) = run(&[(variable, value)], &[]);
        assert_eq!(stderr, format!("{variable} {rule}, not {value:?}\n"));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{variable}");

        let flag = format!("--{}={value}", variable.to_lowercase().replace('_', "-"));
        assert_eq!(run(&[], &[&flag]), (code, stdout, stderr), "{flag}");
    }
}

#[test]
fn a_bad_secret_is_not_repeated() {
    let webhook_rule = "must be a URL that starts with http:// or https://";
    for (variable, value, rule) in [
        (
            "KUBEAGENTS_API_KEY",
            "too-short",
            "must be at least 16 characters",
        ),
        (
            "KUBEAGENTS_API_KEY",
            "with spaces and long enough",
            "must be printable ASCII without spaces",
        ),
        (
            "NOTIFICATION_WEBHOOK_URL",
            "example.com/secret",
            webhook_rule,
        ),
    ] {
        let (code, _, stderr) = run(&[(variable, value)], &[]);
        assert_eq!(stderr, format!("{variable} {rule}\n"));
        assert_eq!(code, Some(2), "{variable}");
    }
}

#[test]
fn half_a_mail_server_is_refused() {
    let host = ("SMTP_HOST", "localhost");
    let from = ("SMTP_FROM", "kubeagents@example.com");
    for (variables, message) in [
        (vec![host], "SMTP_FROM must be set with SMTP_HOST"),
        (
            vec![host, from, ("SMTP_USER", "u")],
            "SMTP_PASSWORD must be set with SMTP_USER",
        ),
        (
            vec![host, from, ("SMTP_PASSWORD", "hidden")],
            "SMTP_USER must be set with SMTP_PASSWORD",
        ),
    ] {
        let (code, _, stderr) = run(&variables, &[]);
        assert_eq!((code, stderr), (Some(2), format!("{message}\n")));
    }
}

#[test]
fn unknown_arguments_are_refused_on_one_line() {
    for arguments in [["--nonsense"], ["nonsense"]] {
        let (code, _, stderr) = run(&[], &arguments);
        assert_eq!(code, Some(2));
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("nonsense"), "{stderr}");
    }
}

#[test]
fn a_mistyped_argument_is_answered_with_the_nearest_one() {
    for (argument, message) in [
        (
            "--prot=1",
            "unexpected argument '--prot' found: did you mean '--port'?",
        ),
        (
            "helth",
            "unrecognized subcommand 'helth': did you mean 'health'?",
        ),
    ] {
        let (code, _, stderr) = run(&[], &[argument]);
        assert_eq!((code, stderr), (Some(2), format!("{message}\n")));
    }
}

#[test]
fn a_mistyped_database_variable_does_not_mean_memory() {
    for (variable, meant) in [
        ("DATABASE_URI", "DATABASE_URL"),
        ("DATABASE_UR", "DATABASE_URL"),
        ("DATABSE_URL", "DATABASE_URL"),
        ("database_url", "DATABASE_URL"),
        ("DATABASE_URL_FIEL", "DATABASE_URL_FILE"),
        ("DATABSE_URL_FILE", "DATABASE_URL_FILE"),
        ("DB_PASS_FILE", "DB_PASSWORD_FILE"),
        ("DB_NAME_FILE", "DB_NAME"),
        ("DB_USERNAME", "DB_USER"),
        ("DB_HOSTNAME", "DB_HOST"),
        ("DB_PASS", "DB_PASSWORD"),
    ] {
        let (code, _, stderr) = run(&[(variable, "postgres://localhost/secret")], &[]);
        let message = format!(
            "{variable} is no setting, did you mean {meant}? Storage would be memory: \
             set {meant}, or unset {variable}\n"
        );
        assert_eq!((code, stderr), (Some(2), message));
    }
}

#[tokio::test]
async fn other_mistyped_variables_are_warned_of() {
    let foreign = [
        ("HOSTNAME", "x"),
        ("DB_PORT_5432_TCP", "tcp://10.0.0.1:5432"),
        ("DB_SERVICE_HOST", "10.0.0.1"),
        ("RUST_LOG_STYLE", "never"),
        ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
        ("RUST_BACKTRACE", "0"),
        ("PATH", "/bin"),
        ("PORTS", "1"),
        ("HOME", "/root"),
        ("KUBEAGENTS_SERVER_URL", "http://localhost:8080"),
        ("KUBEAGENTS_SERVICE_HOST", "10.0.0.1"),
    ];
    let mistyped = [
        ("SMTP_PASS", "SMTP_PASSWORD"),
        ("KUBEAGENTS_APIKEY", "KUBEAGENTS_API_KEY"),
        ("AUTHMODE", "AUTH_MODE"),
        ("CORS_ALLOWED_ORIGIN", "CORS_ALLOWED_ORIGINS"),
        ("JWT_SECRETS_FILE", "JWT_SECRET_FILE"),
        ("SMTP_USER_FILE", "SMTP_USER"),
    ];
    let mut variables = foreign.to_vec();
    variables.extend(mistyped.map(|(variable, _)| (variable, "value")));
    let server = Server::start(&variables);
    for (variable, meant) in mistyped {
        let warning = format!("{variable} is no setting, did you mean {meant}?");
        server.logged(&["WARN", &warning]).await;
    }
    let lines = server.process.log().lines();
    let warnings = lines.iter().filter(|line| line.contains("WARN"));
    assert_eq!(warnings.count(), mistyped.len(), "{lines:?}");
}

#[tokio::test]
async fn settings_that_have_no_effect_are_warned_of() {
    for (variable, value, without) in [
        ("HISTORY_RETENTION_DAYS", "7", "a database"),
        ("SMTP_USER", "me", "SMTP_HOST"),
        ("SMTP_PORT", "25", "SMTP_HOST"),
        ("SMTP_FROM", "me@example.com", "SMTP_HOST"),
        ("SMTP_PASSWORD", "secret", "SMTP_HOST"),
    ] {
        let server = Server::start(&[(variable, value)]);
        let warning = format!("{variable} has no effect without {without}");
        let line = server.logged(&["WARN", &warning]).await;
        assert!(!line.contains("secret"), "{line}");
    }
}

#[tokio::test]
async fn the_first_line_of_the_log_says_what_serves() {
    let version = format!("version={}", env!("CARGO_PKG_VERSION"));
    for (variables, parts) in [
        (vec![], ["storage=memory", "auth=open"]),
        (
            vec![("HOST", "0.0.0.0"), ("AUTH_MODE", "open")],
            ["storage=memory", "auth=open"],
        ),
        (
            vec![("AUTH_MODE", "required")],
            ["storage=memory", "auth=required"],
        ),
    ] {
        let server = Server::start(&variables);
        let lines = server.process.log().lines();
        for part in parts
            .into_iter()
            .chain(["listening address=http://", &version])
        {
            assert!(lines[0].contains(part), "{part} in {lines:?}");
        }
    }
}

#[test]
fn help_lists_every_variable_with_its_default() {
    for (arguments, settings) in [
        (&["--help"][..], settings().collect::<Vec<_>>()),
        (&["mcp", "--help"], CLIENT_SETTINGS.iter().collect()),
    ] {
        let (code, help, _) = run(&[("PORT", "")], arguments);
        assert_eq!(code, Some(0));
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for setting in settings {
            let variable = setting.variable;
            let flag = format!(" --{} <", variable.to_lowercase().replace('_', "-"));
            let (_, rest) = help.split_once(&flag).expect(variable);
            let entry = rest.split(" --").next().unwrap();
            let variable = format!("[env: {variable}");
            let default = match setting.unset {
                Unset::Value(text) | Unset::Described(text) => format!("[default: {text}]"),
                Unset::Nothing => String::new(),
            };
            for part in [setting.help(), variable, default] {
                assert!(entry.contains(&part), "{part} in {entry}");
            }
        }
    }
}

#[test]
fn help_shows_no_secret() {
    let secrets = settings().filter(|setting| setting.secret);
    let secrets: Vec<_> = secrets
        .map(|setting| (setting.variable, "secret-secret-secret"))
        .collect();
    for arguments in [&["--help"][..], &["mcp", "--help"]] {
        let (_, help, _) = run(&secrets, arguments);
        assert!(!help.contains("secret-secret"), "{help}");
    }
}

#[tokio::test]
async fn empty_variables_count_as_unset_and_flags_win() {
    let empty: Vec<_> = settings().map(|setting| (setting.variable, "")).collect();
    let mut command = command(&empty);
    command.env("DEFAULT_TTL_MINUTES", "nonsense");
    command.args(["--port", "0", "--default-ttl-minutes", "7"]);
    let server = Server::of(&mut command);
    server.report("topic", "running").await;
    let answer = server.get("/api/agents/agent/sessions/topic").await;
    assert_eq!(answer.body["session"]["ttl_minutes"], 7);
}

#[tokio::test]
async fn in_memory_the_server_is_open_on_loopback_and_needs_credentials_elsewhere() {
    let loopback = Server::start(&[]);
    assert_eq!(loopback.get("/api/agents").await.status, StatusCode::OK);

    let elsewhere = Server::start(&[("HOST", "0.0.0.0")]);
    let answer = elsewhere.get("/api/agents").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);

    let open = Server::start(&[("HOST", "0.0.0.0"), ("AUTH_MODE", "open")]);
    assert_eq!(open.get("/api/agents").await.status, StatusCode::OK);
    open.logged(&["WARN", "AUTH_MODE is open"]).await;
}

#[tokio::test]
async fn the_log_is_json_when_asked_for() {
    let mut command = command(&[("LOG_FORMAT", "json"), ("PORT", "0")]);
    let process = kubeagents_contract::Process::start(&mut command).unwrap();
    let line = process
        .log()
        .wait_for(crate::support::PATIENCE, |line| line.contains("listening"));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["message"], "listening");
    assert!(
        line["address"]
            .as_str()
            .unwrap()
            .starts_with("http://127.0.0.1:")
    );
}

#[tokio::test]
async fn a_port_that_is_taken_stops_the_start() {
    let server = Server::start(&[]);
    let port = server.address.port().to_string();
    let (code, _, stderr) = run(&[("PORT", &port)], &[]);
    assert_eq!(code, Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.starts_with(&format!("cannot listen on 127.0.0.1:{port} (HOST, PORT): ")),
        "{stderr}"
    );
}

#[tokio::test]
async fn health_tells_a_server_from_none() {
    let mut server = Server::start(&[("HOST", "0.0.0.0")]);
    let port = server.address.port().to_string();
    let ask = || run(&[("PORT", &port), ("HOST", "0.0.0.0")], &["health"]);
    assert_eq!(ask(), (Some(0), String::new(), String::new()));

    server.signal(rustix::process::Signal::TERM);
    server.exit_code().await;
    let (code, _, stderr) = ask();
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("the server does not answer"), "{stderr}");
}

#[tokio::test]
async fn the_demonstration_has_sessions_in_every_state_and_goes_on() {
    // What is configured for a server of one's own is no matter.
    let variables = [
        ("PORT", "0"),
        ("AUTH_MODE", "required"),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing"),
    ];
    let server = Server::of(command(&variables).arg("demo"));
    let shown = || async { server.get("/api/sessions").await.body };
    let first = shown().await;
    let sessions = first["sessions"].as_array().unwrap();
    let has = |field: &str, value: &str| {
        let found = sessions.iter().any(|session| session[field] == value);
        assert!(found, "no session has the {field} {value}");
    };
    for state in ["active", "idle", "ended", "expired"] {
        has("state", state);
    }
    for status in ["running", "pending", "success", "failed"] {
        has("current_status", status);
    }
    for reason in [
        "permission",
        "question",
        "plan",
        "interrupted",
        "background",
        "turn",
        "stopped",
    ] {
        has("reason", reason);
    }
    for key in ["parent", "mode"] {
        assert!(
            sessions
                .iter()
                .any(|session| session["context"].get(key).is_some())
        );
    }
    let mut created: Vec<&str> = sessions
        .iter()
        .map(|session| session["created"].as_str().unwrap())
        .collect();
    created.sort_unstable();
    let hours: BTreeSet<&str> = created.iter().map(|time| &time[..13]).collect();
    assert!(hours.len() > 6, "they began at many hours: {hours:?}");
    let deadline = Instant::now() + PATIENCE;
    while shown().await == first {
        assert!(Instant::now() < deadline, "nothing happens");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
