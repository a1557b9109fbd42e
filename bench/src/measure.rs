//! A case and its limit, measured in turn.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::cases::{Aim, Case, Sides};

/// The middle of some values, and their ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Result<Self> {
        let are_finite = values.iter().all(|value| value.is_finite());
        ensure!(!values.is_empty() && are_finite, "no measure: {values:?}");
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Ok(Self {
            median,
            lowest: values[0],
            highest: values[values.len() - 1],
        })
    }
}

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) measured: Spread,
    /// The limit, and the measured value divided by it, of each round.
    pub(crate) beside: Option<(Spread, Spread)>,
}

impl Measured {
    /// Checks whether the aim is met. `None`: the case has none.
    pub(crate) fn is_met(&self, aim: Aim) -> Option<bool> {
        let value = self.beside.map_or(self.measured, |(_, ratio)| ratio).median;
        match aim {
            Aim::AtLeast(least) => Some(value >= least),
            Aim::AtMost(most) => Some(value <= most),
            Aim::None => None,
        }
    }
}

/// Measures a case and its limit in turn; whichever of them is first is second in the next round.
pub(crate) fn measure(
    case: &Case,
    bench: &Bench,
    rounds: u32,
    duration: Duration,
) -> Result<Measured> {
    let Sides {
        mut measured,
        mut limit,
    } = (case.open)(bench)?;
    if !bench.is_short() {
        measured(duration)?;
        limit.as_mut().map(|limit| limit(duration)).transpose()?;
    }
    let (mut values, mut limits, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let Some(limit) = &mut limit else {
            values.push(measured(duration)?);
            continue;
        };
        let (value, most) = if round % 2 == 0 {
            let most = limit(duration)?;
            (measured(duration)?, most)
        } else {
            (measured(duration)?, limit(duration)?)
        };
        values.push(value);
        limits.push(most);
        ratios.push(value / most);
    }
    let beside = match limit {
        Some(_) => Some((Spread::of(limits)?, Spread::of(ratios)?)),
        None => None,
    };
    Ok(Measured {
        measured: Spread::of(values)?,
        beside,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        let spread = Spread::of(vec![3.0, 1.0, 8.0, 2.0]).unwrap();
        assert_eq!((spread.lowest, spread.highest), (1.0, 8.0));
        assert_eq!(spread.median, 2.5);
        assert!(Spread::of(vec![1.0, f64::INFINITY]).is_err());
    }
}
