//! The store on the model of a backend.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use futures_executor::block_on;
use futures_util::future::join;
use kubeagents_core::batch::Chain;
use kubeagents_core::store::{
    Accounts, AgentQuery, ApiKeyCreation, ApiKeys, Audience, CommitOutcome, Expiry, LeaseRequest,
    MemoryStore, Outbox, RefreshTokens, Registration, SessionQuery, Sessions, SilenceNote,
};
use kubeagents_core::{
    Account, AccountId, ApiKey, MailedToken, NewAccount, Notification, RefreshToken, Report,
    Scopes, SessionKey, Silence, Snapshot, StatusKind, Store, StoreError, Timestamp, Workspace,
    WorkspaceChoice, decide,
};

use crate::documents::{Document, Limits};
use crate::log::{Log, Page, page_key};
use crate::model::{Bucket, Hold, Life};
use crate::sessions::{Moved, agent_hash, agents_list, head_key};
use crate::{Entry, KeyValue, KeyValueStore, Swap};

/// Limits that make every list and every agent spill over after a few reports.
const TIGHT: Limits = Limits {
    tail_bytes: 400,
    hot_sessions: 2,
    hot_bytes: 600,
    crowded_bytes: 4096,
};

mod roomy {
    use super::*;

    fn run(case: &str, test: impl AsyncFnOnce(&KeyValueStore<Bucket>, &str)) {
        let bucket = Bucket::contended();
        block_on(test(&KeyValueStore::new(bucket), case));
    }

    kubeagents_core::store_suite!(run);
}

mod tight {
    use super::*;

    fn run(case: &str, test: impl AsyncFnOnce(&KeyValueStore<Bucket>, &str)) {
        let bucket = Bucket::contended();
        block_on(test(&KeyValueStore::with_limits(bucket, TIGHT), case));
    }

    kubeagents_core::store_suite!(run);
}

#[test]
fn registrations_go_when_their_link_has_run_out() {
    let store = KeyValueStore::new(Bucket::contended());
    let case = kubeagents_core::store::suite::registrations_go_when_their_link_has_run_out;
    block_on(case(&store, "registrations"));
}

#[test]
fn a_registration_with_a_new_link_goes_when_that_has_run_out() {
    block_on(async {
        let store = KeyValueStore::new(Bucket::default());
        let registered = register(&store).await;
        assert_eq!(registered, Registration::Created(account_id()));
        let link = MailedToken {
            token_hash: "another token".into(),
            expires_at: after(2 * 86_400),
        };
        store.set_verification(&account_id(), &link).await.unwrap();
        let is_there_after = async |seconds| {
            store.purge_registrations(after(seconds)).await.unwrap();
            store.account(&account_id()).await.unwrap().is_some()
        };
        assert!(is_there_after(86_401).await);
        assert!(is_there_after(2 * 86_400).await);
        assert!(!is_there_after(2 * 86_400 + 1).await);
        let found = store.account_by_email("someone@example.com").await.unwrap();
        assert_eq!(found, None);
    });
}

#[test]
fn what_a_clock_that_was_ahead_let_rest_is_due() {
    let store = KeyValueStore::new(Bucket::contended());
    let case = kubeagents_core::store::suite::what_a_clock_that_was_ahead_let_rest_is_due;
    block_on(case(&store, "rest"));
}

const AGENT: &str = "agent";

fn start() -> Timestamp {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn after(seconds: usize) -> Timestamp {
    start() + TimeDelta::seconds(seconds.try_into().unwrap())
}

fn account_id() -> AccountId {
    AccountId::new("5f0c7a52-6b8e-4c0f-9a52-0e5d2f1b7c11")
}

fn workspace() -> Workspace {
    Workspace::Account(account_id())
}

fn report(topic: &str, status: StatusKind) -> Report {
    Report {
        message: format!("{status:?} {topic}"),
        ..Report::new(AGENT, topic, status)
    }
}

/// Records a report, with a notification where it ends a run.
async fn record(
    store: &impl Store,
    report: &Report,
    now: Timestamp,
    id: &str,
) -> Result<(), StoreError> {
    record_group(store, std::slice::from_ref(report), now, id).await
}

/// Records reports as one group, a chain for each session, with notifications as [`record`] has
/// them. What conflicts is decided again.
async fn record_group(
    store: &impl Store,
    reports: &[Report],
    now: Timestamp,
    id: &str,
) -> Result<(), StoreError> {
    let mut sessions: BTreeMap<SessionKey, Vec<(usize, &Report)>> = BTreeMap::new();
    for numbered in reports.iter().enumerate() {
        let session = sessions.entry(numbered.1.session_key(&workspace()));
        session.or_default().push(numbered);
    }
    while !sessions.is_empty() {
        let keys: Vec<SessionKey> = sessions.keys().cloned().collect();
        let snapshots = store.load_many(&keys).await?;
        let chain = |(mut snapshot, reports): (Snapshot, &Vec<(usize, &Report)>)| {
            let commits = reports.iter().map(|(number, report)| {
                let decision = decide(&workspace(), report, &snapshot, now, 60).unwrap();
                snapshot = snapshot.after(&decision.commit);
                let mut commit = decision.commit;
                commit
                    .notifications
                    .extend(decision.transition.map(|transition| Notification {
                        id: format!("{id}-{number}"),
                        workspace: workspace(),
                        url: "https://example.com/hook".into(),
                        host: "example.com:443".into(),
                        body: transition.body(),
                        channel: String::new(),

                        created_at: transition.timestamp,
                        delay: chrono::TimeDelta::zero(),
                    }));
                commit
            });
            Chain::new(commits).unwrap()
        };
        let chains: Vec<Chain> = snapshots
            .into_iter()
            .zip(sessions.values())
            .map(chain)
            .collect();
        let outcomes = store.commit_many(&chains).await?;
        for (key, outcome) in keys.iter().zip(outcomes) {
            if outcome == CommitOutcome::Committed {
                sessions.remove(key);
            }
        }
    }
    Ok(())
}

/// Everything that queries show of the agent.
async fn seen(store: &impl Store, topics: &[String], now: Timestamp) -> Vec<String> {
    let ws = workspace();
    let agents = AgentQuery {
        limit: 100,
        ..AgentQuery::default()
    };
    let mut seen = vec![
        format!("{:#?}", store.agents(&ws, &agents, now).await.unwrap()),
        format!("{:#?}", store.agent(&ws, AGENT, now).await.unwrap()),
        format!(
            "{:#?}",
            store.history(&ws, AGENT, None, 1000).await.unwrap()
        ),
    ];
    for expiry in [Expiry::Any, Expiry::Unexpired, Expiry::Expired] {
        let query = SessionQuery {
            expiry,
            limit: 100,
            ..SessionQuery::default()
        };
        let sessions = store.sessions(&ws, AGENT, &query, now).await.unwrap();
        seen.push(format!("{sessions:#?}"));
    }
    for topic in topics {
        let key = SessionKey {
            workspace: ws.clone(),
            agent_id: AGENT.into(),
            session_topic: topic.clone(),
        };
        let session = store.session(&key, None, 1000).await.unwrap();
        seen.push(format!("{session:#?}"));
    }
    seen
}

fn request(now: Timestamp) -> LeaseRequest {
    LeaseRequest {
        now,
        duration: Duration::from_secs(10),
        after: String::new(),
        busy_workspaces: HashSet::new(),
        busy_hosts: HashSet::new(),
        used_hosts: HashSet::new(),
    }
}

/// Delivers everything that waits.
async fn delivered(store: &impl Store, now: Timestamp) -> BTreeSet<String> {
    let request = request(now);
    let mut ids = BTreeSet::new();
    while let Some(leased) = store.lease_notification(&request).await.unwrap() {
        let id = leased.notification.id;
        store.notification_delivered(&id).await.unwrap();
        assert!(ids.insert(id.clone()), "{id} was delivered twice");
    }
    ids
}

#[test]
fn a_writer_that_dies_between_any_two_operations_leaves_all_of_a_report_or_nothing() {
    block_on(async {
        let bucket = Bucket::default();
        let survivor = KeyValueStore::with_limits(bucket.clone(), TIGHT);
        let model = MemoryStore::default();
        let topics: Vec<String> = (0..7).map(|n| format!("topic {n}")).collect();
        let mut deaths = 0;
        for step in 0..90 {
            // Sessions rest for a while, long enough to move to documents of their own.
            let topic = &topics[(step * step / 7 + step / 3) % topics.len()];
            let status = StatusKind::ALL[step % 4 / 2];
            let mut reports = vec![report(topic, status)];
            if step % 3 == 0 {
                let other = &topics[(step + 1) % topics.len()];
                reports.extend([report(topic, StatusKind::Success), report(other, status)]);
            }
            let now = after(step * 40);
            for death in 0.. {
                let id = format!("{step}-{death}");
                let mortal = bucket.mortal(Life {
                    operations: death / 2,
                    last_takes_effect: death % 2 == 1,
                });
                let mortal = KeyValueStore::with_limits(mortal, TIGHT);
                let key = reports[0].session_key(&workspace());
                let before = survivor.load(&key).await.unwrap().session;
                let outcome = record_group(&mortal, &reports, now, &id).await;
                let stored = survivor.load(&key).await.unwrap().session != before;
                assert!(stored || outcome.is_err(), "an answered report is lost");
                if stored {
                    record_group(&model, &reports, now, &id).await.unwrap();
                }
                assert_eq!(
                    seen(&survivor, &topics, now).await,
                    seen(&model, &topics, now).await,
                    "step {step}, death {death}"
                );
                if stored {
                    break;
                }
                deaths += 1;
            }
        }
        assert!(deaths > 200, "only {deaths} deaths were tried");
        let end = after(100_000);
        assert_eq!(
            delivered(&survivor, end).await,
            delivered(&model, end).await
        );
    });
}

#[test]
fn a_report_costs_at_most_eleven_operations_however_much_there_is() {
    block_on(async {
        let bucket = Bucket::default();
        let store = KeyValueStore::new(bucket.clone());
        let key = api_key();
        let _ = register(&store).await;
        let created = store.create_api_key(&key, 100).await.unwrap();
        assert_eq!(created, ApiKeyCreation::Created);
        store
            .set_notification_url(&account_id(), "https://example.com/hook", start())
            .await
            .unwrap();
        let mut most = 0;
        let before = bucket.operations();
        let reports = 1500;
        for step in 0..reports {
            let now = after(step * 70);
            // One session that goes on for ever, new ones, and old ones that come back.
            let topic = match step % 4 {
                0 => "long".to_owned(),
                1 => format!("new {step}"),
                _ => format!("new {}", (step / 8 * 4 + 1) % (step + 1)),
            };
            let status = StatusKind::ALL[step / 3 % 2];
            let begun = bucket.operations();
            let key = store.api_key_by_hash(&key.key_hash).await.unwrap().unwrap();
            store.touch_api_key(&key, now).await.unwrap();
            let report = report(&topic, status);
            let snapshot = store.load(&report.session_key(&workspace())).await.unwrap();
            let decision = decide(&workspace(), &report, &snapshot, now, 60).unwrap();
            let mut commit = decision.commit;
            if let Some(transition) = decision.transition {
                let audience = Audience::Account(account_id());
                for to in store.receivers(&audience).await.unwrap() {
                    commit.notifications.push(Notification {
                        id: format!("{step}"),
                        workspace: to.workspace,
                        url: to.url,
                        host: "example.com:443".into(),
                        body: transition.body(),
                        channel: String::new(),

                        created_at: now,
                        delay: chrono::TimeDelta::zero(),
                    });
                }
            }
            assert_eq!(
                store.commit(&commit).await.unwrap(),
                CommitOutcome::Committed
            );
            most = most.max(bucket.operations() - begun);
        }
        let average = (bucket.operations() - before) / reports as u64;
        assert!(most <= 11, "operations of the dearest report: {most}");
        assert!(average <= 5, "operations of a report on average: {average}");
        assert!(bucket.largest() < 100_000, "{}", bucket.largest());
    });
}

/// The statuses in a bucket that are on pages.
async fn paged(bucket: &Bucket) -> usize {
    let mut count = 0;
    for key in bucket.keys() {
        if key.starts_with("history/") {
            let page = bucket.get(&key).await.unwrap().unwrap();
            let page: serde_json::Value = serde_json::from_slice(&page.value).unwrap();
            count += page["items"].as_array().unwrap().len();
        }
    }
    count
}

#[test]
fn statuses_that_a_limited_history_does_not_keep_are_deleted() {
    block_on(async {
        let bucket = Bucket::contended();
        let store = KeyValueStore::with_limits(bucket.clone(), TIGHT);
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for step in 0..600 {
            let topic = match step {
                0..4 => "early".to_owned(),
                _ if step % 20 == 0 => "slow".to_owned(),
                _ => format!("busy {}", step % 3),
            };
            let report = Report {
                message: step.to_string(),
                ..report(&topic, StatusKind::Running)
            };
            let snapshot = store.load(&report.session_key(&workspace())).await.unwrap();
            let decision = decide(&workspace(), &report, &snapshot, after(step), 60).unwrap();
            let mut commit = decision.commit;
            commit.kept_entries = NonZeroU32::new(3);
            if topic == "slow" {
                commit.notifications.push(Notification {
                    id: step.to_string(),
                    workspace: workspace(),
                    url: "https://example.com/hook".into(),
                    host: "example.com:443".into(),
                    body: step.to_string(),
                    channel: String::new(),
                    created_at: after(step),
                    delay: TimeDelta::zero(),
                });
            }
            let outcome = store.commit(&commit).await.unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
            expected.entry(topic).or_default().insert(0, report.message);
        }
        // Two for each session that is on pages as it has to be, those that went on since, and the
        // thirty that notifications are in.
        let paged = paged(&bucket).await;
        assert!(paged < 70, "{paged} statuses are stored");
        for (topic, mut messages) in expected {
            messages.truncate(3);
            let key = report(&topic, StatusKind::Running).session_key(&workspace());
            let session = store.session(&key, None, 9).await.unwrap().unwrap();
            let found = session.history.items.into_iter();
            let found: Vec<String> = found.map(|status| status.entry.message.clone()).collect();
            assert_eq!(found, messages, "{topic}");
        }
        let all = store.history(&workspace(), AGENT, None, 99).await.unwrap();
        assert_eq!(all.items.len(), 15);
        assert_eq!(delivered(&store, after(600)).await.len(), 29);
    });
}

#[test]
fn a_writer_that_was_held_up_brings_no_deleted_items_back() {
    block_on(async {
        let store = KeyValueStore::new(Bucket::default());
        let documents = &store.documents;
        let item = |n: usize| Moved {
            updated: after(n),
            topic: n.to_string(),
            seq: 1,
            expires: after(n),
            watched: false,
        };
        let mut log = Log::default();
        log.extend((0..3).map(item));
        let mut held = log.clone();
        log.push(item(3));
        log.flush(documents, "list").await.unwrap();
        let key = page_key("list", 0);
        let mut page: Document<Page<Moved>> = documents.read(&key).await.unwrap().unwrap();
        assert!(page.value.retain(|moved| *moved == item(3)));
        let lost = documents
            .swap(&key, &page.value, &page.version)
            .await
            .unwrap();
        assert!(lost.is_none());
        held.flush(documents, "list").await.unwrap();
        let there: Document<Page<Moved>> = documents.read(&key).await.unwrap().unwrap();
        assert_eq!(there.value.items, [item(3)]);
    });
}

#[test]
fn an_agent_is_noted_for_its_next_silence_once_a_ttl() {
    block_on(async {
        let bucket = Bucket::default();
        let store = KeyValueStore::new(bucket.clone());
        let report = |topic: usize| Report {
            ttl_minutes: Some(10),
            ..report(&format!("topic {topic}"), StatusKind::Running)
        };
        let look = async |now| {
            let found = store.silences(start(), now, 100).await.unwrap();
            found.len()
        };
        record(&store, &report(0), start(), "0").await.unwrap();
        let before = bucket.operations();
        for step in 1..10 {
            let now = after(step * 60);
            record(&store, &report(step % 3), now, "n").await.unwrap();
            // Nothing is due, and no agent is looked at.
            assert_eq!(look(now).await, 0);
        }
        assert_eq!(bucket.operations() - before, 9 * 3);
        let in_time = after(599 + 540);
        for _ in 0..2 {
            assert_eq!(look(after(599 + 420)).await, 0);
        }
        assert_eq!(look(in_time).await, 2);
        assert_eq!(look(after(600 + 540)).await, 3);
    });
}

#[test]
fn silences_that_were_cut_short_are_found_again_and_told_once() {
    block_on(async {
        let mut told = 0;
        for death in 0..60 {
            let bucket = Bucket::default();
            let survivor = KeyValueStore::new(bucket.clone());
            let mortal = KeyValueStore::new(bucket.mortal(Life {
                operations: death / 2,
                last_takes_effect: death % 2 == 1,
            }));
            let key = report("topic", StatusKind::Running).session_key(&workspace());
            let channel = |id: &str| Notification {
                id: id.into(),
                workspace: workspace(),
                url: String::new(),
                host: "example.com:443".into(),
                body: "{}".into(),
                channel: "channel".into(),
                created_at: after(3600),
                delay: chrono::TimeDelta::zero(),
            };
            let tell = async |store: &KeyValueStore<Bucket>| {
                let found = store.silences(start(), after(3600), 10).await?;
                let notes: Vec<SilenceNote> = found
                    .into_iter()
                    .map(|(key, snapshot)| SilenceNote {
                        key,
                        seq: snapshot.session.map_or(0, |head| head.seq),
                        notifications: vec![channel("silence")],
                    })
                    .collect();
                store.note_silences(&notes).await
            };
            // The report may be cut short, too: then its client sends it again.
            let first = report("topic", StatusKind::Running);
            if record(&mortal, &first, start(), "1").await.is_err() {
                record(&survivor, &first, start(), "1").await.unwrap();
            }
            let _ = tell(&mortal).await;
            told += tell(&survivor).await.unwrap().len();
            assert_eq!(tell(&survivor).await.unwrap(), [] as [bool; 0], "{death}");
            let head = survivor.load(&key).await.unwrap().session.unwrap();
            assert_eq!(head.silence, Silence::Told, "{death}");
            assert_eq!(delivered(&survivor, after(4000)).await.len(), 1, "{death}");
        }
        assert!(told > 20, "{told}");
    });
}

#[test]
fn a_group_of_one_agent_costs_one_read_and_one_swap() {
    block_on(async {
        let bucket = Bucket::default();
        let store = KeyValueStore::new(bucket.clone());
        let status = StatusKind::Running;
        let topics = || (0..32).map(|n| format!("topic {}", n % 16));
        let reports: Vec<Report> = topics().map(|topic| report(&topic, status)).collect();
        record_group(&store, &reports, start(), "unused")
            .await
            .unwrap();
        let before = bucket.operations();
        record_group(&store, &reports, after(1), "unused")
            .await
            .unwrap();
        assert_eq!(bucket.operations() - before, 2);
    });
}

/// A report whose texts are as long as they can be, and six times as long in a document.
fn long_report(topic: &str, status: StatusKind) -> Report {
    let control = "\u{1}";
    Report {
        agent_name: Some(control.repeat(200)),
        message: control.repeat(1000),
        content: control.repeat(10_000),
        session_title: Some(control.repeat(200)),
        reason: "r".repeat(50),
        context: (0..20)
            .map(|n| (format!("{n:040}"), control.repeat(200)))
            .collect(),
        ..report(&format!("{}{topic}", control.repeat(490)), status)
    }
}

#[test]
fn no_document_outgrows_a_message_however_long_the_texts() {
    block_on(async {
        let bucket = Bucket::default();
        let store = KeyValueStore::new(bucket.clone());
        for step in 0..400 {
            let topic = (step * 7 % 97).to_string();
            let report = long_report(&topic, StatusKind::ALL[step / 97 % 2]);
            let id = step.to_string();
            record(&store, &report, after(step), &id).await.unwrap();
        }
        assert!(bucket.largest() > 100_000);
        let mut statuses = 0;
        let mut before = None;
        loop {
            let page = store
                .history(&workspace(), AGENT, before.as_ref(), 1000)
                .await
                .unwrap();
            statuses += page.items.len();
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(statuses, 400);
    });
}

#[test]
fn a_lease_costs_the_same_however_many_hosts_there_are() {
    block_on(async {
        let bucket = Bucket::default();
        let store = KeyValueStore::new(bucket.clone());
        let queue = async |hosts: std::ops::Range<usize>| {
            for host in hosts.map(|n| n.to_string()) {
                let report = report("topic", StatusKind::Running);
                let snapshot = store.load(&report.session_key(&workspace())).await.unwrap();
                let decision = decide(&workspace(), &report, &snapshot, start(), 60).unwrap();
                let mut commit = decision.commit;
                commit.notifications.push(Notification {
                    id: host.clone(),
                    workspace: workspace(),
                    url: "https://example.com/hook".into(),
                    host,
                    body: String::new(),
                    channel: String::new(),
                    created_at: start(),
                    delay: TimeDelta::zero(),
                });
                let outcome = store.commit(&commit).await.unwrap();
                assert_eq!(outcome, CommitOutcome::Committed);
            }
        };
        let cost = async || {
            let before = bucket.operations();
            for _ in 0..5 {
                let leased = store.lease_notification(&request(after(1))).await;
                let leased = leased.unwrap().unwrap();
                store
                    .notification_delivered(&leased.notification.id)
                    .await
                    .unwrap();
            }
            bucket.operations() - before
        };
        queue(0..10).await;
        let with_few = cost().await;
        queue(10..600).await;
        // What to send stands on a page of the history by then, which is one more to read.
        let with_many = cost().await;
        assert!(with_many <= with_few + 5, "{with_few}, then {with_many}");
    });
}

#[test]
fn a_group_that_no_document_can_take_is_stored_by_several_swaps() {
    block_on(async {
        let bucket = Bucket::default();
        let store = KeyValueStore::new(bucket.clone());
        for (step, status) in [StatusKind::Running, StatusKind::Failed]
            .into_iter()
            .enumerate()
        {
            let report = |n: usize| long_report(&n.to_string(), status);
            let reports: Vec<Report> = (0..40).map(report).collect();
            let id = step.to_string();
            record_group(&store, &reports, after(step), &id)
                .await
                .unwrap();
        }
        let workspace = workspace();
        let (mut stored, mut before) = (0, None);
        loop {
            let page = store.history(&workspace, AGENT, before.as_ref(), 1000);
            let page = page.await.unwrap();
            stored += page.items.len();
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(stored, 80);
    });
}

#[test]
fn a_chain_that_no_document_can_take_is_left_to_come_report_by_report() {
    block_on(async {
        let store = KeyValueStore::new(Bucket::default());
        let mut snapshot = Snapshot::default();
        let commits = (0..20).map(|_| {
            let report = long_report("topic", StatusKind::Running);
            let commit = decide(&workspace(), &report, &snapshot, start(), 60)
                .unwrap()
                .commit;
            snapshot = snapshot.after(&commit);
            commit
        });
        let chains = [Chain::new(commits).unwrap()];
        let outcomes = store.commit_many(&chains).await.unwrap();
        assert_eq!(outcomes, [CommitOutcome::Conflict]);
        let first = chains[0].first();
        assert_eq!(store.load(&first.key).await.unwrap(), Snapshot::default());
        assert_eq!(store.commit(first).await.unwrap(), CommitOutcome::Committed);
    });
}

#[test]
fn a_crowded_agent_conflicts_and_holds_up_no_other() {
    block_on(async {
        let bucket = Bucket::default();
        let agents = ["busy", "calm"];
        let key = |agent: &str| SessionKey {
            workspace: workspace(),
            agent_id: agent.into(),
            session_topic: "topic".into(),
        };
        let record = async |store: &KeyValueStore<Bucket>| {
            let snapshots = store.load_many(&agents.map(key)).await.unwrap();
            let chain = |(agent, snapshot): (&str, Snapshot)| {
                let report = Report {
                    agent_id: agent.into(),
                    ..report("topic", StatusKind::Running)
                };
                decide(&workspace(), &report, &snapshot, start(), 60)
                    .unwrap()
                    .commit
                    .into()
            };
            let chains: Vec<Chain> = agents.into_iter().zip(snapshots).map(chain).collect();
            store.commit_many(&chains).await.unwrap()
        };
        let outcomes = record(&KeyValueStore::new(bucket.clone())).await;
        assert_eq!(outcomes, [CommitOutcome::Committed; 2]);
        let crowded = bucket.crowded(head_key(&agent_hash(&workspace(), "busy")));
        let outcomes = record(&KeyValueStore::new(crowded)).await;
        assert_eq!(
            outcomes,
            [CommitOutcome::Conflict, CommitOutcome::Committed]
        );
        let survivor = KeyValueStore::new(bucket);
        let snapshots = survivor.load_many(&agents.map(key)).await.unwrap();
        let seqs = snapshots
            .iter()
            .map(|snapshot| snapshot.session.as_ref().unwrap().seq);
        assert_eq!(seqs.collect::<Vec<_>>(), [1, 2]);
    });
}

async fn register(store: &impl Store) -> Registration {
    let account = NewAccount {
        id: account_id(),
        email: "Someone@example.com".into(),
        email_key: "someone@example.com".into(),
        password_hash: "hash".into(),
        name: String::new(),
        verification: MailedToken {
            token_hash: "token".into(),
            expires_at: after(86_400),
        },
        mail_due: None,
        created_at: start(),
    };
    store
        .create_account(&account)
        .await
        .unwrap_or(Registration::EmailTaken)
}

fn api_key() -> ApiKey {
    ApiKey {
        id: "key".into(),
        account_id: account_id(),
        name: "key".into(),
        key_hash: "key hash".into(),
        key_prefix: "prefix".into(),
        scopes: Scopes::REPORT,
        workspace: WorkspaceChoice::Own,
        expires_at: None,
        last_used_at: None,
        created_at: start(),
        revoked: false,
    }
}

fn token(name: &str) -> RefreshToken {
    RefreshToken {
        token_hash: name.into(),
        account_id: account_id(),
        family_id: "family".into(),
        created_at: start(),
        expires_at: after(86_400),
        spent_at: None,
        revoked: false,
    }
}

/// Every way for a writer to die within its first operations, each on a bucket of its own.
async fn for_every_death(
    operations: u64,
    test: impl AsyncFn(&KeyValueStore<Bucket>, &KeyValueStore<Bucket>),
) {
    for death in 0..2 * operations {
        let bucket = Bucket::default();
        let mortal = bucket.mortal(Life {
            operations: death / 2,
            last_takes_effect: death % 2 == 1,
        });
        test(&KeyValueStore::new(mortal), &KeyValueStore::new(bucket)).await;
    }
}

#[test]
fn a_registration_that_was_cut_short_can_be_repeated_or_is_whole() {
    block_on(for_every_death(16, async |mortal, survivor| {
        let _ = register(mortal).await;
        let found = survivor
            .account_by_email("someone@EXAMPLE.com")
            .await
            .unwrap();
        let again = register(survivor).await;
        assert_eq!(again, Registration::Created(account_id()));
        let account = survivor.account(&account_id()).await.unwrap().unwrap();
        assert!(found.is_none_or(|found| found == account));
        let verified = survivor.verify_account("token", after(1)).await.unwrap();
        assert!(verified.is_some_and(|account| account.email_verified));
    }));
}

#[test]
fn a_rotation_that_was_cut_short_has_spent_the_token_or_not_begun() {
    block_on(for_every_death(10, async |mortal, survivor| {
        survivor
            .insert_refresh_token(&token("first"))
            .await
            .unwrap();
        let _ = mortal
            .rotate_refresh_token("first", after(1), &token("second"))
            .await;
        let first = survivor.refresh_token("first").await.unwrap().unwrap();
        let second = survivor.refresh_token("second").await.unwrap();
        assert_eq!(first.spent_at.is_some(), second.is_some());
        let rotated = survivor
            .rotate_refresh_token("first", after(2), &token("third"))
            .await;
        assert_eq!(rotated.unwrap(), second.is_none());
    }));
}

#[test]
fn an_api_key_is_listed_exactly_when_it_works_whenever_its_writer_died() {
    block_on(for_every_death(10, async |mortal, survivor| {
        let _ = register(survivor).await;
        let _ = mortal.create_api_key(&api_key(), 1).await;
        let works = survivor
            .api_key_by_hash("key hash")
            .await
            .unwrap()
            .is_some();
        let listed = survivor
            .api_keys(&account_id(), None, 9)
            .await
            .unwrap()
            .items;
        assert_eq!(listed.len(), usize::from(works));
        let created = survivor.create_api_key(&api_key(), 1).await.unwrap();
        assert_eq!(created, ApiKeyCreation::Created);
        let listed = survivor
            .api_keys(&account_id(), None, 9)
            .await
            .unwrap()
            .items;
        assert_eq!(listed, [api_key()]);
    }));
}

#[test]
fn a_deletion_that_was_cut_short_is_finished_by_others_or_has_not_begun() {
    block_on(for_every_death(60, async |mortal, survivor| {
        let account = verified(survivor).await;
        let _ = survivor.create_api_key(&api_key(), 1).await.unwrap();
        survivor
            .insert_refresh_token(&token("first"))
            .await
            .unwrap();
        for topic in ["t", "u"] {
            let report = report(topic, StatusKind::Running);
            record(survivor, &report, start(), topic).await.unwrap();
        }
        let _ = mortal.delete_account(&account, after(1)).await;
        let _ = mortal.purge_deleted(after(1)).await;
        let there = survivor.account(&account.id).await.unwrap().is_some();
        while survivor.purge_deleted(after(120)).await.unwrap() {}
        let key = survivor.api_key_by_hash("key hash").await.unwrap();
        let token = survivor.refresh_token("first").await.unwrap();
        assert_eq!(key.is_some(), there);
        assert_eq!(token.is_some_and(|token| !token.revoked), there);
        let agent = survivor.agent(&workspace(), AGENT, after(1)).await.unwrap();
        assert_eq!(agent.is_some(), there);
        let again = register(survivor).await;
        assert_eq!(again == Registration::EmailTaken, there);
    }));
}

/// The keys of what workspaces hold, and of their API keys.
fn of_workspaces(bucket: &Bucket) -> Vec<String> {
    let is_of_workspace = |key: &String| {
        let kind = key.split('/').next().unwrap();
        let of_instance = [
            "account",
            "deleted",
            "email",
            "notified",
            "outbox",
            "registration",
            "registrations",
            "watch",
        ];
        !of_instance.contains(&kind)
    };
    bucket.keys().into_iter().filter(is_of_workspace).collect()
}

async fn verified(store: &impl Store) -> Account {
    let _ = register(store).await;
    let account = store.verify_account("token", start()).await.unwrap();
    account.unwrap()
}

#[test]
fn a_report_that_is_held_up_while_its_account_is_purged_leaves_no_document() {
    block_on(async {
        for (operations, parts) in (0..24).flat_map(|n| (0..24).map(move |m| (n, m))) {
            let bucket = Bucket::default();
            let store = KeyValueStore::with_limits(bucket.clone(), TIGHT);
            let account = verified(&store).await;
            for n in 0..14 {
                let report = report(&format!("topic {}", n % 5), StatusKind::ALL[n % 2]);
                record(&store, &report, after(n), &n.to_string())
                    .await
                    .unwrap();
            }
            assert!(store.delete_account(&account, after(300)).await.unwrap());
            let hold = Hold::after(operations);
            let late = KeyValueStore::with_limits(bucket.held(hold.clone()), TIGHT);
            let reporting = async {
                for topic in ["topic 1", "new", "topic 2"] {
                    let report = report(topic, StatusKind::Running);
                    record(&late, &report, after(300), topic).await.unwrap();
                }
                hold.release();
            };
            let purging = async {
                hold.reached().await;
                for _ in 0..parts {
                    store.purge_deleted(after(301)).await.unwrap();
                }
                hold.release();
            };
            join(reporting, purging).await;
            while store.purge_deleted(after(310)).await.unwrap() {}
            let agent = store.agent(&workspace(), AGENT, after(310)).await.unwrap();
            assert_eq!(agent, None, "{operations} operations, {parts} parts");
            while store.purge_deleted(after(400)).await.unwrap() {}
            let left = of_workspaces(&bucket);
            assert_eq!(left, [""; 0], "{operations} operations, {parts} parts");
        }
    });
}

#[test]
fn hosts_that_purge_at_once_leave_no_document() {
    block_on(async {
        let bucket = Bucket::contended();
        let store = KeyValueStore::with_limits(bucket.clone(), TIGHT);
        let account = verified(&store).await;
        for n in 0..120 {
            let report = Report {
                agent_id: format!("agent {n}"),
                ..report("topic", StatusKind::Running)
            };
            record(&store, &report, after(n), &n.to_string())
                .await
                .unwrap();
        }
        assert!(store.delete_account(&account, after(300)).await.unwrap());
        let other = KeyValueStore::with_limits(bucket.clone(), TIGHT);
        for now in [after(301), after(400)] {
            let purge = async |store: &KeyValueStore<Bucket>| {
                while store.purge_deleted(now).await.unwrap() {}
            };
            join(purge(&store), purge(&other)).await;
        }
        assert_eq!(of_workspaces(&bucket), [""; 0]);
    });
}

#[test]
fn a_purge_removes_every_document_of_a_workspace_part_by_part() {
    block_on(async {
        let bucket = Bucket::default();
        let store = KeyValueStore::with_limits(bucket.clone(), TIGHT);
        let account = verified(&store).await;
        let _ = store.create_api_key(&api_key(), 1).await.unwrap();
        for n in 0..200 {
            let status = match n % 2 {
                0 => StatusKind::Running,
                _ => StatusKind::Failed,
            };
            let report = Report {
                agent_id: format!("agent {}", n % 40),
                ..report(&format!("topic {}", n / 4), status)
            };
            record(&store, &report, after(n), &n.to_string())
                .await
                .unwrap();
        }
        assert_ne!(of_workspaces(&bucket), [""; 0]);
        assert!(store.delete_account(&account, after(300)).await.unwrap());
        let mut parts = 0;
        while store.purge_deleted(after(400)).await.unwrap() {
            parts += 1;
        }
        assert!(parts > 10, "{parts} parts");
        assert_eq!(of_workspaces(&bucket), [""; 0]);
        assert!(delivered(&store, after(500)).await.is_empty());
    });
}

#[test]
fn agents_are_counted_also_where_their_list_has_pages() {
    block_on(async {
        let bucket = Bucket::default();
        let store = KeyValueStore::with_limits(bucket.clone(), TIGHT);
        let key = |agent: String| SessionKey {
            workspace: workspace(),
            agent_id: agent,
            session_topic: "topic".into(),
        };
        for n in 0..100 {
            let agent = format!("one of many agents, {n}");
            let snapshot = store.load(&key(agent.clone())).await.unwrap();
            assert!(snapshot.siblings == n || (61..80).contains(&n), "{n}");
            let report = Report::new(&agent, "topic", StatusKind::Running);
            let decision = decide(&workspace(), &report, &snapshot, start(), 60).unwrap();
            let outcome = store.commit(&decision.commit).await.unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
            if n == 60 {
                // As it was left by a version that did not count.
                let list = agents_list(&workspace());
                let Entry { value, version } = bucket.get(&list).await.unwrap().unwrap();
                let mut roll: serde_json::Value = serde_json::from_slice(&value).unwrap();
                assert!(roll.as_object_mut().unwrap().remove("paged").is_some());
                let roll = roll.to_string().into_bytes();
                assert!(matches!(
                    bucket.swap(&list, roll, &version).await,
                    Ok(Swap::Swapped)
                ));
                let snapshot = store.load(&key("new".into())).await.unwrap();
                assert!(snapshot.siblings < 61);
            }
        }
    });
}
