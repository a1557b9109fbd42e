//! Reads per second, beside the same bytes from memory.

use std::rc::Rc;

use anyhow::{Context, Result};

use super::{Sides, rate};
use crate::bench::Bench;
use crate::client::Client;
use crate::hosts::{Storage, native};
use crate::limits::bare::Bare;
use crate::wrk::Load;

/// As many as a workspace may have under way.
pub(super) const CONNECTIONS: u32 = 8;

/// What is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Read {
    Agents,
    AgentSessions,
    Session,
    Sessions,
}

impl Read {
    fn path(self) -> &'static str {
        match self {
            Self::Agents => "/api/agents",
            Self::AgentSessions => "/api/agents/agent-0/sessions",
            Self::Session => "/api/agents/agent-0/sessions/topic-0",
            Self::Sessions => "/api/sessions",
        }
    }

    /// Reports what is read.
    fn fill(self, bench: &Bench, client: &Client, key: Option<&str>) -> Result<()> {
        let (agents, topics, reports) = match self {
            Self::Agents => (bench.amount(100, 10), 1, 1),
            Self::AgentSessions => (1, bench.amount(100, 10), 1),
            Self::Session => (1, 1, bench.amount(1000, 20)),
            Self::Sessions => (bench.amount(100, 10), 10, 1),
        };
        for topic in 0..topics {
            for agent in 0..agents {
                for _ in 0..reports {
                    client.report(key, &format!("agent-{agent}"), &format!("topic-{topic}"))?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn in_memory(bench: &Bench, read: Read) -> Result<Sides> {
    let server = native::start(bench, Storage::Memory, &[])?.with_accounts(bench, 1, 8)?;
    let client = server.client();
    read.fill(bench, &client, server.key())?;
    let path = read.path();
    let answer = client.raw(&format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\n\r\n",
        server.key().context("no key")?,
    ))?;
    let bare = Bare::start(bench, &answer)?;
    let connections = bench.connections(CONNECTIONS);
    let load = |url: &str| {
        let load = Load::new("get", format!("{url}{path}"), connections);
        load.keys(server.keys_file.as_deref())
    };
    let (measured, limit) = (load(&server.url), load(&bare.url));
    Ok(Sides::new(rate(measured, server), rate(limit, bare)))
}

/// Eight who read the same, beside eight who do not.
pub(super) fn shared(bench: &Bench, storage: Storage) -> Result<Sides> {
    let server = native::start(bench, storage, &[])?.with_accounts(bench, 1, 8)?;
    let read = Read::Session;
    read.fill(bench, &server.client(), server.key())?;
    let url = format!("{}{}", server.url, read.path());
    let each = Load::new("get", url, bench.connections(CONNECTIONS));
    let each = each.keys(server.keys_file.as_deref());
    let together = each.clone().with("SAME", 1);
    let server = Rc::new(server);
    Ok(Sides::new(
        rate(together, Rc::clone(&server)),
        rate(each, server),
    ))
}
