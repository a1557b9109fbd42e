//! `kubeagents doctor`: checks whether the agents of this machine report, and says what to do where they
//! do not.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{self, ExitCode};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Arg, ArgAction, ArgMatches, Command};
use http::{Method, StatusCode};
use kubeagents_core::ports::Clock;
use kubeagents_core::settings::ClientValues;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::condition::Condition;
use crate::client::config::{ClientConfig, KEY_FILE, Sources};
use crate::client::outlet::{self, ClientSettings};
use crate::client::server::{Answer, Server, full_stop};
use crate::client::{NOT_DONE, NOT_UNDERSTOOD, blocking};
use crate::ports::SystemClock;
use crate::setup::{AGENTS, Agent, Place, Wish};

/// How long an event may wait while the server answers.
const PATIENCE: TimeDelta = TimeDelta::minutes(1);

/// The command, for the program's help and arguments.
pub(crate) fn command() -> Command {
    let about = "Check whether the coding agents of this machine report.";
    Command::new("doctor")
        .about(about)
        .long_about(format!(
            "{about}\n\nSays what to do where they do not. The exit code is 1 when something is wrong, 2 when a \
             setting is."
        ))
        .arg(
            Arg::new("json")
                .long("json")
                .help("Print JSON")
                .action(ArgAction::SetTrue),
        )
}

/// How a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Problem,
    /// Neither.
    Note,
}

/// Something that was found.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    finding: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_do: Option<String>,
}

/// What is found, in order.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, finding: String, to_do: Option<String>) {
        self.0.push(Finding {
            level,
            finding,
            to_do,
        });
    }

    fn good(&mut self, finding: impl ToString) {
        self.add(Level::Ok, finding.to_string(), None);
    }

    fn bad(&mut self, finding: impl ToString, to_do: impl ToString) {
        self.add(Level::Problem, finding.to_string(), Some(to_do.to_string()));
    }

    /// What is neither.
    fn note(&mut self, finding: impl ToString) {
        self.add(Level::Note, finding.to_string(), None);
    }

    fn is_bad(&self) -> bool {
        self.0.iter().any(|finding| finding.level == Level::Problem)
    }

    /// One line each.
    fn text(&self) -> String {
        let lines = self.0.iter().map(|finding| {
            let level = match finding.level {
                Level::Ok => "ok      ",
                Level::Problem => "problem ",
                Level::Note => "-       ",
            };
            let to_do = finding.to_do.as_ref().map_or_else(String::new, |to_do| {
                format!("{} To do: {to_do}", full_stop(&finding.finding))
            });
            format!("{level} {}{to_do}\n", finding.finding)
        });
        lines.collect()
    }

    fn json(&self) -> String {
        format!("{}\n", json!({"ok": !self.is_bad(), "findings": self.0}))
    }
}

/// Checks everything, and says what was found.
pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let mut findings = Findings::default();
    let checked = check(&mut findings);
    let is_understood = match &checked {
        Ok(is_understood) => *is_understood,
        Err(error) => {
            findings.bad(error, "set it right");
            false
        }
    };
    let text = match matches.get_flag("json") {
        true => findings.json(),
        false => findings.text(),
    };
    // Nobody is left to be told that standard output is closed.
    let _ = io::stdout().write_all(text.as_bytes());
    match (is_understood, findings.is_bad()) {
        (false, _) => ExitCode::from(NOT_UNDERSTOOD),
        (true, true) => ExitCode::from(NOT_DONE),
        (true, false) => ExitCode::SUCCESS,
    }
}

/// Checks everything; whether the settings could be understood.
///
/// # Errors
/// What keeps everything from being checked.
fn check(findings: &mut Findings) -> Result<bool, String> {
    let place = Place::of_user().map_err(|error| error.to_string())?;
    let (reports, is_understood) = match outlet::settings() {
        Ok(ClientSettings {
            values,
            stored,
            problems,
        }) => {
            for problem in &problems {
                findings.bad(problem, "set it right");
            }
            let mut given = outlet::given();
            // The settings were read with it.
            let _ = stored.add_key(&mut given, env::var_os(KEY_FILE));
            let sources = stored.sources(&given);
            let reports = blocking(check_server(&values, &stored, sources, findings))?;
            (reports, problems.is_empty())
        }
        Err(error) => {
            findings.bad(
                format!("{error}, and until then hooks report nothing"),
                "set it right",
            );
            (None, false)
        }
    };
    check_condition(reports.is_some(), findings);
    check_agents(&place, &reports, findings);
    Ok(is_understood)
}

/// When an agent reported last, by its id; `None` when the key may not read it.
type Reports = Option<BTreeMap<String, String>>;

/// Checks the server, the key and its scopes.
async fn check_server(
    values: &ClientValues,
    stored: &ClientConfig,
    sources: Sources,
    findings: &mut Findings,
) -> Reports {
    check_stored(stored, findings);
    let url = format!("{} ({})", values.server_url, sources.url);
    let key_source = sources.key.clone();
    let server = match Server::new(values.server_url.clone(), values.api_key.clone()) {
        Ok(server) => server.with_sources(sources),
        Err(error) => {
            findings.bad(
                format!("TLS cannot be set up: {error}"),
                "reinstall the certificates of this system",
            );
            return None;
        }
    };
    let start = "start it, or name another: kubeagents setup --url URL --key -";
    let address = "give the address of a kubeagents server: kubeagents setup --url URL --key -";
    match server.ask(Method::GET, "/health", Bytes::new()).await {
        Err(error) => {
            findings.bad(server.no_answer(&error), start);
            return None;
        }
        Ok(answer) if !is_health(&answer) => {
            findings.bad(server.foreign(&answer), address);
            return None;
        }
        Ok(_) => findings.good(format!("the server {url} answers")),
    }

    let key = "create a key (docs/accounts-and-keys.md), and store it: kubeagents setup --key -";
    // A report without any field is stored by no server: credentials and scope are looked at first.
    let empty = Bytes::from_static(b"{}");
    match server.ask(Method::POST, "/webhook/status", empty).await {
        Err(error) => findings.bad(server.no_answer(&error), start),
        Ok(answer) if answer.own_of_report().is_none() => {
            findings.bad(server.foreign(&answer), address);
            return None;
        }
        Ok(answer) if answer.status == StatusCode::BAD_REQUEST => {
            findings.good(match values.api_key {
                Some(_) => format!("{key_source} may report (scope report)"),
                None => "the server takes reports without a key".into(),
            });
        }
        Ok(answer) => findings.bad(server.trouble(&answer), key),
    }

    match server.ask(Method::GET, "/api/agents", Bytes::new()).await {
        Err(error) => {
            findings.bad(server.no_answer(&error), start);
            None
        }
        Ok(answer) if answer.status == StatusCode::OK => {
            let body = answer.own().unwrap_or_default();
            let Some(agents) = body.get("agents").and_then(Value::as_array) else {
                findings.bad(server.foreign(&answer), address);
                return None;
            };
            findings.good(match values.api_key {
                Some(_) => format!("{key_source} may read (scope read)"),
                None => "the server shows sessions without a key".into(),
            });
            let text = |agent: &Value, field: &str| agent[field].as_str().map(str::to_owned);
            let seen = agents
                .iter()
                .filter_map(|agent| Some((text(agent, "agent_id")?, text(agent, "last_seen")?)));
            Some(seen.collect())
        }
        Ok(answer) if answer.status == StatusCode::FORBIDDEN => {
            findings.note(format!(
                "{key_source} may not read (no scope read), so when agents reported last is not known: \
                 create a key with the scopes report and read"
            ));
            None
        }
        // Said already of reporting.
        Ok(_) => None,
    }
}

/// Checks whether it is a kubeagents server that says that it lives.
fn is_health(answer: &Answer) -> bool {
    let body = answer.own().filter(|_| answer.status == StatusCode::OK);
    body.is_some_and(|body| {
        body.get("status").is_some_and(|status| status == "ok") && body.contains_key("timestamp")
    })
}

/// Checks the file that holds the key.
fn check_stored(stored: &ClientConfig, findings: &mut Findings) {
    let Some(path) = ClientConfig::path() else {
        return;
    };
    let Ok(file) = path.metadata() else {
        findings.note(format!(
            "{} is not there: reports go to the default server. kubeagents setup --url URL --key - stores another",
            path.display()
        ));
        return;
    };
    let mode = file.permissions().mode() & 0o777;
    if stored.key.is_some() && mode & 0o077 != 0 {
        findings.bad(
            format!("{} holds a key, and others can read it", path.display()),
            format!("chmod 600 {}", path.display()),
        );
    }
}

/// Checks what hooks leave behind. `is_answered` says whether the server is there.
fn check_condition(is_answered: bool, findings: &mut Findings) {
    let Some(condition) = Condition::find() else {
        findings.bad(
            "there is no folder for what hooks tell: nothing is kept while the server is away, and agents that \
             die are not noticed",
            "set HOME, or XDG_STATE_HOME to an absolute path",
        );
        return;
    };
    let state = condition.state.display();
    if let Some(problem) = &condition.problem {
        findings.bad(
            format!(
                "{state} cannot be written ({problem}): nothing that hooks tell is kept while the server is \
                 away, and agents that die are not noticed"
            ),
            "make this user its owner, or set XDG_STATE_HOME to another folder",
        );
        return;
    }
    let watcher = match condition.is_watched {
        true => "the watcher runs",
        false => "no watcher runs, which the next hook starts",
    };
    let Some(oldest) = condition.oldest else {
        findings.good(format!("nothing waits to be sent; {watcher}"));
        return;
    };
    let waiting = match condition.waiting {
        1 => "1 event waits".to_owned(),
        many => format!("{many} events wait"),
    };
    let waiting = format!(
        "{waiting} in {state}, the oldest of {}; {watcher}",
        when(oldest)
    );
    match is_answered && SystemClock.now() - oldest > PATIENCE {
        true => findings.bad(
            waiting,
            "enter a prompt in an agent, and look again in a minute",
        ),
        false => findings.note(waiting),
    }
}

/// A time as people say it: how long ago, and on the clock here.
fn when(time: DateTime<Utc>) -> String {
    let age = SystemClock.now() - time;
    let age = match (age.num_days(), age.num_hours(), age.num_minutes()) {
        (0, 0, 0) => format!("{} s ago", age.num_seconds().max(0)),
        (0, 0, minutes) => format!("{minutes} min ago"),
        (0, hours, _) => format!("{hours} h ago"),
        (1, _, _) => "1 day ago".into(),
        (days, _, _) => format!("{days} days ago"),
    };
    format!("{age} ({})", local(time))
}

/// A time on the clock of this machine; where its zone is not known, in UTC.
fn local(time: DateTime<Utc>) -> String {
    let zone = match env::var("TZ") {
        Ok(name) if !name.is_empty() => tz::TimeZone::from_posix_tz(&name),
        _ => tz::TimeZone::local(),
    };
    let offset = zone.ok().and_then(|zone| {
        let here = zone.find_local_time_type(time.timestamp()).ok()?;
        chrono::FixedOffset::east_opt(here.ut_offset())
    });
    match offset {
        Some(offset) => time
            .with_timezone(&offset)
            .format("%Y-%m-%d %H:%M")
            .to_string(),
        None => time.format("%Y-%m-%d %H:%M UTC").to_string(),
    }
}

/// Checks the hooks of every agent that is found.
fn check_agents(place: &Place, reports: &Reports, findings: &mut Findings) {
    let found: Vec<&Agent> = AGENTS
        .iter()
        .filter(|agent| agent.is_installed(place) || agent.is_set_up(place))
        .collect();
    if found.is_empty() {
        findings.note("no coding agent is found on this machine");
    }
    check_program(place, findings);
    for agent in found {
        let (title, name) = (agent.title, agent.tool.name());
        let set_up = format!("kubeagents setup {name}");
        let (installed, removed) = match (
            agent.plan(place, Wish::Install),
            agent.plan(place, Wish::Remove),
        ) {
            (Ok(installed), Ok(removed)) => (installed, removed),
            (Err(refusal), _) | (_, Err(refusal)) => {
                findings.bad(format!("{title}: {refusal}"), "mend the file");
                continue;
            }
        };
        match (installed.has_changes(), removed.has_changes()) {
            (true, true) if installed.is_left_to_plugin => findings.bad(
                format!(
                    "{title}: plugin and settings both have hooks, so everything is told twice"
                ),
                set_up,
            ),
            (false, _) if installed.is_left_to_plugin => {
                findings.good(format!("{title}: the plugin is enabled"))
            }
            (false, _) => findings.good(format!("{title}: hooks are in place")),
            (true, true) => {
                let others = agent.programs_of_hooks(&installed);
                let others = others.iter().filter(|other| !place.runs_as(other));
                let others: Vec<&str> = others.map(String::as_str).collect();
                let finding = match others.is_empty() {
                    true => "hooks are of another version or incomplete".to_owned(),
                    false => format!(
                        "hooks run {}, and this program is {}",
                        others.join(" and "),
                        place.hook_program()
                    ),
                };
                findings.bad(format!("{title}: {finding}"), set_up);
            }
            (true, false) => {
                findings.bad(format!("{title}: no hooks"), set_up);
                continue;
            }
        }
        for warning in agent.warnings(place) {
            findings.bad(format!("{title}: {}", warning.problem), warning.advice);
        }
        if let Some(reports) = reports {
            let is_its = |id: &str| id.split('@').next() == Some(name);
            // The same form for every time, so the latest is the greatest.
            let last = reports
                .iter()
                .filter(|(id, _)| is_its(id))
                .max_by_key(|(_, seen)| *seen);
            match last {
                Some((id, seen)) => findings.good(format!(
                    "{title}: {id} reported last {}",
                    seen.parse().map_or_else(|_| seen.clone(), when)
                )),
                None => findings.note(format!(
                    "{title}: nothing was reported yet. Restart its sessions, and enter a prompt"
                )),
            }
        }
    }
}

/// Checks that hooks find this program, and in which version.
fn check_program(place: &Place, findings: &mut Findings) {
    let program = place.hook_program();
    let version = process::Command::new(&program).arg("--version").output();
    let version = version.ok().filter(|output| output.status.success());
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let own = concat!("kubeagents ", env!("CARGO_PKG_VERSION"));
    match version {
        Some(version) if version == own => findings.good(format!("hooks run {program}: {version}")),
        Some(version) => findings.bad(
            format!("hooks run {program}, which is {version}, and this is {own}"),
            "install one of them only",
        ),
        None => findings.bad(
            format!("hooks run {program}, which cannot be started"),
            "put the folder of kubeagents into PATH",
        ),
    }
}
