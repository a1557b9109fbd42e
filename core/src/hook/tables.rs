//! What each tool's events mean, and what they make of a session as time goes by.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::event::{Answer, Ending, Event, Happening};
use super::recorded::play;
use super::text::{is_command, prompt, reason};
use super::*;
use crate::{Incoming, Report, SessionHead, Snapshot, StatusKind, Timestamp, Workspace};

fn event(tool: Tool, body: &Value) -> Option<Event> {
    tool.read(&tool.payload(body.to_string().as_bytes()).unwrap())
}

/// An event in words: where, what, and the line for people.
fn words(tool: Tool, body: &Value) -> String {
    let Some(event) = event(tool, body) else {
        return "nothing".into();
    };
    let what = match &event.happening {
        Happening::Started => "started".into(),
        Happening::Prompted => "prompted".into(),
        Happening::Tool(call) if call.begins => "begins".into(),
        Happening::Tool(_) => "tool".into(),
        Happening::Busy => "busy".into(),
        Happening::Asked { wait, .. } => format!("asks {}", wait.reason()),
        Happening::Answered(Answer::To(id)) => format!("answered {id}"),
        Happening::Answered(Answer::For(wait)) => format!("answered {}", wait.reason()),
        Happening::Interrupted => "interrupted".into(),
        Happening::TurnOver {
            background: true, ..
        } => "turn over, in background".into(),
        Happening::TurnOver { .. } => "turn over".into(),
        Happening::Failed { reason } => format!("failed {reason}"),
        Happening::Ended(Ending::Closed) => "closed".into(),
        Happening::Ended(Ending::Complete) => "complete".into(),
        Happening::Ended(Ending::Failed(reason)) => format!("ended by {reason}"),
        Happening::SubagentOver => "over".into(),
        Happening::Idle => "idle".into(),
        Happening::Renewed => "lives".into(),
        Happening::Exited { code } => format!("exited {code:?}"),
    };
    let subagent = event
        .subagent
        .map_or_else(String::new, |id| format!("{id} "));
    match event.message.is_empty() {
        true => format!("{subagent}{what}"),
        false => format!("{subagent}{what}: {}", event.message),
    }
}

/// A body of Claude's shape.
fn shaped(name: &str, fields: Value) -> Value {
    let mut body = json!({"session_id": "s", "hook_event_name": name});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[test]
fn events_of_claudes_shape() {
    let bash = json!({"tool_name": "Bash", "tool_input": {"command": "ls -l\nrm x"}});
    let with = |fields: &Value, more: Value| {
        let mut all = fields.clone();
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    };
    let question = json!({"tool_name": "AskUserQuestion", "tool_input": {"questions": [
        {"question": "Which?"}, {"question": "Why?"}]}});
    for (name, fields, expected) in [
        ("SessionStart", json!({"source": "startup"}), "started"),
        (
            "user_prompt_submit",
            json!({"prompt": "\n Fix it \nnow"}),
            "prompted: Fix it",
        ),
        (
            "UserPromptSubmit",
            json!({"prompt": "x", "source": "loop_wakeup"}),
            "prompted",
        ),
        ("UserPromptSubmit", json!({"prompt": 7}), "prompted"),
        ("PreToolUse", bash.clone(), "begins: Bash: ls -l"),
        ("PostToolUse", bash.clone(), "tool: Bash: ls -l"),
        ("PostToolUse", json!({"tool_name": "Bash"}), "tool: Bash"),
        ("PostToolUse", json!({"tool_input": []}), "tool"),
        ("PostToolUseFailure", bash.clone(), "tool: Bash: ls -l"),
        (
            "PostToolUseFailure",
            with(&bash, json!({"is_interrupt": true})),
            "interrupted: Bash: ls -l",
        ),
        (
            "PostToolUseFailure",
            with(&bash, json!({"is_interrupt": "yes"})),
            "tool: Bash: ls -l",
        ),
        ("PermissionDenied", bash.clone(), "tool: Bash: ls -l"),
        ("PreCompact", json!({"trigger": "auto"}), "busy: Compacting"),
        ("PreCompact", json!({"trigger": "manual"}), "nothing"),
        (
            "PermissionRequest",
            bash.clone(),
            "asks permission: Bash: ls -l",
        ),
        (
            "PermissionRequest",
            question.clone(),
            "asks question: Which? Why?",
        ),
        ("PreToolUse", question.clone(), "asks question: Which? Why?"),
        (
            "PostToolUse",
            question,
            "tool: AskUserQuestion: Which? Why?",
        ),
        (
            "PreToolUse",
            json!({"tool_name": "exit_plan_mode", "tool_input": {"plan": "## Go\n1. x"}}),
            "asks plan: Go",
        ),
        (
            "Notification",
            json!({"notification_type": "permission_prompt", "message": "m"}),
            "asks permission: m",
        ),
        (
            "Notification",
            json!({"notification_type": "worker_permission_prompt"}),
            "asks permission",
        ),
        (
            "Notification",
            json!({"notification_type": "elicitation_url_dialog"}),
            "asks input",
        ),
        (
            "Notification",
            json!({"notification_type": "elicitation_response"}),
            "answered input",
        ),
        (
            "Notification",
            json!({"notification_type": "idle_prompt"}),
            "idle",
        ),
        (
            "Notification",
            json!({"notification_type": "quota_auto_resume_1"}),
            "nothing",
        ),
        (
            "Notification",
            json!({"message": "Claude needs your permission"}),
            "nothing",
        ),
        (
            "Stop",
            json!({"last_assistant_message": "All\n done"}),
            "turn over: All done",
        ),
        (
            "Stop",
            json!({"background_tasks": [], "session_crons": []}),
            "turn over",
        ),
        ("Stop", json!({"background_tasks": "none"}), "turn over"),
        (
            "Stop",
            json!({"background_tasks": [{}]}),
            "turn over, in background",
        ),
        (
            "StopFailure",
            json!({"error": "rate_limit"}),
            "failed rate_limit",
        ),
        (
            "StopFailure",
            json!({"error": "It broke, sadly."}),
            "failed error: It broke, sadly.",
        ),
        ("StopFailure", json!({}), "failed error"),
        ("SessionEnd", json!({"reason": "clear"}), "closed"),
        (
            "SessionEnd",
            json!({"reason": "timeout"}),
            "ended by timeout",
        ),
        ("SubagentStart", json!({"agent_id": "a"}), "a busy"),
        ("SubagentStop", json!({"agent_id": "a"}), "a over"),
        ("SubagentStop", json!({}), "subagentstop over"),
        (
            "PostToolUse",
            with(&bash, json!({"agent_id": "a"})),
            "a tool: Bash: ls -l",
        ),
        // `--agent` gives the main thread a type.
        (
            "PostToolUse",
            with(&bash, json!({"agent_type": "x"})),
            "tool: Bash: ls -l",
        ),
        (
            "PostToolUse",
            with(&bash, json!({"agent_id": "s"})),
            "tool: Bash: ls -l",
        ),
        ("WorktreeCreate", json!({}), "nothing"),
        ("kubeagents.renew", json!({}), "lives"),
        (
            "kubeagents.exited",
            json!({"exit": 137}),
            "exited Some(137)",
        ),
        ("kubeagents.exited", json!({"exit": "x"}), "exited None"),
    ] {
        let body = shaped(name, fields);
        assert_eq!(words(Tool::ClaudeCode, &body), expected, "{body}");
    }
    for (tool, asks) in [
        (Tool::ClaudeCode, true),
        (Tool::Codex, true),
        (Tool::Qwen, true),
        (Tool::Kimi, true),
        (Tool::Devin, true),
        (Tool::Gemini, false),
        (Tool::Cursor, false),
        (Tool::Copilot, false),
        (Tool::Droid, false),
        (Tool::Grok, false),
        (Tool::Goose, false),
        (Tool::Junie, false),
        (Tool::DeepAgents, true),
    ] {
        let asked = words(tool, &shaped("PermissionRequest", bash.clone()));
        assert_eq!(asked.starts_with("asks permission"), asks, "{tool:?}");
    }
}

#[test]
fn arguments_tell_what_is_worked_on() {
    for (input, expected) in [
        (
            json!({"file_path": "/w/a/b.rs", "content": "x"}),
            "T: a/b.rs",
        ),
        (json!({"file_path": "/w"}), "T: /w"),
        (json!({"file_path": "/want/b.rs"}), "T: /want/b.rs"),
        (json!({"command": ["bash", "-lc", "make"]}), "T: make"),
        (json!({"command": ["ls", "-l"]}), "T: ls -l"),
        (
            json!({"description": "d", "prompt": "p", "pattern": "fn"}),
            "T: fn",
        ),
        (json!("{\"command\": \"ls\"}"), "T: ls"),
        (json!("free text"), "T: free text"),
        (
            json!({"path": "/x/0b7f6a52-93d4-4a0c-9d0f-3f0a1c5e7b11.jsonl"}),
            "T: /x/….jsonl",
        ),
        (
            json!({"command": "x".repeat(500)}),
            &format!("T: {}", "x".repeat(120)),
        ),
        (json!({"secret": "s"}), "T"),
        (json!(null), "T"),
    ] {
        let body = shaped(
            "PreToolUse",
            json!({"tool_name": "T", "tool_input": input, "cwd": "/w"}),
        );
        assert_eq!(
            event(Tool::Codex, &body).unwrap().message,
            expected,
            "{body}"
        );
    }
}

#[test]
fn prompts_make_titles_unless_they_are_commands_or_made_up() {
    for (text, title) in [
        ("Fix it", Some("Fix it")),
        ("\n\n  Fix\tit  \nnow", Some("Fix it")),
        ("/review", None),
        ("/plugin:do it", None),
        ("/usr/bin is full", Some("/usr/bin is full")),
        ("<command-name>/clear</command-name>", None),
        ("<task-notification>x", None),
        ("<div> is broken", Some("<div> is broken")),
        ("use sk-abcdefghij", Some("use [secret]")),
        ("see 0b7f6a52-93d4-4a0c-9d0f-3f0a1c5e7b11", Some("see …")),
        ("  \n ", None),
        ("a\u{202e}b\u{0}c", Some("ab c")),
    ] {
        let line = prompt(text).filter(|line| !is_command(line));
        assert_eq!(line.as_deref(), title, "{text:?}");
    }
    assert_eq!(prompt(&"中".repeat(81)).unwrap(), "中".repeat(80));
    for (code, expected) in [
        ("rate_limit", "rate_limit"),
        ("ProviderAuthError", "provider_auth_error"),
        ("HTTP-429", "http_429"),
        ("__x__", "x"),
        ("错误", ""),
    ] {
        assert_eq!(reason(code), expected);
    }
}

/// A session to which hooks of Claude Code come at certain seconds.
#[derive(Default)]
struct Life {
    snapshot: Snapshot,
    context: Vec<(String, String)>,
}

impl Life {
    /// The session is headless.
    fn headless() -> Self {
        Self {
            context: vec![("mode".into(), "headless".into())],
            ..Self::default()
        }
    }

    fn head(&self) -> &SessionHead {
        self.snapshot.session.as_ref().unwrap()
    }

    /// A hook comes; the session's status and reason after it, with a mark where the history got an
    /// entry.
    fn at(&mut self, second: i64, name: &str, fields: Value) -> String {
        let sender = Sender {
            context: self.context.iter().cloned().collect(),
            ..Sender::default()
        };
        let body = shaped(name, fields).to_string();
        let intent = Intent::read(Tool::ClaudeCode, body.as_bytes(), sender, Detail::Full);
        let now = Timestamp::UNIX_EPOCH + TimeDelta::seconds(second);
        let (after, is_noted) = play(&intent.unwrap().unwrap(), &self.snapshot, now);
        self.snapshot = after;
        let mark = if is_noted { " +" } else { "" };
        match &self.snapshot.session {
            None => "none".into(),
            Some(head) => format!("{} {}{mark}", head.status.as_str(), head.reason),
        }
    }
}

fn bash(command: &str) -> Value {
    json!({"tool_name": "Bash", "tool_input": {"command": command}})
}

#[test]
fn a_running_that_is_repeated_within_five_seconds_is_not_noted() {
    let mut life = Life::default();
    assert_eq!(
        life.at(0, "UserPromptSubmit", json!({"prompt": "x"})),
        "running  +"
    );
    assert_eq!(life.at(4, "PreToolUse", bash("ls")), "running ");
    assert_eq!(life.head().message, "Bash: ls");
    assert_eq!(life.at(5, "PostToolUse", bash("ls")), "running  +");
    assert_eq!(life.at(9, "PostToolUse", bash("ls")), "running ");
    assert_eq!(
        life.at(9, "Stop", json!({"background_tasks": [1]})),
        "running background +"
    );
    assert_eq!(life.at(9, "Stop", json!({})), "success turn +");
    assert_eq!(life.at(60, "Stop", json!({})), "success turn");
    assert_eq!(
        life.at(61, "Stop", json!({"last_assistant_message": "m"})),
        "success turn +"
    );
    assert_eq!(life.at(62, "kubeagents.renew", json!({})), "success turn");
    assert_eq!(life.head().last_updated.timestamp(), 62);
}

#[test]
fn another_call_of_the_agent_much_later_shows_that_a_wait_is_over() {
    let mut life = Life::default();
    assert_eq!(
        life.at(0, "PermissionRequest", bash("rm x")),
        "pending permission +"
    );
    assert_eq!(life.at(9, "PreToolUse", bash("ls")), "pending permission");
    assert_eq!(life.at(30, "PostToolUse", bash("ls")), "pending permission");
    let mut subagent = bash("make");
    subagent["agent_id"] = "a".into();
    assert_eq!(life.at(31, "PreToolUse", subagent), "pending permission");
    assert_eq!(life.at(32, "PreToolUse", bash("ls")), "running  +");
}

#[test]
fn the_end_of_the_process_ends_what_was_going_on() {
    for (headless, last, exit, expected) in [
        (
            false,
            ("PreToolUse", bash("ls")),
            json!({}),
            "failed crashed +",
        ),
        (
            false,
            ("PreToolUse", bash("ls")),
            json!({"exit": 0}),
            "failed stopped +",
        ),
        (
            true,
            ("PreToolUse", bash("ls")),
            json!({"exit": 0}),
            "success closed +",
        ),
        (
            true,
            ("PreToolUse", bash("ls")),
            json!({"exit": 1}),
            "failed crashed +",
        ),
        (
            false,
            ("PermissionRequest", bash("ls")),
            json!({}),
            "failed crashed +",
        ),
        (
            false,
            ("Stop", json!({})),
            json!({"exit": 1}),
            "success closed +",
        ),
        (
            false,
            ("Stop", json!({"session_crons": [1]})),
            json!({}),
            "success closed +",
        ),
        (
            false,
            ("StopFailure", json!({"error": "x"})),
            json!({}),
            "failed x",
        ),
        (
            false,
            ("SessionEnd", json!({"reason": "other"})),
            json!({}),
            "failed stopped",
        ),
        (
            true,
            ("SessionEnd", json!({"reason": "other"})),
            json!({"exit": 0}),
            "failed incomplete",
        ),
    ] {
        let mut life = if headless {
            Life::headless()
        } else {
            Life::default()
        };
        life.at(0, "UserPromptSubmit", json!({"prompt": "x"}));
        life.at(1, last.0, last.1.clone());
        assert_eq!(
            life.at(2, "kubeagents.exited", exit.clone()),
            expected,
            "{last:?} {exit}"
        );
        if expected.starts_with("failed crashed") {
            // It was taken for dead by mistake.
            assert_eq!(life.at(3, "PostToolUse", bash("ls")), "running  +");
        } else if expected.contains("closed") {
            assert_eq!(life.at(3, "PostToolUse", bash("ls")), "success closed");
        }
    }
}

#[test]
fn an_expired_session_is_renewed_by_work_and_by_its_process_but_not_by_being_opened() {
    let mut life = Life::default();
    life.at(0, "UserPromptSubmit", json!({"prompt": "x"}));
    assert_eq!(
        life.at(7200, "SessionStart", json!({"session_title": "T"})),
        "running "
    );
    assert_eq!(life.head().last_updated.timestamp(), 0);
    assert_eq!(life.at(7200, "kubeagents.renew", json!({})), "running ");
    assert_eq!(life.head().last_updated.timestamp(), 7200);
    assert_eq!(
        life.at(7201, "SessionStart", json!({"session_title": "T"})),
        "running "
    );
    assert_eq!(life.head().title, "T");
}

#[test]
fn sixteen_waits_are_kept_and_another_reporter_ends_them() {
    let mut life = Life::default();
    for n in 0..20 {
        life.at(
            n,
            "PermissionRequest",
            bash(&format!("{}{n}", "\"é".repeat(200))),
        );
    }
    let state = state::State::parse(&life.head().hook);
    assert_eq!(state.waits.len(), 16);
    for n in 4..19 {
        let ended = life.at(
            20,
            "PostToolUse",
            bash(&format!("{}{n}", "\"é".repeat(200))),
        );
        assert!(ended.starts_with("pending"), "{n}");
    }
    let report = Incoming::from(Report::new("claude-code", "s", StatusKind::Running));
    let now = Timestamp::UNIX_EPOCH + TimeDelta::seconds(21);
    let decision = report
        .decide(&Workspace::Shared, &life.snapshot, now, 60)
        .unwrap();
    life.snapshot = life.snapshot.after(&decision.commit);
    assert_eq!(life.at(30, "PostToolUse", bash("other")), "running  +");
    assert!(state::State::parse(&life.head().hook).waits.is_empty());
}

#[test]
fn a_session_without_a_title_is_called_after_its_place_until_somebody_names_it() {
    const ID: &str = "0b7f6a52-93d4-4a0c-9d0f-3f0a1c5e7b11";
    let context = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    };
    for (known, cwd, title) in [
        (
            &[("repo", "ann/shop"), ("branch", "main")][..],
            "/a/b",
            "ann/shop@main",
        ),
        (&[("repo", "ann/shop")], "/a/b", "ann/shop"),
        (&[], "/home/ann/shop/", "shop"),
        (&[], "C:\\ann\\shop", "shop"),
        (&[], "/", "claude-code"),
        (&[], "", "claude-code"),
        (&[], &format!("/tmp/{ID}"), "claude-code"),
    ] {
        let mut life = Life {
            context: context(known),
            ..Life::default()
        };
        let mut fields = bash("ls");
        fields["cwd"] = cwd.into();
        life.at(0, "PostToolUse", fields);
        assert_eq!(life.head().title, title, "{known:?} {cwd}");
    }

    let mut life = Life {
        context: context(&[("repo", "ann/shop"), ("branch", "main")]),
        ..Life::default()
    };
    life.at(0, "UserPromptSubmit", json!({"prompt": "/model opus"}));
    assert_eq!(life.head().title, "ann/shop@main");
    life.context = context(&[("repo", "ann/shop"), ("branch", "fix")]);
    life.at(1, "PermissionRequest", bash("ls"));
    assert_eq!(life.head().title, "ann/shop@fix");
    life.context = Vec::new();
    life.at(2, "kubeagents.renew", json!({}));
    assert_eq!(life.head().title, "ann/shop@fix", "what is known stays");
    life.at(3, "UserPromptSubmit", json!({"prompt": "Fix it"}));
    assert_eq!(life.head().title, "Fix it");
    life.context = context(&[("branch", "main")]);
    life.at(4, "UserPromptSubmit", json!({"prompt": "And test it"}));
    assert_eq!(life.head().title, "Fix it");

    let mut life = Life::default();
    life.at(0, "PostToolUse", bash("ls"));
    let report = Report {
        session_title: Some("Named by a person".into()),
        ..Report::new("claude-code", "s", StatusKind::Running)
    };
    let now = Timestamp::UNIX_EPOCH + TimeDelta::seconds(1);
    let decision = Incoming::from(report).decide(&Workspace::Shared, &life.snapshot, now, 60);
    life.snapshot = life.snapshot.after(&decision.unwrap().commit);
    life.at(2, "UserPromptSubmit", json!({"prompt": "Fix it"}));
    assert_eq!(life.head().title, "Named by a person");
}
