//! The rules of kubeagents: what a report does, when a session expires, who may ask, and what every
//! route answers.
//!
//! This crate does no I/O. It has no socket, runtime, thread, environment, clock or source of
//! randomness: a host hands those in as [ports], feeds requests to [`App::handle`] and sends
//! what comes back. The same crate therefore runs in a native server and in WebAssembly components,
//! and given the same ports it is deterministic.
//!
//! A report is handled as load → decide → commit: [`Sessions::load`](store::Sessions::load) fetches a
//! [`Snapshot`] of constant size, [`decide()`] works out the [`Commit`], and
//! [`Sessions::commit`](store::Sessions::commit) applies it atomically or answers that the session
//! has moved. Stores execute and never decide.
#![forbid(unsafe_code)]

mod account;
mod agent;
mod api_key;
pub mod audit;
pub mod batch;
pub mod bucket;
mod causes;
mod channel;
mod context;
mod decide;
pub mod delivery;
mod email;
pub mod events;
mod fair_queue;
mod hash;
pub mod hook;
mod http;
mod incoming;
mod json;
mod limit;
pub mod mcp;
mod notification;
pub mod operator;
mod paging;
pub mod password;
pub mod ports;
mod quota;
mod recorder;
mod report;
mod session;
pub mod settings;
pub mod silence;
mod status;
pub mod store;
mod time;
mod token;
mod validation;
mod workspace;
mod yielding;

pub use account::{Account, AccountId, MailedToken, NewAccount};
pub use agent::{Agent, search_key};
pub use api_key::{ApiKey, Scope, Scopes};
pub use causes::causes;
pub use channel::{Channel, Event, Events, Format, MAX_CHANNELS, MAX_DELAY_SECONDS};
pub use context::Context;
pub use decide::{
    AgentPatch, Commit, Decision, HookEffect, LAST_SEEN_LEAD, REMOVED_AT_ONCE, RefreshDecision,
    SessionHead, Snapshot, Unstored, decide, decide_hook, decide_refresh,
};
pub use email::email_key;
pub use fair_queue::FairQueue;
pub use hash::sha256_hex;
pub use http::{
    AccessLine, Answered, App, BodyTimeout, Crowded, Encrypted, EventStream, MAX_BODY_BYTES,
    Outage, Outcome, Peer, Reply, RequestId, Stopping, body_patience, openapi_document,
};
pub use incoming::Incoming;
pub use limit::Limit;
pub use notification::{
    ChannelMail, Delivery, DeliveryState, Happening, Notification, Receiver, Transition,
};
pub use ports::Ports;
pub use quota::{Quota, Quotas};
pub use recorder::{Listeners, Recorded, Recorder, ReportPolicy, Witness, conflict_pause};
pub use report::{MAX_TTL_MINUTES, Report};
pub use session::{
    NamedSession, Session, SessionKey, SessionState, TURN, is_expired, latest_expiry,
};
pub use settings::{AuthMode, CorsPolicy, InvalidSetting, Settings};
pub use silence::Silence;
pub use status::{Status, StatusEntry, StatusKind};
pub use store::{Store, StoreError};
pub use time::{Timestamp, format_go_duration, parse_go_duration};
pub use token::RefreshToken;
pub use validation::{InvalidField, Rule};
pub use workspace::{Workspace, WorkspaceChoice};
pub use yielding::yield_now;
