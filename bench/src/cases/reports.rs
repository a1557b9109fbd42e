//! Reports per second, beside what their storage can do at most.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Sides, rate};
use crate::bench::Bench;
use crate::hosts::{Host, Server, Storage, native};
use crate::limits::bare::Bare;
use crate::limits::pgbench::Reports;
use crate::limits::sqlite;
use crate::wrk::Load;

/// Reports by a thousand agents with ten sessions each, with the keys of all accounts.
pub(super) fn load(server: &Server, url: &str, connections: u32) -> Load {
    let load = Load::new("report", url, connections);
    load.keys(server.keys_file.as_deref())
        .with("AGENTS", 1000)
        .with("TOPICS", 10)
}

/// A native server with some accounts that have some keys each.
pub(super) fn with_keys(bench: &Bench, storage: Storage) -> Result<Server> {
    let server = native::start(bench, storage, &[])?;
    server.with_accounts(bench, bench.amount(8, 2), 8)
}

pub(super) fn in_memory(bench: &Bench, connections: u32) -> Result<Sides> {
    let connections = bench.connections(connections);
    let server = with_keys(bench, Storage::Memory)?;
    let body = json!({
        "agent_id": "agent-0",
        "session_topic": "topic-0",
        "status": "running",
        "timestamp": "2026-01-01T00:00:00Z",
    })
    .to_string();
    let answer = server.client().raw(&format!(
        "POST /webhook/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        server.key().context("no key")?,
        body.len()
    ))?;
    let bare = Bare::start(bench, &answer)?;
    let measured = load(&server, &server.url, connections);
    let limit = load(&server, &bare.url, connections);
    Ok(Sides::new(rate(measured, server), rate(limit, bare)))
}

pub(super) fn on_sqlite(bench: &Bench, host: Host, connections: u32) -> Result<Sides> {
    let connections = bench.connections(connections);
    let server = match host {
        Host::Native(storage) => with_keys(bench, storage)?.into(),
        host => bench.host(host)?,
    };
    // So that there is a schema.
    server.client().report(server.key(), "agent-0", "topic-0")?;
    let file = server.file.clone().context("no file")?;
    let workspace = format!("bare-{}", bench.number());
    let measured = load(&server, &server.url, connections);
    let mut round = 0;
    Ok(Sides::new(rate(measured, server), move |duration| {
        round += 1;
        sqlite::store(&file, &format!("{workspace}-{round}"), duration)
    }))
}

pub(super) fn on_postgres(bench: &Bench, connections: u32) -> Result<Sides> {
    let connections = bench.connections(connections);
    let server = std::rc::Rc::new(with_keys(bench, Storage::Postgres)?);
    let measured = load(&server, &server.url, connections);
    let (beside, reports) = (server.clone(), Reports::new(&bench.place())?);
    Ok(Sides::new(rate(measured, server), move |duration| {
        let database = beside.database.as_ref().context("no database")?;
        reports.store(database, connections, duration)
    }))
}
