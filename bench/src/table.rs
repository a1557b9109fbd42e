//! What was measured, for people and for programs.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cases::{Aim, Case};
use crate::machine;
use crate::measure::{Measured, Spread};

/// Prints the heads of the columns.
pub(crate) fn print_head() {
    println!("{}\n", machine::summary());
    println!("| case | measured | limit | ratio | aim | met |");
    println!("|---|---:|---:|---:|---:|---|");
}

/// Prints what came of a case.
pub(crate) fn print_row(case: &Case, outcome: &Result<Measured>) {
    let what = match case.limit {
        "" => case.what.to_owned(),
        limit => format!("{}; limit: {limit}", case.what),
    };
    let what = format!("`{}`: {what}", case.name);
    let aim = match case.aim {
        Aim::AtLeast(least) => format!("≥ {least}"),
        Aim::AtMost(most) if case.limit.is_empty() => format!("≤ {}", case.unit.text(most)),
        Aim::AtMost(most) => format!("≤ {most}"),
        Aim::None => "–".to_owned(),
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            let why = format!("{error:#}").replace('\n', " ");
            println!("| {what} | failed: {why} | | | {aim} | |");
            return;
        }
    };
    let measured = case.unit.text(outcome.measured.median);
    let (limit, ratio) = match outcome.beside {
        Some((limit, ratio)) => (case.unit.text(limit.median), of_ratio(ratio)),
        None => ("–".to_owned(), "–".to_owned()),
    };
    let met = match outcome.is_met(case.aim) {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "–",
    };
    println!("| {what} | {measured} | {limit} | {ratio} | {aim} | {met} |");
}

fn of_ratio(ratio: Spread) -> String {
    let Spread {
        median,
        lowest,
        highest,
    } = ratio;
    format!("{median:.2} ({lowest:.2}–{highest:.2})")
}

/// Everything as JSON.
pub(crate) fn json(results: &[(&Case, Result<Measured>)], rounds: u32, seconds: f64) -> Value {
    let cases: Vec<_> = results
        .iter()
        .map(|(case, outcome)| row(case, outcome))
        .collect();
    json!({
        "machine": machine::description(),
        "date": machine::date(),
        "revision": machine::revision(),
        "optimised": !cfg!(debug_assertions),
        "rounds": rounds,
        "seconds": seconds,
        "cases": cases,
    })
}

fn row(case: &Case, outcome: &Result<Measured>) -> Value {
    let mut row = json!({
        "name": case.name,
        "case": case.what,
        "limit": case.limit,
        "unit": case.unit.symbol,
        "aim": match case.aim {
            Aim::AtLeast(least) => json!({"at_least": least}),
            Aim::AtMost(most) => json!({"at_most": most}),
            Aim::None => Value::Null,
        },
    });
    match outcome {
        Ok(outcome) => {
            row["measured"] = spread(outcome.measured);
            if let Some((limit, ratio)) = outcome.beside {
                row["limit_measured"] = spread(limit);
                row["ratio"] = spread(ratio);
            }
            row["met"] = json!(outcome.is_met(case.aim));
        }
        Err(error) => row["error"] = json!(format!("{error:#}")),
    }
    row
}

fn spread(spread: Spread) -> Value {
    json!({"median": spread.median, "lowest": spread.lowest, "highest": spread.highest})
}
