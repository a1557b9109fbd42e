//! The life of a refresh token: used once, and watched for reuse.

use chrono::TimeDelta;

use crate::{RefreshToken, Timestamp};

/// How soon after its use a token may turn up again without raising suspicion: two tabs of one
/// browser, or a retry after a lost answer.
const REUSE_GRACE: TimeDelta = TimeDelta::seconds(10);

/// The consequence of presenting a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshDecision {
    /// Spend this token for a successor.
    Rotate(RefreshToken),
    /// Refuse it: it is unknown or has expired.
    Invalid,
    /// Refuse it: it is spent, or its family is revoked.
    Revoked,
    /// Refuse this token and revoke its family: it was spent a while ago, so one of the two who
    /// have it stole it.
    RevokeFamily(RefreshToken),
}

/// Decides on a presented refresh token. `stored` is what storage knows of it.
pub fn decide_refresh(stored: Option<RefreshToken>, now: Timestamp) -> RefreshDecision {
    match stored {
        None => RefreshDecision::Invalid,
        Some(token) if now >= token.expires_at => RefreshDecision::Invalid,
        Some(token) if token.revoked => RefreshDecision::Revoked,
        Some(token) => match token.spent_at {
            None => RefreshDecision::Rotate(token),
            Some(spent_at) if now - spent_at < REUSE_GRACE => RefreshDecision::Revoked,
            Some(_) => RefreshDecision::RevokeFamily(token),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccountId;
    use RefreshDecision::{Invalid, RevokeFamily, Revoked, Rotate};

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn token(spent: Option<i64>, revoked: bool) -> RefreshToken {
        RefreshToken {
            token_hash: "hash".into(),
            account_id: AccountId::new("account"),
            family_id: "family".into(),
            created_at: at(0),
            expires_at: at(100),
            spent_at: spent.map(at),
            revoked,
        }
    }

    #[test]
    fn a_token_is_used_once_and_reuse_is_judged_by_the_clock() {
        const TICK: TimeDelta = TimeDelta::microseconds(1);
        let fresh = || Rotate(token(None, false));
        let reused = || RevokeFamily(token(Some(40), false));
        for (spent, revoked, now, expected) in [
            (None, false, at(50), fresh()),
            (None, false, at(100) - TICK, fresh()),
            (None, false, at(100), Invalid),
            (None, true, at(50), Revoked),
            (Some(40), false, at(40), Revoked),
            (Some(40), false, at(50) - TICK, Revoked),
            (Some(40), false, at(50), reused()),
            (Some(40), false, at(100), Invalid),
            (Some(40), true, at(60), Revoked),
            // Another host's clock was ahead.
            (Some(40), false, at(30), Revoked),
        ] {
            let decision = decide_refresh(Some(token(spent, revoked)), now);
            assert_eq!(decision, expected, "{spent:?} {revoked} {now}");
        }
        assert_eq!(decide_refresh(None, at(0)), Invalid);
    }
}
