//! `GET /api/openapi.json`: the OpenAPI description of every endpoint, from the table of endpoints
//! and the types that are read and written.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::agents::MAX_LIMIT;
use super::credentials::{WORKSPACE_HEADER, WORKSPACE_PARAMETER};
use super::endpoints::{Access, Endpoint, Operation, Row, TABLE};
use super::error::ErrorBody;
use super::response::Answer;
use super::{Admitted, App};
use crate::WorkspaceChoice;
use crate::ports::Ports;
use crate::validation::STORABLE;

/// A parameter of a query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    description: &'static str,
    required: bool,
    schema: fn() -> Value,
}

pub(super) const SEARCH: Parameter = Parameter {
    name: "search",
    description: "Only agents whose id or name contains this, in any case.",
    required: false,
    schema: || json!({"type": "string", "pattern": STORABLE}),
};

pub(super) const STATUS: Parameter = Parameter {
    name: "status",
    description: "Only agents whose latest status is this: `running`, `success`, `failed` or `pending`.",
    required: false,
    schema: || json!({"type": "string"}),
};

pub(super) const STATE: Parameter = Parameter {
    name: "state",
    description: "Only sessions in this state: `active`, `idle`, `ended` or `expired`.",
    required: false,
    schema: || json!({"type": "string"}),
};

pub(super) const SESSION_STATUS: Parameter = Parameter {
    name: "status",
    description: "Only sessions whose current status is this: `running`, `success`, `failed` or `pending`.",
    required: false,
    schema: || json!({"type": "string"}),
};

pub(super) const SESSION_SEARCH: Parameter = Parameter {
    name: "search",
    description: "Only sessions whose topic or title, or whose agent's id or name, contains this, in any case.",
    required: false,
    schema: || json!({"type": "string", "pattern": STORABLE}),
};

pub(super) const EXPIRED: Parameter = Parameter {
    name: "expired",
    description: "`false`: only unexpired sessions; `only`: only expired ones; else all.",
    required: false,
    schema: || json!({"type": "string"}),
};

pub(super) const LIMIT: Parameter = Parameter {
    name: "limit",
    description: "The most rows of the answer.",
    required: false,
    schema: || json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": MAX_LIMIT}),
};

pub(super) const CURSOR: Parameter = Parameter {
    name: "cursor",
    description: "The `next_cursor` of the page before, to go on from there.",
    required: false,
    schema: || json!({"type": "string", "format": "cursor"}),
};

pub(super) const AFTER: Parameter = Parameter {
    name: "after",
    description: "The id of the last event that is known, to go on after it. The header \
        `Last-Event-ID` says the same, and comes first.",
    required: false,
    schema: || json!({"type": "string"}),
};

pub(super) const TOKEN: Parameter = Parameter {
    name: "token",
    description: "The token of the verification link.",
    required: true,
    schema: || json!({"type": "string", "minLength": 1}),
};

/// What the sender of a hook may say in the query. What is malformed counts as absent.
pub(super) const HOOK: [Parameter; 16] = [
    text(
        "agent_id",
        "The agent; else the tool, with `@` and the host where that is given.",
    ),
    text(
        "sequence",
        "The hook's place among those of its machine: what is not beyond the session's last one \
         changes nothing.",
    ),
    text(
        "detail",
        "How much may be told: `full`, `title` (no messages and arguments) or `none` (status and \
         reason only). The server's setting may allow less.",
    ),
    text("host", "The machine that the agent runs on."),
    text("repo", "The repository that it works in."),
    text("branch", "The branch that it works on."),
    text(
        "cwd",
        "The folder that it works in, where the payload does not say.",
    ),
    text("model", "The model, where the payload does not say."),
    text("mode", "`headless` where nobody sits in front of it."),
    text("parent", "The session that started this one."),
    text("pr", "The pull request that it works on."),
    text(
        "tool_version",
        "The tool's version, where the payload does not say.",
    ),
    text("cost_usd", "What the session has cost."),
    text("tokens_in", "The tokens that the model has read."),
    text("tokens_out", "The tokens that the model has written."),
    text(
        "context_percent",
        "How much of the model's context is used.",
    ),
];

/// A text that may be given in a query.
const fn text(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        description,
        required: false,
        schema: || json!({"type": "string"}),
    }
}

/// An OpenAPI document.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(super) struct OpenApi(
    #[expect(dead_code, reason = "it stands for its schema")] Map<String, Value>,
);

/// The document as it is served. A test compares it with [`document`]: what makes it would be a
/// tenth of a component.
///
/// It is unpacked by whoever asks first: as it is, it would be a twentieth of a component.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let packed = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));
    let mut document = Vec::new();
    // `core/build.rs` has packed it, so that nothing can fail.
    let _ = GzDecoder::new(&packed[..]).read_to_end(&mut document);
    document.into()
});

/// The schemas of the document by name, each whole: those it refers to stand in their places, and
/// formats that only OpenAPI knows, such as `uint64`, are left out.
static SCHEMAS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let mut document: Value = serde_json::from_slice(&DOCUMENT).unwrap_or_default();
    let schemas = document["components"]["schemas"].take();
    let Value::Object(schemas) = schemas else {
        return Map::new();
    };
    let whole = |(name, schema): (&String, &Value)| (name.clone(), inline(schema, &schemas));
    schemas.iter().map(whole).collect()
});

/// The JSON Schema of a type that the HTTP interface reads or writes, by its name in the document;
/// `null` for a name that is not there.
pub(crate) fn schema(name: &str) -> Value {
    SCHEMAS.get(name).cloned().unwrap_or_default()
}

fn inline(schema: &Value, schemas: &Map<String, Value>) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(|item| inline(item, schemas)).collect(),
        Value::Object(fields) => {
            let mut whole = Map::new();
            for (name, value) in fields {
                let target = value.as_str().and_then(|path| path.rsplit('/').next());
                match (name.as_str(), target.and_then(|name| schemas.get(name))) {
                    ("$ref", Some(target)) => {
                        if let Value::Object(target) = inline(target, schemas) {
                            whole.extend(target);
                        }
                    }
                    ("format", _) if value != "date-time" => {}
                    _ => {
                        whole.insert(name.clone(), inline(value, schemas));
                    }
                }
            }
            Value::Object(whole)
        }
        other => other.clone(),
    }
}

/// The answer with the document.
pub(super) fn serve() -> Answer {
    let mut response = Response::new(DOCUMENT.clone());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

impl<P: Ports> App<P> {
    pub(super) async fn openapi(&self, _: Admitted<'_>) -> Answer {
        serve()
    }
}

/// The OpenAPI description of the HTTP interface.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut refusals = BTreeSet::new();
    let mut paths = Map::new();
    for row in TABLE {
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        let method = row.method.as_str().to_ascii_lowercase();
        path[method] = describe(row, &mut schemas, &mut refusals);
    }
    let error = schemas.written.subschema_for::<ErrorBody<'static>>();
    let refusals: Map<_, _> = refusals
        .into_iter()
        .map(|status| (response_name(status), refusal(status, &error)))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "KubeAgents",
            "description": "Collects the status reports of AI coding agents and shows them. An \
                instance with AUTH_MODE=open takes requests without credentials, too. Every answer has an \
                X-Request-Id: the request's own, if that is 1-64 of A-Z, a-z, 0-9, ., _ and -.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "../"}],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions(),
            "responses": refusals,
            "securitySchemes": {
                SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token, an API key or the instance's static key.",
                },
                ACCOUNT_SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token.",
                },
            },
        },
    })
}

const SCHEME: &str = "token";
const ACCOUNT_SCHEME: &str = "accessToken";

/// The schemas of what is read and of what is written, which differ in what must be there.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.transforms = vec![Box::new(RecursiveTransform(drop_null_default))];
        });
        let written = settings.clone().for_serialize();
        Self {
            read: settings.for_deserialize().into_generator(),
            written: written.into_generator(),
        }
    }

    fn definitions(mut self) -> Map<String, Value> {
        let mut definitions = self.read.take_definitions(true);
        definitions.extend(self.written.take_definitions(true));
        definitions
    }
}

fn describe(row: &Row, schemas: &mut Schemas, refusals: &mut BTreeSet<u16>) -> Value {
    let operation = row.endpoint.operation();
    let mut description = json!({
        "operationId": row.endpoint.name(),
        "summary": operation.summary,
        "parameters": parameters(row, &operation),
        "responses": responses(row, &operation, schemas, refusals),
        "security": match row.access {
            Access::Public => json!([]),
            Access::Account | Access::Owner => json!([{ACCOUNT_SCHEME: []}]),
            Access::Scope(_) | Access::Workspace | Access::Management => json!([{SCHEME: []}, {}]),
        },
    });
    if let Access::Scope(scope) = row.access {
        description["description"] = format!("Takes the scope `{}`.", scope.as_str()).into();
    }
    if let Some(takes) = operation.takes {
        description["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": takes(&mut schemas.read)}},
        });
    }
    description
}

fn parameters(row: &Row, operation: &Operation) -> Vec<Value> {
    let in_path = row.placeholders().map(|name| {
        let mut parameter = json!({
            "name": name,
            "in": "path",
            "required": true,
            "schema": {"type": "string", "minLength": 1, "pattern": STORABLE},
        });
        if ["agent_id", "session_topic"].contains(&name) {
            parameter["description"] =
                "Where it is blank, the query has it under the same name: clients \
                that resolve `.` and `..` in paths can then ask for what is called so."
                    .into();
        }
        parameter
    });
    let in_query = operation.query.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.description,
            "required": parameter.required,
            "schema": (parameter.schema)(),
        })
    });
    let works_in_workspace = match row.access {
        Access::Public | Access::Account => false,
        Access::Scope(_) | Access::Workspace | Access::Management | Access::Owner => true,
    };
    let of_workspace = [(WORKSPACE_HEADER, "header"), (WORKSPACE_PARAMETER, "query")]
        .into_iter()
        .filter(|_| works_in_workspace)
        .map(|(name, place)| {
            json!({
                "name": name,
                "in": place,
                "description": "The workspace to work in: the account's `own`, or the `shared` one \
                    for its members.",
                "required": false,
                // An empty one counts as absent.
                "schema": {"type": "string", "enum": ([&WorkspaceChoice::WORDS[..], &[""]].concat())},
            })
        });
    in_path.chain(in_query).chain(of_workspace).collect()
}

/// The responses of an operation. Those that many have are put down in `refusals`.
fn responses(
    row: &Row,
    operation: &Operation,
    schemas: &mut Schemas,
    refusals: &mut BTreeSet<u16>,
) -> Map<String, Value> {
    let schema = (operation.answers)(&mut schemas.written);
    let media_type = match row.is_stream() {
        true => "text/event-stream",
        false => "application/json",
    };
    let mut answer = json!({
        "description": reason(operation.status),
        "content": {media_type: {"schema": schema}},
    });
    if row.endpoint.is_list() {
        answer["headers"] = header("Link", "The next page, as a relative reference.");
    }
    if row.is_conditional() {
        let tag = header("ETag", "Names the answer, for `If-None-Match`.");
        answer["headers"]["ETag"] = tag["ETag"].clone();
    }
    if row.endpoint == Endpoint::Hook {
        let description = "For how many minutes what was stored lasts; absent where nothing was.";
        answer["headers"] = header("Session-Ttl-Minutes", description);
    }
    let mut responses: Map<String, Value> =
        Map::from_iter([(operation.status.to_string(), answer)]);

    if row.is_conditional() {
        let known = json!({"description": "The client has the answer: `If-None-Match` names it"});
        responses.insert("304".into(), known);
    }
    let for_all = [400, 403, 408, 413, 500, 503].as_slice();
    let for_credentials: &[u16] = match row.access {
        Access::Public => &[],
        _ => &[401],
    };
    for status in [for_all, for_credentials, operation.fails].concat() {
        refusals.insert(status);
        let reference = format!("#/components/responses/{}", response_name(status));
        responses.insert(status.to_string(), json!({"$ref": reference}));
    }
    if row.endpoint == Endpoint::Mcp {
        let nothing = json!({"description": "Nothing is to be answered"});
        responses.insert("202".into(), nothing);
        for status in ["400", "404"] {
            let refusal = json!({
                "description": "A JSON-RPC error, or a request that cannot be read",
                "content": {"application/json": {"schema": true}},
            });
            responses.insert(status.into(), refusal);
        }
    }
    responses
}

/// A response that is an error.
fn refusal(status: u16, error: &Schema) -> Value {
    let mut refusal = json!({
        "description": reason(status),
        "content": {"application/json": {"schema": error}},
    });
    match status {
        401 => refusal["headers"] = header("WWW-Authenticate", "`Bearer`"),
        429 | 503 => refusal["headers"] = header("Retry-After", "Seconds to wait."),
        _ => {}
    }
    refusal
}

fn header(name: &str, description: &str) -> Value {
    json!({name: {"description": description, "schema": {"type": "string"}}})
}

fn response_name(status: u16) -> String {
    reason(status).replace(' ', "")
}

/// What a status means.
fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default()
}

/// `null` is what a field that is absent counts as, which its type says already.
fn drop_null_default(schema: &mut Schema) {
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
}
