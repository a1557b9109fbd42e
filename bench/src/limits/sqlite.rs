//! The least that durable storage of a report in SQLite costs: one writer that stores the same rows
//! as `kubeagents` does, a transaction and a flush for each report, without HTTP, validation or
//! deciding.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use rusqlite::{Connection, params};

/// A report's rows, by the schema's own trigger.
const STORE: &str = "
    INSERT INTO chains (
        place, workspace, agent_id, topic, expected_seq, agent_key, name, name_key, source, seq,
        created, last_updated, ttl_minutes, expires_at, status, run_started, title, reason, message,
        status_since, context, noted_at, hook, silence, entries, outdated, removed, statuses, notifications
    ) VALUES (
        0, ?1, ?2, ?3, ?4, ?2, 'Agent', 'agent', NULL, ?4 + 1,
        ?5, ?5, 60, ?5 + 3600000000, 'running', ?5, '', '', ?6,
        ?5, '', ?5, '', 0, ?4 + 1, 0, 0,
        json_array(json_object('seq', ?4 + 1, 'status', 'running', 'timestamp', ?5, 'reason', '',
            'message', ?6, 'content', ?7, 'number', ?4 + 1)), '[]')";

const STORED: &str = "SELECT count(*) FROM statuses WHERE workspace = ?1";

/// Stores reports in a file that has kubeagents' schema. Returns how many in a second.
pub(crate) fn store(file: &Path, workspace: &str, duration: Duration) -> Result<f64> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let mut statement = connection.prepare(STORE)?;
    let (message, content) = ("still at it ".repeat(5), "content, ".repeat(22));
    let start = Instant::now();
    let mut stored: i64 = 0;
    // A thousand agents with ten sessions each, as wrk reports.
    while start.elapsed() < duration {
        let agent = format!("agent-{}", stored % 1000);
        let topic = format!("topic-{}", stored / 1000 % 10);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let now = i64::try_from(now)?;
        let report = params![
            workspace,
            agent,
            topic,
            stored / 10_000,
            now,
            message,
            content
        ];
        statement.execute(report)?;
        stored += 1;
    }
    let elapsed = start.elapsed();
    let found: i64 = connection.query_row(STORED, [workspace], |row| row.get(0))?;
    ensure!(found == stored, "{found} of {stored} reports are stored");
    Ok(stored as f64 / elapsed.as_secs_f64())
}
