//! What has changed since a moment, whoever changed it.
//!
//! Times do not tell: a commit may land long after its time, and hosts have clocks of their own. So each
//! row keeps the transaction that changed it, and the moment is a snapshot: what was changed by a
//! transaction that the snapshot could not see, and that can be seen now, has changed since. Nothing
//! is missed, and nothing comes twice, however late a transaction commits.

use kubeagents_core::{NamedSession, StoreError, Workspace};

use crate::query::Fetch;
use crate::value::saturating;
use crate::{PostgresStore, Query, Row, Value};

/// What has changed.
#[derive(Debug)]
pub struct Changes {
    /// The moment at which this is so, to go on from.
    pub snapshot: String,
    /// The sessions as they are now, of each workspace those changed longest ago first. They may be
    /// more than was asked for.
    pub sessions: Vec<(Workspace, NamedSession)>,
}

const SNAPSHOT: &str = "SELECT pg_current_snapshot()::text";

/// The columns of a session that changed.
macro_rules! session_columns {
    () => {
        "session.workspace, session.agent_id, session.session_topic, session.title, \
        session.created, session.last_updated, session.ttl_minutes, session.status, \
        session.status_since, session.reason, session.message, session.context, session.changed"
    };
}

/// `$1` the workspaces, `$2` the snapshot, `$3` how many sessions of each are wanted.
///
/// An agent that got another name did so with a session, so its sessions are found without an index
/// of names. Rows from a restored dump may name transactions of another server, which are yet to
/// come here: they do not count. Laterals, and not joins, keep every look-up an index scan.
const CHANGES: &str = concat!(
    "\
WITH before AS MATERIALIZED (\
    SELECT pg_snapshot_xmax(snapshot)::text::bigint AS next, \
        ARRAY(SELECT open::text::bigint FROM pg_snapshot_xip(snapshot) AS open) AS open \
    FROM (SELECT $2::text::pg_snapshot AS snapshot) AS given), \
present AS MATERIALIZED (\
    SELECT snapshot::text AS snapshot, pg_snapshot_xmax(snapshot)::text::bigint AS next \
    FROM (SELECT pg_current_snapshot() AS snapshot) AS given), \
changed AS MATERIALIZED (\
    SELECT session.*, agent.name, agent.renamed \
    FROM unnest($1::text[]) AS wanted(workspace) CROSS JOIN LATERAL (\
        (SELECT ",
    session_columns!(),
    " FROM kubeagents_data.sessions AS session \
        WHERE session.workspace = wanted.workspace AND session.changed > 0 \
        AND session.changed >= (SELECT next FROM before) \
        AND session.changed < (SELECT next FROM present) \
        ORDER BY session.changed LIMIT $3::bigint) \
        UNION ALL \
        (SELECT ",
    session_columns!(),
    " FROM kubeagents_data.sessions AS session \
        WHERE session.workspace = wanted.workspace AND session.changed > 0 \
        AND session.changed = ANY((SELECT open FROM before)::bigint[]) LIMIT $3::bigint)\
    ) AS session \
    CROSS JOIN LATERAL (\
        SELECT agent.name, agent.renamed FROM kubeagents_data.agents AS agent \
        WHERE agent.workspace = session.workspace AND agent.agent_id = session.agent_id OFFSET 0\
    ) AS agent), \
renamed AS MATERIALIZED (\
    SELECT DISTINCT workspace, agent_id, name FROM changed \
    WHERE renamed >= (SELECT next FROM before) AND renamed < (SELECT next FROM present) \
    OR renamed = ANY((SELECT open FROM before)::bigint[])) \
SELECT present.snapshot, session.workspace, session.agent_id, session.name, \
    session.session_topic, session.title, session.created, session.last_updated, \
    session.ttl_minutes, session.status, session.status_since, session.reason, session.message, \
    session.context \
FROM present LEFT JOIN (\
    SELECT workspace, agent_id, name, session_topic, title, created, last_updated, ttl_minutes, \
        status, status_since, reason, message, context, changed \
    FROM changed \
    UNION ALL \
    SELECT session.workspace, session.agent_id, renamed.name, session.session_topic, \
        session.title, session.created, session.last_updated, session.ttl_minutes, \
        session.status, session.status_since, session.reason, session.message, session.context, \
        session.changed \
    FROM renamed CROSS JOIN LATERAL (\
        SELECT ",
    session_columns!(),
    " FROM kubeagents_data.sessions AS session \
        WHERE session.workspace = renamed.workspace AND session.agent_id = renamed.agent_id \
        LIMIT $3::bigint\
    ) AS session\
) AS session ON true \
ORDER BY session.last_updated"
);

/// The newest transaction of a snapshot and the first that it cannot see, if it is one.
fn next_transaction(snapshot: &str) -> Option<u64> {
    let mut parts = snapshot.split(':');
    let number = |text: &str| {
        let number: u64 = text.parse().ok()?;
        (1..=i64::MAX.unsigned_abs())
            .contains(&number)
            .then_some(number)
    };
    let oldest = number(parts.next()?)?;
    let next = number(parts.next()?)?;
    let mut last = oldest;
    let open = parts.next()?;
    for (place, open) in open.split(',').filter(|open| !open.is_empty()).enumerate() {
        let open = number(open)?;
        let is_in_order = if place == 0 {
            open >= last
        } else {
            open > last
        };
        if !is_in_order || open >= next {
            return None;
        }
        last = open;
    }
    (oldest <= next && parts.next().is_none()).then_some(next)
}

impl<Q: Query, C> PostgresStore<Q, C> {
    /// The present moment, for [`PostgresStore::changes`].
    ///
    /// # Errors
    /// Those of the driver.
    pub async fn snapshot(&self) -> Result<String, StoreError> {
        self.query.one(SNAPSHOT, &[], Row::text).await
    }

    /// The sessions of these workspaces that have changed since a moment, `limit` of each workspace or
    /// more; `None` where the moment is none of this database.
    ///
    /// # Errors
    /// Those of the driver.
    pub async fn changes(
        &self,
        workspaces: &[Workspace],
        since: &str,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        let Some(next_then) = next_transaction(since) else {
            return Ok(None);
        };
        let workspaces: Vec<_> = workspaces.iter().map(|w| w.key().into()).collect();
        let params = [
            Value::Texts(&workspaces),
            since.into(),
            saturating(limit).into(),
        ];
        let mut snapshot = String::new();
        let read = |row: &mut Row| {
            snapshot = row.text()?;
            let Some(workspace) = row.optional_text()? else {
                return Ok(None);
            };
            Ok(Some((Workspace::from_key(workspace), row.named_session()?)))
        };
        let rows = self.query.all(CHANGES, &params, read).await?;
        let is_of_this_database = next_transaction(&snapshot).is_some_and(|now| next_then <= now);
        Ok(is_of_this_database.then(|| Changes {
            snapshot,
            sessions: rows.into_iter().flatten().collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_snapshots_are_asked_for() {
        for (text, next) in [
            ("10:20:", Some(20)),
            ("10:10:", Some(10)),
            ("10:20:10,14", Some(20)),
            ("", None),
            ("10", None),
            ("10:20", None),
            ("20:10:", None),
            ("0:10:", None),
            ("10:20:9", None),
            ("10:20:20", None),
            ("10:20:14,14", None),
            ("10:20:14,13", None),
            ("10:20:x", None),
            ("10:20::", None),
            ("10:9223372036854775808:", None),
        ] {
            assert_eq!(next_transaction(text), next, "{text}");
        }
    }
}
