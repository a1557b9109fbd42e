use kubeagents_core::store::{Accounts, ApiKeys, RefreshTokens, Sessions};
use std::time::Duration;

use kubeagents_core::settings::JWT_SECRET_NAME;
use kubeagents_core::store::AgentQuery;
use kubeagents_core::{AccountId, Scopes, causes, sha256_hex};
use kubeagents_store_postgres::adoption::{AdoptError, GoTablesError};
use kubeagents_store_postgres::schema::SchemaError;
use kubeagents_test_postgres::Cluster;
use sqlx::postgres::PgConnectOptions;

use super::*;
use crate::postgres::driver::Driver;
use crate::postgres::{
    Database as Options, GoTablesFailure, OpenError, drop_go_tables, open, restore_go_tables,
};

const SCHEMA: &str = include_str!("go_server.sql");
const DATA: &str = include_str!("go_data.sql");

const OUR_SCHEMAS: &str = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'kubeagents%'";

fn go_database() -> Database {
    let database = database();
    database.psql(SCHEMA);
    database.psql(DATA);
    database
}

fn options(database: &Database) -> Options {
    Options {
        connect: database.url().parse().unwrap(),
        from_url: true,
        max_connections: 4,
        idle_connections: 0,
        max_lifetime: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(10),
        go_server_stopped: false,
    }
}

async fn adopt(database: &Database) -> NativeStore {
    store(open(&options(database), 60).await.unwrap())
}

fn account(id: &str) -> Workspace {
    Workspace::Account(AccountId::new(id))
}

#[tokio::test]
async fn accounts_and_credentials_go_on_working() {
    let database = go_database();
    let store = adopt(&database).await;
    for (email, id) in [
        ("Ann@Example.com", "u-1"),
        ("ANN@example.com", "u-0"),
        ("ann@example.com", "u-2"),
        ("aNN@eXAMPLE.com", "u-1"),
        ("BOB@example.com", "u-3"),
    ] {
        let found = store.account_by_email(email).await.unwrap().unwrap();
        assert_eq!(found.id, AccountId::new(id), "{email}");
    }
    let ann = store
        .account(&AccountId::new("u-1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&*ann.name, &*ann.password_hash), ("Ann", "hash 1"));
    assert_eq!(ann.notification_webhook_url, "https://ann.example/hook");
    assert_eq!(
        ann.created_at.to_rfc3339(),
        "2025-01-02T03:04:05.123456+00:00"
    );
    assert!(ann.email_verified);

    let now = chrono::Utc::now();
    let pending = sha256_hex("pending-token");
    let late = now + Duration::from_secs(24 * 3600 + 60);
    assert!(
        store
            .verify_account(&pending, late)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .verify_account(&pending, now)
            .await
            .unwrap()
            .unwrap()
            .email_verified
    );
    assert!(
        store
            .verify_account(&sha256_hex(""), now)
            .await
            .unwrap()
            .is_none()
    );

    for (hash, owner, revoked) in [
        ("good", "u-1", false),
        ("bad", "u-1", true),
        ("twice", "u-2", false),
    ] {
        let token = store.refresh_token(hash).await.unwrap().unwrap();
        assert_eq!(
            (token.account_id, token.revoked),
            (AccountId::new(owner), revoked),
            "{hash}"
        );
        assert_eq!(token.spent_at, None);
    }
    let key = store.api_key_by_hash("key hash").await.unwrap().unwrap();
    assert_eq!(
        (key.account_id.as_str(), key.scopes),
        ("u-1", Scopes::REPORT)
    );
    assert!(key.is_valid(now));
    assert!(
        !store
            .api_key_by_hash("old hash")
            .await
            .unwrap()
            .unwrap()
            .is_valid(now)
    );
    let secret = store.secret(JWT_SECRET_NAME, "another").await.unwrap();
    assert_eq!(secret, "the secret");
}

#[tokio::test]
async fn agents_sessions_and_histories_are_all_there() {
    let database = go_database();
    let store = adopt(&database).await;
    let now = chrono::Utc::now();
    let mine = store
        .agent(&account("u-1"), "mine", now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (&*mine.name, &*mine.source, mine.session_count),
        ("МОСКВА", "Cursor", 3)
    );
    assert_eq!(mine.last_seen.to_rfc3339(), "2025-01-02T01:00:00.500+00:00");
    let search = AgentQuery {
        search: Some("москва".into()),
        limit: 10,
        ..AgentQuery::default()
    };
    let found = store.agents(&account("u-1"), &search, now).await.unwrap();
    assert_eq!(found.items, [mine]);
    assert!(
        store
            .agent(&Workspace::Shared, "nobody's", now)
            .await
            .unwrap()
            .is_some()
    );

    let session = async |workspace: &Workspace, agent: &str, topic: &str| {
        let key = SessionKey {
            workspace: workspace.clone(),
            agent_id: agent.into(),
            session_topic: topic.into(),
        };
        let head = store.load(&key).await.unwrap().session.unwrap();
        let history = store
            .session(&key, None, 10)
            .await
            .unwrap()
            .unwrap()
            .history
            .items;
        (head, history)
    };
    let (head, history) = session(&account("u-1"), "mine", "run").await;
    let said: Vec<_> = history
        .iter()
        .map(|status| &*status.entry.message)
        .collect();
    assert_eq!(said, ["four", "three", "", "one"]);
    assert_eq!(history[2].entry.content, "two");
    assert_eq!(
        history[3].entry.timestamp.to_rfc3339(),
        "2025-01-02T00:00:00.000001+00:00"
    );
    assert_eq!(
        (head.seq, head.ttl_minutes, head.status),
        (4, 30, StatusKind::Running)
    );
    assert_eq!(head.run_started, Some(history[1].entry.timestamp));
    assert_eq!(head.last_updated, history[0].entry.timestamp);
    assert_eq!(
        (&*head.message, head.status_since, head.noted_at),
        (
            "four",
            history[1].entry.timestamp,
            history[0].entry.timestamp
        )
    );

    let (head, _) = session(&account("u-1"), "mine", "done").await;
    assert_eq!((head.ttl_minutes, head.run_started), (60, None));
    let (head, history) = session(&account("u-1"), "mine", "empty").await;
    assert_eq!((head.ttl_minutes, history.len()), (60, 1));
    assert_eq!(history[0].entry.status, StatusKind::Pending);

    let reports = reports(store.clone());
    reports
        .record(&account("u-1"), report("mine", "run", "five"))
        .await
        .unwrap();
    let (head, history) = session(&account("u-1"), "mine", "run").await;
    assert_eq!((head.seq, &*history[0].entry.message), (5, "five"));
}

const DUMP: &str = "SELECT (SELECT string_agg(u::text, ';' ORDER BY id) FROM users AS u), \
    (SELECT string_agg(s::text, ';' ORDER BY id) FROM agent_statuses AS s), \
    (SELECT max(version) FROM schema_migrations)";

async fn has_agent(store: &NativeStore) -> bool {
    let (account, now) = (account("u-1"), chrono::Utc::now());
    store.agent(&account, "mine", now).await.unwrap().is_some()
}

#[tokio::test]
async fn the_way_back_leads_to_the_go_servers_tables_as_they_were() {
    let database = go_database();
    let options = options(&database);
    let before = database.psql(DUMP);
    assert_eq!(restore_go_tables(&options).await.unwrap(), None);
    adopt(&database).await;
    let restored = restore_go_tables(&options).await.unwrap();
    assert_eq!(restored.as_deref(), Some("public"));
    assert_eq!(database.psql(DUMP), before);
    assert_eq!(database.psql(OUR_SCHEMAS), "0");
    database.psql(
        "INSERT INTO agent_statuses (agent_id, session_topic, status, \"timestamp\") \
        VALUES ('mine', 'run', 'success', now())",
    );
    assert!(has_agent(&adopt(&database).await).await);
}

#[tokio::test]
async fn the_way_back_leads_to_the_schema_that_the_tables_came_from() {
    let database = database();
    database.psql("CREATE SCHEMA \"My Team\"");
    let name = database.name();
    database.psql(&format!(
        "ALTER DATABASE {name} SET search_path = \"My Team\""
    ));
    database.psql(SCHEMA);
    database.psql(DATA);
    let before = database.psql(DUMP);
    assert!(has_agent(&adopt(&database).await).await);
    let restored = restore_go_tables(&options(&database)).await.unwrap();
    assert_eq!(restored.as_deref(), Some("My Team"));
    assert_eq!(database.psql(DUMP), before);
}

#[tokio::test]
async fn the_way_back_changes_nothing_where_names_are_taken_or_tables_in_use() {
    let database = go_database();
    let options = options(&database);
    let store = adopt(&database).await;
    database.psql("CREATE TABLE agents (x int)");
    let refused = restore_go_tables(&options).await;
    assert!(
        matches!(
            refused,
            Err(GoTablesFailure::Left(GoTablesError::NamesTaken { .. }))
        ),
        "{refused:?}"
    );
    database.psql("DROP TABLE agents");
    let mut user = PgConnection::connect(&database.url()).await.unwrap();
    let mut transaction = user.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM kubeagents_data.agents")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let refused = restore_go_tables(&options).await;
    assert!(
        matches!(refused, Err(GoTablesFailure::Left(GoTablesError::InUse))),
        "{refused:?}"
    );
    assert!(has_agent(&store).await);
}

#[tokio::test]
async fn a_go_server_that_is_started_again_by_mistake_fails_and_does_no_harm() {
    let database = go_database();
    adopt(&database).await;
    // Its first two statements.
    database.psql("CREATE TABLE IF NOT EXISTS schema_migrations (version varchar(255))");
    let mut go_server = PgConnection::connect(&database.url()).await.unwrap();
    let started = sqlx::query("SELECT version FROM schema_migrations ORDER BY version")
        .fetch_all(&mut go_server)
        .await;
    let message = started.unwrap_err().to_string();
    assert!(message.contains("restore-go-tables"), "{message}");
    database.psql("CREATE TABLE agents (agent_id int); CREATE TABLE agent_statuses (x int)");
    assert!(has_agent(&adopt(&database).await).await);
}

#[tokio::test]
async fn older_versions_are_converted_with_what_they_have() {
    let without_zone = "SET TimeZone = 'UTC'; DO $$ DECLARE c record; BEGIN FOR c IN \
        SELECT table_name, column_name FROM information_schema.columns \
        WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' \
        AND table_name NOT IN ('api_keys', 'system_config') LOOP \
        EXECUTE format('ALTER TABLE %I ALTER %I TYPE timestamp', c.table_name, c.column_name); \
        END LOOP; END $$";
    let down = [
        ("000005", "ALTER TABLE users DROP notification_webhook_url"),
        ("000004", without_zone),
        ("000003", "DROP TABLE system_config"),
        ("000002", "DROP TABLE api_keys"),
    ];
    for oldest in 1..=down.len() {
        let database = go_database();
        for (version, change) in &down[..oldest] {
            database.psql(change);
            database.psql(&format!(
                "DELETE FROM schema_migrations WHERE version > '{version}'"
            ));
        }
        let version = down[oldest - 1].0;
        let store = adopt(&database).await;
        let ann = store.account(&AccountId::new("u-1")).await.unwrap();
        let ann = ann.unwrap();
        assert_eq!(ann.notification_webhook_url, "", "{version}");
        assert_eq!(
            ann.created_at.to_rfc3339(),
            "2025-01-02T03:04:05.123456+00:00",
            "{version}"
        );
        assert!(has_agent(&store).await, "{version}");
        let key = store.api_key_by_hash("key hash").await.unwrap();
        assert_eq!(key.is_some(), version > "000002", "{version}");
        let secret = store.secret(JWT_SECRET_NAME, "new").await.unwrap();
        let kept = match version > "000003" {
            true => "the secret",
            false => "new",
        };
        assert_eq!(secret, kept, "{version}");
    }
}

#[tokio::test]
async fn a_part_of_the_go_servers_tables_is_refused() {
    for table in ["agent_statuses", "schema_migrations", "agents"] {
        let database = go_database();
        database.psql(&format!("DROP TABLE {table} CASCADE"));
        match open(&options(&database), 60).await {
            Err(OpenError::Adopt(AdoptError::Incomplete { missing, .. })) => {
                assert_eq!(missing, table);
            }
            refused => panic!("{table}: {refused:?}"),
        }
        assert_eq!(database.psql(OUR_SCHEMAS), "0");
    }
}

#[tokio::test]
async fn tables_of_other_programs_are_not_taken_for_the_go_servers() {
    let database = database();
    database.psql(
        "CREATE TABLE schema_migrations (version varchar(255)); \
         CREATE TABLE users (id int); CREATE TABLE sessions (id int)",
    );
    adopt(&database).await;
    assert_eq!(database.psql("SELECT count(*) FROM users"), "0");
    assert_eq!(database.psql(OUR_SCHEMAS), "1");
}

#[tokio::test]
async fn a_component_leaves_the_go_servers_tables_to_the_native_server() {
    let database = go_database();
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let refused = schema::migrate(&Driver::new(pool)).await;
    assert!(
        matches!(refused, Err(SchemaError::GoTables { .. })),
        "{refused:?}"
    );
    assert_eq!(database.psql(OUR_SCHEMAS), "0");
    assert!(has_agent(&adopt(&database).await).await);
}

#[tokio::test]
async fn a_component_refuses_a_database_that_cannot_hold_every_text() {
    let cluster = Cluster::start(&[("fsync", "off")]);
    cluster.psql(
        "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let options: PgConnectOptions = cluster.url().parse().unwrap();
    let pool = PgPool::connect_with(options.database("latin"))
        .await
        .unwrap();
    let refused = schema::migrate(&Driver::new(pool.clone())).await;
    assert!(
        matches!(&refused, Err(SchemaError::Encoding { found }) if found == "LATIN1"),
        "{refused:?}"
    );
    let ours: i64 = sqlx::query_scalar(OUR_SCHEMAS)
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(ours, 0);
}

#[tokio::test]
async fn the_old_tables_stay_until_they_are_dropped() {
    let database = go_database();
    let options = options(&database);
    assert!(!drop_go_tables(&options).await.unwrap());
    let store = adopt(&database).await;
    assert_eq!(
        database.psql("SELECT count(*) FROM kubeagents_go.users"),
        "4"
    );
    assert!(drop_go_tables(&options).await.unwrap());
    assert!(!drop_go_tables(&options).await.unwrap());
    let now = chrono::Utc::now();
    assert!(
        store
            .agent(&account("u-1"), "mine", now)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn tables_in_use_or_of_another_version_are_refused_and_left_alone() {
    let database = go_database();
    let mut options = options(&database);
    let mut user = PgConnection::connect(&database.url()).await.unwrap();
    let refused = open(&options, 60).await.unwrap_err();
    let text = kubeagents_core::causes(&refused);
    assert!(text.contains("GO_SERVER_STOPPED=true"), "{text}");
    assert!(
        text.contains("of postgres, unnamed, from 127.0.0.1"),
        "{text}"
    );

    let mut transaction = user.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM users")
        .execute(&mut *transaction)
        .await
        .unwrap();
    options.go_server_stopped = true;
    let refused = open(&options, 60).await;
    assert!(
        matches!(refused, Err(OpenError::Adopt(AdoptError::InUse))),
        "{refused:?}"
    );
    transaction.rollback().await.unwrap();

    database.psql("DELETE FROM schema_migrations WHERE version > '000001'");
    let refused = open(&options, 60).await;
    assert!(
        matches!(
            refused,
            Err(OpenError::Adopt(AdoptError::OldVersion { .. }))
        ),
        "{refused:?}"
    );
    let text = causes(&refused.err().unwrap());
    assert!(
        text.contains("without a backup") && text.contains("drops every table"),
        "{text}"
    );
    database.psql("INSERT INTO schema_migrations (version) VALUES ('000007')");
    let refused = open(&options, 60).await;
    assert!(
        matches!(
            refused,
            Err(OpenError::Adopt(AdoptError::NewVersion { .. }))
        ),
        "{refused:?}"
    );
    assert_eq!(database.psql(OUR_SCHEMAS), "0");
}
