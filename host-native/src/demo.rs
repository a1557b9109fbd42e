//! `kubeagents demo`: a server in memory with a lively day of invented agents, which goes on.
//!
//! The server's clock is the only authority for stored times, so the day before is lived through by a clock
//! of its own, report by report, before anybody can ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use kubeagents_core::ports::{Clock, Reports};
use kubeagents_core::store::MemoryStore;
use kubeagents_core::{
    Recorder, Report, ReportPolicy, StatusKind, StoreError, Timestamp, Witness, Workspace,
};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::ports::{MemoryReports, SystemClock, SystemEntropy};

use StatusKind::{Failed, Pending, Running, Success};

/// How long it is quiet between two reports of what goes on.
const PAUSE: Duration = Duration::from_secs(3);

/// A moment of a session: how many minutes ago, status, reason, and a line for people.
type Moment = (i64, StatusKind, &'static str, &'static str);

/// A session of the day.
struct Story {
    /// Tool and machine, which name the agent.
    tool: &'static str,
    name: &'static str,
    host: &'static str,
    topic: &'static str,
    title: &'static str,
    repo: &'static str,
    branch: &'static str,
    /// The topic of the session that started it.
    parent: &'static str,
    is_headless: bool,
    moments: &'static [Moment],
    /// What it does from now on, again and again; nothing where it stays as it is.
    then: &'static [(StatusKind, &'static str, &'static str)],
}

const QUIET: Story = Story {
    tool: "claude-code",
    name: "Claude Code",
    host: "atlas",
    topic: "",
    title: "",
    repo: "acme/shop",
    branch: "main",
    parent: "",
    is_headless: false,
    moments: &[],
    then: &[],
};

const DAY: [Story; 18] = [
    Story {
        topic: "night-deps",
        title: "Update the dependencies",
        host: "build-7",
        is_headless: true,
        moments: &[
            (1380, Running, "", "Bash: cargo update"),
            (1371, Running, "", "Bash: cargo test"),
            (
                1350,
                Success,
                "closed",
                "12 packages updated, all tests pass",
            ),
        ],
        ..QUIET
    },
    Story {
        topic: "night-links",
        title: "Check the links of the documentation",
        host: "build-7",
        repo: "tidepool/site",
        is_headless: true,
        moments: &[
            (1320, Running, "", "Bash: lychee docs"),
            (
                1302,
                Failed,
                "server_error",
                "The API answered 529 three times",
            ),
        ],
        ..QUIET
    },
    Story {
        topic: "invoices",
        title: "Round invoice totals as the tax office does",
        tool: "codex",
        name: "Codex",
        host: "birch",
        repo: "northwind/ledger",
        branch: "fix/rounding",
        moments: &[
            (700, Running, "", "reading the invoices"),
            (668, Pending, "question", "Half up, or half even?"),
            (651, Running, "", "Bash: pytest tests/invoices"),
            (
                610,
                Success,
                "turn",
                "Totals are rounded half even, with 14 new tests",
            ),
            (590, Success, "closed", ""),
        ],
        ..QUIET
    },
    Story {
        topic: "search-box",
        title: "Search while typing",
        tool: "cursor",
        name: "Cursor",
        host: "birch",
        repo: "tidepool/site",
        branch: "search",
        moments: &[
            (520, Running, "", "Edit: src/search.ts"),
            (480, Success, "turn", "Results come while you type"),
            (455, Running, "", "Edit: src/search.css"),
            (430, Success, "closed", ""),
        ],
        ..QUIET
    },
    Story {
        topic: "slow-orders",
        title: "Why is the list of orders slow?",
        moments: &[
            (400, Running, "", "Bash: EXPLAIN ANALYZE"),
            (377, Pending, "permission", "Bash: psql staging"),
            (371, Running, "", "Grep: order_items"),
            (
                340,
                Success,
                "turn",
                "An index on (customer, placed) is missing",
            ),
            (332, Running, "", "Write: migrations/0042_orders.sql"),
            (310, Success, "closed", ""),
        ],
        ..QUIET
    },
    Story {
        topic: "translations",
        title: "Translate the settings page",
        tool: "gemini",
        name: "Gemini CLI",
        host: "cedar",
        repo: "tidepool/site",
        branch: "i18n",
        moments: &[
            (260, Running, "", "ReadFile: settings.json"),
            (231, Failed, "stopped", ""),
        ],
        ..QUIET
    },
    Story {
        topic: "import",
        title: "Import last year's bookings",
        tool: "opencode",
        name: "OpenCode",
        host: "cedar",
        repo: "northwind/ledger",
        branch: "import",
        moments: &[
            (190, Running, "", "bash: python import.py --dry-run"),
            (150, Running, "", "bash: python import.py"),
        ],
        ..QUIET
    },
    Story {
        topic: "flaky",
        title: "Find the flaky test",
        tool: "codex",
        name: "Codex",
        repo: "acme/api",
        branch: "flaky",
        moments: &[
            (95, Running, "", "Bash: cargo nextest run --retries 0"),
            (
                47,
                Failed,
                "rate_limit",
                "The limit of the API is reached until 16:00",
            ),
        ],
        ..QUIET
    },
    Story {
        topic: "checkout",
        title: "Pay with a saved card",
        branch: "feat/saved-cards",
        moments: &[
            (64, Running, "", "Read: src/checkout/card.rs"),
            (31, Running, "", "Edit: src/checkout/card.rs"),
            (
                14,
                Pending,
                "permission",
                "Bash: stripe trigger payment_intent.succeeded",
            ),
        ],
        ..QUIET
    },
    Story {
        topic: "api-v2",
        title: "Plan the second version of the API",
        repo: "acme/api",
        branch: "v2",
        moments: &[
            (51, Running, "", "Read: openapi.json"),
            (
                22,
                Pending,
                "plan",
                "Six steps, beginning with the error codes",
            ),
        ],
        ..QUIET
    },
    Story {
        topic: "retention",
        title: "Delete old sessions after 90 days",
        tool: "codex",
        name: "Codex",
        host: "birch",
        repo: "acme/api",
        branch: "retention",
        moments: &[
            (33, Running, "", "reading the schema"),
            (5, Pending, "question", "Shall audit entries go too?"),
        ],
        ..QUIET
    },
    Story {
        topic: "dark",
        title: "A dark theme that is easy on the eyes",
        tool: "cursor",
        name: "Cursor",
        host: "birch",
        repo: "tidepool/site",
        branch: "dark",
        moments: &[
            (44, Running, "", "Edit: tokens.css"),
            (
                9,
                Success,
                "turn",
                "All views have a dark theme now: have a look",
            ),
        ],
        ..QUIET
    },
    Story {
        topic: "readme",
        title: "Shorten the README",
        tool: "opencode",
        name: "OpenCode",
        host: "cedar",
        repo: "northwind/ledger",
        moments: &[
            (29, Running, "", "edit: README.md"),
            (18, Pending, "interrupted", ""),
        ],
        ..QUIET
    },
    Story {
        topic: "e2e",
        title: "Test the whole order in a browser",
        branch: "e2e",
        moments: &[
            (38, Running, "", "Write: e2e/order.spec.ts"),
            (
                3,
                Running,
                "background",
                "playwright runs in the background",
            ),
        ],
        ..QUIET
    },
    Story {
        topic: "login",
        title: "Log in with a passkey",
        branch: "feat/passkeys",
        moments: &[
            (41, Running, "", "Read: src/auth.rs"),
            (2, Running, "", "Edit: src/auth/passkey.rs"),
        ],
        then: &[
            (Running, "", "Bash: cargo check"),
            (Running, "", "Edit: src/auth/passkey.rs"),
            (Running, "", "Bash: cargo test auth"),
            (Pending, "permission", "Bash: git push origin feat/passkeys"),
            (Running, "", "Bash: git push origin feat/passkeys"),
            (
                Success,
                "turn",
                "Passkeys work in every browser that has them",
            ),
            (Running, "", "Read: docs/login.md"),
        ],
        ..QUIET
    },
    Story {
        topic: "login-docs",
        title: "Describe passkeys for users",
        branch: "feat/passkeys",
        parent: "login",
        moments: &[(1, Running, "", "Write: docs/passkeys.md")],
        then: &[
            (Running, "", "Edit: docs/passkeys.md"),
            (Running, "", "Read: docs/login.md"),
            (Success, "turn", "The guide has two pages"),
        ],
        ..QUIET
    },
    Story {
        topic: "cache",
        title: "Cache the exchange rates",
        tool: "gemini",
        name: "Gemini CLI",
        host: "cedar",
        repo: "northwind/ledger",
        branch: "rates",
        moments: &[
            (12, Running, "", "ReadFile: rates.py"),
            (1, Running, "", "WriteFile: cache.py"),
        ],
        then: &[
            (Running, "", "Shell: pytest tests/rates"),
            (Running, "", "WriteFile: cache.py"),
            (Pending, "permission", "Shell: redis-cli FLUSHDB"),
            (Running, "", "Shell: redis-cli FLUSHDB"),
            (Success, "turn", "Rates are asked for once an hour"),
        ],
        ..QUIET
    },
    Story {
        topic: "ci-4711",
        title: "Review pull request 218",
        host: "build-7",
        repo: "acme/api",
        is_headless: true,
        moments: &[(4, Running, "", "Bash: git diff main")],
        then: &[
            (Running, "", "Read: src/http/limits.rs"),
            (Running, "", "Grep: Retry-After"),
        ],
        ..QUIET
    },
];

impl Story {
    fn report(&self, status: StatusKind, reason: &str, message: &str) -> Report {
        let mut context = vec![
            ("host", self.host),
            ("repo", self.repo),
            ("branch", self.branch),
            ("tool", self.tool),
        ];
        if !self.parent.is_empty() {
            context.push(("parent", self.parent));
        }
        if self.is_headless {
            context.push(("mode", "headless"));
        }
        let context = context.into_iter();
        Report {
            agent_name: Some(format!("{} on {}", self.name, self.host)),
            agent_source: Some(self.tool.into()),
            message: message.into(),
            session_title: Some(self.title.into()),
            reason: reason.into(),
            context: context
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            ..Report::new(format!("{}@{}", self.tool, self.host), self.topic, status)
        }
    }
}

/// A clock that is set by hand.
struct PastClock(Arc<AtomicI64>);

impl Clock for PastClock {
    fn now(&self) -> Timestamp {
        DateTime::from_timestamp_micros(self.0.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

/// Fills a store with the day until now.
///
/// # Errors
/// Those of the store.
pub(crate) async fn fill(store: &MemoryStore, policy: ReportPolicy) -> Result<(), StoreError> {
    let time = Arc::new(AtomicI64::new(0));
    let recorder = Recorder {
        store: store.clone(),
        clock: PastClock(time.clone()),
        entropy: SystemEntropy,
        policy,
        witness: Witness::default(),
    };
    let now: DateTime<Utc> = SystemClock.now();
    let mut moments: Vec<(&Story, &Moment)> = DAY
        .iter()
        .flat_map(|story| story.moments.iter().map(move |moment| (story, moment)))
        .collect();
    moments.sort_by_key(|(_, (minutes_ago, ..))| -minutes_ago);
    for (story, (minutes_ago, status, reason, message)) in moments {
        let at = now - TimeDelta::minutes(*minutes_ago);
        time.store(at.timestamp_micros(), Ordering::Relaxed);
        let report = story.report(*status, reason, message).into();
        recorder
            .record(&Workspace::Shared, &report, async |_| true)
            .await?;
    }
    Ok(())
}

/// Goes on with the day until it is to stop.
pub(crate) async fn go_on(reports: MemoryReports, mut stopping: watch::Receiver<bool>) {
    let living: Vec<&Story> = DAY.iter().filter(|story| !story.then.is_empty()).collect();
    for turn in 0_usize.. {
        tokio::select! {
            () = sleep(PAUSE) => {}
            _ = stopping.changed() => return,
        }
        let story = living[turn % living.len()];
        let (status, reason, message) = story.then[turn / living.len() % story.then.len()];
        let report = story.report(status, reason, message);
        if let Err(error) = reports.record(&Workspace::Shared, report).await {
            tracing::warn!(%error, "a report of the demonstration is not stored");
        }
    }
}
