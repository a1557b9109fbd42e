//! `POST /mcp`: the Model Context Protocol over Streamable HTTP.
//!
//! Every request stands alone: there are no sessions, and every answer is one JSON text. A request
//! in revision 2026-07-28 says so in its `_meta` and headers; without them it is one of the
//! revisions that open with `initialize`, which here promises nothing that later requests rely on.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::agents::{AgentList, Paged, SessionDetail, decode_cursor};
use super::body::parse;
use super::credentials::Caller;
use super::response::{Answer, json as json_response};
use super::{Admitted, ApiError, App};
use crate::mcp::{Call, GetSession, INSTRUCTIONS, ListAgents, ProtocolVersion, SERVER_NAME, Tool};
use crate::ports::Ports;
use crate::store::{AgentQuery, Sessions};
use crate::{SessionKey, search_key};

const VERSION_HEADER: &str = "mcp-protocol-version";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_INFO_KEY: &str = "io.modelcontextprotocol/serverInfo";

/// The most messages of one batch.
const MAX_BATCH: usize = 100;

/// How long a client may keep what only a new release changes, in milliseconds.
const CACHE_MILLIS: u64 = 3_600_000;

/// A JSON-RPC error.
#[derive(Debug, Serialize)]
struct RpcError {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl RpcError {
    const PARSE_ERROR: i32 = -32700;
    const INVALID_REQUEST: i32 = -32600;
    const METHOD_NOT_FOUND: i32 = -32601;
    const INVALID_PARAMS: i32 = -32602;
    const HEADER_MISMATCH: i32 = -32020;
    const UNSUPPORTED_VERSION: i32 = -32022;

    fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_REQUEST, message)
    }

    fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_PARAMS, message)
    }

    fn header_mismatch(message: impl Into<String>) -> Self {
        Self::new(Self::HEADER_MISMATCH, message)
    }

    fn method_not_found(method: &str) -> Self {
        Self::new(
            Self::METHOD_NOT_FOUND,
            format!("Method not found: {method}"),
        )
    }

    fn unsupported_version(requested: &str) -> Self {
        let supported = ProtocolVersion::ALL.map(ProtocolVersion::as_str);
        Self {
            data: Some(json!({"supported": supported, "requested": requested})),
            ..Self::new(Self::UNSUPPORTED_VERSION, "Unsupported protocol version")
        }
    }

    /// The HTTP status of an answer that is this error alone. Clients of the older revisions take
    /// an error to one of their methods only from a 200.
    fn status(&self, version: ProtocolVersion) -> StatusCode {
        match self.code {
            Self::METHOD_NOT_FOUND if version.is_stateless() => StatusCode::NOT_FOUND,
            Self::INVALID_PARAMS if version.is_stateless() => StatusCode::BAD_REQUEST,
            Self::METHOD_NOT_FOUND | Self::INVALID_PARAMS => StatusCode::OK,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A message that is answered.
struct RpcRequest {
    id: Value,
    method: String,
    params: Map<String, Value>,
}

/// What a client sends.
enum Message {
    Request(RpcRequest),
    /// A notification, or a response to a request that was never made: heard, and that is all.
    Unanswered,
}

/// A message that is none, and its id if that could be read.
struct Malformed {
    id: Value,
    error: RpcError,
}

impl Message {
    fn read(message: Value) -> Result<Self, Malformed> {
        let Value::Object(mut message) = message else {
            return Err(Malformed {
                id: Value::Null,
                error: RpcError::invalid_request("a message must be an object"),
            });
        };
        let id = message.remove("id");
        let malformed = |error| {
            let id = id.clone().filter(is_id).unwrap_or_default();
            Err(Malformed { id, error })
        };
        if message.get("jsonrpc") != Some(&Value::from("2.0")) {
            return malformed(RpcError::invalid_request("jsonrpc must be \"2.0\""));
        }
        let method = match message.remove("method") {
            Some(Value::String(method)) => method,
            None if message.contains_key("result") || message.contains_key("error") => {
                return Ok(Self::Unanswered);
            }
            _ => return malformed(RpcError::invalid_request("method must be a string")),
        };
        let params = match message.remove("params") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(params)) => params,
            Some(_) => return malformed(RpcError::invalid_params("params must be an object")),
        };
        match id {
            None => Ok(Self::Unanswered),
            Some(id) if is_id(&id) => Ok(Self::Request(RpcRequest { id, method, params })),
            Some(_) => malformed(RpcError::invalid_request(
                "id must be a string or an integer",
            )),
        }
    }
}

/// Whether a value can identify a request.
fn is_id(id: &Value) -> bool {
    id.is_string() || id.is_i64() || id.is_u64()
}

/// A request's answer.
fn answer(id: Value, outcome: Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
    }
}

/// The answer to what has no other than an error.
fn refuse(id: Value, error: RpcError, version: ProtocolVersion) -> Response<Bytes> {
    json_response(error.status(version), &answer(id, Err(error)))
}

/// The answer to what wants none.
fn accepted() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

impl<P: Ports> App<P> {
    pub(super) async fn mcp(&self, request: Admitted<'_>) -> Answer {
        // What a request is in that does not say: the last revision that had no header for it.
        let unsaid = ProtocolVersion::V2025_03_26;
        let named = match named_version(&request.parts.headers) {
            Ok(named) => named,
            Err(error) => return Ok(refuse(Value::Null, error, unsaid)),
        };
        let version = named.unwrap_or(unsaid);
        let is_batch = request.body.trim_ascii_start().starts_with(b"[");
        let body = match is_batch {
            true => serde_json::from_slice(&request.body),
            false => parse(&request.body),
        };
        Ok(match body {
            Err(error) => {
                let code = match error.is_data() {
                    true => RpcError::INVALID_REQUEST,
                    false => RpcError::PARSE_ERROR,
                };
                let error = RpcError::new(code, format!("Invalid JSON: {error}"));
                refuse(Value::Null, error, version)
            }
            Ok(Value::Array(messages)) => self.mcp_batch(messages, version, &request).await,
            Ok(message) => self.mcp_message(message, named, &request).await,
        })
    }

    async fn mcp_message(
        &self,
        message: Value,
        named: Option<ProtocolVersion>,
        http: &Admitted<'_>,
    ) -> Response<Bytes> {
        let fallback = named.unwrap_or(ProtocolVersion::V2025_03_26);
        let request = match Message::read(message) {
            Ok(Message::Request(request)) => request,
            Ok(Message::Unanswered) => return accepted(),
            Err(Malformed { id, error }) => return refuse(id, error, fallback),
        };
        let version = match request.version(named, &http.parts.headers) {
            Ok(version) => version,
            Err(error) => return refuse(request.id, error, ProtocolVersion::V2026_07_28),
        };
        let id = request.id.clone();
        match self.mcp_request(request, version, http).await {
            Ok(result) => json_response(StatusCode::OK, &answer(id, Ok(result))),
            Err(error) => refuse(id, error, version),
        }
    }

    /// Answers the messages one after another.
    async fn mcp_batch(
        &self,
        messages: Vec<Value>,
        version: ProtocolVersion,
        http: &Admitted<'_>,
    ) -> Response<Bytes> {
        let broken_rule = match messages.len() {
            _ if version != ProtocolVersion::V2025_03_26 => {
                Some("only protocol version 2025-03-26 has batches".to_owned())
            }
            0 => Some("a batch must not be empty".to_owned()),
            count if count > MAX_BATCH => Some(format!(
                "a batch must not have more than {MAX_BATCH} messages"
            )),
            _ => None,
        };
        if let Some(rule) = broken_rule {
            return refuse(Value::Null, RpcError::invalid_request(rule), version);
        }
        let mut answers = Vec::new();
        for message in messages {
            match Message::read(message) {
                Ok(Message::Request(request)) => {
                    let id = request.id.clone();
                    let outcome = match request.method.as_str() {
                        "initialize" => Err(RpcError::invalid_request(
                            "initialize must not be part of a batch",
                        )),
                        _ => self.mcp_request(request, version, http).await,
                    };
                    answers.push(answer(id, outcome));
                }
                Ok(Message::Unanswered) => {}
                Err(Malformed { id, error }) => answers.push(answer(id, Err(error))),
            }
        }
        match answers.is_empty() {
            true => accepted(),
            false => json_response(StatusCode::OK, &answers),
        }
    }

    async fn mcp_request(
        &self,
        request: RpcRequest,
        version: ProtocolVersion,
        http: &Admitted<'_>,
    ) -> Result<Value, RpcError> {
        let RpcRequest { method, params, .. } = request;
        let mut result = match method.as_str() {
            "initialize" if !version.is_stateless() => initialize(&params),
            "ping" if !version.is_stateless() => Ok(json!({})),
            "server/discover" if version.is_stateless() => Ok(discover()),
            "tools/list" => list_tools(&params, version),
            "tools/call" => self.call_tool(&params, version, http).await,
            _ => Err(RpcError::method_not_found(&method)),
        }?;
        if version.is_stateless() {
            result["resultType"] = "complete".into();
            result["_meta"] = json!({SERVER_INFO_KEY: server_info(version)});
        }
        Ok(result)
    }

    async fn call_tool(
        &self,
        params: &Map<String, Value>,
        version: ProtocolVersion,
        http: &Admitted<'_>,
    ) -> Result<Value, RpcError> {
        let name = params
            .get("name")
            .and_then(Value::as_str)
            .ok_or_else(|| RpcError::invalid_params("name must be a string"))?;
        let tool = Tool::parse(name)
            .ok_or_else(|| RpcError::invalid_params(format!("Unknown tool: {name}")))?;
        let none = Map::new();
        let arguments = match params.get("arguments") {
            None | Some(Value::Null) => &none,
            Some(Value::Object(arguments)) => arguments,
            Some(_) => return Err(RpcError::invalid_params("arguments must be an object")),
        };
        let (method, uri) = (&http.parts.method, &http.parts.uri);
        let outcome = self.perform(tool, arguments, &http.caller).await;
        Ok(tool_result(outcome, version, method, uri))
    }

    /// Does what a call asks for. The answer of a tool that reads is JSON, of one that reports
    /// `null`.
    async fn perform(
        &self,
        tool: Tool,
        arguments: &Map<String, Value>,
        caller: &Caller,
    ) -> Result<Value, ApiError> {
        let scope = tool.scope();
        if !caller.scopes.contains(scope) {
            return Err(ApiError::missing_scope(scope));
        }
        match tool.read(arguments)? {
            Call::Report(report) => {
                self.record(&caller.workspace, report).await?;
                Ok(Value::Null)
            }
            Call::ListAgents(call) => self.show_agents(call, caller).await,
            Call::GetSession(call) => self.show_session(call, caller).await,
        }
    }

    async fn show_agents(&self, call: ListAgents, caller: &Caller) -> Result<Value, ApiError> {
        let query = AgentQuery {
            search: call.search.as_deref().map(search_key),
            status: call.status,
            limit: call.limit,
            after: decode_cursor(call.cursor.as_deref())?,
        };
        let store = self.ports.store();
        let page = store.agents(&caller.workspace, &query, self.now()).await?;
        let agents = page.items;
        structured(&Paged::new(AgentList { agents }, page.next))
    }

    async fn show_session(&self, call: GetSession, caller: &Caller) -> Result<Value, ApiError> {
        let key = SessionKey {
            workspace: caller.workspace.clone(),
            agent_id: call.agent_id,
            session_topic: call.session_topic,
        };
        let before = decode_cursor(call.cursor.as_deref())?;
        let found = self.find_session(&key, before, call.limit).await?;
        let rows = SessionDetail::new(&found.session, found.history.items, self.now());
        structured(&Paged::new(rows, found.history.next))
    }
}

fn structured(answer: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(answer).map_err(ApiError::internal)
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

impl RpcRequest {
    /// The revision that the request is in, by its header and its `_meta`, which must agree; in
    /// a stateless revision the headers must repeat the method and the tool's name, too.
    fn version(
        &self,
        named: Option<ProtocolVersion>,
        headers: &HeaderMap,
    ) -> Result<ProtocolVersion, RpcError> {
        let meta = self.params.get("_meta").and_then(Value::as_object);
        let declared = meta.and_then(|meta| meta.get(VERSION_KEY));
        let version = match (named, declared) {
            (named, None) => named.unwrap_or(ProtocolVersion::V2025_03_26),
            (_, Some(Value::String(declared))) => {
                if named.map(ProtocolVersion::as_str) != Some(declared) {
                    let message = format!("{VERSION_HEADER} header does not match {VERSION_KEY}");
                    return Err(RpcError::header_mismatch(message));
                }
                ProtocolVersion::parse(declared)
                    .ok_or_else(|| RpcError::unsupported_version(declared))?
            }
            (_, Some(_)) => {
                let message = format!("{VERSION_KEY} must be a string");
                return Err(RpcError::invalid_params(message));
            }
        };
        if version.is_stateless() {
            for key in [VERSION_KEY, CAPABILITIES_KEY] {
                if !meta.is_some_and(|meta| meta.contains_key(key)) {
                    let message = format!("_meta must have {key}");
                    return Err(RpcError::invalid_params(message));
                }
            }
            if single(headers, METHOD_HEADER)? != Some(&self.method) {
                let message = format!("{METHOD_HEADER} header does not match the method");
                return Err(RpcError::header_mismatch(message));
            }
            let name = self.params.get("name").and_then(Value::as_str);
            if let ("tools/call", Some(name)) = (self.method.as_str(), name) {
                let header = single(headers, NAME_HEADER)?.and_then(decode);
                if header.as_deref() != Some(name) {
                    let message = format!("{NAME_HEADER} header does not match the tool's name");
                    return Err(RpcError::header_mismatch(message));
                }
            }
        }
        Ok(version)
    }
}

fn server_info(version: ProtocolVersion) -> Value {
    let mut info = json!({"name": SERVER_NAME, "version": env!("CARGO_PKG_VERSION")});
    if version.has_structured_output() {
        info["title"] = "KubeAgents".into();
    }
    info
}

/// Agrees to the revision that the client asks for, or offers the newest that has a handshake.
fn initialize(params: &Map<String, Value>) -> Result<Value, RpcError> {
    let requested = params
        .get("protocolVersion")
        .and_then(Value::as_str)
        .ok_or_else(|| RpcError::invalid_params("protocolVersion must be a string"))?;
    let version = ProtocolVersion::parse(requested)
        .filter(|version| !version.is_stateless())
        .unwrap_or(ProtocolVersion::V2025_11_25);
    Ok(json!({
        "protocolVersion": version.as_str(),
        "capabilities": {"tools": {}},
        "serverInfo": server_info(version),
        "instructions": INSTRUCTIONS,
    }))
}

fn discover() -> Value {
    json!({
        "supportedVersions": ProtocolVersion::ALL.map(ProtocolVersion::as_str),
        "capabilities": {"tools": {}},
        "instructions": INSTRUCTIONS,
        "ttlMs": CACHE_MILLIS,
        "cacheScope": "public",
    })
}

fn list_tools(params: &Map<String, Value>, version: ProtocolVersion) -> Result<Value, RpcError> {
    if params.get("cursor").is_some_and(|cursor| !cursor.is_null()) {
        return Err(RpcError::invalid_params("cursor is invalid"));
    }
    let mut tools = json!(Tool::ALL.map(Tool::definition));
    if !version.has_structured_output() {
        for tool in tools.as_array_mut().into_iter().flatten() {
            if let Some(tool) = tool.as_object_mut() {
                tool.remove("title");
                tool.remove("outputSchema");
            }
        }
    }
    Ok(match version.is_stateless() {
        true => json!({"tools": tools, "ttlMs": CACHE_MILLIS, "cacheScope": "public"}),
        false => json!({"tools": tools}),
    })
}

/// What a call came to. That it failed is told to the language model, which can do something about
/// it, rather than to the client.
fn tool_result(
    outcome: Result<Value, ApiError>,
    version: ProtocolVersion,
    method: &Method,
    uri: &Uri,
) -> Value {
    let (text, structured, is_error) = match outcome {
        Ok(Value::Null) => ("Status reported successfully".to_owned(), None, false),
        Ok(answer) => (answer.to_string(), Some(answer), false),
        Err(error) => {
            error.log(method, uri);
            (error.message, None, true)
        }
    };
    let mut result = json!({
        "content": [{"type": "text", "text": text}],
        "isError": is_error,
    });
    if let Some(structured) = structured.filter(|_| version.has_structured_output()) {
        result["structuredContent"] = structured;
    }
    result
}
