//! When to try a notification again, and when to give up. Hosts do the posting.

use std::time::Duration;

use crate::Timestamp;

/// The pauses between the first attempts, which one host makes in a row on one lease.
pub const QUICK_RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

/// The most deliveries under way at once to one receiving host (`host:port`).
pub const MAX_IN_FLIGHT_PER_HOST: usize = 4;

/// The most deliveries under way at once.
pub const MAX_IN_FLIGHT: usize = 64;

/// How long a notification is worth trying, where it survives that long.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The header that carries [`Notification::id`](crate::Notification::id).
pub const ID_HEADER: &str = "webhook-id";

/// How long a lease must last: every quick attempt may take `timeout`, and then some.
pub fn lease_duration(timeout: Duration) -> Duration {
    let pauses: Duration = QUICK_RETRIES.iter().sum();
    (timeout + Duration::from_secs(2)) * (QUICK_RETRIES.len() as u32 + 1) + pauses
}

/// What one attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver answered with this status.
    Answered(u16),
    /// No answer: refused, broken off, timed out.
    Failed,
    /// The address is one that this host must not connect to.
    Forbidden,
}

impl Attempt {
    /// Whether the receiver has taken the notification: any 2xx. A redirect is not followed and
    /// counts as a failure.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Answered(200..=299))
    }

    /// Whether trying again is pointless: the receiver is gone for good (410), or may not be asked.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Answered(410) | Self::Forbidden)
    }
}

/// What to do with a notification whose quick attempts have all failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try another round after this pause.
    After(Duration),
    /// Give it up.
    Abandon,
}

/// Decides on a notification after its failed round `round` (counted from 1) whose last attempt
/// was `last`. `durable`: whether it survives a restart; without that there is only one round.
/// `random`: any number, for jitter.
///
/// Pauses grow fourfold from 5 seconds to an hour, each shortened by up to a fifth.
pub fn after_failure(
    last: Attempt,
    round: u32,
    created_at: Timestamp,
    now: Timestamp,
    durable: bool,
    random: u32,
) -> Next {
    let age = (now - created_at).to_std().unwrap_or_default();
    if last.is_final() || !durable || age >= MAX_AGE {
        return Next::Abandon;
    }
    let full = 5_000_u64
        .saturating_mul(4_u64.saturating_pow(round.saturating_sub(1)))
        .min(3_600_000);
    let jitter = full / 5 * u64::from(random % 1000) / 1000;
    Next::After(Duration::from_millis(full - jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn pauses_grow_from_seconds_to_an_hour() {
        let pause =
            |round, random| after_failure(Attempt::Failed, round, START, START, true, random);
        for (round, seconds) in [
            (1, 5),
            (2, 20),
            (3, 80),
            (4, 320),
            (5, 1280),
            (6, 3600),
            (60, 3600),
        ] {
            assert_eq!(pause(round, 0), Next::After(Duration::from_secs(seconds)));
        }
        assert_eq!(pause(1, 999), Next::After(Duration::from_millis(4001)));
    }

    #[test]
    fn a_notification_is_given_up_after_a_day_or_when_pointless_or_not_durable() {
        let day = START + MAX_AGE;
        let moment = chrono::TimeDelta::microseconds(1);
        let fate = |last, now, durable| after_failure(last, 1, START, now, durable, 0);
        let again = Next::After(Duration::from_secs(5));
        assert_eq!(fate(Attempt::Failed, day - moment, true), again);
        assert_eq!(fate(Attempt::Failed, day, true), Next::Abandon);
        assert_eq!(fate(Attempt::Failed, START, false), Next::Abandon);
        assert_eq!(fate(Attempt::Answered(410), START, true), Next::Abandon);
        assert_eq!(fate(Attempt::Forbidden, START, true), Next::Abandon);
        assert_eq!(fate(Attempt::Answered(302), START, true), again);
    }

    #[test]
    fn only_2xx_is_taken_for_delivered() {
        for (status, taken) in [
            (199, false),
            (200, true),
            (204, true),
            (299, true),
            (301, false),
            (500, false),
        ] {
            assert_eq!(Attempt::Answered(status).is_success(), taken);
        }
    }
}
