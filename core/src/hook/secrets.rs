//! Secrets, which no report may carry: found by their form, and cut out.
//!
//! A pattern takes time linear in the text, and is tried only on texts that hold one of its hints.

use std::borrow::Cow;
use std::sync::OnceLock;

use regex_lite::{Captures, Regex};

/// The text that stands for a secret.
const REDACTED: &str = "[secret]";

/// A kind of secret.
struct Kind {
    /// Every text that holds one contains one of these, in lower case.
    hints: &'static [&'static str],
    /// A secret. The group `kept`, if there is one, stays in front of what stands for the secret, and
    /// the group `after` behind it.
    pattern: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

/// What a name contains which says that its value is secret.
const NAMES: &[&str] = &["token", "secret", "pass", "key", "pwd", "credential"];

/// A key that is a secret, at the end of a name.
macro_rules! key {
    () => {
        "([_-]|access|account|api|auth|encryption|master|private|secret|service|shared|signing)key"
    };
}

/// A name in capitals that goes on, `GITHUB_TOKEN_OLD`, and short names that mean something else in
/// other cases.
macro_rules! exact_name {
    () => {
        "(?-i:(TOKEN|SECRET|_KEY)_[A-Z0-9_]+|[pP]wd|_PWD)"
    };
}

/// A name in a JSON object. `"passed": 12` is none.
macro_rules! json_name {
    () => {
        concat!(
            r"[\w.-]*(token|secret|credentials?|pass(w\w*|phrase|code)?|",
            key!(),
            "|",
            exact_name!(),
            ")"
        )
    };
}

/// A quotation mark as a shell, a JSON text in a JSON text, or a URL writes it.
macro_rules! quote {
    () => {
        r#"(\\*["']|%2[27])"#
    };
}

/// A text in quotation marks, which may be cut off.
macro_rules! quoted {
    () => {
        r#"\\+"[^"]*"?|"([^"\\]|\\.)*"?|\\*'[^']*'?"#
    };
}

/// A shell's word, or the value in a line of settings, in quotation marks or with some in it.
macro_rules! word {
    ($first:literal) => {
        concat!(
            "(",
            quoted!(),
            r"|\\\S|\\ |",
            $first,
            r#")(\\[^"'\s]|\\ |"[^"\s]*"|'[^'\s]*'|[^\s"'\\&;|)])*"#
        )
    };
    () => {
        word!(r#"[^\s"'\\&;|)]"#)
    };
}

static KINDS: [Kind; 26] = [
    kind(
        &["private"],
        concat!(
            r"(?s)-+ ?BEGIN([A-Z0-9 +]|%20)*PRIVATE( |\+|%20)KEY.*?",
            r"(-+ ?END([A-Z0-9 +]|%20)*PRIVATE( |\+|%20)KEY( BLOCK)?[ -]*|\z)"
        ),
    ),
    kind(&["eyj"], r"eyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*)*"),
    kind(&["github_pat_"], r"github_pat_\w+"),
    kind(&["gh"], r"gh[pousr]_\w+"),
    kind(&["glpat-"], r"glpat-[\w.-]+"),
    kind(&["xox", "xapp"], r"(xox[a-z]+|xapp)-[\w.-]+"),
    kind(&["akia", "asia"], r"(AKIA[A-Z0-9]+|ASIA[A-Z0-9]{12,})"),
    kind(
        &["sk-"],
        r"(?P<kept>^|[^A-Za-z]|\\[a-z]|%[0-9A-Fa-f]{2})sk-[\w-]{6,}",
    ),
    kind(&["k_live_", "k_test_"], r"[prs]k_(live|test)_\w+"),
    kind(&["aiza"], r"AIza[\w-]{20,}"),
    kind(&["npm_", "hf_"], r"(npm|hf)_[A-Za-z0-9]{20,}"),
    kind(
        &["bearer"],
        r#"(?i)(?P<kept>bearer([\s:=+\\]|%20|%3a)+["']?)[^\s"'`,;)}\\&]+"#,
    ),
    kind(
        &["authorization"],
        concat!(
            "(?i)(?P<kept>authorization",
            quote!(),
            r"?\s*[:=]\s*",
            quote!(),
            r#"?((basic|bearer|digest|token)\s+)?)[^\s"'`,;)}\\]+"#
        ),
    ),
    kind(
        &["://", r":\/\/", "%3a%2f%2f"],
        concat!(
            r"(?i)(?P<kept>:(\\*/){2}|%3a%2f%2f)",
            r#"([^\s/:@"'%]|%[0-9a-f]{2})*?(:|%3a)([^\s/"'%]|%[013-9a-f][0-9a-f]|%2[0-9a-e])*"#,
            "(?P<after>@|%40)"
        ),
    ),
    // Of curl, alone or after other letters.
    kind(
        &[":"],
        concat!(
            r#"(?P<kept>(^|[\s"'(=])(-[A-Za-z]*u\s*=?\s*|--(proxy-)?user[\s=]+))"#,
            r#"(\\+"[^":]*:[^"]*"?|"[^":]*:[^"]*"?|'[^':]*:[^']*'?|[^\s:"']+:"#,
            word!(r#"[^\s"'\\]"#),
            ")"
        ),
    ),
    kind(&["sshpass"], concat!(r"(?P<kept>sshpass\s+-p\s*)", word!())),
    kind(
        &["mysql", "mariadb"],
        concat!(
            r"(?P<kept>(mysql|mariadb)\S*\s([^\n|;&]*\s)?-p)",
            word!(r#"[^\s"'\\&;|)]"#)
        ),
    ),
    kind(
        &["login"],
        concat!(
            r"(?P<kept>login\s([^\n|;&]*\s)?(-p\s*|password\s+))",
            word!(r#"[^\s"'\\&;|)-]"#)
        ),
    ),
    // A value that is given to a name which says that it is secret.
    kind(
        NAMES,
        concat!(
            r"(?i)(?P<kept>[\w.-]*(token|secret|credentials?|pass[\w.-]*|",
            key!(),
            "|",
            exact_name!(),
            ")",
            quote!(),
            r"?\s*[:+?]?(=>|={1,3}|%3d)\s*)",
            word!()
        ),
    ),
    // In JSON, in the JSON of a JSON, and as Python and JavaScript show it.
    kind(
        NAMES,
        concat!(
            r#"(?i)(?P<kept>""#,
            json_name!(),
            r#"""#,
            r#"\s*:\s*")([^"\\]|\\.)+"#
        ),
    ),
    kind(
        NAMES,
        concat!(
            r#"(?i)(?P<kept>\\+""#,
            json_name!(),
            r#"\\+"\s*:\s*\\+")([^"\\]|\\\\\\"|\\\\|\\[^"\\])+"#
        ),
    ),
    kind(
        NAMES,
        concat!(
            "(?i)(?P<kept>\\\\*'",
            json_name!(),
            r"\\*'\s*:\s*\\*')([^'\\]|\\.)+"
        ),
    ),
    kind(
        NAMES,
        concat!(
            "(?i)(?P<kept>",
            quote!(),
            json_name!(),
            quote!(),
            r"\s*(:|%3a)\s*)(\d{4,}|%2[27][^\s&]+)"
        ),
    ),
    // In a header, in YAML.
    kind(
        NAMES,
        concat!(
            r"(?i)(?P<kept>[\w.-]*(passw(or)?d|passphrase|[_-](token|secret)|clientsecret|",
            key!(),
            r"):\s+)(",
            quoted!(),
            r#"|[^\s"'\\,]+)"#
        ),
    ),
    kind(
        NAMES,
        concat!(
            r"(?i)(?P<kept>--[\w-]*(token|secret|pass(w\w*|phrase|code)?|-key|apikey|credentials?)(\s|\\)+)",
            word!(r#"[^\s"'\\&;|)-]"#)
        ),
    ),
    kind(
        NAMES,
        concat!(
            r"(?P<kept>set(env|x)?\s+(-\w+\s+)*\w*(TOKEN|SECRET|PASS\w*|_KEY)\s+)",
            word!()
        ),
    ),
];

const fn kind(hints: &'static [&'static str], pattern: &'static str) -> Kind {
    Kind {
        hints,
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
    let is_hinted = |kind: &&Kind| kind.hints.iter().any(|hint| lowercase.contains(hint));
    for kind in KINDS.iter().filter(is_hinted) {
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
            (
                "-----BEGIN PGP PRIVATE KEY BLOCK-----\nMII\n-----END PGP PRIVATE KEY BLOCK-----!",
                "[secret]!",
            ),
            (
                "k=-----BEGIN%20RSA%20PRIVATE%20KEY-----%0AMII%0A-----END%20RSA%20PRIVATE%20KEY-----&x",
                "k=[secret]&x",
            ),
            ("---- BEGIN SSH2 PRIVATE KEY ----\nMII", "[secret]"),
        ] {
            assert_eq!(redact(text), expected);
            assert_eq!(redact(expected), expected, "once is enough");
        }
    }

    #[test]
    fn nothing_of_a_secret_is_left_in_whatever_form_it_comes() {
        for text in [
            // In shells.
            "curl -sSu me:hunter2 host",
            "curl -u 'me:my hunter2' host",
            "curl -u \"me:my hunter2\" host",
            "curl -u me:'my hunter2' host",
            "curl -u me:a\"hunter2\" host",
            "curl --proxy-user me:hunter2 host",
            "curl --user=me:hunter2",
            "TOKEN=abc'hunter2' x",
            "TOKEN='a'\"hunter2\" x",
            "PASSWORD=my\\ hunter2 x",
            "PASSWORD=\"my \\\"hunter2\\\"\" x",
            "export GITHUB_TOKEN_OLD=hunter2",
            "set -gx GITHUB_TOKEN hunter2",
            "setx MY_SECRET hunter2",
            "$env:MY_TOKEN = 'hunter2'",
            "mysql -uroot -phunter2 db",
            "mysqldump -u root -p'my hunter2' db",
            "docker login -u me -p hunter2 host",
            "machine host login me password hunter2",
            "sshpass -p 'my hunter2' ssh x",
            "x --password 'my hunter2' y",
            "x --password \\\n  hunter2 y",
            "x --api-key=hunter2",
            "x --pass hunter2",
            "MAKE_TOKEN := hunter2",
            // In languages and files.
            "if token == \"hunter2\" {",
            "'password' => 'hunter2'",
            "{'password': 'hunter2'}",
            "{'password': 'it\\'s hunter2'}",
            "{\"password\": \"it \\\"is hunter2\"}",
            "{\"password\": 4711}",
            "{\\\"password\\\": \\\"hunter2\\\"}",
            "{\\\"password\\\": \\\"a\\\\\\\"hunter2\\\"}",
            "{\\\\\\\"password\\\\\\\": \\\\\\\"hunter2\\\\\\\"}",
            "{\"clientSecret\":\"hunter2\",\"privateKey\":\"hunter2\"}",
            "POSTGRES_PASSWORD: hunter2",
            "password: \"my hunter2\"",
            "Server=db;Uid=me;Pwd=hunter2;",
            "AccountName=a;AccountKey=hunter2;EndpointSuffix=x",
            // In headers and addresses.
            "-H 'X-Auth-Token: hunter2'",
            "-H \"Authorization: Basic hunter2\"",
            "{\"Authorization\": \"Token hunter2\"}",
            "Authorization: hunter2",
            "Bearer \"hunter2\"",
            "Authorization%3A%20Bearer%20hunter2",
            "authorization=Bearer+hunter2",
            "https:\\/\\/me:hunter2@host\\/x",
            "https%3A%2F%2Fme%3Ahunter2%40host%2Fx",
            "https://me:a@hunter2@host/x",
            "password%3Dhunter2%26x%3D1",
            "%7B%22password%22%3A%22hunter2%22%7D",
            "\\nsk-ant-hunter2-hunter2",
            "key%3Dsk-ant-hunter2-hunter2",
            // Among letters of other scripts.
            "密码password=hunter2。",
            "令牌ghp_hunter2在这里",
            "“token=hunter2”",
            "ключ:sk-ant-hunter2",
        ] {
            let redacted = redact(text);
            assert!(redacted.contains(REDACTED), "{text}: {redacted}");
            let left = ["hunter2", "4711"].map(|secret| redacted.contains(secret));
            assert_eq!(left, [false; 2], "{text}: {redacted}");
            assert_eq!(redact(&redacted), redacted, "once is enough");
        }
        for token in [
            "ASIAIOSFODNN7EXAMPLE",
            "sk_live_abcdefghij",
            "AIzaSyA1234567890_abcdefghij-klmnopqrstu",
            "npm_abcdefghijklmnopqrstuvwxyz0123456789",
            "hf_abcdefghijklmnopqrstuvwxyz01234567",
            "xapp-1-A-2-b",
        ] {
            assert_eq!(redact(token), REDACTED);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for harmless in [
            "task-force of disk-based risk-takers",
            "ssh://git@github.com/a/b",
            "http://localhost:8080/a/b",
            "the pass: all tests are green",
            "keyboard=de",
            "monkey",
            "git log --pretty=oneline -u",
            "git push -u origin main",
            "sudo -u postgres psql",
            "curl -d 'x=1' https://example.com/a?b=c",
            "{\"passed\": 1200, \"failed\": 0, \"input_tokens\": 5000}",
            "max_tokens=4096",
            "PWD=/work",
            "primaryKey=id",
            "mysql -p < dump.sql",
            "docker login --password-stdin host",
            "set -e",
            "http://localhost:8080/@scope/package",
            "npm_config_cache=/x",
            "中文 no secret",
        ] {
            assert_eq!(redact(harmless), harmless);
        }
    }
}
