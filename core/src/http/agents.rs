//! `/api/agents…`: what agents, sessions and histories look like now.

use bytes::Bytes;
use http::{Response, StatusCode, Uri};
use schemars::JsonSchema;
use serde::Serialize;

use super::precedence::COURTESY;
use super::response::{Answer, json_of_size, link_next, ok, tagged};
use super::{Admitted, ApiError, App, query_parameter};
use crate::paging::{Cursor, SessionCursor};
use crate::ports::Ports;
use crate::session::SessionView;
use crate::store::{
    AgentCursor, AgentQuery, Expiry, Page, Row, SessionHistory, SessionQuery, Sessions, StoreError,
    WorkspaceCursor, WorkspaceQuery,
};
use crate::validation::storable;
use crate::{
    Agent, InvalidField, Rule, Session, SessionKey, SessionState, Status, StatusKind, Timestamp,
    Workspace, search_key,
};

/// The most rows of one answer, and as many as come without a limit.
pub(super) const MAX_LIMIT: usize = 10_000;

/// The most bytes of rows that are written as JSON at once, whatever waits meanwhile.
const SHORT_BYTES: usize = 64 << 10;

/// The same where no report is under way, and none has come since a list last began to be read: as many as
/// take about a millisecond.
const SHORT_BYTES_IN_QUIET: usize = 1 << 20;

/// Rows and where the next ones begin.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub(super) struct Paged<T> {
    #[serde(flatten)]
    rows: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct AgentList {
    pub(super) agents: Vec<Agent>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SessionList<'a> {
    pub(super) sessions: Vec<SessionView<'a>>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SessionDetail<'a> {
    session: SessionView<'a>,
    status_history: Vec<Status>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct StatusList {
    status_history: Vec<Status>,
}

impl<T> Paged<T> {
    pub(super) fn new(rows: T, next: Option<impl Cursor>) -> Self {
        let next_cursor = next.map(|next| next.encode());
        Self { rows, next_cursor }
    }
}

impl<'a> SessionDetail<'a> {
    pub(super) fn new(session: &'a Session, status_history: Vec<Status>, now: Timestamp) -> Self {
        let session = session.view(now);
        Self {
            session,
            status_history,
        }
    }
}

impl<P: Ports> App<P> {
    pub(super) async fn list_agents(&self, request: Admitted<'_>) -> Answer {
        let uri = &request.parts.uri;
        let status = filter(uri, "status", StatusKind::parse);
        let query = AgentQuery {
            search: search(uri)?,
            limit: limit(uri)?,
            after: cursor(uri)?,
            status: None,
        };
        let Ok(status) = status else {
            let agents = Vec::new();
            return Ok(list(AgentList { agents }, None::<AgentCursor>, 0));
        };
        let query = AgentQuery { status, ..query };
        let workspace = &request.caller.workspace;
        let reading = self.ports.store().agents(workspace, &query, self.now());
        let page = self.read(workspace, reading).await?;
        self.paged(&request, page, |page, size| {
            let agents = page.items;
            list(AgentList { agents }, page.next, size)
        })
        .await
    }

    pub(super) async fn get_agent(&self, request: Admitted<'_>) -> Answer {
        let agent_id = request.name("agent_id")?;
        ok(&self
            .find_agent(&request.caller.workspace, &agent_id)
            .await?)
    }

    async fn find_agent(&self, workspace: &Workspace, agent_id: &str) -> Result<Agent, ApiError> {
        let store = self.ports.store();
        let agent = store.agent(workspace, agent_id, self.now()).await?;
        agent.ok_or_else(|| ApiError::not_found("Agent not found"))
    }

    pub(super) async fn list_sessions(&self, request: Admitted<'_>) -> Answer {
        let agent_id = request.name("agent_id")?;
        let uri = &request.parts.uri;
        let workspace = &request.caller.workspace;
        let query = SessionQuery {
            expiry: match query_parameter(uri, "expired").as_deref() {
                Some("false") => Expiry::Unexpired,
                Some("only") => Expiry::Expired,
                _ => Expiry::Any,
            },
            limit: limit(uri)?,
            after: cursor(uri)?,
        };
        let now = self.now();
        let page = self
            .find_sessions(workspace, &agent_id, &query, now)
            .await?;
        self.paged(&request, page, move |page, size| {
            let sessions = page.items.iter().map(|session| session.view(now)).collect();
            list(SessionList { sessions }, page.next, size)
        })
        .await
    }

    /// A page of an agent's sessions.
    pub(super) async fn find_sessions(
        &self,
        workspace: &Workspace,
        agent_id: &str,
        query: &SessionQuery,
        now: Timestamp,
    ) -> Result<Page<Session, SessionCursor>, ApiError> {
        let reading = self.ports.store().sessions(workspace, agent_id, query, now);
        let page = self.read(workspace, reading).await?;
        if page.items.is_empty() {
            self.find_agent(workspace, agent_id).await?;
        }
        Ok(page)
    }

    pub(super) async fn list_workspace_sessions(&self, request: Admitted<'_>) -> Answer {
        let uri = &request.parts.uri;
        let state = filter(uri, "state", SessionState::parse);
        let status = filter(uri, "status", StatusKind::parse);
        let query = WorkspaceQuery {
            search: search(uri)?,
            limit: limit(uri)?,
            after: cursor(uri)?,
            ..WorkspaceQuery::default()
        };
        let (Ok(state), Ok(status)) = (state, status) else {
            let sessions = Vec::new();
            return Ok(list(SessionList { sessions }, None::<WorkspaceCursor>, 0));
        };
        let query = WorkspaceQuery {
            state,
            status,
            ..query
        };
        let now = self.now();
        let workspace = &request.caller.workspace;
        let reading = self
            .ports
            .store()
            .workspace_sessions(workspace, &query, now);
        let page = self.read(workspace, reading).await?;
        self.paged(&request, page, move |page, size| {
            let sessions = page.items.iter().map(|named| named.view(now)).collect();
            list(SessionList { sessions }, page.next, size)
        })
        .await
    }

    pub(super) async fn get_session(&self, request: Admitted<'_>) -> Answer {
        let agent_id = request.name("agent_id")?;
        let session_topic = request.name("session_topic")?;
        let uri = &request.parts.uri;
        let key = SessionKey {
            workspace: request.caller.workspace.clone(),
            agent_id,
            session_topic,
        };
        let (limit, before) = (limit(uri)?, cursor(uri)?);
        let SessionHistory { session, history } = self.find_session(&key, before, limit).await?;
        let now = self.now();
        self.paged(&request, history, move |history, size| {
            let rows = SessionDetail::new(&session, history.items, now);
            list(rows, history.next, size)
        })
        .await
    }

    /// A session and a page of its history.
    pub(super) async fn find_session(
        &self,
        key: &SessionKey,
        before: Option<u64>,
        limit: usize,
    ) -> Result<SessionHistory, ApiError> {
        let reading = self.ports.store().session(key, before, limit);
        match self.read(&key.workspace, reading).await? {
            Some(found) => Ok(found),
            None => {
                self.find_agent(&key.workspace, &key.agent_id).await?;
                Err(ApiError::not_found("Session not found"))
            }
        }
    }

    pub(super) async fn agent_history(&self, request: Admitted<'_>) -> Answer {
        let agent_id = request.name("agent_id")?;
        let uri = &request.parts.uri;
        let workspace = &request.caller.workspace;
        let (limit, before) = (limit(uri)?, cursor(uri)?);
        let store = self.ports.store();
        let reading = store.history(workspace, &agent_id, before.as_ref(), limit);
        let page = self.read(workspace, reading).await?;
        if page.items.is_empty() {
            self.find_agent(workspace, &agent_id).await?;
        }
        self.paged(&request, page, |page, size| {
            let status_history = page.items;
            list(StatusList { status_history }, page.next, size)
        })
        .await
    }

    pub(super) async fn latest_status(&self, request: Admitted<'_>) -> Answer {
        let agent_id = request.name("agent_id")?;
        let store = self.ports.store();
        let page = store
            .history(&request.caller.workspace, &agent_id, None, 1)
            .await?;
        match page.items.first() {
            Some(status) => ok(status),
            None => Err(ApiError::not_found("No status found for agent")),
        }
    }
}

/// The search that a request asks for, as storage compares it.
fn search(uri: &Uri) -> Result<Option<String>, InvalidField> {
    let search = query_parameter(uri, "search").unwrap_or_default();
    storable("search", &search)?;
    Ok((!search.is_empty()).then(|| search_key(&search)))
}

/// A word that nothing has.
struct UnknownWord;

/// The filter that a request asks for; an empty one is none.
fn filter<T>(
    uri: &Uri,
    name: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, UnknownWord> {
    match query_parameter(uri, name).filter(|word| !word.is_empty()) {
        None => Ok(None),
        Some(word) => parse(&word).map(Some).ok_or(UnknownWord),
    }
}

/// The limit that a request asks for.
pub(super) fn limit(uri: &Uri) -> Result<usize, InvalidField> {
    match query_parameter(uri, "limit").filter(|text| !text.is_empty()) {
        None => Ok(MAX_LIMIT),
        Some(text) => Some(text)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or(
                Rule::Range {
                    min: 1,
                    max: MAX_LIMIT as i64,
                }
                .broken_by("limit"),
            ),
    }
}

/// The place that a request goes on from; an empty one is the beginning.
pub(super) fn cursor<C: Cursor>(uri: &Uri) -> Result<Option<C>, InvalidField> {
    decode_cursor(query_parameter(uri, "cursor").as_deref())
}

/// The place that a cursor stands for.
pub(super) fn decode_cursor<C: Cursor>(text: Option<&str>) -> Result<Option<C>, InvalidField> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match C::decode(text) {
            Some(cursor) => Ok(Some(cursor)),
            None => Err(Rule::Cursor.broken_by("cursor")),
        },
    }
}

impl<P: Ports> App<P> {
    /// A page as `answer` writes it, to which the size of its rows is told; with a link to the next one where
    /// there is one.
    pub(super) async fn paged<T: Row + Send + 'static, C: Cursor + Send + 'static>(
        &self,
        request: &Admitted<'_>,
        page: Page<T, C>,
        answer: impl FnOnce(Page<T, C>, usize) -> Response<Bytes> + Send + 'static,
    ) -> Answer {
        let link = page.next.as_ref().map(|next| {
            let query = request.parts.uri.query().unwrap_or_default();
            let query = url::form_urlencoded::parse(query.as_bytes());
            let query = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs(query.filter(|(name, _)| name != "cursor"))
                .append_pair("cursor", &next.encode())
                .finish();
            format!("?{query}")
        });
        let size = page.items.iter().map(|row| row.size(str::len)).sum();
        let short = match self.precedence.is_quiet() {
            true => SHORT_BYTES_IN_QUIET,
            false => SHORT_BYTES,
        };
        let write = move || tagged(answer(page, size));
        let mut response = match size <= short {
            true => write(),
            false => {
                let workspace = &request.caller.workspace;
                let written = self.ports.at_leisure(workspace, write).await;
                written.map_err(ApiError::unavailable)?
            }
        };
        if let Some(target) = link {
            link_next(&mut response, &target);
        }
        Ok(response)
    }

    /// What a list reads, once reports let it.
    pub(super) async fn read<T>(
        &self,
        workspace: &Workspace,
        reading: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let courtesy = self.ports.pause(COURTESY);
        let read = self.precedence.read(workspace, courtesy).await;
        if self.ports.has_siblings() && self.precedence.is_to_look(self.now()) {
            match self.ports.store().revision().await {
                Ok(Some(revision)) => self.precedence.look(revision, self.now()),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "what others report is not seen"),
            }
        }
        let after = self.ports.reads_rest_after();
        let rest = |length| self.ports.pause(length);
        read.with_rests(reading, after, || self.now(), rest).await
    }
}

/// An answer of rows of this size, with the place of the next ones.
pub(super) fn list(
    rows: impl Serialize,
    next: Option<impl Cursor>,
    size: usize,
) -> Response<Bytes> {
    json_of_size(StatusCode::OK, &Paged::new(rows, next), size)
}
