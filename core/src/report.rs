//! Reports: what an agent posts to `POST /webhook/status`.

use chrono::DateTime;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::context::{self, Context};
use crate::json::integer;
use crate::validation::{InvalidField, NOT_BLANK, Rule, STORABLE, limited, required, word};
use crate::{SessionKey, StatusKind, Timestamp, Workspace};

/// A report whose every field keeps the contract's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Who reports, 1 to 100 characters.
    pub agent_id: String,
    /// A new name for the agent, 1 to 200 characters; `None` keeps the old one.
    pub agent_name: Option<String>,
    /// A new source for the agent, 1 to 200 characters; `None` keeps the old one.
    pub agent_source: Option<String>,
    /// The task, 1 to 500 characters.
    pub session_topic: String,
    /// How it is going.
    pub status: StatusKind,
    /// A line for people, at most 1,000 characters; may be empty.
    pub message: String,
    /// Longer text, at most 10,000 characters; may be empty.
    pub content: String,
    /// A new TTL, 1 to 1440 minutes; `None` keeps the old one.
    pub ttl_minutes: Option<u32>,
    /// A new title for the session, 1 to 200 characters; `None` keeps the old one.
    pub session_title: Option<String>,
    /// Why the status is what it is, in a word that programs compare; may be empty.
    pub reason: String,
    /// What changes of the session's context: an empty value removes its key.
    pub context: Context,
    /// Its place among the reports of the machine that it comes from, 1 to 2^53 - 1.
    pub sequence: Option<u64>,
    /// Whose account it comes from, where a workspace has several people.
    pub user: Option<String>,
}

impl Report {
    /// A report of a status and nothing more.
    pub fn new(
        agent_id: impl Into<String>,
        session_topic: impl Into<String>,
        status: StatusKind,
    ) -> Self {
        Self {
            agent_id: agent_id.into(),
            agent_name: None,
            agent_source: None,
            session_topic: session_topic.into(),
            status,
            message: String::new(),
            content: String::new(),
            ttl_minutes: None,
            session_title: None,
            reason: String::new(),
            context: Context::new(),
            sequence: None,
            user: None,
        }
    }
}

/// The fields of a report as they come in. An absent field and `null` are the same.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(
    rename = "Report",
    extend("required" = ["agent_id", "session_topic", "status", "timestamp"])
)]
pub(crate) struct RawReport {
    /// Who reports.
    #[schemars(required, length(max = 100), regex(pattern = NOT_BLANK))]
    pub(crate) agent_id: Option<String>,
    /// A new name for the agent; empty or absent keeps the old one.
    #[schemars(length(max = 200), regex(pattern = STORABLE))]
    pub(crate) agent_name: Option<String>,
    /// A new source for the agent; empty or absent keeps the old one.
    #[schemars(length(max = 200), regex(pattern = STORABLE))]
    pub(crate) agent_source: Option<String>,
    /// The task.
    #[schemars(required, length(max = 500), regex(pattern = NOT_BLANK))]
    pub(crate) session_topic: Option<String>,
    /// How it is going.
    #[schemars(required, with = "StatusKind")]
    pub(crate) status: Option<String>,
    /// When the report was made. The server's clock is what is stored.
    #[schemars(required, with = "Timestamp")]
    pub(crate) timestamp: Option<String>,
    /// A line for people.
    #[schemars(length(max = 1000), regex(pattern = STORABLE))]
    pub(crate) message: Option<String>,
    /// Longer text.
    #[schemars(length(max = 10_000), regex(pattern = STORABLE))]
    pub(crate) content: Option<String>,
    /// A new TTL in minutes; 0 or absent keeps the old one.
    #[serde(deserialize_with = "integer")]
    #[schemars(range(min = 0, max = MAX_TTL_MINUTES))]
    pub(crate) ttl_minutes: Option<i64>,
    /// A new title for the session; empty or absent keeps the old one.
    #[schemars(length(max = MAX_TITLE), regex(pattern = STORABLE))]
    pub(crate) session_title: Option<String>,
    /// Why the status is what it is, in a word that programs compare.
    #[schemars(regex(pattern = r"^[a-z0-9_]{0,50}$"))]
    pub(crate) reason: Option<String>,
    /// What changes of the session's context; an empty value removes its key.
    #[schemars(schema_with = "context::schema")]
    pub(crate) context: Option<Value>,
    /// Its place among the reports of the machine that it comes from. What is not beyond the
    /// session's last one is not stored again.
    #[serde(deserialize_with = "integer")]
    #[schemars(range(min = 1, max = MAX_SEQUENCE))]
    pub(crate) sequence: Option<i64>,
}

/// The reason of a failure that a person brought about.
pub(crate) const STOPPED: &str = "stopped";

/// The longest title, in characters.
const MAX_TITLE: usize = 200;

/// The longest reason, in characters.
const MAX_REASON: usize = 50;

/// The largest sequence: the largest number that every JSON parser takes exactly.
pub(crate) const MAX_SEQUENCE: i64 = (1 << 53) - 1;

/// The longest TTL, one day. That nothing lives longer without a report bounds every search for
/// unexpired sessions.
pub const MAX_TTL_MINUTES: u32 = 1440;

/// What a report may be, by the way it comes in.
pub(crate) struct ReportRules {
    /// The statuses that it may report.
    pub(crate) statuses: &'static [StatusKind],
    /// True if it must say when it was made.
    pub(crate) needs_timestamp: bool,
}

impl ReportRules {
    /// Those of `POST /webhook/status`.
    pub(crate) const WEBHOOK: Self = Self {
        statuses: &StatusKind::ALL,
        needs_timestamp: true,
    };
}

impl RawReport {
    /// Checks the fields in the order of the contract's table; the error names the first that
    /// breaks its rule.
    pub(crate) fn validate(self, rules: &ReportRules) -> Result<Report, InvalidField> {
        let agent_id = required("agent_id", self.agent_id, 100)?;
        let agent_name = limited("agent_name", self.agent_name, 200)?;
        let agent_source = limited("agent_source", self.agent_source, 200)?;
        let session_topic = required("session_topic", self.session_topic, 500)?;
        let status = self
            .status
            .as_deref()
            .and_then(StatusKind::parse)
            .filter(|status| rules.statuses.contains(status))
            .ok_or(Rule::Statuses(rules.statuses).broken_by("status"))?;
        if rules.needs_timestamp {
            let timestamp = self.timestamp.unwrap_or_default();
            if timestamp.is_empty() {
                return Err(Rule::Required.broken_by("timestamp"));
            }
            // The parser takes U+2212 for a minus.
            let instant = DateTime::parse_from_rfc3339(&timestamp).ok();
            instant
                .filter(|_| timestamp.is_ascii())
                .ok_or(Rule::Rfc3339.broken_by("timestamp"))?;
        }
        let message = limited("message", self.message, 1000)?;
        let content = limited("content", self.content, 10_000)?;
        let ttl_minutes = match self.ttl_minutes.unwrap_or(0) {
            0 => None,
            minutes => Some(
                u32::try_from(minutes)
                    .ok()
                    .filter(|minutes| *minutes <= MAX_TTL_MINUTES)
                    .ok_or(Rule::MaxMinutes(MAX_TTL_MINUTES).broken_by("ttl_minutes"))?,
            ),
        };
        let session_title = limited("session_title", self.session_title, MAX_TITLE)?;
        let reason = word("reason", self.reason, MAX_REASON)?;
        let context = context::patch(self.context)?;
        let sequence = self.sequence.map(|number| {
            let range = Rule::Range {
                min: 1,
                max: MAX_SEQUENCE,
            };
            let number = u64::try_from(number).ok();
            let number = number.filter(|number| (1..=MAX_SEQUENCE as u64).contains(number));
            number.ok_or(range.broken_by("sequence"))
        });
        Ok(Report {
            agent_id,
            agent_name: agent_name.filter(|name| !name.is_empty()),
            agent_source: agent_source.filter(|source| !source.is_empty()),
            session_topic,
            status,
            message: message.unwrap_or_default(),
            content: content.unwrap_or_default(),
            ttl_minutes,
            session_title: session_title.filter(|title| !title.is_empty()),
            reason,
            context,
            sequence: sequence.transpose()?,
            user: None,
        })
    }
}

impl Report {
    /// Checks whether it says what the person knows who did it: that they ended the session.
    pub(crate) fn is_told_to_nobody(&self) -> bool {
        self.status == StatusKind::Failed && self.reason == STOPPED
    }

    /// The session that this report is on.
    pub fn session_key(&self, workspace: &Workspace) -> SessionKey {
        SessionKey {
            workspace: workspace.clone(),
            agent_id: self.agent_id.clone(),
            session_topic: self.session_topic.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw() -> RawReport {
        RawReport {
            agent_id: Some("a".into()),
            session_topic: Some("t".into()),
            status: Some("running".into()),
            timestamp: Some("2026-01-01T00:00:00Z".into()),
            ..RawReport::default()
        }
    }

    fn error(change: impl FnOnce(&mut RawReport)) -> String {
        let mut raw = raw();
        change(&mut raw);
        raw.validate(&ReportRules::WEBHOOK).unwrap_err().to_string()
    }

    fn accepted(change: impl FnOnce(&mut RawReport)) -> Report {
        let mut raw = raw();
        change(&mut raw);
        raw.validate(&ReportRules::WEBHOOK).unwrap()
    }

    #[test]
    fn limits_count_characters_and_hold_at_both_sides() {
        type Set = fn(&mut RawReport, String);
        let table: [(Set, usize, &str); 7] = [
            (
                |r, v| r.agent_id = Some(v),
                100,
                "agent_id must be 1-100 characters",
            ),
            (
                |r, v| r.agent_name = Some(v),
                200,
                "agent_name must be 0-200 characters",
            ),
            (
                |r, v| r.agent_source = Some(v),
                200,
                "agent_source must be 0-200 characters",
            ),
            (
                |r, v| r.session_topic = Some(v),
                500,
                "session_topic must be 1-500 characters",
            ),
            (
                |r, v| r.message = Some(v),
                1000,
                "message must be 0-1000 characters",
            ),
            (
                |r, v| r.content = Some(v),
                10_000,
                "content must be 0-10000 characters",
            ),
            (
                |r, v| r.session_title = Some(v),
                200,
                "session_title must be 0-200 characters",
            ),
        ];
        for (set, max, message) in table {
            for character in ["x", "é", "中", "🦀"] {
                accepted(|raw| set(raw, character.repeat(max)));
                assert_eq!(error(|raw| set(raw, character.repeat(max + 1))), message);
            }
        }
    }

    #[test]
    fn ids_must_not_be_absent_or_blank() {
        for blank in [None, Some(""), Some(" "), Some("\u{3000}\t")] {
            let blank = || blank.map(str::to_owned);
            assert_eq!(error(|raw| raw.agent_id = blank()), "agent_id is required");
            assert_eq!(
                error(|raw| raw.session_topic = blank()),
                "session_topic is required"
            );
        }
    }

    #[test]
    fn ids_are_kept_exactly_as_reported() {
        assert_eq!(
            accepted(|raw| raw.agent_id = Some(" a ".into())).agent_id,
            " a "
        );
    }

    #[test]
    fn status_is_one_of_four_exact_words() {
        let message = "status must be one of: running, success, failed, pending";
        for word in [
            None,
            Some(""),
            Some("Running"),
            Some("done"),
            Some(" running"),
        ] {
            assert_eq!(error(|raw| raw.status = word.map(str::to_owned)), message);
        }
        for kind in StatusKind::ALL {
            let report = accepted(|raw| raw.status = Some(kind.as_str().into()));
            assert_eq!(report.status, kind);
        }
    }

    #[test]
    fn timestamps_are_required_and_rfc_3339() {
        for absent in [None, Some(String::new())] {
            assert_eq!(error(|raw| raw.timestamp = absent), "timestamp is required");
        }
        for bad in [
            "now",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00\u{2212}08:00",
            " ",
        ] {
            let message = error(|raw| raw.timestamp = Some(bad.into()));
            assert_eq!(message, "timestamp must be RFC 3339", "{bad}");
        }
        for good in [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.123456789+08:00",
            "2026-01-01T00:00:00-08:00",
        ] {
            accepted(|raw| raw.timestamp = Some(good.into()));
        }
    }

    #[test]
    fn a_ttl_is_zero_or_a_day_at_most() {
        for (minutes, ttl) in [
            (None, None),
            (Some(0), None),
            (Some(1), Some(1)),
            (Some(1440), Some(1440)),
        ] {
            assert_eq!(accepted(|raw| raw.ttl_minutes = minutes).ttl_minutes, ttl);
        }
        for minutes in [-1, 1441, i64::MAX, i64::MIN] {
            let message = error(|raw| raw.ttl_minutes = Some(minutes));
            assert_eq!(message, "ttl_minutes must be 0 or 1-1440");
        }
    }

    #[test]
    fn empty_names_and_titles_keep_what_is_stored() {
        let report = accepted(|raw| {
            raw.agent_name = Some(String::new());
            raw.agent_source = None;
            raw.session_title = Some(String::new());
        });
        assert_eq!((report.agent_name, report.agent_source), (None, None));
        assert_eq!(report.session_title, None);
    }

    #[test]
    fn a_reason_is_a_word_for_programs() {
        let longest = "a".repeat(50);
        for reason in ["", "turn", "rate_limit", "0_9", &longest] {
            assert_eq!(
                accepted(|raw| raw.reason = Some(reason.into())).reason,
                reason
            );
        }
        for reason in [
            "Turn",
            "rate-limit",
            "a b",
            "é",
            "\0",
            &format!("{longest}a"),
        ] {
            let message = error(|raw| raw.reason = Some(reason.into()));
            assert_eq!(message, "reason must be 0-50 of a-z, 0-9 and _", "{reason}");
        }
    }

    #[test]
    fn a_sequence_is_a_number_that_every_parser_takes_exactly() {
        for sequence in [1, MAX_SEQUENCE] {
            let report = accepted(|raw| raw.sequence = Some(sequence));
            assert_eq!(report.sequence, u64::try_from(sequence).ok());
        }
        for sequence in [0, -1, MAX_SEQUENCE + 1, i64::MIN] {
            let message = error(|raw| raw.sequence = Some(sequence));
            assert_eq!(message, "sequence must be 1-9007199254740991");
        }
    }

    #[test]
    fn no_text_holds_a_zero_character() {
        for (field, change) in [
            (
                "agent_id",
                (|r| r.agent_id = Some("a\0".into())) as fn(&mut RawReport),
            ),
            ("agent_name", |r| r.agent_name = Some("\0".into())),
            ("agent_source", |r| r.agent_source = Some("\0".into())),
            ("session_topic", |r| r.session_topic = Some("t\0".into())),
            ("message", |r| r.message = Some("\0".into())),
            ("content", |r| r.content = Some("\0".into())),
            ("session_title", |r| r.session_title = Some("\0".into())),
            ("context", |r| r.context = Some(json!({"cwd": "\0"}))),
        ] {
            assert_eq!(error(change), format!("{field} must not contain U+0000"));
        }
    }

    #[test]
    fn the_first_broken_field_in_table_order_is_named() {
        let message = error(|raw| {
            raw.session_topic = None;
            raw.status = None;
            raw.ttl_minutes = Some(-1);
        });
        assert_eq!(message, "session_topic is required");
        type Break = fn(&mut RawReport);
        let later: [(Break, &str); 4] = [
            (
                |raw| raw.session_title = Some("x".repeat(201)),
                "session_title",
            ),
            (|raw| raw.reason = Some("A".into()), "reason"),
            (|raw| raw.context = Some(json!([])), "context"),
            (|raw| raw.sequence = Some(0), "sequence"),
        ];
        for (n, (_, field)) in later.iter().enumerate() {
            let message = error(|raw| later[n..].iter().for_each(|(break_it, _)| break_it(raw)));
            assert!(message.starts_with(&format!("{field} must")), "{message}");
        }
    }
}
