//! The protocol's messages: what a client sends, what it asks for, and every answer that takes no
//! storage. The HTTP endpoint and the native host's server on standard input speak by the same code.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Guidance, ProtocolVersion, SERVER_NAME, Tool};
use crate::json::{parse, parse_array};
use crate::ports::CallerTrace;
use crate::store::MAX_PAGE_BYTES;

/// The key of a request's `_meta` that names its revision.
pub(crate) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_INFO_KEY: &str = "io.modelcontextprotocol/serverInfo";

/// The most messages of one batch.
const MAX_BATCH: usize = 100;

/// How long a client may keep what only a new release changes, in milliseconds.
const CACHE_MILLIS: u64 = 3_600_000;

/// A JSON-RPC error.
#[derive(Debug, Serialize)]
pub struct RpcError {
    code: i32,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl RpcError {
    pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
    pub(crate) const INVALID_PARAMS: i32 = -32602;
    const NO_ROOM: i32 = -32000;
    const PARSE_ERROR: i32 = -32700;
    const INVALID_REQUEST: i32 = -32600;
    const HEADER_MISMATCH: i32 = -32020;
    const UNSUPPORTED_VERSION: i32 = -32022;

    fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// The error for what is no request.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_REQUEST, message)
    }

    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_PARAMS, message)
    }

    pub(crate) fn header_mismatch(message: impl Into<String>) -> Self {
        Self::new(Self::HEADER_MISMATCH, message)
    }

    /// The error for a request of a batch whose answers are as large already as they may be.
    pub(crate) fn no_room() -> Self {
        let mib = MAX_PAGE_BYTES >> 20;
        let message = format!(
            "the answers of a batch end at {mib} MiB together: send this request again, by itself"
        );
        Self::new(Self::NO_ROOM, message)
    }

    fn method_not_found(method: &str) -> Self {
        Self::new(
            Self::METHOD_NOT_FOUND,
            format!("Method not found: {method}"),
        )
    }

    pub(crate) fn unsupported_version(requested: &str) -> Self {
        let supported = ProtocolVersion::ALL.map(ProtocolVersion::as_str);
        Self {
            data: Some(json!({"supported": supported, "requested": requested})),
            ..Self::new(Self::UNSUPPORTED_VERSION, "Unsupported protocol version")
        }
    }

    pub(crate) fn code(&self) -> i32 {
        self.code
    }
}

/// What a client sends at once.
pub enum Incoming {
    /// One message.
    Single(Read),
    /// Several messages, answered together.
    Batch(Vec<Read>),
}

/// A message, or why it is none.
pub type Read = Result<Message, Malformed>;

/// A message of a client.
pub enum Message {
    /// A message that is answered.
    Request(Request),
    /// A notification, or a response to a request that was never made: heard, and that is all.
    Unanswered,
}

/// A message that is answered.
pub struct Request {
    /// The request's name in its answer: a string or an integer.
    pub id: Value,
    pub(crate) method: String,
    pub(crate) params: Map<String, Value>,
}

/// A message that is none, and its id if that could be read.
pub struct Malformed {
    /// The id, or `null`.
    pub id: Value,
    /// What is wrong with the message.
    pub error: RpcError,
}

/// What a request comes to before storage is asked.
pub enum Asked {
    /// The server is to introduce itself.
    Introduction(Introduction),
    /// The request's result.
    Answered(Value),
    /// A call of a tool with these arguments.
    Call(Tool, Map<String, Value>),
}

impl Incoming {
    /// Reads a JSON text from a client that speaks this revision.
    ///
    /// # Errors
    /// What is wrong with the text as a whole.
    pub fn read(text: &[u8], version: ProtocolVersion) -> Result<Self, RpcError> {
        let is_batch = text.trim_ascii_start().starts_with(b"[");
        let read = match is_batch {
            true => parse_array(text).map(Value::Array),
            false => parse(text),
        };
        let value = read.map_err(|error| {
            let code = match error.is_data() {
                true => RpcError::INVALID_REQUEST,
                false => RpcError::PARSE_ERROR,
            };
            RpcError::new(code, format!("Invalid JSON: {error}"))
        })?;
        let messages = match value {
            Value::Array(messages) => messages,
            message => return Ok(Self::Single(Message::read(message))),
        };
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
        match broken_rule {
            Some(rule) => Err(RpcError::invalid_request(rule)),
            None => Ok(Self::Batch(
                messages.into_iter().map(Message::read_in_batch).collect(),
            )),
        }
    }
}

impl Message {
    fn read(message: Value) -> Read {
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
            Some(id) if is_id(&id) => Ok(Self::Request(Request { id, method, params })),
            Some(_) => malformed(RpcError::invalid_request(
                "id must be a string or an integer",
            )),
        }
    }

    fn read_in_batch(message: Value) -> Read {
        match Self::read(message)? {
            Self::Request(Request { id, method, .. }) if method == "initialize" => Err(Malformed {
                id,
                error: RpcError::invalid_request("initialize must not be part of a batch"),
            }),
            message => Ok(message),
        }
    }
}

/// Checks whether a value can identify a request.
fn is_id(id: &Value) -> bool {
    id.is_string() || id.is_i64() || id.is_u64()
}

impl Request {
    /// The revision that the request's `_meta` names, else `agreed`.
    ///
    /// # Errors
    /// When that revision is not spoken, or the request lacks what it demands.
    pub fn version(&self, agreed: ProtocolVersion) -> Result<ProtocolVersion, RpcError> {
        let meta = self.params.get("_meta").and_then(Value::as_object);
        let version = match self.declared_version()? {
            None => agreed,
            Some(declared) => ProtocolVersion::parse(declared)
                .ok_or_else(|| RpcError::unsupported_version(declared))?,
        };
        if version.is_stateless() {
            for key in [VERSION_KEY, CAPABILITIES_KEY] {
                if !meta.is_some_and(|meta| meta.contains_key(key)) {
                    let message = format!("_meta must have {key}");
                    return Err(RpcError::invalid_params(message));
                }
            }
        }
        Ok(version)
    }

    /// What the request's `_meta` says of the trace that it belongs to.
    pub fn trace(&self) -> Option<CallerTrace> {
        let meta = self.params.get("_meta")?;
        let text = |key: &str| meta.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(CallerTrace {
            parent: text("traceparent")?,
            state: text("tracestate"),
        })
    }

    /// The name of a revision in the request's `_meta`.
    pub(crate) fn declared_version(&self) -> Result<Option<&str>, RpcError> {
        let meta = self.params.get("_meta");
        match meta.and_then(|meta| meta.get(VERSION_KEY)) {
            None => Ok(None),
            Some(Value::String(declared)) => Ok(Some(declared)),
            Some(_) => {
                let message = format!("{VERSION_KEY} must be a string");
                Err(RpcError::invalid_params(message))
            }
        }
    }

    /// What the request, in this revision, asks for.
    ///
    /// # Errors
    /// When there is no such method or tool, and when the parameters are not its own.
    pub fn ask(self, version: ProtocolVersion, guidance: &Guidance) -> Result<Asked, RpcError> {
        let Self { method, params, .. } = self;
        match method.as_str() {
            "initialize" if !version.is_stateless() => agree(&params).map(Asked::Introduction),
            "ping" if !version.is_stateless() => Ok(Asked::Answered(json!({}))),
            "server/discover" if version.is_stateless() => {
                Ok(Asked::Introduction(Introduction(version)))
            }
            "tools/list" => list_tools(&params, version, guidance).map(Asked::Answered),
            "tools/call" => call(params, guidance),
            _ => Err(RpcError::method_not_found(&method)),
        }
    }
}

/// The server's introduction in this revision: the one that `initialize` agreed to, or a stateless
/// one.
pub struct Introduction(ProtocolVersion);

impl Introduction {
    /// The revision that later requests are in; `None` where each says its own.
    pub fn agreed(&self) -> Option<ProtocolVersion> {
        (!self.0.is_stateless()).then_some(self.0)
    }

    /// The result.
    pub fn result(&self, guidance: &Guidance) -> Value {
        let instructions = guidance.instructions();
        match self.agreed() {
            Some(version) => json!({
                "protocolVersion": version.as_str(),
                "capabilities": {"tools": {}},
                "serverInfo": server_info(version),
                "instructions": instructions,
            }),
            None => {
                let result = json!({
                    "supportedVersions": ProtocolVersion::ALL.map(ProtocolVersion::as_str),
                    "capabilities": {"tools": {}},
                    "instructions": instructions,
                    // Trouble passes.
                    "ttlMs": if guidance.trouble.is_some() { 0 } else { CACHE_MILLIS },
                    "cacheScope": "public",
                });
                complete(result, self.0)
            }
        }
    }
}

/// What a tool tells the language model.
pub enum Told {
    /// A sentence.
    Text(String),
    /// Rows, as the REST API shows them.
    Rows(Value),
}

impl Told {
    /// That a report is stored.
    pub fn stored() -> Self {
        Self::Text("Status reported successfully".into())
    }
}

/// A request's answer.
pub fn answer(id: Value, outcome: Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
    }
}

/// The result of a call. What went wrong is told to the language model, which can do something
/// about it, rather than to the client.
pub fn tool_result(outcome: Result<Told, String>, version: ProtocolVersion) -> Value {
    let (text, structured, is_error) = match outcome {
        Ok(Told::Text(text)) => (text, None, false),
        Ok(Told::Rows(rows)) => (rows.to_string(), Some(rows), false),
        Err(message) => (message, None, true),
    };
    let mut result = json!({
        "content": [{"type": "text", "text": text}],
        "isError": is_error,
    });
    if let Some(structured) = structured.filter(|_| version.has_structured_output()) {
        result["structuredContent"] = structured;
    }
    complete(result, version)
}

/// The result with what the revision has in every one.
fn complete(mut result: Value, version: ProtocolVersion) -> Value {
    if version.is_stateless() {
        result["resultType"] = "complete".into();
        result["_meta"] = json!({SERVER_INFO_KEY: server_info(version)});
    }
    result
}

fn server_info(version: ProtocolVersion) -> Value {
    let mut info = json!({"name": SERVER_NAME, "version": env!("CARGO_PKG_VERSION")});
    if version.has_structured_output() {
        info["title"] = "KubeAgents".into();
    }
    info
}

/// Agrees to the revision that the client asks for, or offers the newest that has a handshake.
fn agree(params: &Map<String, Value>) -> Result<Introduction, RpcError> {
    let requested = params
        .get("protocolVersion")
        .and_then(Value::as_str)
        .ok_or_else(|| RpcError::invalid_params("protocolVersion must be a string"))?;
    let version = ProtocolVersion::parse(requested)
        .filter(|version| !version.is_stateless())
        .unwrap_or(ProtocolVersion::V2025_11_25);
    Ok(Introduction(version))
}

fn list_tools(
    params: &Map<String, Value>,
    version: ProtocolVersion,
    guidance: &Guidance,
) -> Result<Value, RpcError> {
    if params.get("cursor").is_some_and(|cursor| !cursor.is_null()) {
        return Err(RpcError::invalid_params("cursor is invalid"));
    }
    let tools = guidance.tools().map(|tool| tool.definition(guidance));
    let mut tools = json!(tools.collect::<Vec<_>>());
    if !version.has_structured_output() {
        for tool in tools.as_array_mut().into_iter().flatten() {
            if let Some(tool) = tool.as_object_mut() {
                tool.remove("title");
                tool.remove("outputSchema");
            }
        }
    }
    let result = match version.is_stateless() {
        true => json!({"tools": tools, "ttlMs": CACHE_MILLIS, "cacheScope": "public"}),
        false => json!({"tools": tools}),
    };
    Ok(complete(result, version))
}

fn call(mut params: Map<String, Value>, guidance: &Guidance) -> Result<Asked, RpcError> {
    let name = params
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| RpcError::invalid_params("name must be a string"))?;
    let tool = guidance
        .tools()
        .find(|tool| tool.name() == name)
        .ok_or_else(|| RpcError::invalid_params(format!("Unknown tool: {name}")))?;
    match params.remove("arguments") {
        None | Some(Value::Null) => Ok(Asked::Call(tool, Map::new())),
        Some(Value::Object(arguments)) => Ok(Asked::Call(tool, arguments)),
        Some(_) => Err(RpcError::invalid_params("arguments must be an object")),
    }
}
