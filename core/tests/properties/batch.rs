//! Group commit against a sequential model, on a store that is late, refuses, conflicts and fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use chrono::{DateTime, TimeDelta};
use futures_executor::block_on;
use kubeagents_core::batch::{Batcher, Chain, Pending};
use kubeagents_core::ports::{Clock, Entropy};
use kubeagents_core::store::{
    Accounts, AgentCursor, AgentQuery, Audience, ChannelCreation, Channels, CommitOutcome,
    HistoryCursor, MemoryStore, Page, Registration, SessionCursor, SessionHistory, SessionQuery,
    Sessions, SilenceNote, WorkspaceCursor, WorkspaceQuery,
};
use kubeagents_core::{
    Account, AccountId, Agent, AuthMode, Channel, Incoming, MailedToken, NamedSession, NewAccount,
    Quotas, Receiver, Recorded, Recorder, Report, ReportPolicy, Session, SessionKey, Snapshot,
    Status, StatusKind, StoreError, Timestamp, Unstored, Witness, Workspace, decide,
};
use proptest::prelude::*;

const WORKERS: usize = 3;

/// What storage makes of an operation.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Does as it was asked.
    Works,
    /// Passes over every second chain, as if its rows were locked.
    Skips,
    Refuses,
    Contends,
    /// Fails and has done nothing.
    Fails,
    /// Fails after it has done as it was asked.
    FailsLate,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Enter {
        agent: u8,
        topic: u8,
        status: StatusKind,
        sequence: Option<u64>,
    },
    /// A worker goes on until it waits for storage, or takes a group if it has none.
    Work(usize),
    /// A worker's future is dropped.
    End(usize),
    /// Another host reports on a session.
    Rival {
        agent: u8,
        topic: u8,
        status: StatusKind,
        sequence: Option<u64>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = || prop::sample::select(StatusKind::ALL.to_vec());
    let sequence = || prop::option::of(1..20u64);
    let report = || (0..2u8, 0..3u8, status(), sequence());
    let enter = report().prop_map(|(agent, topic, status, sequence)| Step::Enter {
        agent,
        topic,
        status,
        sequence,
    });
    let rival = report().prop_map(|(agent, topic, status, sequence)| Step::Rival {
        agent,
        topic,
        status,
        sequence,
    });
    let step = prop_oneof![
        6 => enter,
        8 => (0..WORKERS).prop_map(Step::Work),
        1 => (0..WORKERS).prop_map(Step::End),
        1 => rival,
    ];
    prop::collection::vec(step, 1..160)
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        10 => Just(Fate::Works),
        2 => Just(Fate::Skips),
        1 => Just(Fate::Refuses),
        1 => Just(Fate::Contends),
        1 => Just(Fate::Fails),
        1 => Just(Fate::FailsLate),
    ];
    prop::collection::vec(fate, 100)
}

/// A store whose operations take a turn of their worker, and end as they are fated to.
struct Moody {
    store: MemoryStore,
    fates: RefCell<VecDeque<Fate>>,
}

impl Moody {
    async fn fate(&self) -> Fate {
        let mut waited = false;
        poll_fn(|_| match std::mem::replace(&mut waited, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        self.fates.borrow_mut().pop_front().unwrap_or(Fate::Works)
    }
}

impl Sessions for &Moody {
    async fn load_many(&self, keys: &[SessionKey]) -> Result<Vec<Snapshot>, StoreError> {
        match self.fate().await {
            Fate::Works | Fate::Skips => self.store.load_many(keys).await,
            Fate::Refuses => Err(StoreError::Refused("refused".into())),
            Fate::Contends => Err(StoreError::Contended),
            Fate::Fails | Fate::FailsLate => Err(StoreError::unavailable("failed")),
        }
    }

    async fn commit_many(&self, chains: &[Chain]) -> Result<Vec<CommitOutcome>, StoreError> {
        match self.fate().await {
            Fate::Works => self.store.commit_many(chains).await,
            Fate::Skips => {
                let mut outcomes = vec![CommitOutcome::Conflict; chains.len()];
                for (chain, outcome) in chains.iter().zip(&mut outcomes).step_by(2) {
                    let chain = std::slice::from_ref(chain);
                    *outcome = self.store.commit_many(chain).await?[0];
                }
                Ok(outcomes)
            }
            Fate::Refuses => Err(StoreError::Refused("refused".into())),
            Fate::Contends => Err(StoreError::Contended),
            Fate::Fails => Err(StoreError::unavailable("failed")),
            Fate::FailsLate => {
                let _ = self.store.commit_many(chains).await?;
                Err(StoreError::unavailable("failed late"))
            }
        }
    }

    async fn silences(
        &self,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Snapshot)>, StoreError> {
        self.store.silences(after, until, limit).await
    }

    async fn note_silences(&self, notes: &[SilenceNote]) -> Result<Vec<bool>, StoreError> {
        self.store.note_silences(notes).await
    }

    async fn agents(
        &self,
        workspace: &Workspace,
        query: &AgentQuery,
        now: Timestamp,
    ) -> Result<Page<Agent, AgentCursor>, StoreError> {
        self.store.agents(workspace, query, now).await
    }

    async fn agent(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        now: Timestamp,
    ) -> Result<Option<Agent>, StoreError> {
        self.store.agent(workspace, agent_id, now).await
    }

    async fn sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, StoreError> {
        self.store.sessions(workspace, agent_id, query, now).await
    }

    async fn workspace_sessions(
        &self,
        workspace: &Workspace,
        query: &WorkspaceQuery,
        now: Timestamp,
    ) -> Result<Page<NamedSession, WorkspaceCursor>, StoreError> {
        self.store.workspace_sessions(workspace, query, now).await
    }

    async fn session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Option<SessionHistory>, StoreError> {
        self.store.session(key, before, limit).await
    }

    async fn history(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        before: Option<&HistoryCursor>,
        limit: usize,
    ) -> Result<Page<Status, HistoryCursor>, StoreError> {
        self.store.history(workspace, agent_id, before, limit).await
    }
}

impl Channels for &Moody {
    async fn channels(&self, workspace: &Workspace) -> Result<Vec<Channel>, StoreError> {
        self.store.channels(workspace).await
    }

    async fn create_channel(
        &self,
        channel: &Channel,
        most: usize,
    ) -> Result<ChannelCreation, StoreError> {
        self.store.create_channel(channel, most).await
    }

    async fn update_channel(
        &self,
        channel: &Channel,
        version: Timestamp,
    ) -> Result<bool, StoreError> {
        self.store.update_channel(channel, version).await
    }

    async fn delete_channel(&self, workspace: &Workspace, id: &str) -> Result<bool, StoreError> {
        self.store.delete_channel(workspace, id).await
    }
}

impl Accounts for &Moody {
    async fn create_account(&self, account: &NewAccount) -> Result<Registration, StoreError> {
        self.store.create_account(account).await
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>, StoreError> {
        self.store.account(id).await
    }

    async fn account_by_email(&self, email: &str) -> Result<Option<Account>, StoreError> {
        self.store.account_by_email(email).await
    }

    async fn set_verification(
        &self,
        id: &AccountId,
        verification: &MailedToken,
    ) -> Result<(), StoreError> {
        self.store.set_verification(id, verification).await
    }

    async fn verify_account(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.store.verify_account(token_hash, now).await
    }

    async fn set_reset(&self, id: &AccountId, reset: &MailedToken) -> Result<(), StoreError> {
        self.store.set_reset(id, reset).await
    }

    async fn account_by_reset(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.store.account_by_reset(token_hash, now).await
    }

    async fn reset_password(
        &self,
        token_hash: &str,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let reset = self.store.reset_password(token_hash, password_hash, now);
        reset.await
    }

    async fn change_password(
        &self,
        account: &Account,
        password_hash: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let change = self.store.change_password(account, password_hash, now);
        change.await
    }

    async fn delete_account(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError> {
        self.store.delete_account(account, now).await
    }

    async fn purge_deleted(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.store.purge_deleted(now).await
    }

    async fn set_notification_url(
        &self,
        id: &AccountId,
        url: &str,
        now: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        self.store.set_notification_url(id, url, now).await
    }

    async fn receivers(&self, audience: &Audience) -> Result<Vec<Receiver>, StoreError> {
        self.store.receivers(audience).await
    }
}

/// A clock that goes on by a second whenever it is looked at.
struct Ticking(Cell<i64>);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let seconds = self.0.get();
        self.0.set(seconds + 1);
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
    }
}

struct Counting(Cell<u8>);

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.set(self.0.get().wrapping_add(1));
        buffer.fill(self.0.get());
    }
}

fn report(
    agent: u8,
    topic: u8,
    status: StatusKind,
    sequence: Option<u64>,
    message: String,
) -> Report {
    Report {
        agent_id: format!("agent {agent}"),
        agent_name: None,
        agent_source: None,
        session_topic: format!("topic {topic}"),
        status,
        message,
        content: String::new(),
        ttl_minutes: None,
        session_title: None,
        reason: String::new(),
        context: BTreeMap::new(),
        sequence,
        user: None,
    }
}

/// Another host's report, stored at once unless it is a repetition.
fn rival(store: &MemoryStore, report: &Report, now: Timestamp) {
    let snapshot = block_on(store.load(&report.session_key(&Workspace::Shared))).unwrap();
    let Ok(decision) = decide(&Workspace::Shared, report, &snapshot, now, 60) else {
        return;
    };
    let outcome = block_on(store.commit(&decision.commit)).unwrap();
    assert_eq!(outcome, CommitOutcome::Committed);
}

type TestBatcher<'a> = Batcher<&'a Moody, Ticking, Counting>;

/// One worker's turn: a group, then what is left of it, report by report.
async fn work(batcher: &TestBatcher<'_>) {
    for leftover in batcher.record_group().await.unwrap_or_default() {
        let record = async |workspace: Workspace, incoming: Incoming| {
            let retry = async |conflicts| conflicts < 4;
            batcher
                .recorder()
                .record(&workspace, &incoming, retry)
                .await
        };
        batcher.record_leftover(leftover, record).await;
    }
}

type Worker<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets a worker go on until it waits; it begins if it has nothing to do.
fn turn<'a>(worker: &mut Option<Worker<'a>>, batcher: &'a TestBatcher<'a>) {
    let mut work = worker.take().unwrap_or_else(|| Box::pin(work(batcher)));
    if poll(work.as_mut()).is_pending() {
        *worker = Some(work);
    }
}

/// An entered report's message, and its answer.
type Entered = (String, Pending);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_enters_is_answered_once_and_stored_in_order(
        mut steps in steps(),
        mut fates in fates(),
        calm in any::<bool>(),
        (agents, sessions_per_agent) in prop_oneof![
            3 => Just((0, 0)),
            1 => (0..4u32, 0..4u32),
        ],
    ) {
        if calm {
            steps.retain(|step| !matches!(step, Step::End(_)));
            fates.retain(|fate| !matches!(fate, Fate::Fails | Fate::FailsLate));
        }
        let store = Moody {
            store: MemoryStore::default(),
            fates: RefCell::new(fates.into()),
        };
        let batcher = Batcher::new(Recorder {
            store: &store,
            clock: Ticking(Cell::new(0)),
            entropy: Counting(Cell::new(0)),
            policy: ReportPolicy {
                default_ttl_minutes: 60,
                mode: AuthMode::Required,
                shared_channel: None,
                notification_webhook_url: Some("https://example.com/hook".into()),
                kept_entries: None,
                has_timer: true,
                quotas: Quotas { agents, sessions_per_agent },
            },
            witness: Witness::default(),
        });
        let mut entered: BTreeMap<SessionKey, Vec<Entered>> = BTreeMap::new();
        let mut sequences: BTreeMap<String, u64> = BTreeMap::new();
        let mut workers: [Option<Worker<'_>>; WORKERS] = Default::default();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Enter { agent, topic, status, sequence } => {
                    sequences.extend(sequence.map(|sequence| (n.to_string(), sequence)));
                    let report = report(agent, topic, status, sequence, n.to_string());
                    let session = entered.entry(report.session_key(&Workspace::Shared));
                    let pending = batcher.enter(&Workspace::Shared, report);
                    session.or_default().push((n.to_string(), pending));
                }
                Step::Work(worker) => turn(&mut workers[worker], &batcher),
                Step::End(worker) => workers[worker] = None,
                Step::Rival { agent, topic, status, sequence } => {
                    let message = format!("rival {n}");
                    sequences.extend(sequence.map(|sequence| (message.clone(), sequence)));
                    let report = report(agent, topic, status, sequence, message);
                    rival(&store.store, &report, batcher.recorder().clock.now());
                }
            }
        }
        let mut turns = 0;
        while batcher.is_ready() || workers.iter().any(Option::is_some) {
            workers.iter_mut().for_each(|worker| turn(worker, &batcher));
            turns += 1;
            prop_assert!(turns < 10_000, "the workers never end");
        }

        // What is decided on at once by several workers may exceed a limit.
        let most = |limit: u32| match limit {
            0 => usize::MAX,
            limit => limit as usize + WORKERS - 1,
        };
        let mut registered: BTreeMap<String, usize> = BTreeMap::new();
        for key in entered.keys() {
            let found = block_on(store.store.session(key, None, 1000)).unwrap();
            let history = found.map_or(Vec::new(), |found| found.history.items);
            if history.last().is_some_and(|first| !first.entry.message.starts_with("rival")) {
                *registered.entry(key.agent_id.clone()).or_default() += 1;
            }
        }
        prop_assert!(registered.values().all(|sessions| *sessions <= most(sessions_per_agent)));
        let is_own = |agent: &&String| {
            let history = block_on(store.store.history(&Workspace::Shared, agent, None, 1000));
            let first = history.unwrap().items.pop();
            first.is_some_and(|first| !first.entry.message.starts_with("rival"))
        };
        prop_assert!(registered.keys().filter(is_own).count() <= most(agents));

        for (key, reports) in entered {
            let found = block_on(store.store.session(&key, None, 1000)).unwrap();
            let mut history = found.map_or(Vec::new(), |found| found.history.items);
            history.reverse();
            let stored: Vec<&str> = history.iter().map(|status| &*status.entry.message).collect();
            let order = reports.iter().map(|(message, _)| &**message);
            let order: Vec<&str> = order.filter(|message| stored.contains(message)).collect();
            let mut own = stored.clone();
            own.retain(|message| !message.starts_with("rival"));
            prop_assert_eq!(own, order, "each once, in the order in which they entered");

            let stored_sequences = stored.iter().filter_map(|message| sequences.get(*message));
            prop_assert!(stored_sequences.is_sorted_by(|a, b| a < b), "none twice, none late");

            let mut transitions = BTreeSet::new();
            for pair in history.windows(2) {
                let ends = |status| status != StatusKind::Running;
                if !ends(pair[0].entry.status) && ends(pair[1].entry.status) {
                    transitions.insert(pair[1].entry.message.clone());
                }
            }
            for (message, pending) in reports {
                let mut answer = Box::pin(pending.answer());
                let Poll::Ready(answer) = poll(answer.as_mut()) else {
                    panic!("{message} is never answered");
                };
                let is_stored = stored.contains(&&*message);
                match answer {
                    Ok(Recorded::Stored { notifications, .. }) => {
                        prop_assert!(is_stored, "{} is answered and lost", message);
                        prop_assert_eq!(notifications, transitions.contains(&message));
                    }
                    Ok(Recorded::Unstored(Unstored::LimitReached(_))) => {
                        prop_assert!(!is_stored, "{} is refused and stored", message);
                        prop_assert!(agents + sessions_per_agent > 0);
                    }
                    Ok(Recorded::Unstored(unstored)) => {
                        prop_assert_eq!(unstored, Unstored::AlreadyReported);
                        prop_assert!(!is_stored, "{} is stored again", message);
                        let own = sequences[&message];
                        let others = stored.iter().filter_map(|other| sequences.get(*other));
                        let is_repetition = others.max().is_some_and(|last| own <= *last);
                        prop_assert!(is_repetition, "{} is taken for a repetition", message);
                    }
                    Err(StoreError::Refused(_) | StoreError::Contended) => {
                        prop_assert!(!is_stored, "{} is refused and stored", message);
                    }
                    Err(StoreError::Unavailable(_)) => {
                        prop_assert!(!calm, "{} fails though nothing else does", message);
                    }
                }
            }
        }
    }
}
