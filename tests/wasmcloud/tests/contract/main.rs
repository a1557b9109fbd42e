//! The contract, put to the component under the real wash: in both modes, on every kind of storage,
//! with instances that are made for a request and instances that stay. And what the contract cannot
//! ask.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod storage;

use std::process::ExitCode;

use anyhow::{Context, Result};
use kubeagents_contract::{
    Arguments, Host, MEMBERS, Mode, Receiver, SETTINGS, Trial, mcp_clients, page_in_browser, run,
    trials,
};
use kubeagents_test_postgres::Database;
use kubeagents_wasmcloud_tests::{Instances, Nats, Storage, Wash};

const STATIC_KEY: &str = "static-key-of-the-contract";
const JWT_SECRET: &str = "signs the tokens of the contract's servers";

/// Longest time that another instance may go on accepting a revoked key.
const REVOCATION_DELAY: std::time::Duration = std::time::Duration::from_secs(5);

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let nats = Nats::start()?;
    let databases = [
        kubeagents_test_postgres::database(),
        kubeagents_test_postgres::database(),
    ];
    let bucket = |name: &str| bucket(&nats, name);
    use Instances::{Fresh, Pooled};
    use Mode::{Open, Required};

    let (_memory, memory_open) = server(&Storage::InMemory, Fresh, Open, &[])?;
    let (_memory, memory_required) = server(&Storage::InMemory, Pooled, Required, &[])?;
    let (_memory, configured) = server(&Storage::InMemory, Fresh, Required, &SETTINGS)?;
    let shared = bucket("open")?;
    let (one, nats_open) = server(&shared, Pooled, Open, &[])?;
    let (other, nats_open) = beside(&one, nats_open, &shared, Pooled)?;
    let (_nats, nats_required) = server(&bucket("required")?, Pooled, Required, &[])?;
    let (_postgres, postgres_open) = server(&postgres(&databases[0])?, Fresh, Open, &[])?;
    let (_postgres, postgres_required) = server(&postgres(&databases[1])?, Pooled, Required, &[])?;

    let url = memory_required.urls[0].clone();
    // What others report meanwhile would stand in its way.
    let (page, _) = server(&Storage::InMemory, Pooled, Open, &[])?;
    let workloads = [one.url().to_owned(), other.url().to_owned()];
    let killed = bucket("killed")?;
    let nats_url = nats.url();
    let mut all = vec![
        Trial::test("official_mcp_clients_are_served", move || {
            mcp_clients::check(&url, Some(STATIC_KEY));
            Ok(())
        }),
        Trial::test("a_browser_shows_the_page", move || {
            page_in_browser::play_at(page.url());
            Ok(())
        }),
        trial("sixteen_writers_on_two_workloads_lose_nothing", move || {
            storage::sixteen_writers_lose_nothing(&workloads)
        }),
        trial("a_host_that_is_killed_has_lost_nothing", move || {
            storage::a_host_that_is_killed_has_lost_nothing(&killed)
        }),
        trial(
            "a_backend_without_compare_and_swap_is_refused",
            storage::a_backend_without_compare_and_swap_is_refused,
        ),
        trial(
            "an_unknown_storage_is_refused",
            storage::an_unknown_storage_is_refused,
        ),
        trial(
            "a_variable_without_effect_is_named_once",
            storage::a_variable_without_effect_is_named_once,
        ),
        trial("a_missing_bucket_is_named", move || {
            storage::a_missing_bucket_is_named(&nats_url)
        }),
    ];
    for (host, name) in [
        (memory_open, "memory_open"),
        (memory_required, "memory_required"),
        (configured, "configured"),
        (nats_open, "nats_open_two_hosts"),
        (nats_required, "nats_required"),
        (postgres_open, "postgres_open"),
        (postgres_required, "postgres_required"),
    ] {
        all.extend(trials(&host, name));
    }
    Ok(run(arguments, all).exit_code())
}

fn trial(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        Ok(test().map_err(|error| format!("{error:?}"))?)
    })
}

fn bucket(nats: &Nats, name: &str) -> Result<Storage> {
    nats.create_bucket(name)?;
    Ok(Storage::Nats {
        url: nats.url(),
        bucket: name.to_owned(),
    })
}

fn postgres(database: &Database) -> Result<Storage> {
    let url = database.url();
    let (server, _) = url.rsplit_once('/').context("a URL with a database")?;
    Ok(Storage::Postgres {
        server: server.to_owned(),
        database: database.name().to_owned(),
    })
}

/// Starts wash as the suite expects a server to be configured.
fn server(
    storage: &Storage,
    instances: Instances,
    mode: Mode,
    settings: &[(&str, &str)],
) -> Result<(Wash, Host)> {
    let receiver = Receiver::start();
    let url = receiver.instance_url();
    let wash = Wash::start(storage, instances, &environment(mode, &url, settings))?;
    let stays = instances == Instances::Pooled;
    let host = Host {
        static_key: Some(STATIC_KEY.to_owned()),
        jwt_secret: Some(JWT_SECRET.to_owned()),
        log: Some(wash.log()),
        instance_receiver: Some(receiver),
        has_settings: !settings.is_empty(),
        has_members: true,
        knows_clients: false,
        answers_before_delivering: stays,
        counts_deliveries_together: stays,
        streams: false,
        ..Host::new(wash.url(), mode)
    };
    Ok((wash, host))
}

/// Starts another wash on the same storage, to which every other request goes from now on.
fn beside(
    first: &Wash,
    mut host: Host,
    storage: &Storage,
    instances: Instances,
) -> Result<(Wash, Host)> {
    let receiver = host.instance_receiver.as_ref().context("no receiver")?;
    let url = receiver.instance_url();
    let wash = first.start_beside(storage, instances, &environment(host.mode, &url, &[]))?;
    host.urls.push(wash.url().to_owned());
    host.counts_deliveries_together = false;
    host.revocation_delay = REVOCATION_DELAY;
    Ok((wash, host))
}

fn environment<'a>(
    mode: Mode,
    receiver: &'a str,
    settings: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mode = match mode {
        Mode::Open => "open",
        Mode::Required => "required",
    };
    let mut environment = vec![
        ("AUTH_MODE", mode),
        ("KUBEAGENTS_API_KEY", STATIC_KEY),
        ("JWT_SECRET", JWT_SECRET),
        MEMBERS,
        ("NOTIFICATION_WEBHOOK_URL", receiver),
    ];
    environment.extend(settings);
    environment
}
