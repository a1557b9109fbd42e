//! Start and memory of the native server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kubeagents_contract::Process;
use kubeagents_test_postgres::free_port;

use super::Sides;
use crate::bench::Bench;
use crate::hosts::{Host, Storage, memory};
use crate::wrk::Load;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

type Start = Box<dyn FnMut() -> Result<(Process, f64)>>;

/// Starts a server in memory. Returns it and the milliseconds until it answered.
fn start(bench: &Bench) -> Result<Start> {
    let program = bench.server()?;
    Ok(Box::new(move || {
        let port = free_port();
        let mut command = Command::new(&program);
        command.env_clear().env("PORT", port.to_string());
        let start = Instant::now();
        let process = Process::start(&mut command)?;
        while !is_answered(port) {
            ensure!(start.elapsed() < PATIENCE, "the server does not start");
            sleep(Duration::from_micros(100));
        }
        Ok((process, start.elapsed().as_secs_f64() * 1000.0))
    }))
}

fn is_answered(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok::<_, std::io::Error>(answer.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}

pub(super) fn first_answer(bench: &Bench) -> Result<Sides> {
    let mut start = start(bench)?;
    Ok(Sides::alone(move |_| Ok(start()?.1)))
}

pub(super) fn memory_at_start(bench: &Bench) -> Result<Sides> {
    let mut start = start(bench)?;
    Ok(Sides::alone(move |_| memory(start()?.0.id())))
}

pub(super) fn memory_of_sessions(bench: &Bench) -> Result<Sides> {
    let server = Host::Native(Storage::Memory).start(bench)?;
    let client = server.client();
    let (thousands, mut number) = (bench.amount(5, 1), 0);
    // What the first takes is not theirs.
    client.report(None, "agent-0", "first")?;
    Ok(Sides::alone(move |_| {
        let before = server.memory()?;
        for _ in 0..thousands * 1000 {
            number += 1;
            let agent = format!("agent-{}", number % 100);
            client.report(None, &agent, &format!("topic-{number}"))?;
        }
        Ok((server.memory()? - before) / thousands as f64)
    }))
}

pub(super) fn memory_of_connections(bench: &Bench) -> Result<Sides> {
    let server = Host::Native(Storage::Memory).start(bench)?;
    let connections = if bench.is_short() { 100 } else { 10_000 };
    let load = Load::new("idle", format!("{}/health", server.url), connections);
    let load = load.with("CONNECTIONS", connections);
    let arrival = Duration::from_millis(if bench.is_short() { 300 } else { 5000 });
    Ok(Sides::alone(move |_| {
        let idle = load.start()?;
        sleep(arrival);
        let memory = server.memory()?;
        idle.stop()?;
        Ok(memory)
    }))
}
