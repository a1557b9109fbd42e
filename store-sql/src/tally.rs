use kubeagents_core::store::Counts;
use kubeagents_core::{StatusKind, TURN};

use crate::{Row, UnexpectedResult};

/// Counts of sessions as statements return them. A row has a status, whether the reason is that of a
/// turn's end, whether the sessions are expired, and their number. A row without a status counts all
/// sessions; those with one count the sessions that have ended.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Counts,
    /// Of all sessions, less those that have ended: unexpired ones, expired ones.
    unended: [i64; 2],
}

impl Tally {
    /// Adds a row.
    ///
    /// # Errors
    /// When it is no such row.
    pub fn add(&mut self, row: &mut Row) -> Result<(), UnexpectedResult> {
        let status = row.optional_status()?;
        let reason = if row.bool()? { TURN } else { "" };
        let is_expired = row.bool()?;
        let number: i64 = row.int()?;
        let unended = &mut self.unended[usize::from(is_expired)];
        match status {
            None => *unended += number,
            Some(status) => {
                *unended -= number;
                self.counts
                    .add(number.unsigned_abs(), status, reason, is_expired);
            }
        }
        Ok(())
    }

    /// The counts by state.
    pub fn counts(mut self) -> Counts {
        for (number, is_expired) in self.unended.into_iter().zip([false, true]) {
            // Sessions that have not ended have one state or the other, whatever their status.
            let number = number.try_into().unwrap_or(0);
            self.counts.add(number, StatusKind::Running, "", is_expired);
        }
        self.counts
    }
}
