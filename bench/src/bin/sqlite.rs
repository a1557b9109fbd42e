//! The least that durable storage of a report in SQLite costs: one writer that stores the same rows
//! as `kubeagents` does, a transaction and a flush for each report, without HTTP, validation or
//! deciding. The file must have kubeagents' schema.
//!
//! usage: `sqlite FILE SECONDS`; prints transactions per second.
#![forbid(unsafe_code)]

use std::error::Error;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, params};

/// A report's rows, by the schema's own trigger.
const STORE: &str = "
    INSERT INTO chains VALUES (0, ?1, ?2, ?3, ?4, ?2, 'Agent', 'agent', NULL, ?4 + 1, ?5, ?5,
        60, ?5 + 3600000000, 'running', ?5, json_array(json_object('seq', ?4 + 1,
            'status', 'running', 'timestamp', ?5, 'message', 'still at it', 'content', '')), '[]')";

const STORED: &str = "SELECT count(*) FROM statuses WHERE workspace = ?1";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: sqlite FILE SECONDS";
    let file = arguments.next().ok_or(usage)?;
    let seconds = arguments.next().ok_or(usage)?.parse()?;
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let workspace = format!("bare-{}", std::process::id());
    let mut statement = connection.prepare(STORE)?;
    let (start, duration) = (Instant::now(), Duration::from_secs(seconds));
    let mut stored: i64 = 0;
    // A thousand agents with ten sessions each, in the order of bench/report.lua.
    while start.elapsed() < duration {
        let agent = format!("agent-{}", stored % 1000);
        let topic = format!("topic-{}", stored / 1000 % 10);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        let now = i64::try_from(now)?;
        statement.execute(params![workspace, agent, topic, stored / 10_000, now])?;
        stored += 1;
    }
    let elapsed = start.elapsed();
    let found: i64 = connection.query_row(STORED, [&workspace], |row| row.get(0))?;
    assert_eq!(found, stored, "a report is not stored");
    println!("{:.0}", stored as f64 / elapsed.as_secs_f64());
    Ok(())
}
