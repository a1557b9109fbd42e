//! `POST /mcp`: the Model Context Protocol over Streamable HTTP.
//!
//! Every request stands alone: there are no sessions, and every answer is one JSON text. A request
//! in revision 2026-07-28 says so in its `_meta` and headers; without them it is one of the
//! revisions that open with `initialize`, which here promises nothing that later requests rely on.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tracing::Instrument;

use super::agents::{AgentList, Paged, SessionDetail, SessionList, decode_cursor};
use super::credentials::Caller;
use super::response::{Answer, json as json_response, json_text};
use super::{Admitted, ApiError, App};
use crate::mcp::rpc::{
    self, Asked, Incoming, Malformed, Message, Read, RpcError, Told, VERSION_KEY, answer,
    tool_result,
};
use crate::mcp::{Call, GetSession, Guidance, ListAgents, ListSessions, ProtocolVersion, Tool};
use crate::ports::Ports;
use crate::store::{
    AgentCursor, AgentQuery, Expiry, MAX_PAGE_BYTES, Page, SessionCursor, SessionQuery, Sessions,
};
use crate::{Scope, Session, SessionKey, search_key, yield_now};

const VERSION_HEADER: &str = "mcp-protocol-version";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

/// A JSON-RPC message or a batch of them, as the Model Context Protocol defines them.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct JsonRpc(#[expect(dead_code, reason = "it stands for its schema")] Value);

/// The revision of a request that names none: the last that had no header for it.
const UNSAID: ProtocolVersion = ProtocolVersion::V2025_03_26;

const API_KEY_MISSING: &str = "API key missing or not accepted: configure the client to send the \
                               header \"Authorization: Bearer <API key>\"";

/// The HTTP status of an answer that is this error alone. Clients of the older revisions take an
/// error to one of their methods only from a 200.
fn status(error: &RpcError, version: ProtocolVersion) -> StatusCode {
    match error.code() {
        RpcError::METHOD_NOT_FOUND if version.is_stateless() => StatusCode::NOT_FOUND,
        RpcError::INVALID_PARAMS if version.is_stateless() => StatusCode::BAD_REQUEST,
        RpcError::METHOD_NOT_FOUND | RpcError::INVALID_PARAMS => StatusCode::OK,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// The answer to what has no other than an error.
fn refuse(id: Value, error: RpcError, version: ProtocolVersion) -> Response<Bytes> {
    json_response(status(&error, version), &answer(id, Err(error)))
}

/// The answer to what wants none.
fn accepted() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

impl<P: Ports> App<P> {
    pub(super) async fn mcp(&self, request: Admitted<'_>) -> Answer {
        let named = match named_version(&request.parts.headers) {
            Ok(named) => named,
            Err(error) => return Ok(refuse(Value::Null, error, UNSAID)),
        };
        let version = named.unwrap_or(UNSAID);
        Ok(match Incoming::read(&request.body, version) {
            Err(error) => refuse(Value::Null, error, version),
            Ok(Incoming::Batch(messages)) => self.mcp_batch(messages, version, &request).await,
            Ok(Incoming::Single(message)) => self.mcp_message(message, named, &request).await,
        })
    }

    /// Refuses to register an OAuth client. A client of `/mcp` without a key asks for that, finding no
    /// OAuth metadata, and shows its user the description.
    pub(super) async fn register_client(&self, _request: Admitted<'_>) -> Answer {
        Ok(json_response(
            StatusCode::FORBIDDEN,
            &json!({
                "error": "access_denied",
                "error_description": API_KEY_MISSING,
                "message": API_KEY_MISSING,
                "code": "forbidden",
            }),
        ))
    }

    async fn mcp_message(
        &self,
        message: Read,
        named: Option<ProtocolVersion>,
        http: &Admitted<'_>,
    ) -> Response<Bytes> {
        let fallback = named.unwrap_or(UNSAID);
        let request = match message {
            Ok(Message::Request(request)) => request,
            Ok(Message::Unanswered) => return accepted(),
            Err(Malformed { id, error }) => return refuse(id, error, fallback),
        };
        let version = match version(&request, named, &http.parts.headers) {
            Ok(version) => version,
            Err(error) => return refuse(request.id, error, ProtocolVersion::V2026_07_28),
        };
        let id = request.id.clone();
        let room = Room::new(0, version);
        match self.mcp_request(request, room, http).await {
            Ok(result) => json_response(StatusCode::OK, &answer(id, Ok(result))),
            Err(error) => refuse(id, error, version),
        }
    }

    /// Answers the messages one after another: what is reported keeps its order. Other requests come in
    /// between, also where storage never has one wait.
    async fn mcp_batch(
        &self,
        messages: Vec<Read>,
        version: ProtocolVersion,
        http: &Admitted<'_>,
    ) -> Response<Bytes> {
        let mut answers = Vec::new();
        for message in messages {
            let answer = match message {
                Ok(Message::Request(request)) => {
                    let id = request.id.clone();
                    let room = Room::new(answers.len(), version);
                    answer(id, self.mcp_request(request, room, http).await)
                }
                Ok(Message::Unanswered) => continue,
                Err(Malformed { id, error }) => answer(id, Err(error)),
            };
            answers.push(if answers.is_empty() { b'[' } else { b',' });
            answers.extend_from_slice(answer.to_string().as_bytes());
            yield_now().await;
        }
        if answers.is_empty() {
            return accepted();
        }
        answers.push(b']');
        json_text(StatusCode::OK, answers)
    }

    async fn mcp_request(
        &self,
        request: rpc::Request,
        room: Room,
        http: &Admitted<'_>,
    ) -> Result<Value, RpcError> {
        let guidance = Guidance {
            default_ttl_minutes: Some(self.settings.values.default_ttl_minutes),
            ..Guidance::default()
        };
        let caller_trace = request.trace();
        let asked = request.ask(room.version, &guidance)?;
        let is_small = matches!(&asked, Asked::Call(tool, _) if tool.scope() == Scope::Report);
        if room.bytes == 0 && !is_small {
            return Err(RpcError::no_room());
        }
        let (tool, arguments) = match asked {
            Asked::Introduction(introduction) => return Ok(introduction.result(&guidance)),
            Asked::Answered(result) => return Ok(result),
            Asked::Call(tool, arguments) => (tool, arguments),
        };
        let span = tracing::info_span!("call", tool = tool.name());
        if let Some(caller) = caller_trace {
            self.ports.adopt(&span, &caller);
        }
        let performing = self.perform(tool, &arguments, room, &http.caller);
        let outcome = performing.instrument(span).await;
        let outcome = outcome.map_err(|error| {
            error.log(&http.parts.uri);
            if let Some(limit) = error.limit() {
                http.trace.note_limit(limit);
            }
            error.message
        });
        Ok(tool_result(outcome, room.version))
    }

    /// Does what a call asks for.
    async fn perform(
        &self,
        tool: Tool,
        arguments: &Map<String, Value>,
        room: Room,
        caller: &Caller,
    ) -> Result<Told, ApiError> {
        let scope = tool.scope();
        if !caller.scopes.contains(scope) {
            return Err(ApiError::missing_scope(scope));
        }
        if scope == Scope::Report {
            self.draw_report(&caller.workspace, self.now())?;
        }
        let call = tool.read(arguments)?;
        let _turn = match scope {
            Scope::Read => self.turn(&caller.workspace).await?,
            Scope::Report => None,
        };
        match call {
            Call::Report(report) => {
                let _reporting = self.precedence.report();
                self.record(caller, report).await?;
                Ok(Told::stored())
            }
            Call::ListAgents(call) => self.show_agents(call, room, caller).await,
            Call::ListSessions(call) => self.show_sessions(call, room, caller).await,
            Call::GetSession(call) => self.show_session(call, room, caller).await,
        }
    }

    async fn show_agents(
        &self,
        call: ListAgents,
        room: Room,
        caller: &Caller,
    ) -> Result<Told, ApiError> {
        let query = AgentQuery {
            search: call.search.as_deref().map(search_key),
            status: call.status,
            limit: call.limit,
            after: decode_cursor(call.cursor.as_deref())?,
        };
        let workspace = &caller.workspace;
        let reading = self.ports.store().agents(workspace, &query, self.now());
        let page = self.read(workspace, reading).await?;
        let page = room.fit(page, |agent| room.size(agent), AgentCursor::after);
        let agents = page.items;
        shown(&Paged::new(AgentList { agents }, page.next))
    }

    async fn show_sessions(
        &self,
        call: ListSessions,
        room: Room,
        caller: &Caller,
    ) -> Result<Told, ApiError> {
        let query = SessionQuery {
            expiry: Expiry::Any,
            limit: call.limit,
            after: decode_cursor(call.cursor.as_deref())?,
        };
        let now = self.now();
        let page = self
            .find_sessions(&caller.workspace, &call.agent_id, &query, now)
            .await?;
        let size = |session: &Session| room.size(&session.view(now));
        let page = room.fit(page, size, SessionCursor::after);
        let sessions = page.items.iter().map(|session| session.view(now)).collect();
        shown(&Paged::new(SessionList { sessions }, page.next))
    }

    async fn show_session(
        &self,
        call: GetSession,
        room: Room,
        caller: &Caller,
    ) -> Result<Told, ApiError> {
        let key = SessionKey {
            workspace: caller.workspace.clone(),
            agent_id: call.agent_id,
            session_topic: call.session_topic,
        };
        let before = decode_cursor(call.cursor.as_deref())?;
        let found = self.find_session(&key, before, call.limit).await?;
        let history = room.fit(
            found.history,
            |status| room.size(status),
            |status| status.seq,
        );
        let rows = SessionDetail::new(&found.session, history.items, self.now());
        shown(&Paged::new(rows, history.next))
    }
}

/// How large an answer may be.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// The bytes at which its rows end; the last one may go beyond.
    bytes: usize,
    version: ProtocolVersion,
}

impl Room {
    /// What the answers before leave of what all of a request's may be.
    fn new(taken: usize, version: ProtocolVersion) -> Self {
        Self {
            bytes: MAX_PAGE_BYTES.saturating_sub(taken),
            version,
        }
    }

    /// The size of a row in an answer: as JSON in a text, and once more where output is structured.
    fn size(self, row: &impl Serialize) -> usize {
        let json = serde_json::to_string(row).unwrap_or_default();
        let structured = self.version.has_structured_output();
        crate::json::size(&json) + if structured { json.len() } else { 0 }
    }

    fn fit<T, C>(
        self,
        page: Page<T, C>,
        size: impl Fn(&T) -> usize,
        place: impl FnOnce(&T) -> C,
    ) -> Page<T, C> {
        page.within(self.bytes, size, place)
    }
}

fn shown(answer: &impl Serialize) -> Result<Told, ApiError> {
    let rows = serde_json::to_value(answer).map_err(ApiError::internal)?;
    Ok(Told::Rows(rows))
}

/// The revision that the request's header names.
fn named_version(headers: &HeaderMap) -> Result<Option<ProtocolVersion>, RpcError> {
    let Some(name) = single(headers, VERSION_HEADER)? else {
        return Ok(None);
    };
    match ProtocolVersion::parse(name) {
        Some(version) => Ok(Some(version)),
        None => Err(RpcError::unsupported_version(name)),
    }
}

/// A header that must not be there twice, since not everyone on the way would read the same one.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, RpcError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str());
    if values.next().is_some() {
        let message = format!("{name} header appears more than once");
        return Err(RpcError::header_mismatch(message));
    }
    value
        .transpose()
        .map_err(|_| RpcError::header_mismatch(format!("{name} header is not ASCII")))
}

/// What a header stands for: text that no header can carry comes in Base64 between marks.
fn decode(value: &str) -> Option<String> {
    let marked = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    match marked {
        None => Some(value.to_owned()),
        Some(text) => String::from_utf8(STANDARD.decode(text).ok()?).ok(),
    }
}

/// The revision that a request is in, by its header and its `_meta`, which must agree; in a stateless
/// revision the headers must repeat the method and the tool's name, too.
fn version(
    request: &rpc::Request,
    named: Option<ProtocolVersion>,
    headers: &HeaderMap,
) -> Result<ProtocolVersion, RpcError> {
    let declared = request.declared_version()?;
    if declared.is_some() && declared != named.map(ProtocolVersion::as_str) {
        let message = format!("{VERSION_HEADER} header does not match {VERSION_KEY}");
        return Err(RpcError::header_mismatch(message));
    }
    let version = request.version(named.unwrap_or(UNSAID))?;
    if version.is_stateless() {
        if single(headers, METHOD_HEADER)? != Some(&request.method) {
            let message = format!("{METHOD_HEADER} header does not match the method");
            return Err(RpcError::header_mismatch(message));
        }
        let name = request.params.get("name").and_then(Value::as_str);
        if let ("tools/call", Some(name)) = (request.method.as_str(), name) {
            let header = single(headers, NAME_HEADER)?.and_then(decode);
            if header.as_deref() != Some(name) {
                let message = format!("{NAME_HEADER} header does not match the tool's name");
                return Err(RpcError::header_mismatch(message));
            }
        }
    }
    Ok(version)
}
