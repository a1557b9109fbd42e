//! Secrets, which no report may carry: found by their form, and cut out.
//!
//! A pattern takes time linear in the text, and is tried only on texts that hold its hint.

use std::borrow::Cow;
use std::sync::OnceLock;

use regex_lite::{Captures, Regex};

/// The text that stands for a secret.
const REDACTED: &str = "[secret]";

/// A kind of secret.
struct Kind {
    /// What every text that holds one contains, in lower case.
    hint: &'static str,
    /// A secret. The group `kept`, if there is one, stays in front of what stands for the secret, and
    /// the group `after` behind it.
    pattern: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

static KINDS: [Kind; 17] = [
    kind(
        "private key",
        r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY.*?(-----END [A-Z0-9 ]*PRIVATE KEY(-----)?|\z)",
    ),
    kind("eyj", r"eyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*)*"),
    kind("github_pat_", r"github_pat_\w+"),
    kind("gh", r"gh[pousr]_\w+"),
    kind("glpat-", r"glpat-[\w.-]+"),
    kind("xox", r"xox[a-z]+-[\w.-]+"),
    kind("akia", r"AKIA[A-Z0-9]+"),
    kind("sk-", r"(?P<kept>^|[^A-Za-z])sk-[\w-]{6,}"),
    kind("bearer", r#"(?i)(?P<kept>bearer[\s:=]+)[^\s"'`,;)}\\]+"#),
    kind("://", r#"(?P<kept>://)[^\s/:@"']*:[^\s/"']*(?P<after>@)"#),
    kind(
        "-u",
        r#"(?P<kept>(^|[\s"'(=])-u[\s=]*["']?)[^\s:"']+:[^\s"']+"#,
    ),
    kind("--user", r#"(?P<kept>--user[\s=]+["']?)[^\s:"']+:[^\s"']+"#),
    kind("sshpass", r#"(?P<kept>sshpass\s+-p\s*["']?)[^\s"']+"#),
    kind("-key:", r#"(?i)(?P<kept>[\w-]*-key:\s*)[^\s"']+"#),
    // A value that is given to a name which says that it is secret.
    kind(
        "=",
        r#"(?i)(?P<kept>[\w.-]*(token|secret|pass[\w.-]*|[_-]key|apikey)\\?["']?\s*=\s*)(\\?"[^"]*"?|'[^']*'?|[^\s"'&;|)]+)"#,
    ),
    kind(
        "\"",
        r#"(?i)(?P<kept>\\?"[\w.-]*(token|secret|pass\w*|[_-]key|apikey)\\?"\s*:\s*\\?")[^"\\]+"#,
    ),
    kind(
        "--",
        r#"(?i)(?P<kept>--[\w-]*(token|secret|passw\w*|-key)\s+["']?)[^\s"'-][^\s"']*"#,
    ),
];

const fn kind(hint: &'static str, pattern: &'static str) -> Kind {
    Kind {
        hint,
        pattern,
        compiled: OnceLock::new(),
    }
}

impl Kind {
    /// The pattern, compiled when it is first needed. A test compiles them all.
    fn regex(&self) -> Option<&Regex> {
        let compile = || Regex::new(self.pattern).ok();
        self.compiled.get_or_init(compile).as_ref()
    }
}

/// The text with every secret cut out.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut redacted = Cow::from(text);
    let lowercase = text.to_ascii_lowercase();
    for kind in KINDS.iter().filter(|kind| lowercase.contains(kind.hint)) {
        let Some(regex) = kind.regex() else {
            continue;
        };
        let replace = |found: &Captures<'_>| {
            let group = |name| found.name(name).map_or("", |group| group.as_str());
            format!("{}{REDACTED}{}", group("kept"), group("after"))
        };
        if let Cow::Owned(replaced) = regex.replace_all(&redacted, replace) {
            redacted = replaced.into();
        }
    }
    redacted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        for kind in &KINDS {
            assert!(kind.regex().is_some(), "{}", kind.pattern);
        }
    }

    #[test]
    fn secrets_are_cut_out_and_nothing_else_is() {
        for (text, expected) in [
            ("use sk-ant-api03-abcdef please", "use [secret] please"),
            ("ghp_abcDEF123", "[secret]"),
            ("xgho_abcDEF123.", "x[secret]."),
            ("github_pat_11ABC_def", "[secret]"),
            ("glpat-a_b-c", "[secret]"),
            ("xoxb-123-456-abc", "[secret]"),
            ("AKIAIOSFODNN7EXAMPLE", "[secret]"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[secret]"),
            (
                "-H 'Authorization: Bearer abc.def'",
                "-H 'Authorization: Bearer [secret]'",
            ),
            ("postgres://me:hunter2@db/x", "postgres://[secret]@db/x"),
            ("redis://:hunter2@db", "redis://[secret]@db"),
            ("curl -u me:hunter2 host", "curl -u [secret] host"),
            ("curl -ume:hunter2 host", "curl -u[secret] host"),
            ("GITHUB_TOKEN=abc make", "GITHUB_TOKEN=[secret] make"),
            (
                "export AWS_SECRET_ACCESS_KEY='a b' x",
                "export AWS_SECRET_ACCESS_KEY=[secret] x",
            ),
            ("PGPASSWORD=\"a b\" psql", "PGPASSWORD=[secret] psql"),
            ("DB_PASS_OLD=x;ls", "DB_PASS_OLD=[secret];ls"),
            ("?api_key=abc&x=1", "?api_key=[secret]&x=1"),
            (
                "{\"password\": \"hunter2\"}",
                "{\"password\": \"[secret]\"}",
            ),
            ("--password hunter2 x", "--password [secret] x"),
            (
                "curl -H 'X-Api-Key: hunter2'",
                "curl -H 'X-Api-Key: [secret]'",
            ),
            ("sshpass -p hunter2 ssh x", "sshpass -p [secret] ssh x"),
            (
                "a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb",
                "a\n[secret]\nb",
            ),
            ("-----BEGIN PRIVATE KEY-----\nMII", "[secret]"),
        ] {
            assert_eq!(redact(text), expected);
            assert_eq!(redact(expected), expected, "once is enough");
        }
        for harmless in [
            "task-force of disk-based risk-takers",
            "ssh://git@github.com/a/b",
            "http://localhost:8080/a/b",
            "the pass: all tests are green",
            "keyboard=de",
            "monkey",
            "git log --pretty=oneline -u",
            "中文 no secret",
        ] {
            assert_eq!(redact(harmless), harmless);
        }
    }
}
