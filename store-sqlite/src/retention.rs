//! Removing old history, in small statements that reports hardly wait for.

use kubeagents_core::{StoreError, Timestamp};
use serde_json::json;

use crate::{Connection, SqliteStore, Value};

/// The most rows that one statement looks at or deletes.
const BATCH: usize = 500;

const AGENTS: &str = "
    SELECT workspace, agent_id FROM agents WHERE (workspace, agent_id) > (?1, ?2)
    ORDER BY workspace, agent_id LIMIT ?3";

/// Some of an agent's old statuses, oldest first, after a place, and whether the present does not
/// depend on them. What it does not depend on, it will not later.
const OLD_STATUSES: &str = "
    SELECT h.timestamp, h.topic, h.seq, h.timestamp < s.noted_at AND h.timestamp IS NOT s.run_started
    FROM statuses h CROSS JOIN sessions s USING (workspace, agent_id, topic)
    WHERE h.workspace = ?1 AND h.agent_id = ?2 AND h.timestamp >= ?3 AND h.timestamp < ?4
        AND (h.timestamp > ?3 OR h.topic < ?5 OR (h.topic = ?5 AND h.seq > ?6))
    ORDER BY h.timestamp, h.topic DESC, h.seq LIMIT ?7";

/// ?3 topics and places, as a JSON array of pairs.
const DELETE_STATUSES: &str = "
    DELETE FROM statuses WHERE workspace = ?1 AND agent_id = ?2
        AND (topic, seq) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?3))";

impl<C: Connection> SqliteStore<C> {
    /// Deletes statuses from before an instant, but for the newest of each session and the start
    /// of its run; returns how many.
    ///
    /// # Errors
    /// Those of the connections. What has been deleted until then stays so.
    pub async fn purge_history(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut deleted = 0;
        let mut last = (String::new(), String::new());
        loop {
            let after = [(&last.0).into(), (&last.1).into(), BATCH.into()];
            let agents = self
                .lists
                .all(AGENTS, after, |row| Ok((row.text()?, row.text()?)));
            let agents: Vec<(String, String)> = agents.await?;
            let Some(next) = agents.last().cloned() else {
                return Ok(deleted);
            };
            for (workspace, agent_id) in agents {
                deleted += self.purge_agent(&workspace, &agent_id, before).await?;
            }
            last = next;
        }
    }

    async fn purge_agent(
        &self,
        workspace: &str,
        agent_id: &str,
        before: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut deleted = 0;
        let (mut timestamp, mut topic, mut seq) = (i64::MIN, String::new(), i64::MAX);
        loop {
            let parameters = [
                workspace.into(),
                agent_id.into(),
                Value::Integer(timestamp),
                before.into(),
                (&topic).into(),
                Value::Integer(seq),
                BATCH.into(),
            ];
            let old = self.lists.all(OLD_STATUSES, parameters, |row| {
                Ok((row.int()?, row.text()?, row.int()?, row.bool()?))
            });
            let old: Vec<(i64, String, i64, bool)> = old.await?;
            let Some(last) = old.last().cloned() else {
                return Ok(deleted);
            };
            let useless = old.iter().filter(|(_, _, _, useless)| *useless);
            let places: Vec<_> = useless
                .map(|(_, topic, seq, _)| json!([topic, seq]))
                .collect();
            if !places.is_empty() {
                deleted += places.len();
                let places = serde_json::Value::from(places).to_string();
                let parameters = [workspace.into(), agent_id.into(), Value::Text(places)];
                self.writer.run(DELETE_STATUSES, parameters).await?;
            }
            (timestamp, topic, seq, _) = last;
        }
    }
}
