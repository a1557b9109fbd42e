//! Reports while a server has much else to do.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Sides;
use super::reports::with_keys;
use crate::bench::Bench;
use crate::hosts::{Storage, native};
use crate::wrk::Load;

/// Statuses of a workspace that no one else has, a month old.
const OLD: &str = "
    INSERT INTO kubeagents_data.statuses
        SELECT entry.* FROM kubeagents_data.statuses AS first,
            generate_series(1, {}) AS n,
            LATERAL jsonb_populate_record(first, jsonb_build_object('workspace', 'old',
                'session_topic', 'topic ' || n % 100, 'seq', n + {}, 'number', n + {},
                'timestamp', first.timestamp - 2592000000000)) AS entry
        WHERE first.agent_id = 'agent-0' AND first.session_topic = 'topic-0' AND first.seq = 1";

/// How long it takes until all subscribers have come.
const ARRIVAL: Duration = Duration::from_secs(2);

pub(super) fn p99(bench: &Bench) -> Result<Sides> {
    let server = with_keys(bench, Storage::Postgres)?;
    server.client().report(server.key(), "agent-0", "topic-0")?;
    let keys = server.keys_file.as_deref();
    let load = |script, path: &str, connections| {
        let url = format!("{}{path}", server.url);
        Load::new(script, url, bench.connections(connections)).keys(keys)
    };
    let reports = load("report", "", 16);
    let reports = reports
        .with("AGENTS", 100)
        .with("TOPICS", 10)
        .with("PAUSE", 100);
    let subscribers = load("get", "/api/events", 1000);
    let log_ins = load("login", "", 8);
    let old = bench.amount(200_000, 1000);
    let arrival = if bench.is_short() {
        ARRIVAL / 10
    } else {
        ARRIVAL
    };
    let (program, mut place) = (bench.server()?, 0);
    let without = reports.clone();
    Ok(Sides::new(
        move |duration| {
            let server = &server;
            let database = server.database.as_ref().context("no database")?;
            let script = OLD.replacen("{}", &old.to_string(), 1);
            database.psql(&script.replace("{}", &place.to_string()));
            place += old;
            let watching = subscribers.start()?;
            sleep(arrival);
            let logging_in = log_ins.start()?;
            let retention = native::start_retention(&program, database)?;
            let rates = reports.run(duration)?;
            drop((retention, logging_in));
            watching.stop()?;
            Ok(rates.p99)
        },
        move |duration| Ok(without.run(duration)?.p99),
    ))
}
