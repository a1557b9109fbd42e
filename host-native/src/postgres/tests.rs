use std::collections::HashSet;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::DateTime;
use kubeagents_core::ports::Reports;
use kubeagents_core::store::suite::found_by_walking;
use kubeagents_core::store::{
    CommitOutcome, LeaseRequest, MAX_LOOKED_AT, MAX_PAGE_BYTES, Outbox, RefreshTokens,
    SessionQuery, Sessions, WorkspaceQuery,
};
use kubeagents_core::{
    AccountId, AuthMode, Quotas, RefreshToken, Report, ReportPolicy, SessionKey, Snapshot,
    StatusKind, Store, StoreError, Witness, Workspace, decide,
};
use kubeagents_store_postgres::{PostgresStore, Query, Row, Value, schema};
use kubeagents_test_postgres::{Database, database, wait_for};
use sqlx::postgres::PgPool;
use sqlx::{Connection, PgConnection};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use super::driver::Driver;
use super::options::pool_options;
use super::reports::PostgresReports;
use super::retention::purge_once;
use super::{NativeStore, record_reports, store};
use crate::events::Hub;
use crate::metrics::{Metered, Metrics};

mod adoption;

async fn pool(database: &Database) -> PgPool {
    let pool = pool_options()
        .max_connections(16)
        .connect(&database.url())
        .await
        .unwrap();
    schema::migrate(store(pool.clone()).driver()).await.unwrap();
    pool
}

fn reports(store: NativeStore) -> PostgresReports {
    let policy = ReportPolicy {
        default_ttl_minutes: 60,
        mode: AuthMode::Open,
        notification_webhook_url: Some("http://receiver.example/".into()),
        shared_channel: None,
        kept_entries: None,
        has_timer: true,
        quotas: Quotas::default(),
    };
    let metrics = Metrics::new(Hub::new(1), "postgres").unwrap();
    record_reports(Metered::new(store, metrics), policy, Witness::default())
}

fn report(agent: &str, topic: &str, message: &str) -> Report {
    Report {
        message: message.into(),
        ..Report::new(agent, topic, StatusKind::Running)
    }
}

async fn messages(store: &NativeStore, agent: &str, topic: &str) -> Vec<String> {
    let key = SessionKey {
        workspace: Workspace::Shared,
        agent_id: agent.into(),
        session_topic: topic.into(),
    };
    let found = store.session(&key, None, 10_000).await.unwrap();
    let mut messages: Vec<_> = found
        .into_iter()
        .flat_map(|found| found.history.items)
        .map(|status| status.entry.message.clone())
        .collect();
    messages.reverse();
    messages
}

/// What ended connections have done is in the statistics.
fn connections_have_ended(database: &Database) {
    wait_for("the connections to end", || {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
            AND datname = current_database() AND backend_type = 'client backend'";
        database.psql(others) == "0"
    });
}

mod suite {
    use super::*;

    /// Every case must also do without reading a whole table.
    #[tokio::main]
    async fn run(name: &str, case: impl AsyncFnOnce(&NativeStore, &str)) {
        let database = database();
        // Migrations do.
        pool(&database).await.close().await;
        connections_have_ended(&database);
        database.psql("SELECT pg_stat_reset()");

        let pool = pool(&database).await;
        case(&store(pool.clone()), name).await;
        pool.close().await;
        connections_have_ended(&database);
        let scanned = "SELECT relname FROM pg_stat_user_tables WHERE seq_scan > 0";
        assert_eq!(database.psql(scanned), "", "tables read as a whole");
    }

    kubeagents_core::store_suite!(run);

    #[test]
    fn registration_mails_are_leased_until_they_are_settled() {
        let case =
            kubeagents_core::store::suite::registration_mails_are_leased_until_they_are_settled;
        run("mails", async |store: &_, tag: &str| case(store, tag).await);
    }

    #[test]
    fn accounts_are_listed_page_by_page() {
        let case = kubeagents_core::store::suite::accounts_are_listed_page_by_page;
        run("list", async |store: &_, tag: &str| case(store, tag).await);
    }

    #[test]
    fn what_is_stored_is_counted() {
        let case = kubeagents_core::store::suite::what_is_stored_is_counted;
        run("census", async |store: &_, tag: &str| {
            case(store, tag).await
        });
    }

    #[test]
    fn registrations_go_when_their_link_has_run_out() {
        let case = kubeagents_core::store::suite::registrations_go_when_their_link_has_run_out;
        run("links", async |store: &_, tag: &str| case(store, tag).await);
    }
}

#[tokio::test]
async fn each_report_changes_the_revision() {
    let database = database();
    let store = store(pool(&database).await);
    let before = store.revision().await.unwrap();
    assert!(before.is_some());
    let now = DateTime::UNIX_EPOCH;
    let report = report("a", "t", "");
    let decided = decide(&Workspace::Shared, &report, &Snapshot::default(), now, 60);
    let outcome = store.commit(&decided.unwrap().commit).await;
    assert_eq!(outcome.unwrap(), CommitOutcome::Committed);
    assert_ne!(store.revision().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_keep_every_report_and_each_sessions_order() {
    let database = database();
    let store = store(pool(&database).await);
    let reports = reports(store.clone());
    let reporting = (0..40).map(|writer| {
        let reports = reports.clone();
        tokio::spawn(async move {
            // Four agents with ten sessions each, half of which two writers share.
            let (agent, topic) = (
                format!("agent {}", writer % 4),
                format!("topic {}", writer % 20),
            );
            for round in 0..20 {
                let mut report = report(&agent, &topic, &format!("{writer} {round}"));
                report.agent_name = (round == 7).then(|| format!("name of {writer}"));
                report.status = match round % 5 {
                    4 => StatusKind::Success,
                    _ => StatusKind::Running,
                };
                reports.record(&Workspace::Shared, report).await.unwrap();
            }
        })
    });
    for task in reporting.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    for writer in 0..40 {
        let (agent, topic) = (
            format!("agent {}", writer % 4),
            format!("topic {}", writer % 20),
        );
        let prefix = format!("{writer} ");
        let mut mine = messages(&store, &agent, &topic).await;
        mine.retain(|message| message.starts_with(&prefix));
        let expected: Vec<_> = (0..20).map(|round| format!("{writer} {round}")).collect();
        assert_eq!(mine, expected);
    }
    assert_eq!(
        database.psql(
            "SELECT count(*), bool_and(name <> '' AND name_key = name), sum(session_count) \
             FROM kubeagents_data.agents"
        ),
        "4|t|20"
    );
    let transitions = "SELECT count(*) FROM (SELECT status, lag(status) OVER (PARTITION BY \
        agent_id, session_topic ORDER BY seq) AS before FROM kubeagents_data.statuses) AS s \
        WHERE status = 'success' AND before = 'running'";
    let queued = "SELECT count(*) FROM kubeagents_data.outbox";
    assert_eq!(database.psql(transitions), database.psql(queued));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_session_or_agent_delays_nobody_else() {
    let database = database();
    let store = store(pool(&database).await);
    let reports = reports(store.clone());
    for (agent, topic) in [("a", "locked"), ("a", "busy"), ("locked", "t"), ("b", "t")] {
        reports
            .record(&Workspace::Shared, report(agent, topic, "first"))
            .await
            .unwrap();
    }
    let mut blocker = PgConnection::connect(&database.url()).await.unwrap();
    let mut transaction = blocker.begin().await.unwrap();
    for lock in [
        "SELECT 1 FROM kubeagents_data.sessions WHERE session_topic = 'locked' FOR UPDATE",
        "SELECT 1 FROM kubeagents_data.agents WHERE agent_id = 'locked' FOR UPDATE",
    ] {
        sqlx::query(lock).execute(&mut *transaction).await.unwrap();
    }
    let record = |agent: &str, topic: &str, message: &str| {
        let (reports, report) = (reports.clone(), report(agent, topic, message));
        tokio::spawn(async move { reports.record(&Workspace::Shared, report).await })
    };
    let waiting = [
        record("a", "locked", "second"),
        record("locked", "t", "second"),
    ];
    // Far more than fit into the time that the two wait for their locks, if each waited, too.
    for round in 0..50 {
        let together = [
            record("a", "busy", &round.to_string()),
            record("b", "t", &round.to_string()),
            record("a", &format!("new {round}"), ""),
            record(&format!("new {round}"), "t", ""),
        ];
        for task in together {
            task.await.unwrap().unwrap();
        }
    }
    for task in waiting {
        let result = task.await.unwrap();
        assert!(matches!(result, Err(StoreError::Contended)), "{result:?}");
    }
    transaction.rollback().await.unwrap();
    record("a", "locked", "third").await.unwrap().unwrap();
    assert_eq!(messages(&store, "a", "locked").await, ["first", "third"]);
}

#[tokio::test]
async fn a_large_workspace_beside_many_small_ones_is_read_by_its_keys() {
    let database = database();
    // Migrations read everything.
    pool(&database).await.close().await;
    database.psql(
        "INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created, \
            last_updated, ttl_minutes, status, status_since, noted_at) \
        SELECT CASE WHEN n > 5000 THEN 'shared' ELSE 'workspace ' || n END, 'agent', \
            'topic ' || n, 5, n, n, 60, 'running', n, n FROM generate_series(1, 8000) AS n; \
        INSERT INTO kubeagents_data.statuses \
            (workspace, agent_id, session_topic, seq, \"timestamp\", status, message, content) \
        SELECT workspace, agent_id, session_topic, n, created, status, '', '' \
        FROM kubeagents_data.sessions, generate_series(1, 5) AS n; \
        INSERT INTO kubeagents_data.agents (workspace, agent_id, agent_id_key, name, name_key, \
            source, registered, last_seen, session_count) \
        SELECT workspace, agent_id, agent_id, '', '', '', 1, 1, count(*) \
        FROM kubeagents_data.sessions GROUP BY workspace, agent_id; \
        ANALYZE kubeagents_data.agents, kubeagents_data.sessions, kubeagents_data.statuses",
    );
    connections_have_ended(&database);
    database.psql("SELECT pg_stat_reset()");

    let pool = pool(&database).await;
    let store = store(pool.clone());
    let reports = reports(store.clone());
    for topic in ["topic 5001", "topic 8000"] {
        let report = report("agent", topic, "the sixth");
        reports.record(&Workspace::Shared, report).await.unwrap();
        let history = messages(&store, "agent", topic).await;
        assert_eq!(history, ["", "", "", "", "", "the sixth"]);
    }
    drop(reports);
    pool.close().await;
    connections_have_ended(&database);
    let read = "SELECT indexrelname FROM pg_stat_user_indexes WHERE idx_scan > 0 \
        AND indexrelname IN ('sessions_of_workspace', 'statuses_by_timestamp', 'agents_by_last_seen')";
    assert_eq!(database.psql(read), "", "lists that were looked through");
}

/// Counts lists, and the bytes that each reads.
struct Watched {
    driver: Driver,
    lists: Mutex<Vec<usize>>,
}

impl Query for Watched {
    async fn query(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.driver.query(sql, params).await
    }

    async fn list(&self, sql: &'static str, params: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let rows = self.driver.list(sql, params).await?;
        let bytes = rows.iter().map(|row| format!("{row:?}").len()).sum();
        self.lists.lock().unwrap().push(bytes);
        Ok(rows)
    }
}

#[tokio::test]
async fn a_page_is_one_statement_that_reads_no_more_than_the_page_holds() {
    let database = database();
    let store = PostgresStore::new(Watched {
        driver: Driver::new(pool(&database).await),
        lists: Mutex::default(),
    });
    let read = || std::mem::take(&mut *store.driver().lists.lock().unwrap());
    let of_one_statement = || {
        let read = read();
        assert!(
            read.len() == 1 && read[0] < MAX_PAGE_BYTES + 200_000,
            "{read:?}"
        );
    };
    // Of `large`, the rows of each list take up 16 MB and more, of `small` little.
    database.psql(
        "INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created, \
            last_updated, ttl_minutes, status, status_since, noted_at, context) \
        SELECT workspace, 'agent', 'topic ' || n, 1000, n, n, 60, 'running', n, n, \
            CASE workspace WHEN 'large' THEN '{\"key\":\"' || repeat('x', 16000) || '\"}' ELSE '' END \
        FROM unnest(ARRAY['small', 'large']) AS workspace, generate_series(1, 1000) AS n; \
        INSERT INTO kubeagents_data.statuses \
            (workspace, agent_id, session_topic, seq, \"timestamp\", status, message, content) \
        SELECT workspace, agent_id, session_topic, n, n, status, '', \
            repeat('🦀', CASE workspace WHEN 'large' THEN 10000 ELSE 50 END) \
        FROM kubeagents_data.sessions, generate_series(1, 1000) AS n \
        WHERE session_topic = 'topic 1'; \
        INSERT INTO kubeagents_data.agents (workspace, agent_id, agent_id_key, name, name_key, \
            source, registered, last_seen, session_count) \
        SELECT DISTINCT workspace, 'agent', 'agent', '', '', '', 1, 1, 1000 \
        FROM kubeagents_data.sessions",
    );
    let sessions = SessionQuery {
        limit: 10_000,
        ..SessionQuery::default()
    };
    let all = WorkspaceQuery {
        limit: 10_000,
        ..WorkspaceQuery::default()
    };
    let now = DateTime::UNIX_EPOCH;
    for (name, is_whole) in [("small", true), ("large", false)] {
        let workspace = Workspace::from_key(name.to_owned());
        let key = SessionKey {
            workspace: workspace.clone(),
            agent_id: "agent".into(),
            session_topic: "topic 1".into(),
        };
        let found = store.session(&key, None, 10_000).await.unwrap().unwrap();
        of_one_statement();
        assert_eq!(found.history.items.len() == 1000, is_whole);
        assert_eq!(found.history.next.is_none(), is_whole);
        let page = store.history(&workspace, "agent", None, 10_000).await;
        of_one_statement();
        assert_eq!(page.unwrap().next.is_none(), is_whole);
        let page = store.sessions(&workspace, "agent", &sessions, now).await;
        of_one_statement();
        assert_eq!(page.unwrap().next.is_none(), is_whole);
        let page = store.workspace_sessions(&workspace, &all, now).await;
        of_one_statement();
        assert_eq!(page.unwrap().next.is_none(), is_whole);

        let last = WorkspaceQuery {
            search: Some("topic 1".into()),
            status: Some(StatusKind::Running),
            ..all.clone()
        };
        let page = store.workspace_sessions(&workspace, &last, now).await;
        let found = page.unwrap().items;
        let last = found.last().map(|row| &*row.session.session_topic);
        assert_eq!(last, Some("topic 1"), "beyond the first statement");
        let read = read();
        let within = |bytes: &usize| *bytes < MAX_PAGE_BYTES + 200_000;
        assert!(read.iter().all(within), "{read:?}");
    }
}

#[tokio::test]
async fn every_connection_has_the_settings_that_the_statements_rely_on() {
    const SETTINGS: &str = "SELECT string_agg(current_setting(name), ' ' ORDER BY place) \
        FROM unnest(ARRAY['default_transaction_isolation', 'lock_timeout', 'statement_timeout', \
            'synchronous_commit', 'enable_seqscan', 'jit', 'plan_cache_mode', \
            'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_keepalives_count', \
            'tcp_user_timeout', 'idle_in_transaction_session_timeout']) \
            WITH ORDINALITY AS setting (name, place)";
    let database = database();
    let pool = pool(&database).await;
    for _ in 0..3 {
        let mut connection = pool.acquire().await.unwrap().detach();
        let settings: String = sqlx::query_scalar(SETTINGS)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(
            settings,
            "read committed 2s 10s on off off force_generic_plan 30 10 3 30000 30s"
        );
    }
}

/// A line to a database that passes everything on until it is told to swallow. What is connected after
/// that passes.
struct Line {
    address: SocketAddr,
    swallows: watch::Sender<bool>,
}

impl Line {
    async fn to(url: &Url) -> Self {
        let to = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let swallows = watch::Sender::new(false);
        let line = swallows.clone();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(&to).await.unwrap();
                let mut swallows = line.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        // What is sent after the change must not pass.
                        biased;
                        _ = swallows.changed() => {
                            // Neither end hears of it.
                            let _both = (near, far);
                            pending::<()>().await;
                        }
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, swallows }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_lead_nowhere_any_more_are_replaced_before_they_cost_a_request() {
    const CONNECTIONS: u32 = 3;
    let database = database();
    let mut url = Url::parse(&database.url()).unwrap();
    let line = Line::to(&url).await;
    url.set_ip_host(line.address.ip()).unwrap();
    url.set_port(Some(line.address.port())).unwrap();
    let pool = pool_options()
        .max_connections(CONNECTIONS)
        // Far longer than it takes.
        .acquire_timeout(Duration::from_secs(60))
        .connect_lazy(url.as_str())
        .unwrap();
    let all = async || {
        let all = (0..CONNECTIONS).map(|_| pool.acquire());
        futures_util::future::try_join_all(all).await.unwrap()
    };
    drop(all().await);
    // They come back on their own.
    while pool.num_idle() < CONNECTIONS as usize {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    line.swallows.send_replace(true);
    for mut connection in all().await {
        let one: i64 = sqlx::query_scalar("SELECT 1::bigint")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(one, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_leave_connections_to_reports_also_when_nobody_awaits_them_any_more() {
    // Each is another statement to the eyes of those who look what goes on.
    const SLOW_LISTS: [&str; 3] = [
        "SELECT pg_sleep(2)::text -- list 0",
        "SELECT pg_sleep(2)::text -- list 1",
        "SELECT pg_sleep(2)::text -- list 2",
    ];
    let database = database();
    let pool = pool_options()
        .max_connections(4)
        .connect_lazy(&database.url())
        .unwrap();
    let store = store(pool);
    schema::migrate(store.driver()).await.unwrap();
    let reports = reports(store.clone());
    for (round, slow_list) in SLOW_LISTS.into_iter().enumerate() {
        let lists: Vec<_> = (0..60)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.driver().list(slow_list, &[]).await })
            })
            .collect();
        let at_work = format!(
            "SELECT count(*) FILTER (WHERE query LIKE '%list {round}') > 0, count(*) \
             FROM pg_stat_activity WHERE datname = current_database() \
             AND query LIKE '%pg_sleep(2)%' AND state = 'active' AND pid <> pg_backend_pid()"
        );
        wait_for("a list to begin", || {
            let at_work = database.psql(&at_work);
            let (begun, count) = at_work.split_once('|').unwrap();
            assert!(["0", "1", "2"].contains(&count), "{count} lists at work");
            begun == "t"
        });
        store.ping().await.unwrap();
        let report = report("agent", "topic", &round.to_string());
        reports.record(&Workspace::Shared, report).await.unwrap();
        for list in lists {
            list.abort();
        }
    }
    assert_eq!(
        database.psql("SELECT count(*) FROM kubeagents_data.statuses"),
        "3"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_the_database_refuses_harms_no_other() {
    let database = database();
    let store = store(pool(&database).await);
    let reports = reports(store.clone());
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let reports = reports.clone();
            // No text in PostgreSQL holds this character; the endpoints let none through.
            let message = if number == 7 { "\0" } else { "fine" };
            let report = report("agent", &format!("topic {number}"), message);
            tokio::spawn(async move {
                loop {
                    // On a slow machine twenty turns take longer than one report waits.
                    match reports.record(&Workspace::Shared, report.clone()).await {
                        Err(StoreError::Contended) => {}
                        Err(error) => {
                            let text = kubeagents_core::causes(&error);
                            assert!(text.contains("SQLSTATE 22021"), "{text}");
                            assert!(!text.contains("at line"), "{text}");
                            return false;
                        }
                        Ok(_) => return true,
                    }
                }
            })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), number != 7, "{number}");
    }
}

/// A transaction that holds every agent's row.
async fn agents_locked(database: &Database) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM kubeagents_data.agents FOR UPDATE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_during_a_commit_leaves_all_or_nothing() {
    let database = database();
    let store = store(pool(&database).await);
    let reports = reports(store.clone());
    reports
        .record(&Workspace::Shared, report("agent", "topic", "first"))
        .await
        .unwrap();
    let agents = agents_locked(&database).await;
    let waiting = tokio::spawn({
        let reports = reports.clone();
        async move {
            reports
                .record(&Workspace::Shared, report("agent", "topic", "cut"))
                .await
        }
    });
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    kubeagents_test_postgres::wait_for("a commit that waits for the agent", || {
        database.psql(cut) != "0"
    });
    let result = waiting.await.unwrap();
    assert!(
        matches!(result, Err(StoreError::Unavailable(_))),
        "{result:?}"
    );
    agents.rollback().await.unwrap();
    reports
        .record(&Workspace::Shared, report("agent", "topic", "next"))
        .await
        .unwrap();
    assert_eq!(messages(&store, "agent", "topic").await, ["first", "next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_commit_waits_for_its_agent_before_it_holds_its_session() {
    let database = database();
    let store = store(pool(&database).await);
    let reports = reports(store.clone());
    let first = report("agent", "topic", "first");
    reports.record(&Workspace::Shared, first).await.unwrap();
    let agents = agents_locked(&database).await;
    let waiting = tokio::spawn(async move {
        let second = report("agent", "topic", "second");
        reports.record(&Workspace::Shared, second).await
    });
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_for("a commit that waits for the agent", || {
        database.psql(blocked) != "0"
    });
    // Otherwise a group that holds the agent and waits for the session would be in a deadlock with it.
    database.psql("SELECT 1 FROM kubeagents_data.sessions FOR UPDATE NOWAIT");
    agents.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(
        messages(&store, "agent", "topic").await,
        ["first", "second"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_create_the_same_sessions_at_once_all_succeed() {
    let database = database();
    let store = store(pool(&database).await);
    let hosts = [
        Arc::new(reports(store.clone())),
        Arc::new(reports(store.clone())),
    ];
    for round in 0..20 {
        let tasks: Vec<_> = (0..32)
            .map(|number| {
                let host = Arc::clone(&hosts[number % 2]);
                let (agent, topic) = (format!("{round} {}", number % 3), format!("{}", number / 4));
                let report = report(&agent, &topic, &number.to_string());
                tokio::spawn(async move { host.record(&Workspace::Shared, report).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }
    assert_eq!(
        database.psql(
            "SELECT (SELECT count(*) FROM kubeagents_data.statuses), \
             (SELECT sum(seq) FROM kubeagents_data.sessions), \
             (SELECT sum(session_count) FROM kubeagents_data.agents) = \
             (SELECT count(*) FROM kubeagents_data.sessions)"
        ),
        "640|640|t"
    );
}

#[tokio::test]
async fn a_filtered_list_ends_after_a_bounded_search_and_goes_on_there() {
    let database = database();
    let pool = pool(&database).await;
    let store = store(pool.clone());
    database.psql(&format!(
        "INSERT INTO kubeagents_data.agents \
         SELECT 'shared', to_char(n, '\"agent \"fm00000'), to_char(n, '\"agent \"fm00000'), '', '', \
             '', 1, n / 3, 0 FROM generate_series(1, {}) AS n; ANALYZE",
        2 * MAX_LOOKED_AT + 2
    ));
    let walk = async |search| {
        found_by_walking(&store, &Workspace::Shared, search, DateTime::UNIX_EPOCH).await
    };
    assert_eq!(walk("20482").await, [1, 0, 0]);
    assert_eq!(walk("00001").await, [0, 0, 1]);
    assert_eq!(walk("agent").await, [10_000, 10_000, 482]);
}

#[tokio::test]
async fn sessions_of_an_older_schema_go_on() {
    let database = database();
    for migration in &schema::MIGRATIONS[..2] {
        database.psql(migration);
    }
    database.psql(
        "INSERT INTO kubeagents_data.agents VALUES ('shared', 'a', 'a', '', '', '', 1, 9, 2); \
         INSERT INTO kubeagents_data.statuses VALUES \
         ('shared', 'a', 'ended', 1, 7, 'success', 'done', 'long'), \
         ('shared', 'a', 'running', 1, 3, 'running', 'begun', ''), \
         ('shared', 'a', 'running', 2, 9, 'running', 'going on', ''); \
         INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created, \
             last_updated, ttl_minutes, status, run_started) VALUES \
         ('shared', 'a', 'ended', 1, 7, 7, 60, 'success', NULL), \
         ('shared', 'a', 'running', 2, 3, 9, 60, 'running', 3)",
    );
    let store = store(pool(&database).await);
    let at = |micros| chrono::DateTime::from_timestamp_micros(micros).unwrap();
    for (topic, message, since, noted) in [("ended", "done", 7, 7), ("running", "going on", 3, 9)] {
        let key = SessionKey {
            workspace: Workspace::Shared,
            agent_id: "a".into(),
            session_topic: topic.into(),
        };
        let head = store.load(&key).await.unwrap().session.unwrap();
        assert_eq!(
            (&*head.message, head.status_since, head.noted_at),
            (message, at(since), at(noted))
        );
        assert_eq!(messages(&store, "a", topic).await.last().unwrap(), message);
    }
    let agent = store.agent(&Workspace::Shared, "a", at(10)).await.unwrap();
    assert_eq!(agent.unwrap().latest_message, "going on");
}

#[tokio::test]
async fn retention_keeps_the_newest_status_and_the_start_of_the_run() {
    let database = database();
    let pool = pool(&database).await;
    let store = store(pool.clone());
    // Two sessions, the second of which has been running since its third status.
    database.psql(
        "INSERT INTO kubeagents_data.agents VALUES ('shared', 'a', 'a', '', '', '', 1, 1, 2); \
         INSERT INTO kubeagents_data.statuses \
         SELECT 'shared', 'a', 'ended', n, n, 'success', n, '' FROM generate_series(1, 2500) AS n; \
         INSERT INTO kubeagents_data.statuses SELECT 'shared', 'a', 'running', n, n, \
         CASE WHEN n < 3 THEN 'failed' ELSE 'running' END, n, '' \
         FROM generate_series(1, 2500) AS n; \
         INSERT INTO kubeagents_data.statuses \
         VALUES ('shared', 'a', 'running', 2501, kubeagents_data.now_micros(), 'running', 'new', ''); \
         INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created, \
             last_updated, ttl_minutes, status, run_started, status_since, noted_at) VALUES \
         ('shared', 'a', 'ended', 2600, 1, 2600, 60, 'success', NULL, 1, 2500), \
         ('shared', 'a', 'running', 2501, 1, kubeagents_data.now_micros(), 60, 'running', 3, 3, \
            kubeagents_data.now_micros())",
    );
    assert_eq!(purge_once(&pool, None).await.unwrap(), 0);
    assert_eq!(purge_once(&pool, Some(1)).await.unwrap(), 2499 + 2499);
    assert_eq!(messages(&store, "a", "ended").await, ["2500"]);
    assert_eq!(messages(&store, "a", "running").await, ["3", "new"]);
    assert_eq!(purge_once(&pool, Some(1)).await.unwrap(), 0);
}

/// Asks for whatever is due.
fn lease_request(after: &str) -> LeaseRequest {
    LeaseRequest {
        now: DateTime::UNIX_EPOCH,
        duration: Duration::from_secs(3600),
        after: after.to_owned(),
        busy_workspaces: HashSet::new(),
        busy_hosts: HashSet::new(),
        used_hosts: HashSet::new(),
    }
}

#[tokio::test]
async fn a_lease_costs_the_same_however_many_hosts_there_are() {
    let database = database();
    pool(&database).await.close().await;
    // Workspaces with a hundred hosts each, and as many with what is not due.
    let add = |from: usize, to: usize| {
        database.psql(&format!(
            "INSERT INTO kubeagents_data.outbox (id, workspace, ready, host, url, body, created_at, \
                due_at) \
            SELECT n, to_char(n / 100, 'fm00000'), n / 100 % 2 = 1, n, '', '', 1, \
                CASE n / 100 % 2 WHEN 1 THEN 1 ELSE {} END \
            FROM generate_series({from} * 100, {to} * 100 - 1) AS n; \
            ANALYZE kubeagents_data.outbox; SELECT pg_stat_reset()",
            i64::MAX
        ));
    };
    let cost = async || {
        let pool = pool(&database).await;
        let store = store(pool.clone());
        let mut after = String::new();
        let mut leased = HashSet::new();
        while leased.len() < 20 {
            let next = store.lease_notification(&lease_request(&after)).await;
            let next = next.unwrap().unwrap().notification;
            next.workspace.key().clone_into(&mut after);
            assert!(leased.insert(next.id));
        }
        pool.close().await;
        connections_have_ended(&database);
        let read = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes \
            WHERE relname = 'outbox'";
        database.psql(read).parse::<u64>().unwrap()
    };
    add(0, 40);
    let with_few = cost().await;
    add(40, 1000);
    let with_many = cost().await;
    assert!(
        with_many < with_few * 3 / 2,
        "{with_few} index entries read with 4000 hosts, {with_many} with 100000"
    );
}

#[tokio::test]
async fn what_an_earlier_version_queued_is_delivered_to_whom_it_is_for() {
    let database = database();
    database.psql(schema::MIGRATIONS[0]);
    database.psql(
        "INSERT INTO kubeagents_data.accounts (id, email, password_hash, name, \
            notification_webhook_url, created_at, updated_at) \
        VALUES ('account', '', '', '', 'http://a/', 1, 1); \
        INSERT INTO kubeagents_data.outbox (id, host, url, body, created_at, due_at, rounds, \
            abandoned_at) VALUES ('own', 'a:80', 'http://a/', 'body', 1, 1, 0, NULL), \
            ('shared', 'b:80', 'http://b/', 'body', 1, 1, 3, NULL), \
            ('paused', 'b:80', 'http://b/', 'body', 1, 9000000000000000, 1, NULL), \
            ('abandoned', 'b:80', 'http://b/', 'body', 1, NULL, 1, 2)",
    );
    let store = store(pool(&database).await);
    let mut leased = Vec::new();
    while let Some(next) = store.lease_notification(&lease_request("")).await.unwrap() {
        let workspace = next.notification.workspace.key().to_owned();
        leased.push((next.notification.id, workspace, next.round));
    }
    let expected = [("own", "account", 1), ("shared", "shared", 4)];
    assert_eq!(
        leased,
        expected.map(|(id, workspace, round)| (id.to_owned(), workspace.to_owned(), round))
    );
}

#[tokio::test]
async fn expired_refresh_tokens_are_purged() {
    let database = database();
    let pool = pool(&database).await;
    database.psql(
        "INSERT INTO kubeagents_data.accounts (id, email, password_hash, name, created_at, \
             updated_at) VALUES ('account', 'a@example.com', '', '', 1, 1); \
         INSERT INTO kubeagents_data.token_families (id, account_id) \
             VALUES ('old', 'account'), ('current', 'account'); \
         INSERT INTO kubeagents_data.refresh_tokens (token_hash, family_id, created_at, expires_at) \
             VALUES ('1', 'old', 1, 2), ('2', 'old', 1, 3), ('3', 'current', 1, 2), \
             ('4', 'current', 1, kubeagents_data.now_micros() + 1000000000)",
    );
    purge_once(&pool, None).await.unwrap();
    let left = "SELECT string_agg(DISTINCT token_hash, ','), string_agg(DISTINCT family.id, ',') \
        FROM kubeagents_data.refresh_tokens, kubeagents_data.token_families AS family";
    assert_eq!(database.psql(left), "4|current");
}

#[tokio::test]
async fn what_is_old_goes_as_new_comes_also_where_nobody_purges() {
    let database = database();
    let store = store(pool(&database).await);
    database.psql(
        "INSERT INTO kubeagents_data.accounts (id, email, password_hash, name, created_at, \
             updated_at) VALUES ('account', 'a@example.com', '', '', 1, 1); \
         INSERT INTO kubeagents_data.token_families (id, account_id) \
             VALUES ('older', 'account'), ('old', 'account'), ('kept', 'account'); \
         INSERT INTO kubeagents_data.refresh_tokens (token_hash, family_id, created_at, expires_at) \
             VALUES ('1', 'older', 1, 2), ('2', 'kept', 1, 3), ('3', 'old', 1, 4), \
             ('4', 'kept', 1, 9000000)",
    );
    let token = |token_hash: &str, family: &str| RefreshToken {
        token_hash: token_hash.into(),
        account_id: AccountId::new("account"),
        family_id: family.into(),
        created_at: DateTime::from_timestamp(5, 0).unwrap(),
        expires_at: DateTime::from_timestamp(10, 0).unwrap(),
        spent_at: None,
        revoked: false,
    };
    let left = || {
        database.psql(
            "SELECT (SELECT string_agg(token_hash, ',' ORDER BY token_hash) \
                 FROM kubeagents_data.refresh_tokens), \
             (SELECT string_agg(id, ',' ORDER BY id) FROM kubeagents_data.token_families)",
        )
    };
    store
        .insert_refresh_token(&token("5", "new"))
        .await
        .unwrap();
    assert_eq!(left(), "3,4,5|kept,new,old");
    let successor = token("6", "kept");
    let rotated = store.rotate_refresh_token("4", successor.created_at, &successor);
    assert!(rotated.await.unwrap());
    assert_eq!(left(), "4,5,6|kept,new");
}
