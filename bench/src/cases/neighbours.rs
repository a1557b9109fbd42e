//! Reads of a workspace among others.

use anyhow::{Context, Result};
use rusqlite::Connection;

use super::reads::CONNECTIONS;
use super::{Sides, time};
use crate::bench::Bench;
use crate::hosts::{Host, Server, Storage};
use crate::wrk::Load;

const TABLES: [&str; 3] = ["agents", "sessions", "statuses"];

/// Gives as many other workspaces what the shared one has of one agent.
fn fill(server: &Server, workspaces: usize) -> Result<()> {
    if let Some(database) = &server.database {
        for table in TABLES {
            let columns = database.psql(&format!(
                "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
                WHERE table_schema = 'kubeagents_data' AND table_name = '{table}'
                    AND is_generated = 'NEVER'"
            ));
            let values = columns.replace(", ", ", entry.");
            database.psql(&format!(
                "INSERT INTO kubeagents_data.{table} ({columns})
                SELECT entry.{values} FROM kubeagents_data.{table} AS own,
                    generate_series(1, {workspaces}) AS n,
                    LATERAL jsonb_populate_record(own,
                        jsonb_build_object('workspace', 'other ' || n)) AS entry
                WHERE own.agent_id = 'agent-0'"
            ));
            database.psql(&format!("VACUUM ANALYZE kubeagents_data.{table}"));
        }
        return Ok(());
    }
    let file = server.file.as_ref().context("no file")?;
    let mut connection = Connection::open(file)?;
    let transaction = connection.transaction()?;
    for table in TABLES {
        transaction.execute_batch(&format!(
            "CREATE TEMP TABLE own AS SELECT * FROM main.{table} WHERE agent_id = 'agent-0'"
        ))?;
        let mut name = transaction.prepare("UPDATE own SET workspace = ?1")?;
        let mut copy = transaction.prepare(&format!("INSERT INTO {table} SELECT * FROM own"))?;
        for number in 1..=workspaces {
            name.execute([format!("other {number}")])?;
            copy.execute([])?;
        }
        drop((name, copy));
        transaction.execute_batch("DROP TABLE own")?;
    }
    transaction.commit()?;
    Ok(())
}

pub(super) fn reads(bench: &Bench, storage: Storage) -> Result<Sides> {
    let start = |workspaces: usize| {
        let server = Host::Native(storage).start(bench)?;
        let client = server.client();
        for session in 0..bench.amount(100, 10) {
            let agent = format!("agent-{session}");
            client.report(None, &agent, &format!("topic-{session}"))?;
        }
        fill(&server, workspaces)?;
        Ok::<_, anyhow::Error>(server)
    };
    let (among, alone) = (start(bench.amount(100_000, 100))?, start(0)?);
    let connections = bench.connections(CONNECTIONS);
    let load =
        |server: &Server| Load::new("get", format!("{}/api/sessions", server.url), connections);
    let (measured, limit) = (load(&among), load(&alone));
    Ok(Sides::new(time(measured, among), time(limit, alone)))
}
