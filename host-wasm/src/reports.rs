//! Recording reports: what an instance has in flight goes to storage together.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kubeagents_core::batch::{Batcher, Leftover};
use kubeagents_core::ports::{Reports, random_u32};
use kubeagents_core::{Incoming, Recorded, Recorder, Store, StoreError, Workspace, conflict_pause};

use crate::Platform;
use crate::ports::{SystemEntropy, WallClock};

/// Time that a report keeps trying while other instances change its session. Waiting for its turn
/// within the instance does not count.
const CONTENTION_DEADLINE: Duration = Duration::from_secs(30);

/// The instance's queue of reports, and the one worker that takes groups from it. Clones share it.
pub struct GroupedReports<S, P>(Rc<Shared<S, P>>);

struct Shared<S, P> {
    batcher: Batcher<S, WallClock, SystemEntropy>,
    platform: P,
    working: Cell<bool>,
}

impl<S, P> Clone for GroupedReports<S, P> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: Store + 'static, P: Platform> GroupedReports<S, P> {
    pub(crate) fn new(recorder: Recorder<S, WallClock, SystemEntropy>, platform: P) -> Self {
        Self(Rc::new(Shared {
            batcher: Batcher::new(recorder),
            platform,
            working: Cell::default(),
        }))
    }

    pub(crate) fn store(&self) -> &S {
        &self.0.batcher.recorder().store
    }

    pub(crate) fn platform(&self) -> &P {
        &self.0.platform
    }

    /// Starts the worker if there is something to do for it and none works.
    fn wake_worker(&self) {
        if self.0.batcher.is_ready() && !self.0.working.replace(true) {
            self.0.platform.spawn(Worker(self.clone()).work());
        }
    }

    /// Records the reports of a session that a group passed over, one after the other.
    async fn record_leftover(self, leftover: Leftover) {
        let record = |workspace, incoming| self.record_alone(workspace, incoming);
        self.0.batcher.record_leftover(leftover, record).await;
        self.wake_worker();
    }

    async fn record_alone(
        &self,
        workspace: Workspace,
        incoming: Incoming,
    ) -> Result<Recorded, StoreError> {
        let start = Instant::now();
        let retry = async |conflicts| {
            let in_time = start.elapsed() < CONTENTION_DEADLINE;
            if in_time {
                let pause = conflict_pause(conflicts, random_u32(&SystemEntropy));
                self.0.platform.sleep(pause).await;
            }
            in_time
        };
        let recorder = self.0.batcher.recorder();
        recorder.record(&workspace, &incoming, retry).await
    }
}

/// The worker. If the platform ends it early, nobody waits for it in vain.
struct Worker<S: Store + 'static, P: Platform>(GroupedReports<S, P>);

impl<S: Store + 'static, P: Platform> Worker<S, P> {
    async fn work(self) {
        let reports = &self.0;
        while let Some(leftovers) = reports.0.batcher.record_group().await {
            for leftover in leftovers {
                let retry = reports.clone().record_leftover(leftover);
                reports.0.platform.spawn(retry);
            }
        }
    }
}

impl<S: Store + 'static, P: Platform> Drop for Worker<S, P> {
    fn drop(&mut self) {
        let Shared {
            batcher, working, ..
        } = &*self.0.0;
        working.set(false);
        batcher.refuse_waiting();
    }
}

impl<S: Store + 'static, P: Platform> Reports for GroupedReports<S, P> {
    async fn record(
        &self,
        workspace: &Workspace,
        incoming: impl Into<Incoming>,
    ) -> Result<Recorded, StoreError> {
        let pending = self.0.batcher.enter(workspace, incoming);
        self.wake_worker();
        pending.answer().await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::future::pending;

    use bytes::Bytes;
    use futures_util::future::{join, join_all, select};
    use http::Request;
    use kubeagents_core::delivery::{Answer, PostError};
    use kubeagents_core::store::Sessions;
    use kubeagents_core::{
        AuthMode, Quotas, Report, ReportPolicy, SessionKey, StatusKind, Witness,
    };
    use kubeagents_store_keyvalue::{Entry, KeyValue, KeyValueError, KeyValueStore, Swap, Version};
    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// A bucket in memory; clones share it.
    #[derive(Clone, Default)]
    struct Bucket(Rc<State>);

    #[derive(Default)]
    struct State {
        entries: RefCell<HashMap<String, (Vec<u8>, u64)>>,
        operations: Cell<u64>,
        /// True while no operation ends.
        stuck: Cell<bool>,
        /// Number of swaps that lose from now on.
        losing: Cell<u32>,
    }

    impl Bucket {
        async fn operate(&self) {
            self.0.operations.set(self.0.operations.get() + 1);
            match self.0.stuck.get() {
                true => pending().await,
                false => yield_now().await,
            }
        }

        fn entry(&self, key: &str) -> Option<Entry> {
            let entries = self.0.entries.borrow();
            let (value, version) = entries.get(key)?.clone();
            let version = Version(version.to_string());
            Some(Entry { value, version })
        }

        fn put(&self, key: &str, value: Vec<u8>) {
            let version = self.0.operations.get();
            let mut entries = self.0.entries.borrow_mut();
            entries.insert(key.to_owned(), (value, version));
        }
    }

    impl KeyValue for Bucket {
        async fn get(&self, key: &str) -> Result<Option<Entry>, KeyValueError> {
            self.operate().await;
            Ok(self.entry(key))
        }

        async fn create(&self, key: &str, value: Vec<u8>) -> Result<bool, KeyValueError> {
            self.operate().await;
            let absent = self.entry(key).is_none();
            if absent {
                self.put(key, value);
            }
            Ok(absent)
        }

        async fn swap(
            &self,
            key: &str,
            value: Vec<u8>,
            version: &Version,
        ) -> Result<Swap, KeyValueError> {
            self.operate().await;
            let found = self.entry(key);
            let losing = self.0.losing.get();
            self.0.losing.set(losing.saturating_sub(1));
            if losing > 0 || found.as_ref().is_none_or(|found| found.version != *version) {
                return Ok(Swap::Stale(found));
            }
            self.put(key, value);
            Ok(Swap::Swapped)
        }

        async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
            self.operate().await;
            self.0.entries.borrow_mut().remove(key);
            Ok(())
        }
    }

    /// A platform that runs what is spawned until it is told to end it.
    #[derive(Clone, Default)]
    struct Local {
        ends: Rc<Cell<bool>>,
    }

    impl Platform for Local {
        fn spawn(&self, task: impl Future<Output = ()> + 'static) {
            let ends = Rc::clone(&self.ends);
            let end = async move {
                while !ends.get() {
                    yield_now().await;
                }
            };
            spawn_local(async move {
                select(Box::pin(task), Box::pin(end)).await;
            });
        }

        async fn sleep(&self, _: Duration) {
            yield_now().await;
        }

        async fn post(&self, _: Request<Bytes>) -> Result<Answer, PostError> {
            pending().await
        }
    }

    type TestReports = GroupedReports<KeyValueStore<Bucket>, Local>;

    async fn run(test: impl AsyncFnOnce(&TestReports, &Bucket, &Local)) {
        let (bucket, platform) = (Bucket::default(), Local::default());
        let recorder = Recorder {
            store: KeyValueStore::new(bucket.clone()),
            clock: WallClock,
            entropy: SystemEntropy,
            policy: ReportPolicy {
                default_ttl_minutes: 60,
                mode: AuthMode::Required,
                notification_webhook_url: None,
                shared_channel: None,
                kept_entries: None,
                has_timer: false,
                quotas: Quotas::default(),
            },
            witness: Witness::default(),
        };
        let reports = GroupedReports::new(recorder, platform.clone());
        let test = test(&reports, &bucket, &platform);
        let limited = tokio::time::timeout(Duration::from_secs(60), test);
        LocalSet::new().run_until(limited).await.unwrap();
    }

    fn report(agent: &str, topic: usize, message: usize) -> Report {
        Report {
            message: message.to_string(),
            ..Report::new(agent, topic.to_string(), StatusKind::Running)
        }
    }

    async fn record(reports: &TestReports, report: Report) -> Result<Recorded, StoreError> {
        reports.record(&Workspace::Shared, report).await
    }

    /// The messages of a session, oldest first.
    async fn messages(reports: &TestReports, agent: &str, topic: usize) -> Vec<String> {
        let key = SessionKey {
            workspace: Workspace::Shared,
            agent_id: agent.to_owned(),
            session_topic: topic.to_string(),
        };
        let found = reports.store().session(&key, None, 1000).await.unwrap();
        let history = found.map_or(Vec::new(), |found| found.history.items);
        history
            .into_iter()
            .rev()
            .map(|status| status.entry.message.clone())
            .collect()
    }

    #[tokio::test]
    async fn reports_in_flight_cost_together_what_one_costs() {
        run(async |reports, bucket, _| {
            let all = || (0..16).map(|n| record(reports, report("agent", n % 4, n)));
            assert!(join_all(all()).await.iter().all(Result::is_ok));
            let before = bucket.0.operations.get();
            assert!(join_all(all()).await.iter().all(Result::is_ok));
            assert_eq!(bucket.0.operations.get() - before, 2);
            assert!(record(reports, report("agent", 0, 16)).await.is_ok());
            assert_eq!(bucket.0.operations.get() - before, 4);
            let expected = ["0", "4", "8", "12", "0", "4", "8", "12", "16"];
            assert_eq!(messages(reports, "agent", 0).await, expected);
        })
        .await;
    }

    #[tokio::test]
    async fn reports_that_come_while_a_group_is_under_way_keep_their_order() {
        run(async |reports, _, _| {
            let one_by_one = (0..40).map(|n| async move {
                for _ in 0..n {
                    yield_now().await;
                }
                record(reports, report("agent", 0, n)).await
            });
            assert!(join_all(one_by_one).await.iter().all(Result::is_ok));
            let expected: Vec<String> = (0..40).map(|n| n.to_string()).collect();
            assert_eq!(messages(reports, "agent", 0).await, expected);
        })
        .await;
    }

    #[tokio::test]
    async fn what_a_group_lost_is_tried_again_in_order() {
        run(async |reports, bucket, _| {
            assert!(record(reports, report("agent", 0, 0)).await.is_ok());
            bucket.0.losing.set(450);
            let all = (1..9).map(|n| record(reports, report("agent", 0, n)));
            assert!(join_all(all).await.iter().all(Result::is_ok));
            let expected: Vec<String> = (0..9).map(|n| n.to_string()).collect();
            assert_eq!(messages(reports, "agent", 0).await, expected);
        })
        .await;
    }

    #[tokio::test]
    async fn nobody_waits_for_a_worker_that_the_platform_has_ended() {
        run(async |reports, bucket, platform| {
            bucket.0.stuck.set(true);
            let under_way = record(reports, report("agent", 0, 0));
            let behind = async {
                while bucket.0.operations.get() == 0 {
                    yield_now().await;
                }
                let waiting = join(
                    record(reports, report("agent", 0, 1)),
                    record(reports, report("other", 0, 2)),
                );
                let end = async {
                    yield_now().await;
                    platform.ends.set(true);
                };
                join(waiting, end).await.0
            };
            let (first, (second, third)) = join(under_way, behind).await;
            for answer in [first, second, third] {
                assert!(
                    matches!(answer, Err(StoreError::Unavailable(_))),
                    "{answer:?}"
                );
            }
            bucket.0.stuck.set(false);
            platform.ends.set(false);
            assert!(record(reports, report("agent", 0, 3)).await.is_ok());
            assert_eq!(messages(reports, "agent", 0).await, ["3"]);
        })
        .await;
    }
}
