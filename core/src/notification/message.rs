//! What people read: who, what, since when, why, and where to look.

use chrono::SecondsFormat;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Happening;
use crate::hook::Detail;
use crate::{Event, Timestamp};

/// The most sessions that a message which stands for several names.
const MOST_NAMED: usize = 10;

/// A message in words, for a format to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// What it is about.
    pub(super) event: Event,
    /// What has happened, in a line.
    pub(super) headline: String,
    /// What else there is to know, a line each.
    pub(super) facts: Vec<String>,
    /// What the session itself says; may be empty.
    pub(super) quote: String,
    /// Where to look.
    pub(super) link: Option<String>,
    /// When it happened.
    pub(super) at: Timestamp,
}

impl Message {
    /// The message of what has happened: one thing, or several at once. `base_url`: where the
    /// dashboard is. `None` of nothing.
    pub(crate) fn of(
        happenings: &[Happening],
        detail: Detail,
        base_url: Option<&str>,
    ) -> Option<Self> {
        match happenings {
            [] => None,
            [one] => Some(Self::one(one, detail, base_url)),
            [first, ..] => Some(Self::several(first, happenings, detail, base_url)),
        }
    }

    /// The same message, which says that so much more found no room and is not told.
    pub(crate) fn counting(mut self, dropped: u64) -> Self {
        if dropped > 0 {
            // Formats cut at the end.
            self.headline = format!("{} (and {dropped} more, dropped)", self.headline);
        }
        self
    }

    fn one(happening: &Happening, detail: Detail, base_url: Option<&str>) -> Self {
        let mut facts = Vec::new();
        if detail > Detail::None {
            facts.push(format!("Agent: {}", who(happening)));
            let place = place(happening);
            if !place.is_empty() {
                facts.push(format!("Where: {place}"));
            }
        }
        let at = happening.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        facts.push(match happening.ran_seconds {
            Some(seconds) => format!("At: {at}, after {}", span(seconds)),
            None => format!("At: {at}"),
        });
        let quote = match detail {
            Detail::Full => happening.message.clone(),
            Detail::Title | Detail::None => String::new(),
        };
        Self {
            event: happening.event,
            headline: format!("{} {}", icon(happening.event), sentence(happening, detail)),
            facts,
            quote,
            link: base_url.map(|base| page(base, happening)),
            at: happening.at,
        }
    }

    fn several(
        first: &Happening,
        happenings: &[Happening],
        detail: Detail,
        base_url: Option<&str>,
    ) -> Self {
        let mut counts = Vec::new();
        for event in Event::ALL {
            let count = happenings.iter().filter(|one| one.event == event).count();
            if count > 0 {
                counts.push((event, format!("{count} {}", word(event))));
            }
        }
        let gravest = |event: &Event| match event {
            Event::Failed => 0,
            Event::Silent => 1,
            Event::Waiting => 2,
            Event::Finished => 3,
            Event::Recovered => 4,
            Event::Started => 5,
        };
        let event = counts.iter().map(|(event, _)| *event).min_by_key(gravest);
        let event = event.unwrap_or(first.event);
        let words: Vec<String> = counts.into_iter().map(|(_, words)| words).collect();
        let mut facts = Vec::new();
        if detail > Detail::None {
            for one in happenings.iter().take(MOST_NAMED) {
                let place = place(one);
                facts.push(match place.as_str() {
                    "" => sentence(one, detail),
                    place => format!("{} ({place})", sentence(one, detail)),
                });
            }
            if let more @ 1.. = happenings.len().saturating_sub(MOST_NAMED) {
                facts.push(format!("… and {more} more"));
            }
        }
        Self {
            event,
            headline: format!(
                "{} {} sessions: {}",
                icon(event),
                happenings.len(),
                words.join(", ")
            ),
            facts,
            quote: String::new(),
            link: base_url.map(str::to_owned),
            at: happenings
                .iter()
                .map(|one| one.at)
                .max()
                .unwrap_or(first.at),
        }
    }

    /// All of it but the headline and the link, a line each.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        let quote = Some(self.quote.as_str()).filter(|quote| !quote.is_empty());
        self.facts.iter().map(String::as_str).chain(quote)
    }

    /// All of it as plain text.
    pub(super) fn text(&self) -> String {
        let lines = std::iter::once(self.headline.as_str()).chain(self.lines());
        let lines = lines.chain(self.link.as_deref());
        lines.collect::<Vec<_>>().join("\n")
    }
}

const fn icon(event: Event) -> &'static str {
    match event {
        Event::Started => "▶️",
        Event::Waiting => "⏳",
        Event::Failed => "❌",
        Event::Finished => "✅",
        Event::Silent => "🔇",
        Event::Recovered => "💚",
    }
}

const fn word(event: Event) -> &'static str {
    match event {
        Event::Started => "started",
        Event::Waiting => "waiting",
        Event::Failed => "failed",
        Event::Finished => "finished",
        Event::Silent => "silent",
        Event::Recovered => "back",
    }
}

/// What has happened, in a sentence that names the session as people know it.
fn sentence(happening: &Happening, detail: Detail) -> String {
    let name = match (detail, happening.title.as_str()) {
        (Detail::None, _) => "A session",
        (_, "") => &happening.session_topic,
        (_, title) => title,
    };
    let reason = happening.reason.as_str();
    let because = match reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    match (happening.event, reason) {
        (Event::Started, _) => format!("{name} has started"),
        (Event::Waiting, "permission") => format!("{name} waits for your permission"),
        (Event::Waiting, "question") => format!("{name} has a question"),
        (Event::Waiting, "plan") => format!("{name} waits for you to approve its plan"),
        (Event::Waiting, "interrupted") => format!("{name} was interrupted and waits for you"),
        (Event::Waiting, "" | "input") => format!("{name} waits for you"),
        (Event::Waiting, _) => format!("{name} waits for you{because}"),
        (Event::Failed, _) => format!("{name} has failed{because}"),
        (Event::Finished, "turn") => format!("{name} has finished its turn"),
        (Event::Finished, _) => format!("{name} has finished"),
        (Event::Silent, _) => format!("{name} has gone silent while it was running"),
        (Event::Recovered, _) => format!("{name} is back"),
    }
}

/// The agent as people know it.
fn who(happening: &Happening) -> &str {
    match happening.agent_name.as_str() {
        "" => &happening.agent_id,
        name => name,
    }
}

/// Where a session runs: `repo@branch on host`, as far as it says so.
fn place(happening: &Happening) -> String {
    let value = |key: &str| happening.context.get(key).map_or("", String::as_str);
    let mut place = value("repo").to_owned();
    if !value("branch").is_empty() {
        place = format!("{place}@{}", value("branch"));
    }
    match (place.is_empty(), value("host")) {
        (_, "") => place,
        (true, host) => host.to_owned(),
        (false, host) => format!("{place} on {host}"),
    }
}

/// A time in its two largest units.
fn span(seconds: i64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// The page of a session. What a browser would resolve in a path stands in the query.
fn page(base_url: &str, happening: &Happening) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut page = format!("{}/sessions", base_url.trim_end_matches('/'));
    let mut query = String::new();
    for (field, name) in [
        ("agent_id", &happening.agent_id),
        ("session_topic", &happening.session_topic),
    ] {
        page.push('/');
        if [".", ".."].contains(&name.as_str()) {
            page.push_str("%20");
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(field);
            query.push('=');
            query.push_str(&encoded(name));
        } else {
            page.push_str(&encoded(name));
        }
    }
    page + &query
}

#[cfg(test)]
pub(super) mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{Context, StatusKind};

    /// A session that waits.
    pub(crate) fn waiting() -> Happening {
        Happening {
            event: Event::Waiting,
            agent_id: "claude-code@mac".into(),
            agent_name: "Alice".into(),
            session_topic: "0198-uuid".into(),
            title: "fix the login page".into(),
            status: StatusKind::Pending,
            reason: "permission".into(),
            message: "Bash: cargo test".into(),
            context: Context::from([
                ("repo".into(), "shop".into()),
                ("branch".into(), "main".into()),
                ("host".into(), "mac".into()),
            ]),
            seq: 3,
            at: DateTime::from_timestamp(1_767_225_600, 5000).unwrap(),
            ran_seconds: Some(125),
            silent_for: None,
        }
    }

    fn text(happenings: &[Happening], detail: Detail, base_url: Option<&str>) -> String {
        Message::of(happenings, detail, base_url).unwrap().text()
    }

    #[test]
    fn a_message_says_who_what_since_when_why_and_where() {
        assert_eq!(
            text(&[waiting()], Detail::Full, Some("https://k.example.com")),
            "⏳ fix the login page waits for your permission\n\
             Agent: Alice\n\
             Where: shop@main on mac\n\
             At: 2026-01-01T00:00:00Z, after 2 min 5 s\n\
             Bash: cargo test\n\
             https://k.example.com/sessions/claude%2Dcode%40mac/0198%2Duuid"
        );
        let bare = Happening {
            title: String::new(),
            agent_name: String::new(),
            context: Context::new(),
            ran_seconds: None,
            silent_for: None,
            ..waiting()
        };
        assert_eq!(
            text(&[bare], Detail::Full, None),
            "⏳ 0198-uuid waits for your permission\nAgent: claude-code@mac\n\
             At: 2026-01-01T00:00:00Z\nBash: cargo test"
        );
    }

    #[test]
    fn a_link_leads_to_what_a_browser_would_resolve() {
        let named = |agent_id: &str, session_topic: &str| {
            let happening = Happening {
                agent_id: agent_id.into(),
                session_topic: session_topic.into(),
                ..waiting()
            };
            page("https://k.example.com/", &happening)
        };
        let base = "https://k.example.com/sessions";
        assert_eq!(named("a", "..."), format!("{base}/a/%2E%2E%2E"));
        assert_eq!(
            named("a", ".."),
            format!("{base}/a/%20?session_topic=%2E%2E")
        );
        assert_eq!(
            named(".", ".."),
            format!("{base}/%20/%20?agent_id=%2E&session_topic=%2E%2E")
        );
    }

    #[test]
    fn detail_says_how_much_is_told() {
        let title = text(&[waiting()], Detail::Title, None);
        assert!(title.contains("fix the login page") && !title.contains("cargo"));
        assert_eq!(
            text(&[waiting()], Detail::None, None),
            "⏳ A session waits for your permission\nAt: 2026-01-01T00:00:00Z, after 2 min 5 s"
        );
        let several = text(&[waiting(), waiting()], Detail::None, None);
        assert_eq!(several, "⏳ 2 sessions: 2 waiting");
    }

    #[test]
    fn a_message_for_several_counts_them_and_names_the_first() {
        let failed = |n: usize| Happening {
            event: Event::Failed,
            title: format!("task {n}"),
            reason: "rate_limit".into(),
            ..waiting()
        };
        let mut all: Vec<Happening> = (0..999).map(failed).collect();
        all.push(waiting());
        let text = text(&all, Detail::Full, Some("https://k.example.com"));
        assert!(text.starts_with(
            "❌ 1000 sessions: 1 waiting, 999 failed\n\
             task 0 has failed (rate_limit) (shop@main on mac)\n"
        ));
        assert!(text.ends_with("\n… and 990 more\nhttps://k.example.com"));
        assert_eq!(text.lines().count(), 13);
    }

    #[test]
    fn a_message_counts_what_found_no_room() {
        let headline = |happenings: &[Happening], dropped| {
            let message = Message::of(happenings, Detail::None, None).unwrap();
            message.counting(dropped).headline
        };
        let two = [waiting(), waiting()];
        assert_eq!(headline(&two, 0), "⏳ 2 sessions: 2 waiting");
        assert_eq!(
            headline(&two, 640),
            "⏳ 2 sessions: 2 waiting (and 640 more, dropped)"
        );
        assert_eq!(
            headline(&two[..1], 1),
            "⏳ A session waits for your permission (and 1 more, dropped)"
        );
    }
}
