//! Components beside one that does nothing, their sizes and their instances.

use std::time::Duration;

use anyhow::Result;

use super::reports::load;
use super::{Sides, rate};
use crate::bench::Bench;
use crate::hosts::Host;
use crate::wrk::Load;

const CONNECTIONS: u32 = 16;

pub(super) fn reports(bench: &Bench, host: Host, empty: Host) -> Result<Sides> {
    let (server, empty) = (bench.host(host)?, bench.host(empty)?);
    let connections = bench.connections(CONNECTIONS);
    let measured = load(&server, &server.url, connections);
    let limit = load(&server, &empty.url, connections);
    Ok(Sides::new(rate(measured, ()), rate(limit, ())))
}

pub(super) fn health(bench: &Bench, host: Host, empty: Host) -> Result<Sides> {
    let load = |host| {
        let server = bench.host(host)?;
        let url = format!("{}/health", server.url);
        Ok::<_, anyhow::Error>(Load::new("get", url, bench.connections(CONNECTIONS)))
    };
    let (measured, limit) = (load(host)?, load(empty)?);
    Ok(Sides::new(rate(measured, ()), rate(limit, ())))
}

pub(super) fn size(bench: &Bench, package: &'static str) -> Result<Sides> {
    let file = bench.component(package)?;
    Ok(Sides::alone(move |_| {
        Ok(std::fs::metadata(&file)?.len() as f64 / 1e6)
    }))
}

pub(super) fn first_response(bench: &Bench, host: Host) -> Result<Sides> {
    let server = bench.host(host)?;
    let load = Load::new("get", format!("{}/health", server.url), 1);
    Ok(Sides::alone(move |duration| {
        Ok(load.run(duration)?.micros() / 1000.0)
    }))
}

/// How much larger the host is with an instance for each connection than with one.
pub(super) fn instance_memory(bench: &Bench) -> Result<Sides> {
    let instances = bench.connections(64);
    let server = bench.host(Host::SpinInstances)?;
    let load = |connections| load(&server, &server.url, connections);
    load(1).run(Duration::from_millis(200))?;
    let (before, many) = (server.memory()?, load(instances));
    Ok(Sides::alone(move |duration| {
        many.run(duration)?;
        Ok((server.memory()? - before) / f64::from(instances - 1))
    }))
}
