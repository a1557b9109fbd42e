//! The statement that stores one report, under pgbench with as many clients as the server has.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_executor::block_on;
use kubeagents_contract::succeed;
use kubeagents_core::store::Sessions;
use kubeagents_core::{Report, Snapshot, StatusKind, StoreError, Timestamp, Workspace, decide};
use kubeagents_store_postgres::{PostgresStore, Query, Row, Value};
use kubeagents_test_postgres::{Database, program};

/// A session for each client.
const SESSIONS: &str = include_str!("../../postgres/sessions.sql");

/// What stands for what differs from report to report, and what pgbench puts there: agent, topic,
/// version, number of the status, time.
const AGENT: (&str, &str) = ("an agent", "('agent ' || :agent)");
const TOPIC: (&str, &str) = ("a topic", "('topic ' || :client_id)");
const SEQ: (i64, &str) = (7_001, ":seq");
const NUMBER: (i64, &str) = (7_002, "(:seq + 1)");
const NOW: (i64, &str) = (1_700_000_000_000_000, "kubeagents_data.now_micros()");

/// Reports by pgbench.
pub(crate) struct Reports {
    script: PathBuf,
}

impl Reports {
    /// Writes what pgbench is to do to a file.
    pub(crate) fn new(script: &Path) -> Result<Self> {
        let text = format!(
            "\\set seq :seq + 1\n\\set agent :client_id % 16\n{};\n",
            statement()?
        );
        fs::write(script, text)?;
        Ok(Self {
            script: script.to_owned(),
        })
    }

    /// Stores reports. Returns how many in a second.
    pub(crate) fn store(
        &self,
        database: &Database,
        clients: u32,
        duration: Duration,
    ) -> Result<f64> {
        database.psql(SESSIONS);
        let clients = clients.to_string();
        let mut pgbench = Command::new(program("pgbench"));
        pgbench.args(["--no-vacuum", "--protocol", "prepared", "--jobs", "2"]);
        pgbench.args(["--client", &clients]);
        match duration.as_secs() {
            // It knows whole seconds only.
            0 => pgbench.args(["--transactions", "5"]),
            seconds => pgbench.args(["--time", &seconds.to_string()]),
        };
        pgbench.args(["--define", "seq=0", "--file"]);
        let text = succeed(pgbench.arg(&self.script).arg(database.url()));
        let stored = database
            .psql("SELECT count(*) FROM kubeagents_data.statuses WHERE workspace = 'bench'");
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let run = value("number of transactions actually processed: ");
        ensure!(
            run.is_some_and(|run| run.split('/').next() == Some(&*stored)),
            "pgbench has stored {stored} reports: {text}"
        );
        let rate = value("tps = ").and_then(|rest| rest.split(' ').next());
        Ok(rate.with_context(|| format!("pgbench: {text}"))?.parse()?)
    }
}

/// A driver that runs nothing, and remembers the last statement with its parameters in their places.
#[derive(Default)]
struct Recorder(RefCell<String>);

impl Query for Recorder {
    async fn query(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut text = sql.to_owned();
        // The last first: `$1` is the beginning of `$10`.
        for (place, param) in params.iter().enumerate().rev() {
            text = text.replace(&format!("${}", place + 1), &written(param));
        }
        self.0.replace(text);
        Ok(Vec::new())
    }
}

fn written(param: &Value<'_>) -> String {
    for (stands, put) in [AGENT, TOPIC] {
        if *param == Value::Text(Some(stands)) {
            return put.to_owned();
        }
    }
    for (stands, put) in [SEQ, NUMBER, NOW] {
        if *param == Value::Int(Some(stands)) {
            return put.to_owned();
        }
    }
    match param {
        Value::Text(Some(text)) => format!("'{}'", text.replace('\'', "''")),
        Value::Int(Some(number)) => number.to_string(),
        Value::Bool(is) => is.to_string(),
        _ => "NULL".to_owned(),
    }
}

/// The statement of a report on a session that is known, as the server has it.
fn statement() -> Result<String> {
    let workspace = Workspace::from_key("bench".to_owned());
    let mut report = Report::new(AGENT.0, TOPIC.0, StatusKind::Running);
    report.message = "still at it ".repeat(5);
    report.content = "content, ".repeat(22);
    let now = Timestamp::from_timestamp_micros(NOW.0).context("no time")?;
    let decided = |snapshot: &Snapshot| {
        let decision = decide(&workspace, &report, snapshot, now, 60);
        let commit = decision.ok().map(|decision| decision.commit);
        commit.context("a report that says nothing")
    };
    let known = Snapshot::default();
    let known = known.after(&decided(&known)?);
    let mut commit = decided(&known)?;
    commit.expected_seq = u64::try_from(SEQ.0)?;
    commit.session.seq = u64::try_from(NUMBER.0)?;
    commit.session.entries = u64::try_from(NUMBER.0)?;
    let store = PostgresStore::new(Recorder::default());
    // Nothing comes back, as if another had been faster.
    let _ = block_on(store.commit(&commit))?;
    Ok(store.into_driver().0.into_inner())
}
