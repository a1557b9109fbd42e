//! Properties of whatever an agent, or somebody who claims to be one, hands over.

use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use super::event::Happening;
use super::recorded::{intent, play, sequences};
use super::state::{MAX_BYTES, State};
use super::*;
use crate::{SessionHead, Snapshot, StatusKind, Timestamp};

/// The body of a secret, which nothing may show.
const SECRET: &str = "Zq7hunter2Zq7";

/// A UUID, which no person should see.
const UUID: &str = "0b7f6a52-93d4-4a0c-9d0f-3f0a1c5e7b11";

const NAMES: &[&str] = &[
    "hook_event_name",
    "type",
    "session_id",
    "sessionId",
    "sessionID",
    "conversation_id",
    "thread-id",
    "properties",
    "info",
    "event",
    "id",
    "parentID",
    "requestID",
    "callID",
    "agent_id",
    "subagent_id",
    "tool_name",
    "toolName",
    "tool",
    "tool_input",
    "toolArgs",
    "args",
    "tool_use_id",
    "prompt",
    "source",
    "message",
    "last_assistant_message",
    "prompt_response",
    "input-messages",
    "notification_type",
    "error",
    "data",
    "name",
    "error_details",
    "recoverable",
    "reason",
    "status",
    "is_interrupt",
    "background_tasks",
    "session_crons",
    "cwd",
    "workspace_roots",
    "model",
    "session_title",
    "title",
    "command",
    "questions",
    "question",
    "plan",
    "patterns",
    "metadata",
    "tool_response",
    "toolResult",
    "stopReason",
    "exit",
    "timestamp",
    "transcript_path",
    "kubeagents_input",
    "trigger",
];

const WORDS: &[&str] = &[
    "SessionStart",
    "UserPromptSubmit",
    "beforeSubmitPrompt",
    "BeforeAgent",
    "PreToolUse",
    "PostToolUse",
    "PostToolUseFailure",
    "PermissionRequest",
    "PermissionDenied",
    "Notification",
    "Elicitation",
    "ElicitationResult",
    "PreCompact",
    "SubagentStart",
    "SubagentStop",
    "Interrupt",
    "Stop",
    "StopFailure",
    "errorOccurred",
    "SessionEnd",
    "agent-turn-complete",
    "session.status",
    "session.idle",
    "session.error",
    "session.created",
    "permission.asked",
    "permission.replied",
    "question.asked",
    "tool.execute.before",
    "tool.execute.after",
    "kubeagents.renew",
    "kubeagents.exited",
    "Unheard-Of",
    "permission_prompt",
    "idle_prompt",
    "elicitation_dialog",
    "AskUserQuestion",
    "ExitPlanMode",
    "Bash",
    "busy",
    "idle",
    "aborted",
    "error",
    "s1",
    "s2",
    "user",
    "system",
    "",
    " ",
    "/compact",
    "MessageAbortedError",
    "APIError",
    "completed",
    "rate_limit",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(WORDS).prop_map(str::to_owned),
        2 => any::<String>(),
        1 => "\\PC{0,20}( sk-|ghp_|github_pat_|glpat-|xoxb-|Bearer |MY_TOKEN=|X_KEY=|PGPASSWORD=|https://me:)".prop_map(secret),
        1 => Just(format!("curl -u me:{SECRET} x")),
        1 => Just(format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----")),
        1 => Just(format!("see {UUID}.jsonl")),
        1 => (1usize..20_000).prop_map(|length| "é".repeat(length)),
    ]
}

/// A text that ends in a secret.
fn secret(start: String) -> String {
    match start.ends_with("me:") {
        true => format!("{start}{SECRET}@host/x"),
        false => format!("{start}{SECRET} and more"),
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        5 => text().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((select(NAMES), inner), 0..6).prop_map(object),
        ]
    })
}

fn object(fields: Vec<(&'static str, Value)>) -> Value {
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Value::Object(fields.collect())
}

fn payload() -> impl Strategy<Value = Value> {
    let fields = prop::collection::vec((select(NAMES), value()), 0..14).prop_map(object);
    let named = (fields, select(WORDS), any::<bool>()).prop_map(|(mut payload, name, is_named)| {
        if is_named {
            for (field, value) in [
                ("hook_event_name", name),
                ("session_id", "s1"),
                ("sessionId", "s1"),
            ] {
                payload[field] = value.into();
            }
        }
        payload
    });
    prop_oneof![named, mutated()]
}

/// A recorded payload in which something is missing, or is something else.
fn mutated() -> impl Strategy<Value = Value> {
    let recorded: Vec<Value> = sequences()
        .into_iter()
        .flat_map(|(_, steps)| steps)
        .collect();
    let change = (any::<Index>(), prop::option::of(value()));
    (select(recorded), prop::collection::vec(change, 0..4)).prop_map(|(step, changes)| {
        let mut payload = step["body"].clone();
        for (place, value) in changes {
            let fields = payload.as_object_mut().unwrap();
            let Some(name) = fields.keys().nth(place.index(fields.len().max(1))).cloned() else {
                continue;
            };
            match value {
                Some(value) => fields.insert(name, value),
                None => fields.remove(&name),
            };
        }
        payload
    })
}

fn tool() -> impl Strategy<Value = Tool> {
    select(Tool::ALL.to_vec())
}

fn read(tool: Tool, body: &[u8], detail: Detail) -> Result<Option<Intent>, NotAnObject> {
    Intent::read(tool, body, Sender::default(), detail)
}

/// Everything of an intent that a person reads.
fn shown(intent: &Intent) -> String {
    let event = &intent.event;
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        event.message, event.title, event.heading, event.happening, intent.context
    )
}

fn is_wait(session: &SessionHead) -> bool {
    session.status == StatusKind::Pending && session.reason != "interrupted"
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_are_no_object(tool in tool(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let is_object = matches!(serde_json::from_slice(&body), Ok(Value::Object(_)));
        prop_assert!(read(tool, &body, Detail::Full).is_ok() || !is_object);
        prop_assert!(reduce(tool, &body, Detail::Full).is_none() || read(tool, &body, Detail::Full).is_ok());
    }

    #[test]
    fn real_payloads_survive_damage(
        tool in tool(),
        payload in mutated(),
        cuts in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        let mut body = payload.to_string().into_bytes();
        for (place, byte) in cuts {
            let place = place.index(body.len());
            body[place] = byte;
        }
        let intent = read(tool, &body, Detail::Full).ok().flatten();
        prop_assert_eq!(reduce(tool, &body, Detail::Full).is_some(), intent.is_some());
    }

    #[test]
    fn every_object_is_read_and_reduced_to_a_few_kib_that_mean_the_same(
        tool in tool(),
        payload in payload(),
        detail in select(vec![Detail::None, Detail::Title, Detail::Full]),
    ) {
        let body = payload.to_string();
        let whole = read(tool, body.as_bytes(), detail).unwrap();
        let reduced = reduce(tool, body.as_bytes(), detail);
        prop_assert_eq!(whole.is_some(), reduced.is_some());
        if let (Some(whole), Some(reduced)) = (whole, reduced) {
            prop_assert!(reduced.json.len() < 12 << 10, "{}", reduced.json.len());
            prop_assert_eq!(&reduced.session, &whole.event.session);
            let again = read(tool, reduced.json.as_bytes(), detail).unwrap();
            prop_assert_eq!(again.as_ref(), Some(&whole), "{}", &reduced.json);
            let twice = reduce(tool, reduced.json.as_bytes(), detail).map(|reduced| reduced.json);
            prop_assert_eq!(twice.as_ref(), Some(&reduced.json));
            for text in [&shown(&whole), &reduced.json] {
                prop_assert!(!text.contains(SECRET), "{text}");
            }
            let event = &whole.event;
            for text in [Some(&event.message), event.title.as_ref(), event.heading.as_ref()].into_iter().flatten() {
                prop_assert!(!text.contains(UUID) && !text.contains(char::is_control), "{text}");
                prop_assert!(text.chars().count() <= 1000);
            }
            if detail < Detail::Full {
                prop_assert!(event.message.is_empty());
            }
            if detail == Detail::None {
                prop_assert!(event.title.is_none() && event.heading.is_none() && whole.context.len() == 1);
            }
        }
    }

    #[test]
    fn only_what_asks_or_interrupts_makes_a_session_wait(tool in tool(), payload in payload()) {
        if let Some(intent) = read(tool, payload.to_string().as_bytes(), Detail::Full).unwrap() {
            let now = Timestamp::UNIX_EPOCH;
            let is_main = intent.event.subagent.is_none();
            let asks = match intent.event.happening {
                Happening::Asked { .. } => true,
                Happening::Interrupted => is_main,
                _ => false,
            };
            let new = play(&intent, &Snapshot::default(), now).0.session;
            prop_assert_eq!(new.is_some_and(|session| session.status == StatusKind::Pending), asks);
        }
    }

    #[test]
    fn whatever_the_sequence_waits_are_open_exactly_while_the_session_waits(
        tool in tool(),
        steps in prop::collection::vec((payload(), 0i64..40), 1..40),
    ) {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut snapshot = Snapshot::default();
        // Since when nothing has cleared all waits.
        let mut may_wait = false;
        for (mut payload, seconds) in steps {
            now += TimeDelta::seconds(seconds);
            for field in ["session_id", "sessionId", "conversation_id"] {
                if payload.get(field).is_some() {
                    payload[field] = "s".into();
                }
            }
            let Some(intent) = read(tool, payload.to_string().as_bytes(), Detail::Full).unwrap() else {
                continue;
            };
            let before = snapshot.session.clone();
            snapshot = play(&intent, &snapshot, now).0;
            let is_main = intent.event.subagent.is_none();
            match &intent.event.happening {
                Happening::Asked { .. } | Happening::Interrupted | Happening::Idle => may_wait = true,
                Happening::Prompted | Happening::Failed { .. } if is_main => may_wait = false,
                Happening::TurnOver { background: false, after_error: false } if is_main => may_wait = false,
                _ => {}
            }
            let Some(session) = &snapshot.session else {
                continue;
            };
            let state = State::parse(&session.hook);
            prop_assert!(session.hook.len() <= MAX_BYTES, "{}", session.hook.len());
            prop_assert_eq!(state.text(), session.hook.clone());
            prop_assert!(state.waits.len() <= 16);
            prop_assert_eq!(is_wait(session), !state.waits.is_empty(), "{:?} {:?}", intent, session);
            if session.status == StatusKind::Pending && !may_wait {
                let closed = before.is_some_and(|before| State::parse(&before.hook).closed);
                prop_assert!(closed, "{:?} after {:?}", session, intent);
            }
            let is_reason = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            prop_assert!(session.reason.len() <= 50 && session.reason.chars().all(is_reason), "{}", session.reason);
            prop_assert!(session.context.len() <= 20);
        }
    }
}

#[test]
fn a_field_under_two_names_is_the_same_field_after_reducing() {
    for odd in [json!(false), json!(null), json!("Edit")] {
        let payload = json!({
            "hookEventName": "PreToolUse", "sessionId": "s1", "toolName": "Bash", "tool_name": odd,
        });
        let body = payload.to_string();
        let whole = read(Tool::Grok, body.as_bytes(), Detail::None).unwrap();
        let reduced = reduce(Tool::Grok, body.as_bytes(), Detail::None).unwrap();
        let again = read(Tool::Grok, reduced.json.as_bytes(), Detail::None).unwrap();
        assert_eq!(again, whole, "{}", reduced.json);
        assert!(whole.is_some());
    }
}

#[test]
fn what_is_large_or_odd_is_read() {
    let wide = |value: Value| {
        let mut fields = Map::new();
        fields.insert("session_id".into(), "s".into());
        fields.insert("hook_event_name".into(), "PostToolUse".into());
        fields.insert("tool_name".into(), "Bash".into());
        fields.insert("tool_input".into(), value.clone());
        fields.insert("tool_response".into(), value);
        Value::Object(fields).to_string()
    };
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let nested =
        format!(r#"{{"session_id":"s","hook_event_name":"Stop","x":{deep},"tool_input":{deep}}}"#);
    let many: String = (0..50_000).map(|n| format!("\"f{n}\":{n},")).collect();
    for body in [
        wide(json!("x".repeat(4 << 20))),
        wide(json!({"command": "y\u{0}z".repeat(100_000), "list": vec![1; 100_000]})),
        nested,
        format!("{{{many}\"session_id\":\"s\"}}"),
        r#"{"session_id":"t","session_id":"s","hook_event_name":"Stop","hook_event_name":"Stop"}"#
            .into(),
        "\u{feff}{\"session_id\":\"s\",\"hook_event_name\":\"Stop\"}\n".into(),
        "{\"session_id\":\"s\0\",\"hook_event_name\":\"St\\ud83dop\"}".into(),
    ] {
        let read = read(Tool::ClaudeCode, body.as_bytes(), Detail::Full);
        let session = read.unwrap().map(|intent| intent.event.session);
        assert!(session.is_none_or(|session| session == "s"));
    }
    let cut = b"{\"session_id\":\"s\",\"hook_event_name\":\"Stop\",\"last_assistant_message\":\"\xe4\xb8\"}";
    let read = read(Tool::ClaudeCode, cut, Detail::Full).unwrap().unwrap();
    assert_eq!(read.event.message, "\u{fffd}");
    assert!(
        intent(&json!({"tool": "claude-code"}), cut, Detail::None)
            .unwrap()
            .event
            .message
            .is_empty()
    );
}
