//! Limits on how often something may happen. Each thing that is counted has a bucket of draws, which
//! is full at first and fills steadily; time is an argument.

use chrono::TimeDelta;

use crate::{Timestamp, sha256_hex};

/// What a limit allows: so many times at once, and as often again in this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of times. 0: as often as anybody likes.
    pub times: u32,
    /// The time in which an empty bucket fills.
    pub per: TimeDelta,
}

/// A draw from a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// The bucket's name, a SHA-256 in hexadecimal, which shows nobody's address.
    pub bucket: String,
    /// The time in which the bucket makes good for one draw.
    pub refill: TimeDelta,
    /// The time in which the bucket fills when it is empty.
    pub depth: TimeDelta,
}

/// What became of a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the bucket may be empty"]
pub enum Drawn {
    /// It is counted.
    Allowed,
    /// The bucket is empty, and nothing is counted. Another draw is worth while after this time.
    Refused(TimeDelta),
}

impl Draw {
    /// A draw from the bucket that `names` tell from all others; `None` where there is no limit.
    pub fn new(names: &[&str], rate: Rate) -> Option<Self> {
        let refill = rate.per.num_microseconds()? / i64::from(rate.times).max(1);
        let refill = TimeDelta::microseconds(refill.max(1));
        let depth = refill.checked_mul(i32::try_from(rate.times).unwrap_or(i32::MAX))?;
        (rate.times > 0).then(|| Self {
            bucket: sha256_hex(names.join("\0")),
            refill,
            depth,
        })
    }

    /// Decides on this draw at `now` from a bucket that is full again at `full_at`, or has never been
    /// drawn from: when the bucket is full again then, or how long it takes to hold a draw.
    ///
    /// # Errors
    /// The wait, for an empty bucket.
    pub fn decide(
        &self,
        full_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Timestamp, TimeDelta> {
        // What lies further in the future was written by a clock that went wrong, and would refuse
        // for as long.
        let full_at = full_at.filter(|full_at| *full_at <= now + self.depth * 2);
        let full_at = full_at.unwrap_or(now).max(now) + self.refill;
        match full_at - now - self.depth {
            excess if excess > TimeDelta::zero() => Err(excess),
            _ => Ok(full_at),
        }
    }

    /// Takes back what this draw has counted.
    pub fn put_back(&self, full_at: Timestamp) -> Timestamp {
        full_at - self.refill
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;

    fn start() -> Timestamp {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn draw(times: u32, seconds: i64) -> Draw {
        let per = TimeDelta::seconds(seconds);
        Draw::new(&["name"], Rate { times, per }).unwrap()
    }

    #[test]
    fn a_bucket_allows_its_draws_at_once_and_then_one_after_the_other() {
        let draw = draw(10, 60);
        let mut full_at = None;
        for n in 0..10 {
            full_at = Some(draw.decide(full_at, start()).unwrap());
            assert_eq!(full_at, Some(start() + TimeDelta::seconds(6 * (n + 1))));
        }
        assert_eq!(draw.decide(full_at, start()), Err(TimeDelta::seconds(6)));
        let later = start() + TimeDelta::seconds(5);
        assert_eq!(draw.decide(full_at, later), Err(TimeDelta::seconds(1)));
        let later = start() + TimeDelta::seconds(6);
        let full_at = draw.decide(full_at, later).unwrap();
        assert!(draw.decide(Some(full_at), later).is_err());
        let back = draw.put_back(full_at);
        assert_eq!(draw.decide(Some(back), later), Ok(full_at));
    }

    #[test]
    fn a_clock_that_went_wrong_refuses_nobody_for_long() {
        let draw = draw(5, 3600);
        let a_year_on = start() + TimeDelta::days(365);
        assert!(draw.decide(Some(a_year_on), start()).is_ok());
        let skewed = start() + TimeDelta::seconds(3601);
        assert_eq!(
            draw.decide(Some(skewed), start()),
            Err(TimeDelta::seconds(721))
        );
    }

    #[test]
    fn none_is_no_limit_and_names_tell_buckets_apart() {
        let per = TimeDelta::minutes(1);
        assert_eq!(Draw::new(&["a"], Rate { times: 0, per }), None);
        let rate = Rate { times: 1, per };
        let bucket = |names: &[&str]| Draw::new(names, rate).unwrap().bucket;
        assert_ne!(bucket(&["a", "b"]), bucket(&["ab"]));
        assert_ne!(bucket(&["a"]), bucket(&["b"]));
    }

    proptest! {
        /// However the draws fall, no stretch of time has more than the bucket's depth and what has
        /// come in meanwhile; and whoever waits as long as they are told is allowed.
        #[test]
        fn no_stretch_of_time_allows_more_than_the_rate(
            times in 1..50u32,
            seconds in 1..3600i64,
            waits in prop::collection::vec(0..120_000_000i64, 1..200),
        ) {
            let draw = draw(times, seconds);
            let (mut now, mut full_at, mut allowed) = (start(), None, Vec::new());
            for wait in waits {
                now += TimeDelta::microseconds(wait);
                match draw.decide(full_at, now) {
                    Ok(next) => {
                        full_at = Some(next);
                        allowed.push(now);
                    }
                    Err(wait) => {
                        prop_assert!(wait <= draw.refill);
                        prop_assert!(draw.decide(full_at, now + wait).is_ok());
                        let sooner = now + wait - TimeDelta::microseconds(1);
                        prop_assert!(draw.decide(full_at, sooner).is_err());
                    }
                }
            }
            for (first, from) in allowed.iter().enumerate() {
                for (last, to) in allowed.iter().enumerate().skip(first) {
                    let stretch = (*to - *from).num_microseconds().unwrap();
                    let refill = draw.refill.num_microseconds().unwrap();
                    let most = i64::from(times) + stretch / refill + 1;
                    prop_assert!((last - first + 1) as i64 <= most);
                }
            }
        }
    }
}
