//! The cases: what is measured, beside what, and what is aimed at. A new one is a row here.

mod components;
mod history;
mod load;
mod neighbours;
mod readers;
mod reads;
mod reports;
mod start;

use std::time::Duration;

use anyhow::Result;

use crate::bench::Bench;
use crate::hosts::{Component, Host, Storage};
use crate::wrk::{Load, Rates};
use Aim::{AtLeast, AtMost};
use Component::{Empty, Server};
use Host::{Native, Spin, SpinFresh, Wasmcloud};
use Storage::{KeyValue, Memory, Postgres, Sqlite, SqliteInMemory};
use reads::Read;

/// What is measured in one way, for a time: a rate, a duration, a size.
pub(crate) type Side = Box<dyn FnMut(Duration) -> Result<f64>>;

/// What a case measures in turn.
pub(crate) struct Sides {
    pub(crate) measured: Side,
    pub(crate) limit: Option<Side>,
}

impl Sides {
    fn new(
        measured: impl FnMut(Duration) -> Result<f64> + 'static,
        limit: impl FnMut(Duration) -> Result<f64> + 'static,
    ) -> Self {
        Self {
            measured: Box::new(measured),
            limit: Some(Box::new(limit)),
        }
    }

    fn alone(measured: impl FnMut(Duration) -> Result<f64> + 'static) -> Self {
        Self {
            measured: Box::new(measured),
            limit: None,
        }
    }
}

/// Measures the requests per second of a load. The servers that answer them live as long.
fn rate<S: 'static>(load: Load, servers: S) -> impl FnMut(Duration) -> Result<f64> {
    run(load, servers, |rates| rates.per_second)
}

/// Measures the time of a request of a load, in microseconds. The servers that answer them live as long.
fn time<S: 'static>(load: Load, servers: S) -> impl FnMut(Duration) -> Result<f64> {
    run(load, servers, Rates::micros)
}

fn run<S: 'static>(
    load: Load,
    servers: S,
    value: fn(Rates) -> f64,
) -> impl FnMut(Duration) -> Result<f64> {
    move |duration| {
        let _ = &servers;
        Ok(value(load.run(duration)?))
    }
}

/// What is aimed at: of the ratio to the limit, or of the value where there is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
    /// It is only reported.
    None,
}

/// A unit of values.
pub(crate) struct Unit {
    pub(crate) symbol: &'static str,
    decimals: usize,
}

impl Unit {
    /// A value as people read it.
    pub(crate) fn text(&self, value: f64) -> String {
        let (symbol, decimals) = (self.symbol, self.decimals);
        let space = if symbol.starts_with('/') { "" } else { " " };
        format!("{value:.decimals$}{space}{symbol}")
    }
}

const PER_SECOND: Unit = Unit {
    symbol: "/s",
    decimals: 0,
};
const MICROSECONDS: Unit = Unit {
    symbol: "µs",
    decimals: 1,
};
const MILLISECONDS: Unit = Unit {
    symbol: "ms",
    decimals: 2,
};
const MEBIBYTES: Unit = Unit {
    symbol: "MiB",
    decimals: 1,
};
const MEGABYTES: Unit = Unit {
    symbol: "MB",
    decimals: 2,
};

/// A case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// What it is measured beside. Empty: nothing.
    pub(crate) limit: &'static str,
    pub(crate) unit: Unit,
    pub(crate) aim: Aim,
    /// Makes everything ready.
    pub(crate) open: fn(&Bench) -> Result<Sides>,
}

const BARE: &str = "a bare hyper handler that reads and answers as many bytes";
const TRANSACTION: &str = "one writer with one transaction and one flush a report";
const PGBENCH: &str = "pgbench with the statement of a single report, prepared";
const EMPTY: &str = "an empty component in the same host";
const ALONE: &str = "the writer alone";
const OWN: &str = "each its own";
const SHORT_HISTORY: &str = "reports on sessions with up to 100";
const NO_NEIGHBOURS: &str = "that workspace alone";

/// All of them, in the order in which they are measured.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "memory/report",
        what: "reports, memory, API keys, 64 connections",
        limit: BARE,
        unit: PER_SECOND,
        aim: AtLeast(0.85),
        open: |bench| reports::in_memory(bench, 64),
    },
    Case {
        name: "memory/agents",
        what: "`GET /api/agents` with 100 agents",
        limit: BARE,
        unit: PER_SECOND,
        aim: AtLeast(0.6),
        open: |bench| reads::in_memory(bench, Read::Agents),
    },
    Case {
        name: "memory/agent-sessions",
        what: "the sessions of an agent with 100",
        limit: BARE,
        unit: PER_SECOND,
        aim: AtLeast(0.6),
        open: |bench| reads::in_memory(bench, Read::AgentSessions),
    },
    Case {
        name: "memory/session",
        what: "a session with 1,000 statuses",
        limit: BARE,
        unit: PER_SECOND,
        aim: AtLeast(0.6),
        open: |bench| reads::in_memory(bench, Read::Session),
    },
    Case {
        name: "memory/sessions",
        what: "`GET /api/sessions` with 1,000 sessions",
        limit: BARE,
        unit: PER_SECOND,
        aim: AtLeast(0.6),
        open: |bench| reads::in_memory(bench, Read::Sessions),
    },
    Case {
        name: "memory/same-session",
        what: "a session with 1,000 statuses, which all ask for, in memory",
        limit: OWN,
        unit: PER_SECOND,
        aim: AtLeast(1.2),
        open: |bench| reads::shared(bench, Memory),
    },
    Case {
        name: "postgres/same-session",
        what: "a session with 1,000 statuses, which all ask for, PostgreSQL",
        limit: OWN,
        unit: PER_SECOND,
        aim: AtLeast(1.5),
        open: |bench| reads::shared(bench, Postgres),
    },
    Case {
        name: "sqlite/report",
        what: "reports, SQLite, API keys, 64 connections",
        limit: TRANSACTION,
        unit: PER_SECOND,
        aim: AtLeast(5.0),
        open: |bench| reports::on_sqlite(bench, Native(Sqlite), 64),
    },
    Case {
        name: "postgres/report-64",
        what: "reports, PostgreSQL, API keys, 64 connections",
        limit: PGBENCH,
        unit: PER_SECOND,
        aim: AtLeast(2.5),
        open: |bench| reports::on_postgres(bench, 64),
    },
    Case {
        name: "postgres/report-256",
        what: "reports, PostgreSQL, API keys, 256 connections",
        limit: PGBENCH,
        unit: PER_SECOND,
        aim: AtLeast(2.5),
        open: |bench| reports::on_postgres(bench, 256),
    },
    Case {
        name: "spin/sqlite/report-16",
        what: "reports, Spin's SQLite, 16 connections",
        limit: TRANSACTION,
        unit: PER_SECOND,
        aim: AtLeast(3.0),
        open: |bench| reports::on_sqlite(bench, Spin(Server(Sqlite)), 16),
    },
    Case {
        name: "spin/sqlite/report-64",
        what: "reports, Spin's SQLite, 64 connections",
        limit: TRANSACTION,
        unit: PER_SECOND,
        aim: AtLeast(3.0),
        open: |bench| reports::on_sqlite(bench, Spin(Server(Sqlite)), 64),
    },
    Case {
        name: "spin/sqlite-in-memory/report",
        what: "reports, Spin's SQLite on tmpfs, 16 connections",
        limit: EMPTY,
        unit: PER_SECOND,
        aim: AtLeast(0.4),
        open: |bench| components::reports(bench, Spin(Server(SqliteInMemory)), Spin(Empty)),
    },
    Case {
        name: "spin/postgres/report",
        what: "reports, Spin on PostgreSQL, 16 connections",
        limit: EMPTY,
        unit: PER_SECOND,
        aim: AtLeast(0.4),
        open: |bench| components::reports(bench, Spin(Server(Postgres)), Spin(Empty)),
    },
    Case {
        name: "spin/health",
        what: "`GET /health`, Spin, 16 connections",
        limit: EMPTY,
        unit: PER_SECOND,
        aim: AtLeast(0.9),
        open: |bench| components::health(bench, Spin(Server(SqliteInMemory)), Spin(Empty)),
    },
    Case {
        name: "wasmcloud/keyvalue/report",
        what: "reports, wasmCloud's key-value store in memory, 16 connections",
        limit: EMPTY,
        unit: PER_SECOND,
        aim: AtLeast(0.4),
        open: |bench| components::reports(bench, Wasmcloud(Server(KeyValue)), Wasmcloud(Empty)),
    },
    Case {
        name: "wasmcloud/postgres/report",
        what: "reports, wasmCloud on PostgreSQL, 16 connections",
        limit: EMPTY,
        unit: PER_SECOND,
        aim: AtLeast(0.4),
        open: |bench| components::reports(bench, Wasmcloud(Server(Postgres)), Wasmcloud(Empty)),
    },
    Case {
        name: "wasmcloud/health",
        what: "`GET /health`, wasmCloud, 16 connections",
        limit: EMPTY,
        unit: PER_SECOND,
        aim: AtLeast(0.9),
        open: |bench| components::health(bench, Wasmcloud(Server(KeyValue)), Wasmcloud(Empty)),
    },
    Case {
        name: "memory/beside-readers",
        what: "one writer beside eight readers of 2,000 sessions, memory",
        limit: ALONE,
        unit: PER_SECOND,
        aim: AtLeast(0.5),
        open: |bench| readers::beside(bench, Native(Memory)),
    },
    Case {
        name: "sqlite/beside-readers",
        what: "one writer beside eight readers of 2,000 sessions, SQLite",
        limit: ALONE,
        unit: PER_SECOND,
        aim: AtLeast(0.5),
        open: |bench| readers::beside(bench, Native(Sqlite)),
    },
    Case {
        name: "postgres/beside-readers",
        what: "one writer beside eight readers of 2,000 sessions, PostgreSQL",
        limit: ALONE,
        unit: PER_SECOND,
        aim: AtLeast(0.5),
        open: |bench| readers::beside(bench, Native(Postgres)),
    },
    Case {
        name: "spin/sqlite/beside-readers",
        what: "one writer beside eight readers of 2,000 sessions, Spin's SQLite",
        limit: ALONE,
        unit: PER_SECOND,
        aim: AtLeast(0.5),
        open: |bench| readers::beside(bench, Spin(Server(Sqlite))),
    },
    Case {
        name: "spin/postgres/beside-readers",
        what: "one writer beside eight readers of 2,000 sessions, Spin on PostgreSQL",
        limit: ALONE,
        unit: PER_SECOND,
        aim: AtLeast(0.5),
        open: |bench| readers::beside(bench, Spin(Server(Postgres))),
    },
    Case {
        name: "wasmcloud/keyvalue/beside-readers",
        what: "one writer beside eight readers of 2,000 sessions, wasmCloud's key-value store",
        limit: ALONE,
        unit: PER_SECOND,
        aim: AtLeast(0.5),
        open: |bench| readers::beside(bench, Wasmcloud(Server(KeyValue))),
    },
    Case {
        name: "wasmcloud/postgres/beside-readers",
        what: "one writer beside eight readers of 2,000 sessions, wasmCloud on PostgreSQL",
        limit: ALONE,
        unit: PER_SECOND,
        aim: AtLeast(0.5),
        open: |bench| readers::beside(bench, Wasmcloud(Server(Postgres))),
    },
    Case {
        name: "memory/long-history",
        what: "time of a report on a session with 1,000,000 statuses, memory",
        limit: SHORT_HISTORY,
        unit: MICROSECONDS,
        aim: AtMost(1.05),
        open: |bench| history::reports(bench, Native(Memory), 1_000_000),
    },
    Case {
        name: "sqlite/long-history",
        what: "time of a report on a session with 1,000,000 statuses, SQLite",
        limit: SHORT_HISTORY,
        unit: MICROSECONDS,
        aim: AtMost(1.05),
        open: |bench| history::reports(bench, Native(Sqlite), 1_000_000),
    },
    Case {
        name: "postgres/long-history",
        what: "time of a report on a session with 1,000,000 statuses, PostgreSQL",
        limit: SHORT_HISTORY,
        unit: MICROSECONDS,
        aim: AtMost(1.05),
        open: |bench| history::reports(bench, Native(Postgres), 1_000_000),
    },
    Case {
        name: "spin/sqlite/long-history",
        what: "time of a report on a session with 1,000,000 statuses, Spin's SQLite",
        limit: SHORT_HISTORY,
        unit: MICROSECONDS,
        aim: AtMost(1.05),
        open: |bench| history::reports(bench, Spin(Server(Sqlite)), 1_000_000),
    },
    Case {
        name: "wasmcloud/keyvalue/long-history",
        what: "time of a report on a session with 100,000 statuses (more take too long to report), wasmCloud's key-value store",
        limit: SHORT_HISTORY,
        unit: MICROSECONDS,
        aim: AtMost(1.05),
        open: |bench| history::reports(bench, Wasmcloud(Server(KeyValue)), 100_000),
    },
    Case {
        name: "sqlite/many-workspaces",
        what: "time of a read of one workspace among 100,000 others, SQLite",
        limit: NO_NEIGHBOURS,
        unit: MICROSECONDS,
        aim: AtMost(1.1),
        open: |bench| neighbours::reads(bench, Sqlite),
    },
    Case {
        name: "postgres/many-workspaces",
        what: "time of a read of one workspace among 100,000 others, PostgreSQL",
        limit: NO_NEIGHBOURS,
        unit: MICROSECONDS,
        aim: AtMost(1.1),
        open: |bench| neighbours::reads(bench, Postgres),
    },
    Case {
        name: "postgres/p99-under-load",
        what: "p99 of 160 reports a second while 1,000 subscribers watch, retention runs, and log-ins flood",
        limit: "without them",
        unit: MILLISECONDS,
        aim: AtMost(2.0),
        open: load::p99,
    },
    Case {
        name: "spin/size",
        what: "size of the Spin component",
        limit: "",
        unit: MEGABYTES,
        aim: AtMost(2.5),
        open: |bench| components::size(bench, "kubeagents-spin"),
    },
    Case {
        name: "wasmcloud/size",
        what: "size of the wasmCloud component",
        limit: "",
        unit: MEGABYTES,
        aim: AtMost(2.5),
        open: |bench| components::size(bench, "kubeagents-wasmcloud"),
    },
    Case {
        name: "spin/first-response",
        what: "first response of a new instance, Spin",
        limit: "",
        unit: MILLISECONDS,
        aim: AtMost(10.0),
        open: |bench| components::first_response(bench, SpinFresh(Server(SqliteInMemory))),
    },
    Case {
        name: "spin/instance-memory",
        what: "memory of an instance, Spin, with 64",
        limit: "",
        unit: MEBIBYTES,
        aim: Aim::None,
        open: components::instance_memory,
    },
    Case {
        name: "native/start",
        what: "start to first answer, memory",
        limit: "",
        unit: MILLISECONDS,
        aim: AtMost(10.0),
        open: start::first_answer,
    },
    Case {
        name: "native/start-memory",
        what: "memory after the first answer",
        limit: "",
        unit: MEBIBYTES,
        aim: AtMost(10.0),
        open: start::memory_at_start,
    },
    Case {
        name: "native/session-memory",
        what: "memory of 1,000 sessions",
        limit: "",
        unit: MEBIBYTES,
        aim: Aim::None,
        open: start::memory_of_sessions,
    },
    Case {
        name: "native/idle-connections",
        what: "memory with 10,000 idle connections",
        limit: "",
        unit: MEBIBYTES,
        aim: AtMost(60.0),
        open: start::memory_of_connections,
    },
];
