//! Taking over a database that the Go server made.
//!
//! Its tables are moved into a schema of their own, where they stay unchanged until
//! `kubeagents drop-go-tables`, and what they hold is converted into ours. All of it happens in the
//! transaction that also makes our tables.

use kubeagents_core::{Scopes, email_key, search_key};
use kubeagents_store_postgres::schema;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::open::{self, OpenError};
use super::options::Database;

/// The version of the Go server's schema that is understood: its newest.
const GO_VERSION: &str = "000006";

/// The Go server's tables.
const GO_TABLES: [&str; 8] = [
    "users",
    "agents",
    "sessions",
    "agent_statuses",
    "refresh_tokens",
    "api_keys",
    "system_config",
    "schema_migrations",
];

/// How many rows are in memory at a time, where the database cannot convert them by itself.
const BATCH: i64 = 5000;

/// Why the Go server's tables cannot be converted. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    /// They are of a version whose meaning is not known here.
    #[error(
        "its schema has version {found}, but only version {GO_VERSION} can be converted: start the \
         newest Go server on it once, and stop that again"
    )]
    OldVersion {
        /// The version found.
        found: String,
    },
    /// They are newer than any known.
    #[error("its schema has version {found}, but only version {GO_VERSION} can be converted")]
    NewVersion {
        /// The version found.
        found: String,
    },
    /// Somebody is reading or writing them.
    #[error("another session is using its tables: stop the Go server and whatever else uses them")]
    InUse,
    /// An earlier conversion's tables are still there, but ours are not.
    #[error(
        "the schema kubeagents_go, where its tables are to be kept, exists already: rename or drop it"
    )]
    SchemaTaken,
    /// A statement failed.
    #[error("a statement failed")]
    Database(#[from] sqlx::Error),
}

/// Moves the Go server's tables aside, if there are any and our own are not there yet. Returns
/// whether it did.
pub(super) async fn set_aside(connection: &mut PgConnection) -> Result<bool, AdoptError> {
    // The names are looked for where the Go server would find them.
    const FIND: &str = "\
        SELECT namespace.nspname::text, \
            to_regclass('kubeagents_data.migrations') IS NOT NULL, \
            to_regnamespace('kubeagents_go') IS NOT NULL \
        FROM pg_class AS versions \
        JOIN pg_namespace AS namespace ON namespace.oid = versions.relnamespace \
        WHERE versions.oid = to_regclass('schema_migrations') AND EXISTS (\
            SELECT FROM pg_class AS statuses WHERE statuses.relname = 'agent_statuses' \
            AND statuses.relnamespace = versions.relnamespace)";
    let found: Option<(String, bool, bool)> = sqlx::query_as(FIND)
        .fetch_optional(&mut *connection)
        .await?;
    let Some((namespace, converted, set_aside_before)) = found else {
        return Ok(false);
    };
    if converted {
        tracing::warn!(
            schema = namespace,
            "tables of the Go server's names are there, but this database has been converted \
             before: they are ignored"
        );
        return Ok(false);
    }
    let newest: Option<String> = sqlx::query_scalar("SELECT max(version) FROM schema_migrations")
        .fetch_one(&mut *connection)
        .await?;
    let newest = newest.unwrap_or_else(|| "000000".to_owned());
    match newest.as_str().cmp(GO_VERSION) {
        std::cmp::Ordering::Less => return Err(AdoptError::OldVersion { found: newest }),
        std::cmp::Ordering::Greater => return Err(AdoptError::NewVersion { found: newest }),
        std::cmp::Ordering::Equal => {}
    }
    if set_aside_before {
        return Err(AdoptError::SchemaTaken);
    }
    tracing::info!(schema = namespace, "converting the Go server's tables");
    let namespace = quoted(&namespace);
    let tables = GO_TABLES.map(|table| format!("{namespace}.{table}"));
    let lock = format!(
        "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE NOWAIT",
        tables.join(", ")
    );
    run(connection, lock).await.map_err(|error| {
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            Some("55P03") => AdoptError::InUse,
            _ => AdoptError::Database(error),
        }
    })?;
    run(connection, "CREATE SCHEMA kubeagents_go".to_owned()).await?;
    for table in tables {
        run(
            connection,
            format!("ALTER TABLE {table} SET SCHEMA kubeagents_go"),
        )
        .await?;
    }
    Ok(true)
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

async fn run(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}

/// An instant as our tables hold it.
macro_rules! micros {
    ($column:literal) => {
        concat!("(extract(epoch FROM ", $column, ") * 1000000)::bigint")
    };
}

/// Who owns an address in all its cases is decided later.
const ACCOUNTS: &str = concat!(
    "INSERT INTO kubeagents_data.accounts (id, email, password_hash, name, \
        notification_webhook_url, email_verified, verification_hash, verification_expires_at, \
        created_at, updated_at) \
    SELECT id, email, password_hash, coalesce(name, ''), coalesce(notification_webhook_url, ''), \
        email_verified, \
        CASE WHEN verify_token <> '' \
            THEN encode(sha256(convert_to(verify_token, 'UTF8')), 'hex') END, \
        CASE WHEN verify_token <> '' \
            THEN kubeagents_data.now_micros() + 24 * 3600 * 1000000::bigint END, ",
    micros!("created_at"),
    ", ",
    micros!("updated_at"),
    " FROM kubeagents_go.users"
);

/// The oldest verified account owns an address, or else the oldest.
const OWNERS: &str = "\
UPDATE kubeagents_data.accounts AS account SET email_key = owner.key FROM (\
    SELECT DISTINCT ON (adopted.key) adopted.id, adopted.key \
    FROM kubeagents_data.adopted_keys AS adopted \
    JOIN kubeagents_data.accounts AS account USING (id) \
    ORDER BY adopted.key, account.email_verified DESC, account.created_at, account.id\
) AS owner WHERE account.id = owner.id";

/// The Go server could store one token twice: it works as long as one of the two would.
const TOKEN_FAMILIES: &str = "\
INSERT INTO kubeagents_data.token_families (id, account_id, revoked) \
SELECT min(id), min(user_id), bool_and(revoked) FROM kubeagents_go.refresh_tokens \
GROUP BY token_hash";

const REFRESH_TOKENS: &str = concat!(
    "INSERT INTO kubeagents_data.refresh_tokens (token_hash, family_id, created_at, expires_at) \
    SELECT token_hash, min(id), ",
    micros!("min(created_at)"),
    ", ",
    micros!("coalesce(max(expires_at) FILTER (WHERE NOT revoked), max(expires_at))"),
    " FROM kubeagents_go.refresh_tokens GROUP BY token_hash"
);

const API_KEYS: &str = concat!(
    "INSERT INTO kubeagents_data.api_keys (id, account_id, name, key_hash, key_prefix, scopes, \
        expires_at, last_used_at, created_at, revoked) \
    SELECT id, user_id, name, key_hash, key_prefix, $1, ",
    micros!("expires_at"),
    ", ",
    micros!("last_used_at"),
    ", ",
    micros!("created_at"),
    ", revoked FROM kubeagents_go.api_keys"
);

const SECRET: &str = "\
INSERT INTO kubeagents_data.secrets (name, value) \
SELECT key, value FROM kubeagents_go.system_config WHERE key = 'jwt_secret' AND value <> ''";

const STATUSES: &str = concat!(
    "INSERT INTO kubeagents_data.statuses (workspace, agent_id, session_topic, seq, \
        \"timestamp\", status, message, content) \
    SELECT coalesce(agent.user_id, 'shared'), entry.agent_id, entry.session_topic, \
        row_number() OVER (PARTITION BY entry.agent_id, entry.session_topic \
            ORDER BY entry.\"timestamp\", entry.id), ",
    micros!("entry.\"timestamp\""),
    ", entry.status, coalesce(entry.message, ''), coalesce(entry.content, '') \
    FROM kubeagents_go.agent_statuses AS entry \
    JOIN kubeagents_go.agents AS agent USING (agent_id)"
);

/// The Go server stores a session before its first status: if it ended in between, that is missing.
const MISSING_STATUSES: &str = concat!(
    "INSERT INTO kubeagents_data.statuses (workspace, agent_id, session_topic, seq, \
        \"timestamp\", status, message, content) \
    SELECT coalesce(agent.user_id, 'shared'), session.agent_id, session.session_topic, 1, ",
    micros!("session.last_updated"),
    ", 'pending', '', '' \
    FROM kubeagents_go.sessions AS session JOIN kubeagents_go.agents AS agent USING (agent_id) \
    WHERE NOT EXISTS (\
        SELECT FROM kubeagents_go.agent_statuses AS entry \
        WHERE entry.agent_id = session.agent_id \
        AND entry.session_topic = session.session_topic)"
);

/// The Go server stamps a session just before its status.
const SESSIONS: &str = concat!(
    "INSERT INTO kubeagents_data.sessions (workspace, agent_id, session_topic, seq, created, \
        last_updated, ttl_minutes, status, run_started) \
    SELECT newest.workspace, newest.agent_id, newest.session_topic, newest.seq, ",
    micros!("session.created"),
    ", greatest(",
    micros!("session.last_updated"),
    ", newest.\"timestamp\"), coalesce(nullif(session.ttl_minutes, 0), $1), newest.status, \
        CASE newest.status WHEN 'running' THEN (\
            SELECT entry.\"timestamp\" FROM kubeagents_data.statuses AS entry \
            WHERE entry.workspace = newest.workspace AND entry.agent_id = newest.agent_id \
            AND entry.session_topic = newest.session_topic \
            AND entry.seq = coalesce(newest.stopped, 0) + 1) END \
    FROM (\
        SELECT entry.*, \
            max(seq) FILTER (WHERE status <> 'running') OVER session AS stopped, \
            max(seq) OVER session AS last \
        FROM kubeagents_data.statuses AS entry \
        WINDOW session AS (PARTITION BY workspace, agent_id, session_topic)\
    ) AS newest \
    JOIN kubeagents_go.sessions AS session \
        ON session.agent_id = newest.agent_id AND session.session_topic = newest.session_topic \
    WHERE newest.seq = newest.last"
);

const AGENTS: &str = concat!(
    "SELECT agent.agent_id, coalesce(agent.user_id, 'shared') AS workspace, \
        coalesce(agent.name, '') AS name, coalesce(agent.source, '') AS source, ",
    micros!("agent.registered"),
    " AS registered, greatest(",
    micros!("agent.last_seen"),
    ", sessions.last_updated) AS last_seen, sessions.count AS session_count \
    FROM kubeagents_go.agents AS agent CROSS JOIN LATERAL (\
        SELECT count(*), max(session.last_updated) AS last_updated \
        FROM kubeagents_data.sessions AS session \
        WHERE session.workspace = coalesce(agent.user_id, 'shared') \
        AND session.agent_id = agent.agent_id\
    ) AS sessions \
    WHERE agent.agent_id COLLATE \"C\" > $1 ORDER BY agent.agent_id COLLATE \"C\" LIMIT $2"
);

const INSERT_AGENTS: &str = "\
INSERT INTO kubeagents_data.agents (agent_id, workspace, name, source, registered, last_seen, \
    session_count, agent_id_key, name_key) \
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], \
    $7::bigint[], $8::text[], $9::text[])";

/// Fills our tables, which are there and empty, from the Go server's.
pub(super) async fn convert(
    connection: &mut PgConnection,
    default_ttl_minutes: u32,
) -> Result<(), AdoptError> {
    sqlx::query(ACCOUNTS).execute(&mut *connection).await?;
    convert_addresses(connection).await?;
    sqlx::query(TOKEN_FAMILIES)
        .execute(&mut *connection)
        .await?;
    sqlx::query(REFRESH_TOKENS)
        .execute(&mut *connection)
        .await?;
    sqlx::query(API_KEYS)
        .bind(Scopes::REPORT.to_text())
        .execute(&mut *connection)
        .await?;
    sqlx::query(SECRET).execute(&mut *connection).await?;
    let statuses = sqlx::query(STATUSES).execute(&mut *connection).await?;
    sqlx::query(MISSING_STATUSES)
        .execute(&mut *connection)
        .await?;
    sqlx::query(SESSIONS)
        .bind(i64::from(default_ttl_minutes))
        .execute(&mut *connection)
        .await?;
    convert_agents(connection).await?;
    sqlx::raw_sql(
        "ANALYZE kubeagents_data.accounts, kubeagents_data.agents, kubeagents_data.sessions, \
         kubeagents_data.statuses",
    )
    .execute(&mut *connection)
    .await?;
    tracing::info!(
        statuses = statuses.rows_affected(),
        "the Go server's tables are converted; they are kept in the schema kubeagents_go until \
         `kubeagents drop-go-tables`"
    );
    Ok(())
}

/// Cases are folded as everywhere else, which no database does alike.
async fn convert_addresses(connection: &mut PgConnection) -> Result<(), AdoptError> {
    const TABLE: &str = "CREATE TABLE kubeagents_data.adopted_keys \
        (id text COLLATE \"C\" PRIMARY KEY, key text COLLATE \"C\" NOT NULL)";
    const SELECT: &str = "SELECT id, email FROM kubeagents_data.accounts \
        WHERE id > $1 ORDER BY id LIMIT $2";
    const INSERT: &str = "INSERT INTO kubeagents_data.adopted_keys \
        SELECT * FROM unnest($1::text[], $2::text[])";
    sqlx::query(TABLE).execute(&mut *connection).await?;
    let mut last = String::new();
    loop {
        let accounts: Vec<(String, String)> = sqlx::query_as(SELECT)
            .bind(&last)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
        let Some((id, _)) = accounts.last() else {
            break;
        };
        last.clone_from(id);
        let (ids, keys): (Vec<String>, Vec<String>) = accounts
            .into_iter()
            .map(|(id, email)| (id, email_key(&email)))
            .unzip();
        sqlx::query(INSERT)
            .bind(ids)
            .bind(keys)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(OWNERS).execute(&mut *connection).await?;
    sqlx::query("DROP TABLE kubeagents_data.adopted_keys")
        .execute(&mut *connection)
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct GoAgent {
    agent_id: String,
    workspace: String,
    name: String,
    source: String,
    registered: i64,
    last_seen: i64,
    session_count: i64,
}

async fn convert_agents(connection: &mut PgConnection) -> Result<(), AdoptError> {
    let mut last = String::new();
    loop {
        let agents: Vec<GoAgent> = sqlx::query_as(AGENTS)
            .bind(&last)
            .bind(BATCH)
            .fetch_all(&mut *connection)
            .await?;
        let Some(agent) = agents.last() else {
            return Ok(());
        };
        last.clone_from(&agent.agent_id);
        let column =
            |of: fn(&GoAgent) -> String| -> Vec<String> { agents.iter().map(of).collect() };
        let numbers = |of: fn(&GoAgent) -> i64| -> Vec<i64> { agents.iter().map(of).collect() };
        sqlx::query(INSERT_AGENTS)
            .bind(column(|agent| agent.agent_id.clone()))
            .bind(column(|agent| agent.workspace.clone()))
            .bind(column(|agent| agent.name.clone()))
            .bind(column(|agent| agent.source.clone()))
            .bind(numbers(|agent| agent.registered))
            .bind(numbers(|agent| agent.last_seen))
            .bind(numbers(|agent| agent.session_count))
            .bind(column(|agent| search_key(&agent.agent_id)))
            .bind(column(|agent| search_key(&agent.name)))
            .execute(&mut *connection)
            .await?;
    }
}

/// Why the Go server's tables were not dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DropError {
    /// The database could not be reached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no converted copy of them in this database.
    #[error("this database has not been converted: the Go server's tables are all there is")]
    NotConverted,
    /// The statement failed.
    #[error("the Go server's tables could not be dropped")]
    Database(#[from] sqlx::Error),
}

/// Drops the tables that a conversion kept. Returns whether there were any.
pub(crate) async fn drop_go_tables(database: &Database) -> Result<bool, DropError> {
    const FIND: &str = "SELECT to_regnamespace('kubeagents_go') IS NOT NULL, \
        to_regclass('kubeagents_data.migrations') IS NOT NULL";
    let (mut connection, _) = open::connect(database).await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(schema::LOCK)
        .execute(&mut *transaction)
        .await?;
    let (kept, converted): (bool, bool) = sqlx::query_as(FIND).fetch_one(&mut *transaction).await?;
    if !kept {
        return Ok(false);
    }
    if !converted {
        return Err(DropError::NotConverted);
    }
    sqlx::query("DROP SCHEMA kubeagents_go CASCADE")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}
