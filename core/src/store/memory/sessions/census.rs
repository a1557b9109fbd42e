use std::ops::Bound::Unbounded;
use std::ops::ControlFlow;

use super::{MemoryStore, visit_some};
use crate::store::{Census, Counts, StoreError};
use crate::yielding::yield_now;
use crate::{Timestamp, Workspace, is_expired};

impl Census for MemoryStore {
    async fn census(&self, now: Timestamp) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        let workspaces: Vec<Workspace> = self.lock().sessions.agents.keys().cloned().collect();
        for workspace in workspaces {
            let mut place = Unbounded;
            let mut count_some = || {
                let sessions = &self.lock().sessions;
                let Some(agents) = sessions.agents.get(&workspace) else {
                    return ControlFlow::Break(());
                };
                visit_some(&agents.sessions, &mut place, |(_, agent, topic)| {
                    let agent = agents.by_id.get(agent);
                    if let Some(session) = agent.and_then(|agent| agent.sessions.get(topic)) {
                        let head = &session.head;
                        let is_expired = is_expired(head.expires_at(), now);
                        counts.add(1, head.status, &head.reason, is_expired);
                    }
                    ControlFlow::Continue(())
                })
            };
            while count_some().is_continue() {
                yield_now().await;
            }
        }
        let outbox = &self.lock().outbox;
        (counts.waiting, counts.oldest) = outbox.length_and_oldest();
        counts.without_room = outbox.without_room();
        Ok(counts)
    }
}
