//! The variables of OpenTelemetry, as far as they are about spans.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use strsim::osa_distance;
use url::Url;

/// How long a collector may take, unless the environment says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// What the environment says of the export of spans. What is not here, the exporter reads itself.
#[derive(Debug)]
pub(super) struct Variables {
    pub(super) timeout: Duration,
    pub(super) service_name: Option<String>,
    /// Whether what callers say of their traces counts.
    pub(super) continues_traces: bool,
}

/// Checks the text of a variable; says what would be right.
type Check = fn(&str) -> Result<(), &'static str>;

/// The variables that count here, how each is checked, and whether it may hold a secret.
const VARIABLES: [(&str, Check, bool); 21] = [
    ("OTEL_SDK_DISABLED", switch, false),
    ("OTEL_TRACES_EXPORTER", exporter, false),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, true),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint, true),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol, false),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol, false),
    ("OTEL_EXPORTER_OTLP_HEADERS", headers, true),
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", headers, true),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", number, false),
    ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", number, false),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", compression, false),
    ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", compression, false),
    ("OTEL_SERVICE_NAME", anything, false),
    ("OTEL_RESOURCE_ATTRIBUTES", attributes, false),
    ("OTEL_TRACES_SAMPLER", sampler, false),
    ("OTEL_TRACES_SAMPLER_ARG", ratio, false),
    ("OTEL_PROPAGATORS", anything, false),
    ("OTEL_BSP_SCHEDULE_DELAY", number, false),
    ("OTEL_BSP_EXPORT_TIMEOUT", number, false),
    ("OTEL_BSP_MAX_QUEUE_SIZE", number, false),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", number, false),
];

fn right(is_right: bool, rule: &'static str) -> Result<(), &'static str> {
    is_right.then_some(()).ok_or(rule)
}

fn anything(_: &str) -> Result<(), &'static str> {
    Ok(())
}

fn switch(text: &str) -> Result<(), &'static str> {
    let is_switch = ["true", "false"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    right(is_switch, "must be true or false")
}

fn exporter(text: &str) -> Result<(), &'static str> {
    right(["otlp", "none"].contains(&text), "must be otlp or none")
}

fn endpoint(text: &str) -> Result<(), &'static str> {
    let url = Url::parse(text);
    let is_http = url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    right(is_http, "must be an address such as http://localhost:4318")
}

fn protocol(text: &str) -> Result<(), &'static str> {
    right(text == "http/protobuf", "must be http/protobuf")
}

fn compression(text: &str) -> Result<(), &'static str> {
    right(text == "none", "must be none")
}

fn number(text: &str) -> Result<(), &'static str> {
    right(
        text.parse().is_ok_and(|number: u32| number > 0),
        "must be a number above 0",
    )
}

fn headers(text: &str) -> Result<(), &'static str> {
    let is_header = |pair: &str| {
        pair.split_once('=').is_some_and(|(name, value)| {
            name.trim().parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok()
        })
    };
    let mut pairs = text.split_terminator(',');
    right(
        pairs.all(is_header),
        "must be headers such as name=value,name=value",
    )
}

fn attributes(text: &str) -> Result<(), &'static str> {
    let is_pair = |pair: &str| {
        pair.split_once('=')
            .is_some_and(|(name, _)| !name.trim().is_empty())
    };
    let mut pairs = text.split_terminator(',');
    right(
        pairs.all(is_pair),
        "must be attributes such as name=value,name=value",
    )
}

fn sampler(text: &str) -> Result<(), &'static str> {
    right(
        SAMPLERS.contains(&text),
        "must be one of always_on, always_off, traceidratio, parentbased_always_on, \
         parentbased_always_off and parentbased_traceidratio",
    )
}

fn ratio(text: &str) -> Result<(), &'static str> {
    let is_ratio = text
        .parse()
        .is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio));
    right(is_ratio, "must be a number from 0 to 1")
}

impl Variables {
    /// Reads the environment: what it says of the export, if it asks for one, and what is wrong with it.
    /// `names`: those of all variables there are.
    pub(super) fn read(
        names: impl Iterator<Item = String>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> (Option<Self>, Vec<String>) {
        let mut warnings = misspelt(names);
        let text = |name: &str| lookup(name).filter(|text| !text.is_empty());
        let is =
            |name: &str, word: &str| text(name).is_some_and(|text| text.eq_ignore_ascii_case(word));
        let is_asked_for = is("OTEL_TRACES_EXPORTER", "otlp")
            || text("OTEL_EXPORTER_OTLP_ENDPOINT").is_some()
            || text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some();
        if !is_asked_for || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return (None, warnings);
        }
        let before = warnings.len();
        for (name, check, may_hold_secret) in VARIABLES {
            let Some(text) = text(name) else { continue };
            if let Err(rule) = check(&text) {
                let shown = match may_hold_secret {
                    true => String::new(),
                    false => format!(", not {text:?}"),
                };
                warnings.push(format!("spans are not exported: {name} {rule}{shown}"));
            }
        }
        if warnings.len() > before {
            return (None, warnings);
        }
        let millis = text("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
            .or_else(|| text("OTEL_EXPORTER_OTLP_TIMEOUT"))
            .and_then(|text| text.parse().ok());
        let propagators = text("OTEL_PROPAGATORS");
        let variables = Self {
            timeout: millis.map_or(TIMEOUT, Duration::from_millis),
            service_name: text("OTEL_SERVICE_NAME"),
            continues_traces: propagators
                .is_none_or(|names| names.split(',').any(|name| name.trim() == "tracecontext")),
        };
        (Some(variables), warnings)
    }
}

/// Warnings of variables whose names are almost those of ours. The other signals have names much alike.
fn misspelt(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_ours = |name: &str| VARIABLES.iter().any(|(ours, ..)| *ours == name);
    let of_others = ["METRIC", "LOG", "_BLRP_", "PROFILE"];
    let mut warnings: Vec<String> = names
        .filter(|name| !is_ours(name) && !of_others.iter().any(|part| name.contains(part)))
        .filter_map(|name| {
            let distance = |ours: &str| osa_distance(&name.to_uppercase(), ours);
            let near = VARIABLES.iter().map(|(ours, ..)| (distance(ours), *ours));
            let (_, meant) = near.min().filter(|(distance, _)| *distance <= 2)?;
            Some(format!("{name} is no setting, did you mean {meant}?"))
        })
        .collect();
    warnings.sort();
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (bool, Vec<String>) {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        let names = variables.iter().map(|(name, _)| (*name).to_owned());
        let (variables, warnings) = Variables::read(names, lookup);
        (variables.is_some(), warnings)
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");

    #[test]
    fn spans_are_exported_where_the_environment_says_so() {
        for (variables, is_exported) in [
            (&[][..], false),
            (&[("OTEL_SERVICE_NAME", "n")], false),
            (&[ENDPOINT], true),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], false),
            (&[("OTEL_TRACES_EXPORTER", "otlp")], true),
            (&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")], false),
            (&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")], false),
            (&[ENDPOINT, ("OTEL_SDK_DISABLED", "false")], true),
        ] {
            assert_eq!(read(variables), (is_exported, Vec::new()), "{variables:?}");
        }
    }

    #[test]
    fn a_wrong_value_is_told_and_nothing_is_exported() {
        for (name, text, told) in [
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "grpc",
                "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not \"grpc\"",
            ),
            (
                "OTEL_TRACES_SAMPLER_ARG",
                "1.5",
                "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, not \"1.5\"",
            ),
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "localhost:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be an address such as http://localhost:4318",
            ),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "a secret",
                "OTEL_EXPORTER_OTLP_HEADERS must be headers such as name=value,name=value",
            ),
        ] {
            let told = vec![format!("spans are not exported: {told}")];
            assert_eq!(read(&[ENDPOINT, (name, text)]), (false, told));
        }
        let nothing_right = VARIABLES.iter().filter(|(_, check, _)| check("?").is_ok());
        assert_eq!(
            nothing_right.count(),
            2,
            "the service's name and propagators"
        );
    }

    #[test]
    fn only_what_is_almost_a_name_of_ours_is_taken_for_it() {
        let told = |name: &str| misspelt([name.to_owned()].into_iter()).pop();
        for (name, meant) in [
            ("OTEL_EXPORTER_OTLP_ENPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ("OTEL_SERVICENAME", "OTEL_SERVICE_NAME"),
            ("OTEL_TRACE_SAMPLER", "OTEL_TRACES_SAMPLER"),
        ] {
            let expected = format!("{name} is no setting, did you mean {meant}?");
            assert_eq!(told(name), Some(expected));
        }
        for name in [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "OTEL_METRICS_EXPORTER",
            "OTEL_LOGS_EXPORTER",
            "OTEL_SPAN_EVENT_COUNT_LIMIT",
            "PATH",
        ] {
            assert_eq!(told(name), None, "{name}");
        }
    }
}
