//! Taking over a database that the Go server made, and giving it back.
//!
//! Its tables are moved into a schema of their own, where they stay unchanged until
//! [`drop_go_tables`] or [`restore_go_tables`], and what they hold is converted into ours. Each of
//! these functions must run in one transaction, whose statements may take long.

use std::borrow::Cow;

use kubeagents_core::{Scopes, StoreError, email_key, search_key};

use crate::query::Fetch;
use crate::schema::{self, SchemaError, lock};
use crate::{APPLICATION, Query, Row, UnexpectedResult, Value};

/// The oldest version of the Go server's schema that is understood.
const OLDEST: &str = "000002";

/// The newest one.
const NEWEST: &str = "000006";

/// Number of rows in memory at a time, where the database cannot convert them by itself.
const BATCH: i64 = 5000;

/// Failure to make a database ready. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The Go server's tables are too old.
    #[error(
        "the Go server's schema has version {found}, and only {OLDEST} to {NEWEST} can be \
         converted. Do not start a newer Go server on it without a backup: its migration 000005 \
         drops every table"
    )]
    OldVersion {
        /// The version found.
        found: String,
    },
    /// The Go server's tables are newer than any known.
    #[error(
        "the Go server's schema has version {found}, and only {OLDEST} to {NEWEST} can be converted"
    )]
    NewVersion {
        /// The version found.
        found: String,
    },
    /// Some of the Go server's tables are there, and others are not.
    #[error(
        "the database has tables of the Go server in the schema {schema}, but not {missing}: \
         restore the whole of a backup, or rename the tables if they are of another program"
    )]
    Incomplete {
        /// Schema that holds the tables.
        schema: String,
        /// The tables that lack.
        missing: String,
    },
    /// Another session is reading or writing the Go server's tables.
    #[error(
        "another session is using the Go server's tables: stop the Go server and whatever else \
         uses them"
    )]
    InUse,
    /// There are sessions of what may be the Go server, which does nothing at the moment.
    #[error(
        "the Go server may still be running: the database has other sessions of its user ({sessions}). \
         Stop it, and end them; or set GO_SERVER_STOPPED=true if none of them is the Go server's"
    )]
    StillConnected {
        /// Process, user, program and address of each.
        sessions: String,
    },
    /// An earlier conversion's tables are still there, but ours are not.
    #[error(
        "the schema kubeagents_go, where the Go server's tables are to be kept, exists already: \
         rename or drop it"
    )]
    SchemaTaken,
    /// Our own schema cannot be brought up to date.
    #[error("the database's schema cannot be brought up to date")]
    Schema(#[from] SchemaError),
}

impl From<StoreError> for AdoptError {
    fn from(error: StoreError) -> Self {
        Self::Schema(error.into())
    }
}

/// Failure to drop or restore the Go server's tables. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum GoTablesError {
    /// There is no converted copy of them in this database.
    #[error("this database has not been converted: the Go server's tables are all there is")]
    NotConverted,
    /// Another server is working on the converted tables.
    #[error("another session is using this database's tables: stop every kubeagents server on it")]
    InUse,
    /// There are tables of the same names where the Go server's came from.
    #[error("there are tables of the Go server's names already in the schema {schema}: {names}")]
    NamesTaken {
        /// Schema that held the Go server's tables.
        schema: String,
        /// The names.
        names: String,
    },
    /// A statement failed.
    #[error("a statement failed")]
    Store(#[from] StoreError),
}

/// The Go server's tables.
macro_rules! go_tables {
    () => {
        "('users', 'agents', 'sessions', 'agent_statuses', 'refresh_tokens', 'api_keys', \
            'system_config', 'schema_migrations')"
    };
}

/// The schema in which the Go server would find its tables: one that has a table of one of its
/// names with a column that no other program is likely to have there.
macro_rules! go_schema {
    () => {
        "SELECT namespace.nspname FROM pg_class AS class \
            JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace \
            JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid \
            WHERE class.oid IN (to_regclass('agents'), to_regclass('sessions'), \
                to_regclass('agent_statuses')) \
            AND class.relkind = 'r' AND attribute.attname = 'agent_id' \
            ORDER BY class.oid = to_regclass('agents') DESC LIMIT 1"
    };
}

/// Finds the Go server's tables, which of them lack, and whether ours and a copy are there.
const FIND: &str = concat!(
    "SELECT go.nspname::text, \
        (SELECT string_agg(wanted.name, ', ' ORDER BY wanted.name) FROM unnest(ARRAY['users', \
            'agents', 'sessions', 'agent_statuses', 'refresh_tokens', 'schema_migrations']) \
            AS wanted(name) \
            WHERE NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = go.nspname \
                AND tablename = wanted.name)), \
        to_regclass('kubeagents_data.migrations') IS NOT NULL, \
        to_regnamespace('kubeagents_go') IS NOT NULL \
    FROM (",
    go_schema!(),
    ") AS go"
);

/// Sessions of users who may use the Go server's tables as their own. Servers that wait to convert
/// them, too, are not among them.
const OTHER_SESSIONS: &str = concat!(
    "SELECT string_agg(format('process %s of %s, %s, from %s', other.pid, other.usename, \
        coalesce(nullif(other.application_name, ''), 'unnamed'), \
        coalesce(host(other.client_addr), 'a local socket')), '; ' ORDER BY other.pid) \
    FROM pg_stat_activity AS other \
    WHERE other.datname = current_database() AND other.pid <> pg_backend_pid() \
    AND other.backend_type = 'client backend' AND other.application_name <> $1::text \
    AND (other.usename = session_user OR other.usesysid IN (\
        SELECT class.relowner FROM pg_class AS class \
        JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace \
        WHERE namespace.nspname = (",
    go_schema!(),
    ") AND class.relkind = 'r' AND class.relname IN ",
    go_tables!(),
    "))"
);

/// Waits, and looks anew at the sessions then, of which a transaction has one picture.
const LOOK_AGAIN: &str = "SELECT pg_sleep(0.2)::text, pg_stat_clear_snapshot()::text";

/// The number of looks for sessions that do not end: one that has just been closed is there for a
/// moment yet.
const LOOKS: u32 = 10;

const GO_VERSION: &str = "SELECT coalesce(max(version), '000000')::text FROM schema_migrations";

/// Moves the tables, notes where they were, and leaves a view behind that makes a Go server fail at
/// its start rather than begin anew. The view is ours, so that it goes with our schema.
const SET_ASIDE: &str = concat!(
    "DO $adopt$ DECLARE home text; name text; BEGIN home := (",
    go_schema!(),
    "); \
    EXECUTE 'LOCK TABLE ' || (\
        SELECT string_agg(format('%I.%I', home, tablename), ', ') FROM pg_tables \
        WHERE schemaname = home AND tablename IN ",
    go_tables!(),
    ") || ' IN ACCESS EXCLUSIVE MODE NOWAIT'; \
    CREATE SCHEMA kubeagents_go; \
    EXECUTE format('COMMENT ON SCHEMA kubeagents_go IS %L', home); \
    FOR name IN SELECT tablename FROM pg_tables \
        WHERE schemaname = home AND tablename IN ",
    go_tables!(),
    " LOOP \
        EXECUTE format('ALTER TABLE %I.%I SET SCHEMA kubeagents_go', home, name); \
    END LOOP; END $adopt$"
);

/// A Go server reads this table at its start, before it makes any other.
const LEAVE_MARKER: &str = "\
DO $marker$ BEGIN \
CREATE FUNCTION kubeagents_data.go_server_is_retired() RETURNS text LANGUAGE plpgsql AS $retired$ \
BEGIN RAISE EXCEPTION 'this database has been converted by kubeagents: stop the Go server, or \
bring its tables back with `kubeagents restore-go-tables`'; END $retired$; \
EXECUTE format('CREATE VIEW %I.schema_migrations AS \
SELECT kubeagents_data.go_server_is_retired() AS version', \
obj_description(to_regnamespace('kubeagents_go'), 'pg_namespace')); \
EXCEPTION WHEN insufficient_privilege THEN \
RAISE WARNING 'no marker is left for the Go server: creating a view is not permitted'; \
END $marker$";

const NO_LIMITS: &str = "SELECT set_config('statement_timeout', '0', true), \
    set_config('lock_timeout', '0', true)";

const LOCK: &str = concat!("SELECT ", lock!(), "::text");

/// Takes the lock that whoever changes the schema holds.
async fn begin(query: &impl Query) -> Result<(), StoreError> {
    query.execute(NO_LIMITS, &[]).await?;
    query.execute(LOCK, &[]).await
}

/// Converts the Go server's tables, if there are any and ours are not there yet, and brings our
/// schema up to date. `go_server_stopped`: whatever other sessions there are.
///
/// # Errors
/// [`AdoptError`], and then the transaction must be rolled back.
pub async fn prepare(
    query: &impl Query,
    default_ttl_minutes: u32,
    go_server_stopped: bool,
) -> Result<(), AdoptError> {
    begin(query).await?;
    let adopting = set_aside(query, go_server_stopped).await?;
    schema::migrate(query).await?;
    if adopting {
        query.execute(LEAVE_MARKER, &[]).await?;
        convert(query, default_ttl_minutes).await?;
    }
    Ok(())
}

/// The schema with tables of the Go server that have not been converted; `None` without any.
pub(crate) async fn unconverted(query: &impl Query) -> Result<Option<String>, StoreError> {
    query
        .optional(
            concat!("SELECT nspname::text FROM (", go_schema!(), ") AS go"),
            &[],
            Row::text,
        )
        .await
}

/// Moves the Go server's tables aside, if there are any and our own are not there yet. Returns
/// whether it did.
async fn set_aside(query: &impl Query, go_server_stopped: bool) -> Result<bool, AdoptError> {
    let read = |row: &mut Row| Ok((row.text()?, row.optional_text()?, row.bool()?, row.bool()?));
    let found = query.optional(FIND, &[], read).await?;
    let Some((schema, missing, ours, set_aside_before)) = found else {
        return Ok(false);
    };
    if ours {
        tracing::warn!(
            schema,
            "tables of the Go server's names are ignored: this database has tables of kubeagents \
             already"
        );
        return Ok(false);
    }
    if let Some(missing) = missing {
        return Err(AdoptError::Incomplete { schema, missing });
    }
    let found = query.one(GO_VERSION, &[], Row::text).await?;
    if *found < *OLDEST {
        return Err(AdoptError::OldVersion { found });
    }
    if *found > *NEWEST {
        return Err(AdoptError::NewVersion { found });
    }
    if set_aside_before {
        return Err(AdoptError::SchemaTaken);
    }
    if !go_server_stopped {
        check_sessions(query).await?;
    }
    tracing::info!(schema, version = found, "converting the Go server's tables");
    query
        .execute(SET_ASIDE, &[])
        .await
        .map_err(|error| match error {
            StoreError::Contended => AdoptError::InUse,
            error => error.into(),
        })?;
    Ok(true)
}

/// A Go server that does nothing holds no lock, and would go on with nothing.
async fn check_sessions(query: &impl Query) -> Result<(), AdoptError> {
    let mut sessions = None;
    for look in 0..LOOKS {
        if look > 0 {
            query.execute(LOOK_AGAIN, &[]).await?;
        }
        let ours = Value::from(APPLICATION);
        sessions = query
            .one(OTHER_SESSIONS, &[ours], Row::optional_text)
            .await?;
        if sessions.is_none() {
            break;
        }
    }
    match sessions {
        Some(sessions) => Err(AdoptError::StillConnected { sessions }),
        None => Ok(()),
    }
}

/// An instant as our tables hold it. Before version 000005 it has no time zone, and UTC is assumed.
macro_rules! micros {
    ($column:literal) => {
        concat!("(extract(epoch FROM ", $column, ") * 1000000)::bigint")
    };
}

/// Converts accounts; who owns an address in all its cases is decided later. Before version 000006
/// an account has no notification address.
const ACCOUNTS: &str = concat!(
    "INSERT INTO kubeagents_data.accounts (id, email, password_hash, name, \
        notification_webhook_url, email_verified, verification_hash, verification_expires_at, \
        created_at, updated_at) \
    SELECT id, email, password_hash, coalesce(name, ''), coalesce(to_jsonb(account) ->> 'notification_webhook_url', ''), \
        email_verified, \
        CASE WHEN verify_token <> '' \
            THEN encode(sha256(convert_to(verify_token, 'UTF8')), 'hex') END, \
        CASE WHEN verify_token <> '' \
            THEN kubeagents_data.now_micros() + 24 * 3600 * 1000000::bigint END, ",
    micros!("created_at"),
    ", ",
    micros!("updated_at"),
    " FROM kubeagents_go.users AS account"
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
    SELECT id, user_id, name, key_hash, key_prefix, $1::text, ",
    micros!("expires_at"),
    ", ",
    micros!("last_used_at"),
    ", ",
    micros!("created_at"),
    ", revoked FROM kubeagents_go.api_keys"
);

const HAS_API_KEYS: &str = "SELECT to_regclass('kubeagents_go.api_keys') IS NOT NULL";

const HAS_SECRET: &str = "SELECT to_regclass('kubeagents_go.system_config') IS NOT NULL";

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
        last_updated, ttl_minutes, status, run_started, message, noted_at, status_since) \
    SELECT newest.workspace, newest.agent_id, newest.session_topic, newest.seq, ",
    micros!("session.created"),
    ", greatest(",
    micros!("session.last_updated"),
    ", newest.\"timestamp\"), coalesce(nullif(session.ttl_minutes, 0), $1::bigint), newest.status, \
        CASE newest.status WHEN 'running' THEN spell.began END, newest.message, \
        newest.\"timestamp\", spell.began \
    FROM (\
        SELECT entry.*, max(seq) OVER session AS last \
        FROM kubeagents_data.statuses AS entry \
        WINDOW session AS (PARTITION BY workspace, agent_id, session_topic)\
    ) AS newest \
    JOIN kubeagents_go.sessions AS session \
        ON session.agent_id = newest.agent_id AND session.session_topic = newest.session_topic \
    CROSS JOIN LATERAL (\
        SELECT entry.\"timestamp\" AS began FROM kubeagents_data.statuses AS entry \
        WHERE entry.workspace = newest.workspace AND entry.agent_id = newest.agent_id \
        AND entry.session_topic = newest.session_topic AND entry.seq > coalesce((\
            SELECT max(other.seq) FROM kubeagents_data.statuses AS other \
            WHERE other.workspace = newest.workspace AND other.agent_id = newest.agent_id \
            AND other.session_topic = newest.session_topic AND other.status <> newest.status), 0) \
        ORDER BY entry.seq LIMIT 1\
    ) AS spell \
    WHERE newest.seq = newest.last"
);

const AGENTS: &str = concat!(
    "SELECT agent.agent_id::text, coalesce(agent.user_id, 'shared')::text AS workspace, \
        coalesce(agent.name, '')::text AS name, coalesce(agent.source, '')::text AS source, ",
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
    WHERE agent.agent_id COLLATE \"C\" > $1::text ORDER BY agent.agent_id COLLATE \"C\" LIMIT $2::bigint"
);

const INSERT_AGENTS: &str = "\
INSERT INTO kubeagents_data.agents (agent_id, workspace, name, source, registered, last_seen, \
    session_count, agent_id_key, name_key) \
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], \
    $7::bigint[], $8::text[], $9::text[])";

const COUNT_AGENTS: &str = "\
INSERT INTO kubeagents_data.agent_counts \
    SELECT workspace, count(*) FROM kubeagents_data.agents GROUP BY workspace";

const ANALYZE: &str = "ANALYZE kubeagents_data.accounts, kubeagents_data.agents, \
    kubeagents_data.sessions, kubeagents_data.statuses";

/// Fills our tables, which are there and empty, from the Go server's.
async fn convert(query: &impl Query, default_ttl_minutes: u32) -> Result<(), StoreError> {
    query.execute(ACCOUNTS, &[]).await?;
    convert_addresses(query).await?;
    query.execute(TOKEN_FAMILIES, &[]).await?;
    query.execute(REFRESH_TOKENS, &[]).await?;
    if query.one(HAS_API_KEYS, &[], Row::bool).await? {
        let scopes = Scopes::REPORT.to_text();
        query.execute(API_KEYS, &[Value::from(&scopes)]).await?;
    }
    if query.one(HAS_SECRET, &[], Row::bool).await? {
        query.execute(SECRET, &[]).await?;
    }
    query.execute(STATUSES, &[]).await?;
    query.execute(MISSING_STATUSES, &[]).await?;
    query
        .execute(SESSIONS, &[default_ttl_minutes.into()])
        .await?;
    let agents = convert_agents(query).await?;
    query.execute(COUNT_AGENTS, &[]).await?;
    query.execute(ANALYZE, &[]).await?;
    tracing::info!(
        agents,
        "the Go server's tables are converted; they are kept in the schema kubeagents_go until \
         `kubeagents drop-go-tables`"
    );
    Ok(())
}

const KEYS: &str = "CREATE TABLE kubeagents_data.adopted_keys \
    (id text COLLATE \"C\" PRIMARY KEY, key text COLLATE \"C\" NOT NULL)";

const EMAILS: &str = "SELECT id, email FROM kubeagents_data.accounts \
    WHERE id > $1::text ORDER BY id LIMIT $2::bigint";

const INSERT_KEYS: &str = "INSERT INTO kubeagents_data.adopted_keys \
    SELECT * FROM unnest($1::text[], $2::text[])";

const DROP_KEYS: &str = "DROP TABLE kubeagents_data.adopted_keys";

/// Cases are folded as everywhere else, which no database does alike.
async fn convert_addresses(query: &impl Query) -> Result<(), StoreError> {
    query.execute(KEYS, &[]).await?;
    let mut last = String::new();
    loop {
        let params = [Value::from(&last), BATCH.into()];
        let read = |row: &mut Row| Ok((row.text()?, row.text()?));
        let accounts = query.all(EMAILS, &params, read).await?;
        let Some((id, _)) = accounts.last() else {
            break;
        };
        let next = id.clone();
        let (ids, keys): (Vec<_>, Vec<_>) = accounts
            .into_iter()
            .map(|(id, email)| (id.into(), email_key(&email).into()))
            .unzip();
        query
            .execute(INSERT_KEYS, &[Value::Texts(&ids), Value::Texts(&keys)])
            .await?;
        last = next;
    }
    query.execute(OWNERS, &[]).await?;
    query.execute(DROP_KEYS, &[]).await
}

struct GoAgent {
    agent_id: String,
    workspace: String,
    name: String,
    source: String,
    registered: i64,
    last_seen: i64,
    session_count: i64,
}

fn go_agent_from(row: &mut Row) -> Result<GoAgent, UnexpectedResult> {
    Ok(GoAgent {
        agent_id: row.text()?,
        workspace: row.text()?,
        name: row.text()?,
        source: row.text()?,
        registered: row.int()?,
        last_seen: row.int()?,
        session_count: row.int()?,
    })
}

/// Returns how many there are.
async fn convert_agents(query: &impl Query) -> Result<usize, StoreError> {
    let mut last = String::new();
    let mut count = 0;
    loop {
        let params = [Value::from(&last), BATCH.into()];
        let agents = query.all(AGENTS, &params, go_agent_from).await?;
        let Some(agent) = agents.last() else {
            return Ok(count);
        };
        let next = agent.agent_id.clone();
        let texts = |of: fn(&GoAgent) -> Cow<'_, str>| -> Vec<Cow<'_, str>> {
            agents.iter().map(of).collect()
        };
        let ints = |of: fn(&GoAgent) -> i64| -> Vec<i64> { agents.iter().map(of).collect() };
        let params = [
            Value::Texts(&texts(|agent| (&agent.agent_id).into())),
            Value::Texts(&texts(|agent| (&agent.workspace).into())),
            Value::Texts(&texts(|agent| (&agent.name).into())),
            Value::Texts(&texts(|agent| (&agent.source).into())),
            Value::Ints(&ints(|agent| agent.registered)),
            Value::Ints(&ints(|agent| agent.last_seen)),
            Value::Ints(&ints(|agent| agent.session_count)),
            Value::Texts(&texts(|agent| search_key(&agent.agent_id).into())),
            Value::Texts(&texts(|agent| search_key(&agent.name).into())),
        ];
        query.execute(INSERT_AGENTS, &params).await?;
        count += agents.len();
        last = next;
    }
}

const KEPT: &str = "SELECT to_regnamespace('kubeagents_go') IS NOT NULL, \
    to_regclass('kubeagents_data.migrations') IS NOT NULL";

/// Checks whether there is a copy of the Go server's tables beside ours.
async fn is_converted(query: &impl Query) -> Result<bool, GoTablesError> {
    begin(query).await?;
    let read = |row: &mut Row| Ok((row.bool()?, row.bool()?));
    match query.one(KEPT, &[], read).await? {
        (false, _) => Ok(false),
        (true, true) => Ok(true),
        (true, false) => Err(GoTablesError::NotConverted),
    }
}

/// Drops the tables that a conversion kept. Returns whether there were any.
///
/// # Errors
/// [`GoTablesError`], and then the transaction must be rolled back.
pub async fn drop_go_tables(query: &impl Query) -> Result<bool, GoTablesError> {
    let kept = is_converted(query).await?;
    if kept {
        query
            .execute("DROP SCHEMA kubeagents_go CASCADE", &[])
            .await?;
    }
    Ok(kept)
}

/// The schema that the tables were in, and the names of them that are taken there.
const HOME: &str = "\
SELECT home.name, (SELECT string_agg(class.relname::text, ', ') FROM pg_class AS class \
    JOIN pg_tables AS kept ON kept.schemaname = 'kubeagents_go' \
        AND kept.tablename = class.relname \
    WHERE class.relnamespace = to_regnamespace(quote_ident(home.name)) AND class.relkind <> 'v') \
FROM (SELECT coalesce(obj_description(to_regnamespace('kubeagents_go'), 'pg_namespace'), \
    'public') AS name) AS home";

/// No server may go on with tables that are about to go.
const LOCK_OURS: &str = "\
DO $lock$ BEGIN EXECUTE 'LOCK TABLE ' || (\
    SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables \
    WHERE schemaname = 'kubeagents_data') || ' IN ACCESS EXCLUSIVE MODE NOWAIT'; END $lock$";

const RESTORE: &str = "\
DO $restore$ DECLARE home text; name text; BEGIN \
home := coalesce(obj_description(to_regnamespace('kubeagents_go'), 'pg_namespace'), 'public'); \
DROP SCHEMA kubeagents_data CASCADE; \
FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'kubeagents_go' LOOP \
    EXECUTE format('ALTER TABLE kubeagents_go.%I SET SCHEMA %I', name, home); \
END LOOP; \
DROP SCHEMA kubeagents_go; \
END $restore$";

/// Brings the tables that a conversion kept back to where the Go server finds them, and drops ours
/// with what was reported since. Returns the schema where they are, or `None` if there were none.
///
/// # Errors
/// [`GoTablesError`], and then the transaction must be rolled back.
pub async fn restore_go_tables(query: &impl Query) -> Result<Option<String>, GoTablesError> {
    if !is_converted(query).await? {
        return Ok(None);
    }
    let read = |row: &mut Row| Ok((row.text()?, row.optional_text()?));
    let (schema, taken) = query.one(HOME, &[], read).await?;
    if let Some(names) = taken {
        return Err(GoTablesError::NamesTaken { schema, names });
    }
    let locked = query.execute(LOCK_OURS, &[]).await;
    locked.map_err(|error| match error {
        StoreError::Contended => GoTablesError::InUse,
        error => error.into(),
    })?;
    query.execute(RESTORE, &[]).await?;
    Ok(Some(schema))
}
