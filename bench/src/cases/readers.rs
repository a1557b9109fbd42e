//! A writer beside readers of long lists.

use std::rc::Rc;

use anyhow::{Result, ensure};

use super::{Sides, rate};
use crate::bench::Bench;
use crate::hosts::{Host, Server};
use crate::wrk::Load;

const READERS: u32 = 8;

/// Has as many sessions reported as are read.
fn fill(server: &Server, sessions: usize) -> Result<()> {
    let client = server.client();
    let report = |session: usize| {
        let (agent, topic) = (session % 20, session / 20);
        client.report(None, &format!("read-{agent}"), &format!("topic-{topic}"))
    };
    (0..sessions).try_for_each(report)
}

pub(super) fn beside(bench: &Bench, host: Host) -> Result<Sides> {
    let server = match host {
        Host::Native(_) => Rc::new(host.start(bench)?),
        host => bench.host(host)?,
    };
    let sessions = bench.amount(2000, 50);
    fill(&server, sessions)?;
    let writer = Load::new("report", &*server.url, 1);
    let writer = writer.with("AGENTS", 10).with("TOPICS", 10);
    let list = format!("{}/api/sessions?limit={sessions}", server.url);
    let readers = Load::new("get", list, bench.connections(READERS));
    let alone = writer.clone();
    Ok(Sides::new(
        move |duration| {
            let _ = &server;
            let reading = readers.start()?;
            let reports = writer.run(duration)?;
            let errors = reading.stop()?.errors;
            ensure!(errors == 0, "{errors} reads have failed");
            Ok(reports.per_second)
        },
        rate(alone, ()),
    ))
}
