//! The Model Context Protocol: its revisions, the tools, and what a call asks for.
//!
//! What a tool is called, takes and answers is written here once; the HTTP endpoint and the native
//! host's server on standard input serve the same definitions and read calls with the same rules.

pub mod rpc;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::http::schema;
use crate::json::whole;
use crate::report::{RawReport, ReportRules};
use crate::validation::{NOT_BLANK, STORABLE, storable};
use crate::{InvalidField, Report, Rule, Scope, StatusKind};

/// The name under which the server introduces itself.
pub const SERVER_NAME: &str = "kubeagents";

/// How an agent is told to use the tools.
const INSTRUCTIONS: &str = "Call start_session before you begin a task, report_status at each milestone \
and whenever you wait for someone or something, and end_session exactly once when the task is over, also \
when it failed: the people who rely on the task see in these reports what you are doing. Use the same \
agent_id for everything you do, and the same session_topic for every report on one task. When a report \
fails, go on with the task.";

/// How an agent whose hooks report is told to use the reading tools.
const READING_INSTRUCTIONS: &str = "Hooks report your work to kubeagents already: there is nothing for \
you to report. Use these tools to see what agents are doing: call list_agents before you begin something \
that could get in another agent's way, and when you are asked who works on what.";

/// What the tools say of themselves that depends on where they are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guidance {
    /// Only the tools of the scope `read` are served, since hooks report.
    pub is_read_only: bool,
    /// The TTL of a new session whose agent asks for none, in minutes, where that is known.
    pub default_ttl_minutes: Option<u32>,
    /// Why nothing can be reported now, in whole sentences.
    pub trouble: Option<String>,
}

impl Guidance {
    /// How an agent is told to use the tools.
    pub fn instructions(&self) -> Cow<'static, str> {
        let instructions = match self.is_read_only {
            true => READING_INSTRUCTIONS,
            false => INSTRUCTIONS,
        };
        match &self.trouble {
            None => instructions.into(),
            Some(trouble) => format!("{trouble} {instructions}").into(),
        }
    }

    /// The tools that are served, in the order of `tools/list`.
    pub(crate) fn tools(&self) -> impl Iterator<Item = Tool> {
        Tool::ALL
            .into_iter()
            .filter(|tool| !self.is_read_only || tool.scope() == Scope::Read)
    }

    fn report_often(&self) -> String {
        match self.default_ttl_minutes {
            Some(ttl) => format!(
                "at least every {} on a long task, since a session expires {} after its last report \
                 unless ttl_minutes asks for more",
                minutes((ttl / 2).max(1)),
                minutes(ttl)
            ),
            None => "on a long task well within ttl_minutes, since a session without reports \
                     expires"
                .into(),
        }
    }

    fn first_ttl(&self) -> Cow<'static, str> {
        match self.default_ttl_minutes {
            Some(ttl) => format!("{ttl} at first").into(),
            None => "the server's default at first".into(),
        }
    }
}

fn minutes(count: u32) -> String {
    match count {
        1 => "minute".into(),
        count => format!("{count} minutes"),
    }
}

/// A revision of the protocol. Later ones compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// The first with Streamable HTTP, and the only one with batches.
    V2025_03_26,
    /// Titles and structured output.
    V2025_06_18,
    /// The last that opens with `initialize`.
    V2025_11_25,
    /// Without a handshake: each request says which revision it is in.
    V2026_07_28,
}

impl ProtocolVersion {
    /// Every revision that is spoken, the newest first.
    pub const ALL: [Self; 4] = [
        Self::V2026_07_28,
        Self::V2025_11_25,
        Self::V2025_06_18,
        Self::V2025_03_26,
    ];

    /// The date that names the revision.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The revision of exactly this name; `None` for one that is not spoken.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == name)
    }

    /// Checks whether requests stand alone, without `initialize` before them.
    pub fn is_stateless(self) -> bool {
        self >= Self::V2026_07_28
    }

    /// Checks whether tools have titles, output schemas and structured output.
    pub fn has_structured_output(self) -> bool {
        self >= Self::V2025_06_18
    }
}

/// One of the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Reports that a task begins.
    StartSession,
    /// Reports how a task is going.
    ReportStatus,
    /// Reports that a task is over.
    EndSession,
    /// Reads which agents there are.
    ListAgents,
    /// Reads which tasks an agent has.
    ListSessions,
    /// Reads one task of one agent.
    GetSession,
}

/// A tool as `tools/list` shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// What calls name it by.
    pub name: &'static str,
    /// What people read.
    pub title: &'static str,
    /// When and how to use it, for a language model.
    pub description: Cow<'static, str>,
    /// What it takes, a JSON Schema 2020-12.
    pub input_schema: Value,
    /// What it answers, where that is structured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// What it does to the world.
    pub annotations: Annotations,
}

/// Hints on what a tool does to the world.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotations {
    /// It changes nothing.
    pub read_only_hint: bool,
    /// It undoes or overwrites something.
    pub destructive_hint: bool,
    /// A second call with the same arguments changes nothing more.
    pub idempotent_hint: bool,
    /// It reaches beyond the server.
    pub open_world_hint: bool,
}

/// What a call asks for, every argument within its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Store this report.
    Report(Report),
    /// List agents.
    ListAgents(ListAgents),
    /// List an agent's sessions.
    ListSessions(ListSessions),
    /// Show a session.
    GetSession(GetSession),
}

/// The arguments of `list_agents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListAgents {
    /// Only agents whose id or name contains this, in any case.
    pub search: Option<String>,
    /// Only agents whose latest status is this.
    pub status: Option<StatusKind>,
    /// At most this many, 1 to 100.
    pub limit: usize,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// The arguments of `list_sessions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSessions {
    /// Whose tasks they are.
    pub agent_id: String,
    /// At most this many, 1 to 100.
    pub limit: usize,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// The arguments of `get_session`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetSession {
    /// Whose task it is.
    pub agent_id: String,
    /// The task.
    pub session_topic: String,
    /// At most this many statuses, 1 to 100, the newest first.
    pub limit: usize,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// How many rows a reading tool answers with at most, and unless told otherwise: a language model
/// reads every one of them.
const MAX_LIMIT: usize = 100;
const DEFAULT_LIMIT: usize = 20;

impl Tool {
    /// Every tool, in the order of `tools/list`.
    pub const ALL: [Self; 6] = [
        Self::StartSession,
        Self::ReportStatus,
        Self::EndSession,
        Self::ListAgents,
        Self::ListSessions,
        Self::GetSession,
    ];

    /// What calls name it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StartSession => "start_session",
            Self::ReportStatus => "report_status",
            Self::EndSession => "end_session",
            Self::ListAgents => "list_agents",
            Self::ListSessions => "list_sessions",
            Self::GetSession => "get_session",
        }
    }

    /// The scope that calling it takes.
    pub const fn scope(self) -> Scope {
        match self {
            Self::StartSession | Self::ReportStatus | Self::EndSession => Scope::Report,
            Self::ListAgents | Self::ListSessions | Self::GetSession => Scope::Read,
        }
    }

    /// The statuses that it may report.
    const fn statuses(self) -> &'static [StatusKind] {
        match self {
            Self::StartSession => &[StatusKind::Running],
            Self::ReportStatus => &[StatusKind::Running, StatusKind::Pending, StatusKind::Failed],
            Self::EndSession => &[StatusKind::Success, StatusKind::Failed],
            Self::ListAgents | Self::ListSessions | Self::GetSession => &[],
        }
    }

    /// Reads the arguments of a call. Unknown ones are ignored, and `null` counts as absent.
    ///
    /// # Errors
    /// The first argument that breaks its rule.
    pub fn read(self, arguments: &Map<String, Value>) -> Result<Call, InvalidField> {
        match self {
            Self::StartSession => {
                let status = Some(StatusKind::Running.as_str().to_owned());
                self.report(arguments, status).map(Call::Report)
            }
            Self::ReportStatus | Self::EndSession => {
                let status = text(arguments, "status")?;
                self.report(arguments, status).map(Call::Report)
            }
            Self::ListAgents => Ok(Call::ListAgents(ListAgents {
                search: stored_text(arguments, "search")?.filter(|search| !search.is_empty()),
                status: match text(arguments, "status")?.as_deref() {
                    None | Some("") => None,
                    Some(word) => Some(
                        StatusKind::parse(word)
                            .ok_or(Rule::Statuses(&StatusKind::ALL).broken_by("status"))?,
                    ),
                },
                limit: limit(arguments)?,
                cursor: text(arguments, "cursor")?,
            })),
            Self::ListSessions => Ok(Call::ListSessions(ListSessions {
                agent_id: name(arguments, "agent_id")?,
                limit: limit(arguments)?,
                cursor: text(arguments, "cursor")?,
            })),
            Self::GetSession => Ok(Call::GetSession(GetSession {
                agent_id: name(arguments, "agent_id")?,
                session_topic: name(arguments, "session_topic")?,
                limit: limit(arguments)?,
                cursor: text(arguments, "cursor")?,
            })),
        }
    }

    fn report(
        self,
        arguments: &Map<String, Value>,
        status: Option<String>,
    ) -> Result<Report, InvalidField> {
        let raw = RawReport {
            agent_id: text(arguments, "agent_id")?,
            agent_name: text(arguments, "agent_name")?,
            agent_source: text(arguments, "agent_source")?,
            session_topic: text(arguments, "session_topic")?,
            status,
            timestamp: None,
            message: text(arguments, "message")?,
            content: text(arguments, "content")?,
            ttl_minutes: integer(arguments, "ttl_minutes")?,
            session_title: text(arguments, "session_title")?,
            reason: text(arguments, "reason")?,
            context: None,
            sequence: None,
        };
        raw.validate(&ReportRules {
            statuses: self.statuses(),
            needs_timestamp: false,
        })
    }

    /// The tool as `tools/list` shows it.
    pub fn definition(self, guidance: &Guidance) -> Definition {
        let reads = self.scope() == Scope::Read;
        let (title, description): (_, Cow<'static, str>) = match self {
            Self::StartSession => (
                "Start a session",
                "Call this before the first step of a task, and again when you take up one that had \
                 ended: it reports that the task is running. Choose a short \
                 session_topic that tells people what the task is, and repeat it exactly in every \
                 later report on the task."
                    .into(),
            ),
            Self::ReportStatus => (
                "Report a status",
                format!(
                    "Call this at each milestone of a task, and {}. It reports how the task is going: \
                     running while you work, pending while you wait for a person or for something \
                     outside, failed when a step failed and you may still recover. To finish, call \
                     end_session.",
                    guidance.report_often()
                )
                .into(),
            ),
            Self::EndSession => (
                "End a session",
                "Call this exactly once for each task, as the last thing you do for it. It reports \
                 that the task is over: success when it is done, failed when you give up."
                    .into(),
            ),
            Self::ListAgents => (
                "List agents",
                "Call this before you begin something that could get in another agent's way. It shows \
                 which agents report here, what they were doing last and when, the ones seen last \
                 first."
                    .into(),
            ),
            Self::ListSessions => (
                "List an agent's sessions",
                "Call this to see what one agent works on, and to find the session_topic that \
                 get_session takes. It shows which tasks the agent has, how each is going and when it \
                 expires, the ones updated last first."
                    .into(),
            ),
            Self::GetSession => (
                "Get a session",
                "Call this to see how one task of one agent is going: its state, when it expires, and \
                 its recent history, newest first. list_sessions says which tasks there are."
                    .into(),
            ),
        };
        Definition {
            name: self.name(),
            title,
            description,
            input_schema: self.input_schema(guidance),
            output_schema: self.output_schema(),
            annotations: Annotations {
                read_only_hint: reads,
                destructive_hint: false,
                idempotent_hint: reads,
                open_world_hint: false,
            },
        }
    }

    fn input_schema(self, guidance: &Guidance) -> Value {
        let agent_id = reported(
            "agent_id",
            "Who reports: a name for you that stays the same across tasks, such as \
             claude-code-alice or ci-reviewer.",
        );
        let session_topic = reported(
            "session_topic",
            "The task in a few words, such as \"Fix the login redirect\". The same words name the \
             same session.",
        );
        let message = reported(
            "message",
            "One line for people: what you are doing, what you wait for, or what came out. No \
             secrets.",
        );
        let content = reported(
            "content",
            "Details, if they help: results, errors, links. No secrets.",
        );
        let ttl_minutes = reported(
            "ttl_minutes",
            &format!(
                "How many minutes the session lives without another report. 0 or nothing keeps \
                 what it has, {}. Set it higher when the next report may take longer.",
                guidance.first_ttl()
            ),
        );
        let session_title = reported(
            "session_title",
            "What people read in place of session_topic, where that is no good title.",
        );
        let reason = reported(
            "reason",
            "Why, in one word for programs. With pending: permission, question, plan, input or \
             interrupted. With failed: stopped when a person ended it, else the kind of failure, \
             such as rate_limit.",
        );
        let status = |words: &[StatusKind]| {
            let words: Vec<_> = words.iter().map(|kind| kind.as_str()).collect();
            json!({"type": "string", "enum": words})
        };
        let limit = optional(json!({
            "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT,
            "description": "How many to show at most.",
        }));
        let cursor = optional(json!({
            "type": "string",
            "description": "The next_cursor of the answer before, to go on from there.",
        }));
        let name = |description| json!({"type": "string", "pattern": NOT_BLANK, "description": description});
        match self {
            Self::StartSession => json!({
                "type": "object",
                "properties": {
                    "agent_id": agent_id,
                    "session_topic": session_topic,
                    "agent_name": reported("agent_name", "Your name as people should read it."),
                    "agent_source": reported(
                        "agent_source",
                        "The program you run in, such as cursor or claude-code.",
                    ),
                    "session_title": session_title,
                    "ttl_minutes": ttl_minutes,
                    "reason": reason,
                    "message": message,
                },
                "required": ["agent_id", "session_topic"],
            }),
            Self::ReportStatus => json!({
                "type": "object",
                "properties": {
                    "agent_id": agent_id,
                    "session_topic": session_topic,
                    "session_title": session_title,
                    "status": status(self.statuses()),
                    "reason": reason,
                    "message": message,
                    "content": content,
                    "ttl_minutes": ttl_minutes,
                },
                "required": ["agent_id", "session_topic", "status"],
            }),
            Self::EndSession => json!({
                "type": "object",
                "properties": {
                    "agent_id": agent_id,
                    "session_topic": session_topic,
                    "status": status(self.statuses()),
                    "message": message,
                    "content": content,
                },
                "required": ["agent_id", "session_topic", "status"],
            }),
            Self::ListAgents => {
                let mut status = status(&StatusKind::ALL);
                status["description"] = "Only agents whose latest status is this.".into();
                json!({
                    "type": "object",
                    "properties": {
                        "search": optional(json!({
                            "type": "string",
                            "pattern": STORABLE,
                            "description": "Only agents whose id or name contains this, in upper or \
                                lower case.",
                        })),
                        "status": optional(status),
                        "limit": limit,
                        "cursor": cursor,
                    },
                })
            }
            Self::ListSessions => json!({
                "type": "object",
                "properties": {
                    "agent_id": name("Whose tasks they are."),
                    "limit": limit,
                    "cursor": cursor,
                },
                "required": ["agent_id"],
            }),
            Self::GetSession => json!({
                "type": "object",
                "properties": {
                    "agent_id": name("Whose task it is."),
                    "session_topic": name("The task, in exactly its words."),
                    "limit": limit,
                    "cursor": cursor,
                },
                "required": ["agent_id", "session_topic"],
            }),
        }
    }

    fn output_schema(self) -> Option<Value> {
        let name = match self {
            Self::StartSession | Self::ReportStatus | Self::EndSession => return None,
            Self::ListAgents => "AgentListPage",
            Self::ListSessions => "SessionListPage",
            Self::GetSession => "SessionDetailPage",
        };
        Some(schema(name))
    }
}

/// The schema of an argument that becomes this field of a report, with what it is for.
fn reported(field: &str, description: &str) -> Value {
    let mut schema = schema("Report")["properties"][field].take();
    let kinds = schema["type"].take();
    schema["description"] = description.into();
    match kinds.get(0).cloned() {
        Some(kind) => {
            schema["type"] = kind;
            optional(schema)
        }
        None => {
            schema["type"] = kinds;
            schema
        }
    }
}

/// The schema of an argument that may be `null`, too, which counts as absent. Not every client takes
/// more than one type.
fn optional(mut schema: Value) -> Value {
    let mut whole = Map::new();
    for about in ["description", "default"] {
        if let Some(text) = schema.as_object_mut().and_then(|rules| rules.remove(about)) {
            whole.insert(about.to_owned(), text);
        }
    }
    whole.insert("anyOf".to_owned(), json!([schema, {"type": "null"}]));
    whole.into()
}

/// A text argument.
fn text(
    arguments: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<String>, InvalidField> {
    match arguments.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Rule::Text.broken_by(field)),
    }
}

/// A text argument that storage is asked for.
fn stored_text(
    arguments: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<String>, InvalidField> {
    let text = text(arguments, field)?;
    storable(field, text.as_deref().unwrap_or_default())?;
    Ok(text)
}

/// A text argument that names something stored.
fn name(arguments: &Map<String, Value>, field: &'static str) -> Result<String, InvalidField> {
    stored_text(arguments, field)?
        .filter(|name| !name.trim().is_empty())
        .ok_or(Rule::Required.broken_by(field))
}

/// An integer argument.
fn integer(
    arguments: &Map<String, Value>,
    field: &'static str,
) -> Result<Option<i64>, InvalidField> {
    match arguments.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            Ok(Some(whole(number).ok_or(Rule::Integer.broken_by(field))?))
        }
        Some(_) => Err(Rule::Integer.broken_by(field)),
    }
}

/// How many rows are asked for.
fn limit(arguments: &Map<String, Value>) -> Result<usize, InvalidField> {
    match integer(arguments, "limit")? {
        None => Ok(DEFAULT_LIMIT),
        Some(limit) => usize::try_from(limit)
            .ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tool: Tool, arguments: Value) -> Result<Call, String> {
        let call = tool.read(arguments.as_object().unwrap());
        call.map_err(|error| error.to_string())
    }

    fn reported(tool: Tool, arguments: Value) -> Report {
        match read(tool, arguments) {
            Ok(Call::Report(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn schemas_are_those_of_the_types_and_have_nothing_that_clients_stumble_over() {
        let guidance = Guidance {
            default_ttl_minutes: Some(60),
            ..Guidance::default()
        };
        fn check(schema: &Value) {
            match schema {
                Value::Object(fields) => {
                    assert!(!fields.contains_key("$ref"), "{schema}");
                    if let Some(format) = fields.get("format").filter(|it| it.is_string()) {
                        assert_eq!(format, "date-time");
                    }
                    fields.values().for_each(check);
                }
                Value::Array(items) => items.iter().for_each(check),
                Value::Null => panic!("a schema is missing"),
                _ => {}
            }
        }
        for tool in Tool::ALL {
            let definition = tool.definition(&guidance);
            check(&definition.input_schema);
            let arguments = definition.input_schema["properties"].as_object().unwrap();
            for (name, schema) in arguments {
                assert!(
                    schema["description"].is_string() || name == "status",
                    "{schema}"
                );
                let required = definition.input_schema["required"].as_array();
                let required = required.is_some_and(|all| all.contains(&json!(name)));
                let kinds = schema["anyOf"].as_array();
                assert_eq!(kinds.is_none(), required, "{name} may be null: {schema}");
                for kind in kinds.unwrap_or(&vec![schema.clone()]) {
                    assert!(kind["type"].is_string(), "{schema}");
                }
            }
            definition.output_schema.iter().for_each(check);
            assert_eq!(
                definition.output_schema.is_some(),
                tool.scope() == Scope::Read
            );
        }
        let start = Tool::StartSession.definition(&guidance).input_schema;
        let mut agent_id = start["properties"]["agent_id"].clone();
        agent_id["description"].take();
        let expected = json!({
            "type": "string", "pattern": NOT_BLANK, "maxLength": 100, "description": null,
        });
        assert_eq!(agent_id, expected);
        let ttl = &start["properties"]["ttl_minutes"]["anyOf"][0];
        assert_eq!(
            (&ttl["type"], &ttl["minimum"], &ttl["maximum"]),
            (&json!("integer"), &json!(0), &json!(1440))
        );
        let sessions = Tool::ListSessions.definition(&guidance).output_schema;
        let session = &sessions.unwrap()["properties"]["sessions"]["items"];
        assert_eq!(
            session["properties"]["state"]["enum"],
            json!(["active", "idle", "ended", "expired"])
        );
    }

    #[test]
    fn starting_a_session_reports_running_whatever_else_is_said() {
        let report = reported(
            Tool::StartSession,
            json!({
                "agent_id": "a", "session_topic": "t", "status": "failed", "agent_name": "A",
                "agent_source": "cursor", "ttl_minutes": 5, "message": "m", "unknown": [],
            }),
        );
        assert_eq!(report.status, StatusKind::Running);
        assert_eq!(report.agent_name.as_deref(), Some("A"));
        assert_eq!(report.agent_source.as_deref(), Some("cursor"));
        assert_eq!(report.ttl_minutes, Some(5));
        assert_eq!(report.message, "m");
    }

    #[test]
    fn each_tool_reports_only_its_own_statuses() {
        for (tool, allowed, rule) in [
            (
                Tool::ReportStatus,
                vec!["running", "pending", "failed"],
                "status must be one of: running, pending, failed",
            ),
            (
                Tool::EndSession,
                vec!["success", "failed"],
                "status must be one of: success, failed",
            ),
        ] {
            for word in ["running", "success", "failed", "pending", "done", ""] {
                let arguments = json!({"agent_id": "a", "session_topic": "t", "status": word});
                match allowed.contains(&word) {
                    true => assert_eq!(reported(tool, arguments).status.as_str(), word),
                    false => assert_eq!(read(tool, arguments), Err(rule.to_owned()), "{word}"),
                }
            }
            let missing = json!({"agent_id": "a", "session_topic": "t"});
            assert_eq!(read(tool, missing), Err(rule.to_owned()));
        }
    }

    #[test]
    fn a_broken_argument_is_named_in_the_words_of_the_contract() {
        for (arguments, message) in [
            (json!({}), "agent_id is required"),
            (json!({"agent_id": null}), "agent_id is required"),
            (json!({"agent_id": " "}), "agent_id is required"),
            (json!({"agent_id": 5}), "agent_id must be a string"),
            (
                json!({"agent_id": "x".repeat(101)}),
                "agent_id must be 1-100 characters",
            ),
            (json!({"agent_id": "a"}), "session_topic is required"),
            (
                json!({"agent_id": "a", "session_topic": "t", "message": "x".repeat(1001)}),
                "message must be 0-1000 characters",
            ),
            (
                json!({"agent_id": "a", "session_topic": "t", "message": "\0"}),
                "message must not contain U+0000",
            ),
            (
                json!({"agent_id": "a", "session_topic": "t", "ttl_minutes": 1441}),
                "ttl_minutes must be 0 or 1-1440",
            ),
            (
                json!({"agent_id": "a", "session_topic": "t", "ttl_minutes": 1e300}),
                "ttl_minutes must be 0 or 1-1440",
            ),
            (
                json!({"agent_id": "a", "session_topic": "t", "ttl_minutes": "5"}),
                "ttl_minutes must be an integer",
            ),
            (
                json!({"agent_id": "a", "session_topic": "t", "ttl_minutes": 1.5}),
                "ttl_minutes must be an integer",
            ),
        ] {
            let answer = read(Tool::StartSession, arguments);
            assert_eq!(answer, Err(message.to_owned()));
        }
        for (tool, arguments, message) in [
            (
                Tool::ListAgents,
                json!({"limit": 101}),
                "limit must be 1-100",
            ),
            (Tool::ListAgents, json!({"limit": 0}), "limit must be 1-100"),
            (
                Tool::ListAgents,
                json!({"status": "done"}),
                "status must be one of: running, success, failed, pending",
            ),
            (
                Tool::ListAgents,
                json!({"search": "\0"}),
                "search must not contain U+0000",
            ),
            (Tool::ListSessions, json!({}), "agent_id is required"),
            (
                Tool::GetSession,
                json!({"session_topic": "t"}),
                "agent_id is required",
            ),
            (
                Tool::GetSession,
                json!({"agent_id": "a"}),
                "session_topic is required",
            ),
        ] {
            assert_eq!(read(tool, arguments), Err(message.to_owned()));
        }
    }

    #[test]
    fn whole_numbers_are_integers_however_they_are_written() {
        let arguments = json!({"agent_id": "a", "session_topic": "t", "ttl_minutes": 5.0});
        assert_eq!(reported(Tool::StartSession, arguments).ttl_minutes, Some(5));
    }

    #[test]
    fn reading_tools_show_a_page_that_a_model_can_read() {
        let Ok(Call::ListAgents(list)) =
            read(Tool::ListAgents, json!({"search": "", "status": ""}))
        else {
            panic!()
        };
        let all = ListAgents {
            search: None,
            status: None,
            limit: 20,
            cursor: None,
        };
        assert_eq!(list, all);
    }

    #[test]
    fn how_long_a_session_lives_is_said_as_it_is_configured() {
        let said = |ttl| {
            let guidance = Guidance {
                default_ttl_minutes: ttl,
                ..Guidance::default()
            };
            let definition = Tool::ReportStatus.definition(&guidance);
            let argument =
                definition.input_schema["properties"]["ttl_minutes"]["description"].to_string();
            (definition.description.into_owned(), argument)
        };
        let (description, argument) = said(Some(7));
        assert!(
            description.contains("at least every 3 minutes"),
            "{description}"
        );
        assert!(
            description.contains("expires 7 minutes after"),
            "{description}"
        );
        assert!(argument.contains("7 at first"), "{argument}");
        let (description, argument) = said(Some(1));
        assert!(
            description.contains("at least every minute"),
            "{description}"
        );
        assert!(argument.contains("1 at first"), "{argument}");
        let (description, argument) = said(None);
        assert!(!description.contains("minutes on"), "{description}");
        assert!(argument.contains("the server's default"), "{argument}");
    }

    #[test]
    fn trouble_is_the_first_thing_that_is_said() {
        let guidance = Guidance {
            trouble: Some("The server is away.".into()),
            ..Guidance::default()
        };
        assert!(
            guidance
                .instructions()
                .starts_with("The server is away. Call start_session")
        );
    }

    #[test]
    fn where_hooks_report_the_tools_only_read() {
        let guidance = Guidance {
            is_read_only: true,
            ..Guidance::default()
        };
        let read = [Tool::ListAgents, Tool::ListSessions, Tool::GetSession];
        assert_eq!(guidance.tools().collect::<Vec<_>>(), read);
        let mut told = guidance.instructions().into_owned();
        assert!(told.contains("nothing for you to report"), "{told}");
        for tool in guidance.tools() {
            told += &tool.definition(&guidance).description;
        }
        for tool in Tool::ALL.into_iter().filter(|tool| !read.contains(tool)) {
            assert!(!told.contains(tool.name()), "{told}");
        }
    }

    #[test]
    fn every_first_sentence_says_when_to_call_and_all_are_short() {
        let guidance = Guidance {
            default_ttl_minutes: Some(60),
            ..Guidance::default()
        };
        assert!(
            guidance
                .instructions()
                .starts_with("Call start_session before")
        );
        let mut length = guidance.instructions().len();
        for tool in Tool::ALL {
            let definition = tool.definition(&guidance);
            let (first, _) = definition.description.split_once(". ").unwrap();
            assert!(first.starts_with("Call this "), "{first}");
            length += definition.description.len();
            let annotations = serde_json::to_value(definition.annotations).unwrap();
            for hint in [
                "readOnlyHint",
                "destructiveHint",
                "idempotentHint",
                "openWorldHint",
            ] {
                assert!(annotations[hint].is_boolean(), "{annotations}");
            }
        }
        // Some clients cut what is longer.
        assert!(length < 2048, "{length} bytes");
    }

    #[test]
    fn every_required_argument_is_described() {
        let guidance = Guidance::default();
        for tool in Tool::ALL {
            let schema = tool.definition(&guidance).input_schema;
            for field in schema["required"].as_array().into_iter().flatten() {
                assert!(schema["properties"][field.as_str().unwrap()].is_object());
            }
        }
    }

    #[test]
    fn revisions_are_known_by_their_dates_and_in_order() {
        assert!(ProtocolVersion::ALL.is_sorted_by(|a, b| a > b));
        for version in ProtocolVersion::ALL {
            assert_eq!(ProtocolVersion::parse(version.as_str()), Some(version));
        }
        assert_eq!(ProtocolVersion::parse("2024-11-05"), None);
    }
}
