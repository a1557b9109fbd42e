//! Instants and durations as the contract writes them.

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};

/// An instant in UTC. What is stored and shown has microsecond resolution.
pub type Timestamp = DateTime<Utc>;

/// Cuts an instant to the microseconds that are stored and shown, so that what a client reads
/// compares equal to what was written.
pub(crate) fn truncate(instant: Timestamp) -> Timestamp {
    instant.trunc_subsecs(6)
}

/// Serialises a [`Timestamp`] as RFC 3339 in UTC with `Z` and exactly six fractional digits.
pub(crate) fn serialize<S: serde::Serializer>(
    instant: &Timestamp,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&instant.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Serialises an optional [`Timestamp`], `null` when absent.
pub(crate) fn serialize_option<S: serde::Serializer>(
    instant: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match instant {
        Some(instant) => serialize(instant, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes a duration as Go's `time.Duration` prints itself (`882.849µs`, `1.203051s`, `1h2m3.5s`),
/// which is what receivers of notifications parse. A negative duration counts as zero.
pub fn format_go_duration(duration: TimeDelta) -> String {
    let nanos = duration.num_nanoseconds().unwrap_or(i64::MAX).max(0);
    let fraction = |whole: i64, rest: i64, digits: usize| {
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos / 1_000, nanos % 1_000, 3)),
        1_000_000..1_000_000_000 => {
            format!("{}ms", fraction(nanos / 1_000_000, nanos % 1_000_000, 6))
        }
        _ => {
            let total_seconds = nanos / 1_000_000_000;
            let seconds = fraction(total_seconds % 60, nanos % 1_000_000_000, 9);
            let minutes = total_seconds / 60 % 60;
            match (total_seconds / 3600, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                (hours, _) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Reads a positive duration in Go's notation: one or more decimal numbers, each with a unit of
/// `h`, `m`, `s`, `ms`, `us`, `µs` or `ns` (`90s`, `1h30m`, `1.5h`).
///
/// `None` when the text is no such duration, is zero or negative, or exceeds 292 years.
pub fn parse_go_duration(text: &str) -> Option<TimeDelta> {
    let mut rest = text;
    let mut total: f64 = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..number_end].parse().ok()?;
        rest = &rest[number_end..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let nanos = match &rest[..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * nanos;
        rest = &rest[unit_end..];
    }
    if !(1.0..9.2e18).contains(&total) {
        return None;
    }
    Some(TimeDelta::nanoseconds(total.round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (-5, "0s"),
            (0, "0s"),
            (1, "1ns"),
            (1_000, "1µs"),
            (882_849, "882.849µs"),
            (1_500_000, "1.5ms"),
            (999_999_999, "999.999999ms"),
            (1_000_000_000, "1s"),
            (1_203_051_000, "1.203051s"),
            (60_000_000_000, "1m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (90_000_000_000_000, "25h0m0s"),
        ] {
            assert_eq!(format_go_duration(TimeDelta::nanoseconds(nanos)), text);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("15m", 900.0),
            ("168h", 604_800.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("1500ms", 1.5),
        ] {
            let expected = TimeDelta::nanoseconds((seconds * 1e9) as i64);
            assert_eq!(parse_go_duration(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "15",
            "m",
            "0s",
            "-5m",
            "1d",
            "1h 30m",
            "1..5h",
            ".h",
            "1e3s",
            "9999999999h",
            "NaN",
        ] {
            assert_eq!(parse_go_duration(text), None, "{text}");
        }
    }

    #[test]
    fn instants_show_exactly_six_fractional_digits() {
        let instant = DateTime::from_timestamp(0, 1_234_567).unwrap_or_default();
        let shown = serialize(&truncate(instant), serde_json::value::Serializer).unwrap();
        assert_eq!(shown, "1970-01-01T00:00:00.001234Z");
        assert_eq!(truncate(truncate(instant)), truncate(instant));
    }
}
