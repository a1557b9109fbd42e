//! Token buckets: how often something may happen. Each thing that is counted has a bucket of draws, which
//! is full at first and fills steadily; time is an argument.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

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

/// How a bucket fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The time in which the bucket makes good for one draw.
    pub refill: TimeDelta,
    /// The time in which the bucket fills when it is empty.
    pub depth: TimeDelta,
}

/// A draw from a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    /// The bucket's name, a SHA-256 in hexadecimal, which shows nobody's address.
    pub bucket: String,
    /// How the bucket fills.
    pub flow: Flow,
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

impl Flow {
    /// The flow of this rate; `None` where there is no limit.
    pub fn new(rate: Rate) -> Option<Self> {
        let refill = rate.per.num_microseconds()? / i64::from(rate.times).max(1);
        let refill = TimeDelta::microseconds(refill.max(1));
        let depth = refill.checked_mul(i32::try_from(rate.times).unwrap_or(i32::MAX))?;
        (rate.times > 0).then_some(Self { refill, depth })
    }

    /// Decides on a draw at `now` from a bucket that is full again at `full_at`, or has never been
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

    /// Takes back what a draw has counted.
    pub fn put_back(&self, full_at: Timestamp) -> Timestamp {
        full_at - self.refill
    }
}

impl Draw {
    /// A draw from the bucket that `names` tell from all others; `None` where there is no limit.
    pub fn new(names: &[&str], rate: Rate) -> Option<Self> {
        Some(Self {
            flow: Flow::new(rate)?,
            bucket: sha256_hex(format!("{names:?}")),
        })
    }
}

/// The least number of buckets at which full ones are forgotten.
const FORGETTING: usize = 1000;

/// Buckets in memory. Those that are full again are forgotten, so there are at most twice as many as
/// have been drawn from lately.
#[derive(Debug)]
pub(crate) struct MemoryBuckets<K> {
    /// When each is full again.
    full_at: HashMap<K, Timestamp>,
    /// The number at which full ones are forgotten.
    purge_at: usize,
}

impl<K> Default for MemoryBuckets<K> {
    fn default() -> Self {
        Self {
            full_at: HashMap::new(),
            purge_at: FORGETTING,
        }
    }
}

impl<K: Eq + Hash> MemoryBuckets<K> {
    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Draws from a bucket.
    pub(crate) fn draw<Q>(&mut self, bucket: &Q, flow: Flow, now: Timestamp) -> Drawn
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(full_at) = self.full_at.get_mut(bucket) {
            return match flow.decide(Some(*full_at), now) {
                Ok(next) => {
                    *full_at = next;
                    Drawn::Allowed
                }
                Err(wait) => Drawn::Refused(wait),
            };
        }
        match flow.decide(None, now) {
            Ok(next) => {
                if self.full_at.len() >= self.purge_at {
                    self.full_at.retain(|_, full_at| now < *full_at);
                    self.purge_at = 2 * self.full_at.len() + FORGETTING;
                }
                self.full_at.insert(bucket.to_owned(), next);
                Drawn::Allowed
            }
            Err(wait) => Drawn::Refused(wait),
        }
    }

    /// Takes back a draw that was allowed.
    pub(crate) fn put_back<Q>(&mut self, bucket: &Q, flow: Flow)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(full_at) = self.full_at.get_mut(bucket) {
            *full_at = flow.put_back(*full_at);
        }
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

    fn flow(times: u32, seconds: i64) -> Flow {
        let per = TimeDelta::seconds(seconds);
        Flow::new(Rate { times, per }).unwrap()
    }

    #[test]
    fn a_bucket_allows_its_draws_at_once_and_then_one_after_the_other() {
        let draw = flow(10, 60);
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
        let draw = flow(5, 3600);
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
        for one in ["a\0b", "a\", \"b", "a, b"] {
            assert_ne!(bucket(&["a", "b"]), bucket(&[one]));
        }
        assert_ne!(bucket(&["a"]), bucket(&["b"]));
    }

    #[test]
    fn what_is_drawn_from_is_remembered_and_what_is_full_is_not() {
        let flow = flow(60, 60);
        let mut buckets = MemoryBuckets::<u64>::default();
        for n in 0..100_000 {
            // Each takes a second to be full again, in which a hundred others are drawn from.
            let now = start() + TimeDelta::milliseconds(10 * n);
            assert_eq!(buckets.draw(&n.unsigned_abs(), flow, now), Drawn::Allowed);
            assert!(buckets.full_at.len() <= FORGETTING + 200, "{n}");
        }
    }

    proptest! {
        /// Buckets in memory allow and refuse as if none was ever forgotten, and none has to do with
        /// another.
        #[test]
        fn forgetting_full_buckets_changes_nothing(
            draws in prop::collection::vec((0..2000u32, 0..30i64, 0..8u8), 1..4000),
        ) {
            let flow = flow(3, 1);
            let mut buckets = MemoryBuckets::<u32>::default();
            let mut model: HashMap<u32, Timestamp> = HashMap::new();
            let mut now = start();
            for (bucket, wait, kind) in draws {
                now += TimeDelta::milliseconds(wait);
                let expected = match flow.decide(model.get(&bucket).copied(), now) {
                    Ok(next) => {
                        model.insert(bucket, next);
                        Drawn::Allowed
                    }
                    Err(wait) => Drawn::Refused(wait),
                };
                prop_assert_eq!(buckets.draw(&bucket, flow, now), expected);
                if kind == 0 && expected == Drawn::Allowed {
                    buckets.put_back(&bucket, flow);
                    model.entry(bucket).and_modify(|at| *at = flow.put_back(*at));
                }
            }
        }

        /// However the draws fall, no stretch of time has more than the bucket's depth and what has
        /// come in meanwhile; and whoever waits as long as they are told is allowed.
        #[test]
        fn no_stretch_of_time_allows_more_than_the_rate(
            times in 1..50u32,
            seconds in 1..3600i64,
            waits in prop::collection::vec(0..120_000_000i64, 1..200),
        ) {
            let draw = flow(times, seconds);
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
