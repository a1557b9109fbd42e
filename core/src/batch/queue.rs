//! What waits to be recorded, and what of it is under way.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{SessionKey, Workspace};

/// Reports by session, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// What waits for each session. A session that has been taken stays in the map.
    sessions: HashMap<SessionKey, VecDeque<T>>,
    /// Sessions that something waits for and nobody has taken.
    ready: VecDeque<SessionKey>,
    /// Agents of the groups under way. Groups lock their agents and pass over what is locked, so
    /// two groups with one agent would get in each other's way.
    agents: HashSet<AgentKey>,
}

/// An agent's workspace and name.
type AgentKey = (Workspace, String);

/// What has been taken of one session, which is its taker's until it is given back.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub(crate) key: SessionKey,
    pub(crate) waiting: Vec<T>,
    /// True if the agent is its taker's too.
    with_agent: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            sessions: HashMap::new(),
            ready: VecDeque::new(),
            agents: HashSet::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Puts something behind what waits for the session.
    pub(crate) fn push(&mut self, key: SessionKey, item: T) {
        if let Some(waiting) = self.sessions.get_mut(&key) {
            waiting.push_back(item);
        } else {
            self.ready.push_back(key.clone());
            self.sessions.insert(key, VecDeque::from([item]));
        }
    }

    /// Takes a group of at most `room` items of sessions whose agents are in no other group.
    pub(crate) fn take(&mut self, mut room: usize) -> Vec<Taken<T>> {
        let mut group = Vec::new();
        let mut mine = HashSet::new();
        let mut passed_over = VecDeque::new();
        while room > 0
            && let Some(key) = self.ready.pop_front()
        {
            let agent = agent(&key);
            if !mine.contains(&agent) {
                if !self.agents.insert(agent.clone()) {
                    passed_over.push_back(key);
                    continue;
                }
                mine.insert(agent);
            }
            let Some(waiting) = self.sessions.get_mut(&key) else {
                continue;
            };
            let count = waiting.len().min(room);
            room -= count;
            let waiting = waiting.drain(..count).collect();
            group.push(Taken {
                key,
                waiting,
                with_agent: true,
            });
        }
        passed_over.append(&mut self.ready);
        self.ready = passed_over;
        group
    }

    /// Whether something waits that nobody has taken, be it for an agent of a group under way.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Lets other groups have the agent. To be done of all sessions of a group at once.
    pub(crate) fn release_agent(&mut self, taken: &mut Taken<T>) {
        if std::mem::take(&mut taken.with_agent) {
            self.agents.remove(&agent(&taken.key));
        }
    }

    /// Gives a session back, and the agent if it has not been released before.
    pub(crate) fn give_back(&mut self, taken: &mut Taken<T>) {
        self.release_agent(taken);
        let waiting = self.sessions.get(&taken.key);
        if waiting.is_some_and(|waiting| !waiting.is_empty()) {
            self.ready.push_back(taken.key.clone());
        } else {
            self.sessions.remove(&taken.key);
        }
    }

    /// Drops what waits that nobody has taken.
    pub(crate) fn clear(&mut self) {
        for key in self.ready.drain(..) {
            self.sessions.remove(&key);
        }
    }
}

fn agent(key: &SessionKey) -> AgentKey {
    (key.workspace.clone(), key.agent_id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(agent_id: &str, session_topic: &str) -> SessionKey {
        SessionKey {
            workspace: Workspace::Shared,
            agent_id: agent_id.to_owned(),
            session_topic: session_topic.to_owned(),
        }
    }

    fn queue(items: &[(&str, &str, u32)]) -> Queue<u32> {
        let mut queue = Queue::default();
        for &(agent, topic, item) in items {
            queue.push(session(agent, topic), item);
        }
        queue
    }

    /// `agent/topic: items` of a group.
    fn summary(group: &[Taken<u32>]) -> Vec<String> {
        let line = |taken: &Taken<u32>| {
            let SessionKey {
                agent_id,
                session_topic,
                ..
            } = &taken.key;
            format!("{agent_id}/{session_topic}: {:?}", taken.waiting)
        };
        group.iter().map(line).collect()
    }

    #[test]
    fn a_group_takes_what_waits_in_order() {
        let mut queue = queue(&[("a", "1", 1), ("b", "1", 2), ("a", "1", 3), ("a", "2", 4)]);
        let group = queue.take(9);
        assert_eq!(summary(&group), ["a/1: [1, 3]", "b/1: [2]", "a/2: [4]"]);
        assert!(!queue.is_ready());
    }

    #[test]
    fn what_does_not_fit_waits_for_its_session() {
        let mut queue = queue(&[("a", "1", 1), ("a", "1", 2), ("a", "1", 3), ("b", "1", 4)]);
        let mut group = queue.take(2);
        assert_eq!(summary(&group), ["a/1: [1, 2]"]);
        assert_eq!(summary(&queue.take(2)), ["b/1: [4]"]);
        queue.release_agent(&mut group[0]);
        assert!(queue.take(2).is_empty());
        queue.give_back(&mut group[0]);
        assert_eq!(summary(&queue.take(2)), ["a/1: [3]"]);
    }

    #[test]
    fn no_two_groups_have_one_agent() {
        let mut queue = queue(&[("a", "1", 1)]);
        let mut first = queue.take(9);
        queue.push(session("a", "2"), 2);
        queue.push(session("b", "1"), 3);
        queue.push(session("a", "3"), 4);
        assert_eq!(summary(&queue.take(9)), ["b/1: [3]"]);
        assert!(queue.is_ready());
        queue.release_agent(&mut first[0]);
        assert_eq!(summary(&queue.take(9)), ["a/2: [2]", "a/3: [4]"]);
    }

    #[test]
    fn a_session_that_takes_long_holds_up_no_other_of_its_agent() {
        let mut queue = queue(&[("a", "slow", 1)]);
        let mut group = queue.take(9);
        queue.release_agent(&mut group[0]);
        queue.push(session("a", "slow"), 2);
        queue.push(session("a", "quick"), 3);
        assert_eq!(summary(&queue.take(9)), ["a/quick: [3]"]);
    }

    #[test]
    fn a_session_that_nothing_waits_for_is_forgotten() {
        let mut queue = queue(&[("a", "1", 1)]);
        let mut group = queue.take(9);
        queue.give_back(&mut group[0]);
        assert!(queue.sessions.is_empty() && queue.agents.is_empty() && !queue.is_ready());
    }

    #[test]
    fn what_nobody_has_taken_can_be_dropped() {
        let mut queue = queue(&[("a", "1", 1)]);
        let mut group = queue.take(9);
        queue.push(session("a", "1"), 2);
        queue.push(session("b", "1"), 3);
        queue.clear();
        assert!(!queue.is_ready());
        queue.give_back(&mut group[0]);
        assert_eq!(summary(&queue.take(9)), ["a/1: [2]"]);
    }
}
