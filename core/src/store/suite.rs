//! What every [`Store`] must do, as test cases generic over it.
//!
//! A case is an `async fn(&S, &str)`: the store, shared with other cases and possibly with earlier
//! runs, and a tag that is unique to this call, from which the case makes its workspaces, accounts
//! and addresses. [`store_suite!`](crate::store_suite) makes a `#[test]` of each case. A case panics
//! with what it saw.

#![expect(
    clippy::unwrap_used,
    reason = "a case fails by panicking, like any test"
)]

mod accounts;
mod api_keys;
mod audit;
mod buckets;
mod census;
mod channels;
mod model;
mod outbox;
mod sessions;
mod silence;
mod tokens;

pub use accounts::*;
pub use api_keys::*;
pub use audit::*;
pub use buckets::*;
pub use census::*;
pub use channels::*;
pub use model::*;
pub use outbox::*;
pub use sessions::*;
pub use silence::*;
pub use tokens::*;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{
    AccountList, AgentQuery, ApiKeyCreation, Audience, AuditBounds, ChannelCreation, CommitOutcome,
    Expiry, Failure, HistoryCursor, LATE_REPORTS, LeaseRequest, LeasedNotification, MAX_DELIVERIES,
    MAX_PAGE_BYTES, MAX_WAITING, MemoryStore, NO_ROOM, Page, PutOff, Registration,
    RegistrationMails, Row, SessionQuery, Store, StoreError, WorkspaceQuery,
};
use crate::batch::Chain;
use crate::{
    Account, AccountId, Agent, ApiKey, Channel, Commit, Context, Delivery, DeliveryState, Event,
    Happening, HookEffect, LAST_SEEN_LEAD, MailedToken, NamedSession, NewAccount, Notification,
    Receiver, RefreshToken, Report, Scopes, Session, SessionKey, SessionState, Snapshot, Status,
    StatusKind, Timestamp, Workspace, WorkspaceChoice, decide, decide_hook, email_key, search_key,
    sha256_hex,
};

/// `store_suite!(run)` makes a `#[test]` of every case. `run` is a function that takes a case's name
/// and the case, and runs it on a store: `fn run(name: &str, case: impl AsyncFnOnce(&MyStore, &str))`.
///
/// Where there are no tests, `store_suite!(run name, store, tag)` runs the case of that name, and
/// says whether there is one; `store_suite!(names)` is an array of all names.
#[macro_export]
macro_rules! store_suite {
    (names) => {
        $crate::store_suite!(@all names [])
    };
    (run $name:expr, $store:expr, $tag:expr) => {
        $crate::store_suite!(@all run [$name, $store, $tag])
    };
    ($run:path) => {
        $crate::store_suite! { @all tests [$run] }
    };
    (@all $what:ident [$($arguments:tt)*]) => {
        $crate::store_suite! { @$what [$($arguments)*]
            reports_register_agents_and_sessions
            what_a_report_would_register_is_counted
            a_patch_keeps_what_it_does_not_name
            a_moved_version_is_a_conflict_and_changes_nothing
            a_first_report_conflicts_with_another_first_report
            concurrent_first_reports_store_exactly_one
            concurrent_reports_on_one_session_all_land_once
            two_sessions_of_one_agent_never_undo_each_other
            last_seen_never_goes_back
            what_a_clock_that_was_ahead_left_behind_does_not_last
            a_session_of_a_clock_that_was_a_year_ahead_is_expired
            a_session_keeps_what_reports_say_of_it
            a_commit_without_an_entry_leaves_a_gap
            a_limited_history_keeps_its_newest_entries
            walks_stay_right_while_old_entries_go
            a_group_is_stored_chain_by_chain
            groups_and_single_commits_race
            a_renewed_session_goes_on
            a_running_session_is_watched_until_it_expires
            a_silence_is_noted_once_unless_the_session_is_renewed
            a_report_and_the_note_of_a_silence_exclude_each_other
            expiry_has_its_edge_in_every_list
            agents_are_listed_last_seen_first_then_by_code_point
            agent_pages_visit_everything_once
            session_pages_visit_everything_once
            sessions_of_all_agents_are_listed_in_one_order
            sessions_of_all_agents_are_filtered_by_state_and_status
            sessions_of_all_agents_are_found_by_every_name
            a_walk_through_all_sessions_shows_nothing_twice
            history_pages_visit_everything_once_while_reports_go_on
            a_page_of_long_texts_ends_at_its_bytes
            a_page_of_long_rows_ends_at_its_bytes
            search_folds_case_beyond_ascii
            search_takes_pattern_characters_literally
            texts_come_back_as_they_were
            names_that_collations_confuse_are_different
            workspaces_see_nothing_of_each_other
            nothing_is_found_where_nothing_is
            accounts_are_found_by_address_in_any_case
            an_address_is_registered_once
            an_unverified_registration_is_replaced
            registrations_and_verifications_race
            a_verification_works_once_and_until_it_expires
            a_reset_works_once_and_until_it_expires
            a_password_is_changed_from_what_it_was
            a_deleted_account_leaves_nothing_behind
            notification_addresses_are_set_cleared_and_listed
            a_refresh_token_is_spent_once
            a_revoked_family_stays_revoked
            logging_out_revokes_what_there_is_and_not_what_comes
            api_keys_are_listed_found_touched_and_revoked
            api_key_pages_visit_everything_once
            an_account_has_only_so_many_valid_keys
            an_audit_is_listed_newest_first
            entries_of_an_audit_are_counted
            an_audit_has_only_so_many_entries
            old_entries_of_an_audit_go
            a_deleted_account_leaves_no_audit
            channels_are_listed_changed_and_deleted
            a_workspace_has_only_so_many_channels
            a_channel_is_changed_from_what_it_was
            a_secret_is_made_once
            buckets_are_drawn_from_as_decided
            a_bucket_is_never_overdrawn
            a_notification_is_queued_with_its_commit_only
            a_lease_excludes_others_until_it_ends
            a_workspaces_idle_hosts_come_first_and_busy_ones_wait
            what_is_due_longest_comes_first
            what_a_clock_that_was_ahead_queued_is_due
            workspaces_take_turns
            a_workspace_that_names_thousands_of_hosts_harms_itself_only
            hosts_that_lease_at_once_get_different_notifications
            deliveries_of_a_channel_are_listed_newest_first
            a_full_channel_drops_what_comes_and_takes_no_others_room
            a_delayed_notification_is_due_when_its_delay_is_over
            what_is_due_for_a_channel_is_leased_or_put_off_together
            a_receiver_that_asks_for_time_is_left_alone
            random_operations_match_the_model
        }
    };
    (@names [] $($case:ident)+) => {
        [$(stringify!($case)),+]
    };
    (@run [$name:expr, $store:expr, $tag:expr] $($case:ident)+) => {
        match $name {
            $(stringify!($case) => {
                $crate::store::suite::$case($store, $tag).await;
                true
            })+
            _ => false,
        }
    };
    (@tests [$run:path] $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                $run(stringify!($case), async |store: &_, tag: &str| {
                    $crate::store::suite::$case(store, tag).await;
                });
            }
        )+
    };
}

/// The instant at which every case begins; a whole second, so that offsets read well.
fn start() -> Timestamp {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default()
}

fn seconds(n: i64) -> TimeDelta {
    TimeDelta::seconds(n)
}

/// One microsecond: the resolution of what is stored.
const TICK: TimeDelta = TimeDelta::microseconds(1);

fn workspace(tag: &str) -> Workspace {
    Workspace::Account(AccountId::new(uuid_of(tag)))
}

/// Something unique to the tag, in the form of a UUID.
fn uuid_of(tag: &str) -> String {
    let hash = sha256_hex(tag);
    format!(
        "{}-{}-4{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[12..15],
        &hash[15..18],
        &hash[18..30]
    )
}

fn report(agent: &str, topic: &str, status: StatusKind) -> Report {
    Report::new(agent, topic, status)
}

fn running(agent: &str, topic: &str) -> Report {
    report(agent, topic, StatusKind::Running)
}

fn key(workspace: &Workspace, agent: &str, topic: &str) -> SessionKey {
    SessionKey {
        workspace: workspace.clone(),
        agent_id: agent.into(),
        session_topic: topic.into(),
    }
}

/// What is to be stored of a report.
fn decided(workspace: &Workspace, report: &Report, snapshot: &Snapshot, now: Timestamp) -> Commit {
    let decision = decide(workspace, report, snapshot, now, 60);
    decision.unwrap().commit
}

/// What is to be stored of a report that leaves no history entry, with the state of a hook.
fn decided_quietly(
    workspace: &Workspace,
    report: &Report,
    state: &str,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Commit {
    let effect = HookEffect {
        state: state.into(),
        noted: false,
    };
    let decision = decide_hook(workspace, report, &effect, snapshot, now, 60);
    decision.unwrap().commit
}

/// Loads, decides and commits until it is stored; answers the conflicts on the way. A store that is
/// under load may say that it is contended, where nothing is stored: that is one more conflict.
async fn record<S: Store>(
    store: &S,
    workspace: &Workspace,
    report: &Report,
    now: Timestamp,
) -> u32 {
    let key = report.session_key(workspace);
    let mut conflicts = 0;
    loop {
        let snapshot = store.load(&key).await.unwrap();
        let commit = decided(workspace, report, &snapshot, now);
        match store.commit(&commit).await {
            Ok(CommitOutcome::Committed) => return conflicts,
            Ok(CommitOutcome::Conflict) | Err(StoreError::Contended) => conflicts += 1,
            outcome => panic!("{outcome:?}"),
        }
        assert!(conflicts < 10_000, "a report never lands");
    }
}

async fn agents<S: Store>(store: &S, workspace: &Workspace, now: Timestamp) -> Vec<Agent> {
    let query = AgentQuery {
        limit: 10_000,
        ..AgentQuery::default()
    };
    store.agents(workspace, &query, now).await.unwrap().items
}

/// Walks through the list of agents whose id or name contains this. Returns the number of agents on
/// each page.
pub async fn found_by_walking<S: Store>(
    store: &S,
    workspace: &Workspace,
    search: &str,
    now: Timestamp,
) -> Vec<usize> {
    let mut query = AgentQuery {
        search: Some(search_key(search)),
        limit: 10_000,
        ..AgentQuery::default()
    };
    let mut found = Vec::new();
    loop {
        let page = store.agents(workspace, &query, now).await.unwrap();
        found.push(page.items.len());
        query.after = page.next;
        if query.after.is_none() {
            return found;
        }
    }
}

async fn find_agent<S: Store>(
    store: &S,
    workspace: &Workspace,
    agent: &str,
    now: Timestamp,
) -> Agent {
    let found = store.agent(workspace, agent, now).await.unwrap();
    found.unwrap_or_else(|| panic!("no agent {agent:?}"))
}

async fn topics<S: Store>(
    store: &S,
    workspace: &Workspace,
    agent: &str,
    expiry: Expiry,
    now: Timestamp,
) -> Vec<String> {
    let query = SessionQuery {
        expiry,
        limit: 10_000,
        ..SessionQuery::default()
    };
    let page = store.sessions(workspace, agent, &query, now).await.unwrap();
    page.items
        .into_iter()
        .map(|session| session.session_topic)
        .collect()
}

/// A walk through a workspace's sessions to its end, in pages of at most `query.limit`.
async fn workspace_sessions<S: Store>(
    store: &S,
    workspace: &Workspace,
    query: &WorkspaceQuery,
    now: Timestamp,
) -> Vec<NamedSession> {
    let mut query = query.clone();
    let mut walked = Vec::new();
    loop {
        let page = store.workspace_sessions(workspace, &query, now).await;
        let page = page.unwrap();
        assert!(page.items.len() <= query.limit);
        walked.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return walked,
        }
        assert!(walked.len() < 10_000, "the walk does not end");
    }
}

/// `agent/topic` of sessions.
fn names(sessions: &[NamedSession]) -> Vec<String> {
    let name = |named: &NamedSession| {
        let session = &named.session;
        format!("{}/{}", session.agent_id, session.session_topic)
    };
    sessions.iter().map(name).collect()
}

async fn session_statuses<S: Store>(store: &S, key: &SessionKey) -> Vec<Status> {
    let found = store.session(key, None, 10_000).await.unwrap();
    found.map(|found| found.history.items).unwrap_or_default()
}

/// All hosts get the secret that the first one made.
pub async fn a_secret_is_made_once<S: Store>(store: &S, tag: &str) {
    let name = format!("secret {}", uuid_of(tag));
    let candidates = ["one", "two", "three", "four"];
    let secrets = join_all(candidates.map(|candidate| store.secret(&name, candidate))).await;
    let secrets: BTreeSet<String> = secrets.into_iter().map(Result::unwrap).collect();
    assert_eq!(secrets.len(), 1);
    let again = store.secret(&name, "five").await.unwrap();
    assert_eq!(secrets, BTreeSet::from([again]));
}
