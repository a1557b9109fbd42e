//! `kubeagents doctor`: checks whether the agents of this machine report, and says what to do where they
//! do not.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{self, ExitCode};

use bytes::Bytes;
use clap::Command;
use http::{Method, StatusCode};
use kubeagents_core::settings::ClientValues;
use serde_json::Value;

use crate::client::config::ClientConfig;
use crate::client::server::Server;
use crate::client::{NOT_DONE, NOT_UNDERSTOOD, blocking, outlet};
use crate::setup::{AGENTS, Agent, Place, Wish};

/// The command, for the program's help and arguments.
pub(crate) fn command() -> Command {
    let about = "Check whether the coding agents of this machine report.";
    Command::new("doctor").about(about).long_about(format!(
        "{about}\n\nSays what to do where they do not. The exit code is 1 when something is wrong, 2 when a \
         setting is."
    ))
}

/// What is found, line by line.
#[derive(Default)]
struct Findings {
    text: String,
    is_bad: bool,
}

impl Findings {
    fn good(&mut self, finding: impl std::fmt::Display) {
        self.text += &format!("ok       {finding}\n");
    }

    fn bad(&mut self, finding: impl std::fmt::Display, advice: impl std::fmt::Display) {
        self.is_bad = true;
        self.text += &format!("problem  {finding}\n         {advice}\n");
    }

    /// What is neither.
    fn note(&mut self, finding: impl std::fmt::Display) {
        self.text += &format!("-        {finding}\n");
    }
}

/// Checks everything, and says what was found.
pub(crate) fn run() -> ExitCode {
    let checked = outlet::settings()
        .and_then(|(values, stored)| Ok((values, stored, Place::of_user()?)))
        .map_err(|error| error.to_string())
        .and_then(|(values, stored, place)| {
            let mut findings = Findings::default();
            let reports = blocking(check_server(&values, &stored, &mut findings))?;
            check_agents(&place, &reports, &mut findings);
            Ok(findings)
        });
    match checked {
        Ok(findings) => {
            // Nobody is left to be told that standard output is closed.
            let _ = io::stdout().write_all(findings.text.as_bytes());
            match findings.is_bad {
                true => ExitCode::from(NOT_DONE),
                false => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(NOT_UNDERSTOOD)
        }
    }
}

/// When an agent reported last, by its id; `None` when the key may not read it.
type Reports = Option<BTreeMap<String, String>>;

/// Checks the server, the key and its scopes.
async fn check_server(
    values: &ClientValues,
    stored: &ClientConfig,
    findings: &mut Findings,
) -> Reports {
    check_stored(stored, findings);
    let server = match Server::new(values.server_url.clone(), values.api_key.clone()) {
        Ok(server) => server,
        Err(error) => {
            findings.bad(
                format!("TLS cannot be set up: {error}"),
                "reinstall the certificates of this system",
            );
            return None;
        }
    };
    let start = "start it, or name another: kubeagents setup --url URL --key -";
    match server.ask(Method::GET, "/health", Bytes::new()).await {
        Err(error) => {
            findings.bad(server.no_answer(&error), start);
            return None;
        }
        Ok(answer) if answer.status != StatusCode::OK || answer.own().is_none() => {
            findings.bad(server.foreign(&answer), start);
            return None;
        }
        Ok(_) => findings.good(format!("the server {} answers", values.server_url)),
    }

    let key = "create a key (docs/accounts-and-keys.md), and store it: kubeagents setup --key -";
    // A report without any field is stored by no server: credentials and scope are looked at first.
    match server
        .ask(Method::POST, "/webhook/status", Bytes::from_static(b"{}"))
        .await
    {
        Err(error) => findings.bad(server.no_answer(&error), start),
        Ok(answer)
            if answer.status == StatusCode::BAD_REQUEST && answer.own_of_report().is_some() =>
        {
            findings.good(match values.api_key {
                Some(_) => "the key may report",
                None => "the server takes reports without a key",
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
            let body = answer.own()?;
            let agents = body
                .get("agents")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let text = |agent: &Value, field: &str| agent[field].as_str().map(str::to_owned);
            let seen = agents
                .filter_map(|agent| Some((text(agent, "agent_id")?, text(agent, "last_seen")?)));
            Some(seen.collect())
        }
        Ok(answer) if answer.status == StatusCode::FORBIDDEN => {
            findings.note("the key may not read, so when agents reported last is not known: create one with the scopes report and read");
            None
        }
        // Said already of reporting.
        Ok(_) => None,
    }
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
    match stored.key.is_some() && mode & 0o077 != 0 {
        true => findings.bad(
            format!("{} holds a key, and others can read it", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        false => findings.good(format!("{} says where reports go", path.display())),
    }
}

/// Checks the hooks of every agent that is found.
fn check_agents(place: &Place, reports: &Reports, findings: &mut Findings) {
    let found: Vec<&Agent> = AGENTS
        .iter()
        .filter(|agent| agent.is_installed(place))
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
            (true, true) => findings.bad(
                format!("{title}: hooks are of another version or incomplete"),
                set_up,
            ),
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
                Some((id, seen)) => findings.good(format!("{title}: {id} reported last at {seen}")),
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
