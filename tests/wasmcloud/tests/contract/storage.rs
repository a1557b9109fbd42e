//! What storage keeps, whoever writes and whatever ends.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use kubeagents_wasmcloud_tests::{Instances, Storage, Wash};
use serde_json::{Value, json};

/// Only a request that hangs takes this long.
const DEADLINE: Duration = Duration::from_secs(60);

fn open(storage: &Storage) -> Result<Wash> {
    Wash::start(storage, Instances::Fresh, &[("AUTH_MODE", "open")])
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(DEADLINE));
    config.http_status_as_error(false).build().into()
}

/// Reports `running`; an error unless the answer is 200.
fn report(client: &ureq::Agent, url: &str, id: &str, topic: &str, message: &str) -> Result<()> {
    let body = json!({
        "agent_id": id,
        "session_topic": topic,
        "status": "running",
        "timestamp": "2026-01-01T00:00:00Z",
        "message": message,
    });
    let request = client.post(format!("{url}/webhook/status"));
    let mut answer = request.send(body.to_string())?;
    let text = answer.body_mut().read_to_string()?;
    ensure!(answer.status() == 200, "{}: {text}", answer.status());
    Ok(())
}

fn get(url: &str, path: &str) -> Result<(u16, Value)> {
    let mut answer = agent().get(format!("{url}{path}")).call()?;
    let body = answer.body_mut().read_to_string()?;
    Ok((answer.status().as_u16(), serde_json::from_str(&body)?))
}

/// The messages of a history, each of which must be there once.
fn messages(url: &str, path: &str) -> Result<BTreeSet<String>> {
    let (_, answer) = get(url, path)?;
    let history = answer["status_history"].as_array();
    let history = history.ok_or_else(|| anyhow!("not a history: {answer}"))?;
    let messages = history.iter().map(|status| status["message"].to_string());
    let distinct: BTreeSet<_> = messages.collect();
    ensure!(distinct.len() == history.len(), "{path}: {answer}");
    Ok(distinct)
}

/// On one session, half of them at each URL.
pub(crate) fn sixteen_writers_lose_nothing(workloads: &[String]) -> Result<()> {
    const WRITERS: usize = 16;
    const REPORTS: usize = 10;
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let url = &workloads[writer % workloads.len()];
                scope.spawn(move || {
                    let client = agent();
                    (0..REPORTS).try_for_each(|n| {
                        report(&client, url, "sixteen", "shared", &format!("{writer} {n}"))
                    })
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| {
            let outcome = writer.join();
            outcome.unwrap_or_else(|_| bail!("a writer has panicked"))
        })
    })?;
    for url in workloads {
        for path in [
            "/api/agents/sixteen/sessions/shared",
            "/api/agents/sixteen/history",
        ] {
            let found = messages(url, path)?.len();
            ensure!(found == WRITERS * REPORTS, "{path} has {found} reports");
        }
    }
    Ok(())
}

/// Checks that what was answered 200 is there once, also on the next host, however this one ended.
pub(crate) fn a_host_that_is_killed_has_lost_nothing(storage: &Storage) -> Result<()> {
    const WRITERS: usize = 4;
    const BEFORE_THE_END: usize = 200;
    let host = open(storage)?;
    let url = host.url().to_owned();
    let host = Mutex::new(Some(host));
    let stored = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (host, stored, url) = (&host, &stored, &url);
            scope.spawn(move || {
                let client = agent();
                for n in 0.. {
                    let message = format!("{writer} {n}");
                    let topic = format!("topic {}", n % 3);
                    if report(&client, url, "agent", &topic, &message).is_err() {
                        return;
                    }
                    let mut stored = stored.lock().unwrap();
                    stored.insert(json!(message).to_string());
                    if stored.len() == BEFORE_THE_END {
                        // Reports of the other writers are under way.
                        host.lock().unwrap().take();
                    }
                }
            });
        }
    });
    let stored = stored.into_inner().unwrap();
    ensure!(
        stored.len() >= BEFORE_THE_END,
        "{} were stored",
        stored.len()
    );

    let next = open(storage)?;
    let path = "/api/agents/agent/history";
    let found = messages(next.url(), path)?;
    let lost: Vec<_> = stored.difference(&found).collect();
    ensure!(lost.is_empty(), "lost: {lost:?}");
    // At most the one report of each other writer whose answer never came.
    let more = found.len() - stored.len();
    ensure!(more < WRITERS, "{more} reports without an answer");
    report(&agent(), next.url(), "agent", "topic 0", "after")?;
    ensure!(messages(next.url(), path)?.len() == found.len() + 1);
    Ok(())
}

/// That the instance cannot serve is told to clients of every kind, why only to the log.
fn is_out_of_service(wash: &Wash, status: u16, code: &str, reason: &str) -> Result<()> {
    let url = format!("{}/api/agents", wash.url());
    let mut answer = agent()
        .get(&url)
        .header("origin", "http://localhost")
        .call()?;
    let body: Value = serde_json::from_str(&answer.body_mut().read_to_string()?)?;
    ensure!(answer.status() == status, "{}: {body}", answer.status());
    ensure!(body["code"] == code, "{body}");
    ensure!(!body.to_string().contains(reason), "{body}");
    let origin = answer.headers().get("access-control-allow-origin");
    ensure!(origin.is_some(), "a web page cannot read it");
    let mut head = agent().head(&url).call()?;
    ensure!(head.status() == status, "{}", head.status());
    ensure!(head.body_mut().read_to_vec()?.is_empty());
    wash.log().wait_for(DEADLINE, |line| line.contains(reason));
    Ok(())
}

pub(crate) fn a_backend_without_compare_and_swap_is_refused() -> Result<()> {
    let reason = "no compare-and-swap: use in-memory or nats";
    for secret in ["", "a secret of at least thirty-two bytes"] {
        let environment = [("AUTH_MODE", "open"), ("JWT_SECRET", secret)];
        let wash = Wash::start(&Storage::Filesystem, Instances::Fresh, &environment)?;
        is_out_of_service(&wash, 500, "misconfigured", reason)?;
    }
    Ok(())
}

pub(crate) fn an_unknown_storage_is_refused() -> Result<()> {
    let environment = [("AUTH_MODE", "open"), ("STORAGE", "redis")];
    let wash = Wash::start(&Storage::InMemory, Instances::Fresh, &environment)?;
    is_out_of_service(&wash, 500, "misconfigured", "STORAGE must be")
}

pub(crate) fn a_missing_bucket_is_named(url: &str) -> Result<()> {
    let storage = Storage::Nats {
        url: url.to_owned(),
        bucket: "missing".to_owned(),
    };
    let wash = open(&storage)?;
    is_out_of_service(&wash, 503, "unavailable", "nats kv add missing")
}

pub(crate) fn a_variable_without_effect_is_named_once() -> Result<()> {
    let environment = [("AUTH_MODE", "open"), ("SMTP_HOST", "mail.example.com")];
    let wash = Wash::start(&Storage::InMemory, Instances::Fresh, &environment)?;
    for number in 0..5 {
        report(&agent(), wash.url(), "agent", "topic", &number.to_string())?;
    }
    let warning = "SMTP_HOST has no effect";
    let log = wash.log();
    log.wait_for(DEADLINE, |line| line.contains(warning));
    let warnings = log
        .lines()
        .iter()
        .filter(|line| line.contains(warning))
        .count();
    ensure!(warnings == 1, "{warnings} warnings");
    Ok(())
}
