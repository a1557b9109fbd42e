//! `kubeagents ps`: the sessions, those that wait for somebody first.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Arg, ArgAction, ArgMatches};
use http::{HeaderValue, StatusCode};
use kubeagents_core::ports::Clock;
use serde_json::{Value, json};
use tokio::time::sleep;
use unicode_width::UnicodeWidthStr;

use super::outlet::{ClientSettings, settings};
use super::server::Server;
use super::{NOT_DONE, NOT_UNDERSTOOD, blocking};
use crate::ports::SystemClock;

/// How often to look again.
const AGAIN: Duration = Duration::from_secs(2);

/// The most sessions that are shown.
const MOST: usize = 1000;

/// What a terminal is wide that does not say it.
const WIDTH: usize = 80;

/// The arguments.
pub(super) fn arguments() -> [Arg; 3] {
    let switch = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).help(help);
        arg.action(ArgAction::SetTrue)
    };
    [
        switch("all", "Show those too that have ended or are silent"),
        switch("watch", "Show them again whenever something changes"),
        switch("json", "Print JSON, as the API has it"),
    ]
}

/// Shows what the arguments ask for.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let shown = match settings() {
        Err(error) => Err((NOT_UNDERSTOOD, error.to_string())),
        Ok(ClientSettings { values, .. }) => {
            let show = async {
                let server = Server::new(values.server_url, values.api_key);
                let server = server.map_err(|error| error.to_string())?;
                show(&server, Shown::new(matches)).await
            };
            let shown = blocking(show).and_then(|shown| shown);
            shown.map_err(|problem| (NOT_DONE, problem))
        }
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, problem)) => {
            eprintln!("kubeagents: {problem}");
            ExitCode::from(code)
        }
    }
}

/// What is shown, and how.
struct Shown {
    all: bool,
    watch: bool,
    json: bool,
}

impl Shown {
    fn new(matches: &ArgMatches) -> Self {
        Self {
            all: matches.get_flag("all"),
            watch: matches.get_flag("watch"),
            json: matches.get_flag("json"),
        }
    }
}

async fn show(server: &Server, shown: Shown) -> Result<(), String> {
    let path = format!("/api/sessions?limit={MOST}");
    let is_screen = shown.watch && !shown.json && io::stdout().is_terminal();
    let mut etag: Option<HeaderValue> = None;
    let mut sessions = Vec::new();
    loop {
        let answer = match server.ask_for_change(&path, etag.as_ref()).await {
            Ok(answer) => answer,
            // It will be back.
            Err(error) if shown.watch && etag.is_some() => {
                eprintln!("kubeagents: {}", server.no_answer(&error));
                sleep(AGAIN).await;
                continue;
            }
            Err(error) => return Err(server.no_answer(&error)),
        };
        let is_changed = answer.status != StatusCode::NOT_MODIFIED;
        if is_changed {
            let rows = answer.own().filter(|_| answer.status == StatusCode::OK);
            let rows = rows.and_then(|mut rows| rows.remove("sessions"));
            let Some(Value::Array(rows)) = rows else {
                return Err(server.trouble(&answer));
            };
            etag = answer.etag;
            sessions = ordered(rows, shown.all);
        }
        // Times go on on a screen also where nothing changes.
        if is_changed || is_screen {
            let text = match shown.json {
                true => format!("{}\n", json!({"sessions": sessions})),
                false => table(&sessions, SystemClock.now(), width()),
            };
            let text = match is_screen {
                true => format!("\x1b[H\x1b[2J{text}"),
                false => text,
            };
            let mut output = io::stdout().lock();
            let written = output
                .write_all(text.as_bytes())
                .and_then(|()| output.flush());
            match written {
                // Whoever reads has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.map_err(|error| error.to_string())?,
            }
        }
        if !shown.watch {
            return Ok(());
        }
        sleep(AGAIN).await;
    }
}

fn text<'s>(session: &'s Value, field: &str) -> &'s str {
    session
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn time(session: &Value, field: &str) -> Option<DateTime<Utc>> {
    text(session, field).parse().ok()
}

/// The place of a session: what waits comes first, what is over last.
fn rank(session: &Value) -> u8 {
    match (text(session, "state"), text(session, "current_status")) {
        ("active", "pending") => 0,
        ("active", _) => 1,
        ("idle", _) => 2,
        ("expired", _) => 3,
        _ => 4,
    }
}

fn ordered(mut sessions: Vec<Value>, all: bool) -> Vec<Value> {
    sessions.retain(|session| all || rank(session) <= 2);
    // Who waits longest comes first; of the others what has changed last.
    sessions.sort_by_key(|session| {
        let since = time(session, "status_since").map_or(0, |since| since.timestamp_micros());
        let rank = rank(session);
        (rank, if rank == 0 { since } else { -since })
    });
    sessions
}

/// How wide the terminal is; `None` where nothing is to be cut, since there is none.
fn width() -> Option<usize> {
    let output = io::stdout();
    if !output.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(&output).map(|size| size.ws_col.into());
    Some(columns.ok().filter(|columns| *columns > 0).unwrap_or(WIDTH))
}

/// The sessions, one a line, as wide as this.
fn table(sessions: &[Value], now: DateTime<Utc>, width: Option<usize>) -> String {
    /// The most that a column takes on a terminal, and what stands between two.
    const MOST: [usize; 5] = [20, 8, 24, 40, 30];
    const BETWEEN: usize = 2;
    if sessions.is_empty() {
        return "Nobody works or waits.\n".into();
    }
    let mut rows = vec![["STATUS", "FOR", "AGENT", "TASK", "WHERE", "MESSAGE"].map(str::to_owned)];
    rows.extend(sessions.iter().map(|session| row(session, now)));
    let mut widths: Vec<usize> = (0..MOST.len())
        .map(|column| {
            let widest = rows.iter().map(|row| row[column].width()).max();
            let most = width.map_or(usize::MAX, |_| MOST[column]);
            widest.unwrap_or_default().min(most)
        })
        .collect();
    if let Some(width) = width {
        // Of a narrow terminal the message gets a third at least, at the cost of the widest columns.
        while widths.iter().map(|width| width + BETWEEN).sum::<usize>() > width * 2 / 3 {
            match widths.iter_mut().max() {
                Some(widest) if *widest > 8 => *widest -= 1,
                _ => break,
            }
        }
    }
    let mut table = String::new();
    for row in &rows {
        let mut line = String::new();
        for (text, width) in row.iter().zip(&widths) {
            let text = cut(text, *width);
            let rest = width - text.width() + BETWEEN;
            line.push_str(&format!("{text}{:rest$}", ""));
        }
        line.push_str(&row[5]);
        let line = cut(&line, width.unwrap_or(usize::MAX));
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

/// The start of a text, as wide as this on a terminal at most: wide characters take two columns.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        kept.push(character);
        if kept.width() >= width {
            break;
        }
    }
    while kept.width() >= width && kept.pop().is_some() {}
    kept + "…"
}

fn row(session: &Value, now: DateTime<Utc>) -> [String; 6] {
    let status = match (rank(session), text(session, "reason")) {
        (2, _) => "your turn".to_owned(),
        (3, _) => "silent".to_owned(),
        (0, "") => "waiting".to_owned(),
        (0, reason) => format!("waiting: {reason}"),
        (_, "") => text(session, "current_status").to_owned(),
        (_, reason) => format!("{}: {reason}", text(session, "current_status")),
    };
    let since = time(session, "status_since").map(|since| now - since);
    let named = |fields: [&str; 2]| {
        let mut texts = fields.iter().map(|field| text(session, field));
        texts
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let context = |key| {
        session
            .pointer(&format!("/context/{key}"))
            .and_then(Value::as_str)
    };
    let place = match (
        context("repo"),
        context("branch").filter(|branch| !branch.is_empty()),
    ) {
        (Some(repository), Some(branch)) => format!("{repository}@{branch}"),
        (Some(repository), None) => repository.to_owned(),
        (None, _) => context("host").unwrap_or_default().to_owned(),
    };
    [
        status,
        since.map(duration).unwrap_or_default(),
        named(["agent_name", "agent_id"]),
        named(["title", "session_topic"]),
        place,
        text(session, "message").to_owned(),
    ]
    .map(|text| printable(&text))
}

/// A text that does nothing to a terminal: no control character, and none that turns the direction of
/// what follows.
pub(crate) fn printable(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_line_end = |c: char| matches!(c, '\u{2028}' | '\u{2029}');
    let harmless = text.chars().filter(|c| !turns(*c));
    harmless
        .map(|c| {
            if c.is_control() || is_line_end(c) {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// How long something lasts, in its two greatest units.
fn duration(duration: TimeDelta) -> String {
    let seconds = duration.num_seconds().max(0);
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(topic: &str, state: &str, status: &str, since: &str) -> Value {
        json!({
            "agent_id": "a", "session_topic": topic, "state": state, "current_status": status,
            "status_since": since,
        })
    }

    #[test]
    fn who_waits_longest_comes_first() {
        let sessions = vec![
            session("done", "ended", "success", "2026-01-01T00:09:00Z"),
            session("idle", "idle", "success", "2026-01-01T00:01:00Z"),
            session("older", "active", "running", "2026-01-01T00:02:00Z"),
            session("newer", "active", "running", "2026-01-01T00:03:00Z"),
            session("short", "active", "pending", "2026-01-01T00:05:00Z"),
            session("long", "active", "pending", "2026-01-01T00:04:00Z"),
            session("silent", "expired", "running", "2026-01-01T00:04:00Z"),
        ];
        let topics = |all| -> Vec<String> {
            let sessions = ordered(sessions.clone(), all);
            sessions
                .iter()
                .map(|session| text(session, "session_topic").to_owned())
                .collect()
        };
        assert_eq!(topics(false), ["long", "short", "newer", "older", "idle"]);
        assert_eq!(topics(true)[5..], ["silent", "done"]);
    }

    #[test]
    fn a_line_says_what_a_person_wants_to_know_and_harms_no_terminal() {
        let mut waiting = session("id", "active", "pending", "2026-01-01T00:00:00Z");
        waiting["reason"] = json!("permission");
        waiting["title"] = json!("Fix \x1b[31mlogin");
        waiting["message"] = json!("Bash: cargo test");
        waiting["context"] = json!({"repo": "acme/app", "branch": "main"});
        let now = "2026-01-01T02:03:04Z".parse().unwrap();
        let expected = "\
STATUS               FOR    AGENT  TASK             WHERE          MESSAGE
waiting: permission  2h 3m  a      Fix  [31mlogin   acme/app@main  Bash: cargo test
";
        let shown = table(&[waiting], now, Some(120));
        assert_eq!(
            shown.split_whitespace().collect::<Vec<_>>(),
            expected.split_whitespace().collect::<Vec<_>>()
        );
        assert!(!shown.contains('\x1b'));
        assert_eq!(table(&[], now, None), "Nobody works or waits.\n");
    }

    #[test]
    fn a_line_is_as_wide_as_the_terminal_and_columns_stay_in_line() {
        let now = "2026-01-01T02:03:04Z".parse().unwrap();
        let mut sessions = vec![
            session(
                "修复登录页面的按钮并为它写测试，然后更新中文文档和英文文档",
                "active",
                "running",
                "2026-01-01T00:00:00Z",
            ),
            session("short", "active", "running", "2026-01-01T00:00:00Z"),
            session(
                "a\u{202e}b\u{2028}c\u{7}d",
                "active",
                "running",
                "2026-01-01T00:00:00Z",
            ),
        ];
        for session in &mut sessions {
            session["message"] = json!("m".repeat(300));
        }
        for width in [40, 60, 80, 200] {
            let shown = table(&sessions, now, Some(width));
            for line in shown.lines().skip(1) {
                assert_eq!(line.width(), width, "{line}");
                let before = line.split("mm").next().unwrap();
                let first = shown.lines().nth(1).unwrap().split("mm").next().unwrap();
                assert_eq!(before.width(), first.width(), "{shown}");
            }
        }
        let shown = table(&sessions, now, None);
        assert!(
            shown.contains(&"m".repeat(300)) && shown.contains("英文文档"),
            "{shown}"
        );
        assert!(shown.contains("ab c d "), "{shown}");
    }

    #[test]
    fn durations_are_short() {
        let texts = [5, 65, 3600, 90_000].map(|seconds| duration(TimeDelta::seconds(seconds)));
        assert_eq!(texts, ["5s", "1m", "1h 0m", "1d 1h"]);
    }
}
