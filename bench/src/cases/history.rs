//! Reports on a session with a long history.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::Connection;

use super::{Sides, time};
use crate::bench::Bench;
use crate::hosts::{Host, Server, Storage};
use crate::wrk::Load;

const CONNECTIONS: u32 = 16;

/// Makes the one status of a session as many as there are to be.
const SQLITE: &str = "
    CREATE TEMP TABLE first AS SELECT * FROM statuses WHERE agent_id = 'history' AND topic = 'long';
    CREATE TEMP TABLE places AS
        WITH RECURSIVE place(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM place WHERE n < {})
        SELECT n FROM place;
    INSERT INTO statuses (workspace, agent_id, topic, seq, status, timestamp, reason, message, content, number)
        SELECT workspace, agent_id, topic, n, status, timestamp, reason, message, content, n
        FROM first, places;
    UPDATE sessions SET seq = {}, entries = {} WHERE agent_id = 'history' AND topic = 'long';";

const POSTGRES: &str = "
    INSERT INTO kubeagents_data.statuses
        SELECT entry.* FROM kubeagents_data.statuses AS first, generate_series(2, {}) AS n,
            LATERAL jsonb_populate_record(first, jsonb_build_object('seq', n, 'number', n)) AS entry
        WHERE first.agent_id = 'history' AND first.session_topic = 'long';
    UPDATE kubeagents_data.sessions SET seq = {}, entries = {}
        WHERE agent_id = 'history' AND session_topic = 'long'";

fn fill(server: &Server, host: Host, statuses: usize) -> Result<()> {
    server.client().report(None, "history", "long")?;
    let script = |text: &str| text.replace("{}", &statuses.to_string());
    if let Some(database) = &server.database {
        database.psql(&script(POSTGRES));
        database.psql("VACUUM ANALYZE kubeagents_data.statuses");
        return Ok(());
    }
    match (host, &server.file) {
        (_, Some(file)) => {
            let connection = Connection::open(file)?;
            connection.busy_timeout(Duration::from_secs(60))?;
            connection.execute_batch(&script(SQLITE))?;
        }
        _ => {
            // Nothing else leads to memory.
            let load = Load::new("history", &*server.url, CONNECTIONS).with("TOPIC", "long");
            let mut reported = 0.0;
            while reported < statuses as f64 {
                let time = Duration::from_millis(500);
                reported += load.run(time)?.per_second * time.as_secs_f64();
            }
        }
    }
    Ok(())
}

pub(super) fn reports(bench: &Bench, host: Host, statuses: usize) -> Result<Sides> {
    let server = match host {
        Host::Native(Storage::Memory | Storage::Sqlite | Storage::Postgres) => {
            Rc::new(host.start(bench)?)
        }
        host => bench.host(host)?,
    };
    fill(&server, host, bench.amount(statuses, 1000)).context("the history cannot be made")?;
    let load = Load::new("history", &*server.url, bench.connections(CONNECTIONS));
    let (long, run) = (load.clone().with("TOPIC", "long"), bench.number());
    let mut round = 0;
    Ok(Sides::new(time(long, server), move |duration| {
        round += 1;
        let short = load.clone().with("RUN", format!("{run}-{round}"));
        Ok(short.run(duration)?.micros())
    }))
}
