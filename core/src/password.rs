//! Password hashes: bcrypt at cost 12, so that accounts made by the Go server keep working.
//!
//! Pure and slow (about a quarter of a second of processor time): hosts call it where that harms
//! nobody.

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use bcrypt::{BcryptError, HashParts};
use blowfish::Blowfish;

use crate::hash;
use crate::ports::PasswordFailure;

/// The work factor of new hashes.
pub const COST: u32 = 12;

/// The longest password, in bytes: bcrypt ignores what follows.
pub const MAX_BYTES: usize = 72;

/// A hash of no password that costs as much to check as a real one, so that a login with an unknown
/// address takes as long as one with a wrong password.
pub const DECOY: &str = "$2b$12$abcdefghijklmnopqrstuuSGJC5wqeoDaQZH3wNsTOxIlHnKfqF9m";

/// The hash of a password.
///
/// # Errors
/// [`PasswordFailure::Failed`] when bcrypt refuses, which it does for no cost that is fixed here.
pub fn hash(password: &str, salt: [u8; 16]) -> Result<String, PasswordFailure> {
    bcrypt::hash_with_salt(password, COST, salt)
        .map(|parts| parts.to_string())
        .map_err(|error| PasswordFailure::Failed(error.to_string()))
}

/// Checks whether this is the password that was hashed; `false` also for a hash that is none.
pub fn verify(password: &str, hash: &str) -> bool {
    bcrypt::verify(password, hash).unwrap_or(false)
}

/// As [`hash()`], for hosts that have one thread for everything: `rest` is awaited every few
/// milliseconds, so that others get on.
///
/// # Errors
/// As [`hash()`].
pub async fn hash_with_rests(
    password: &str,
    salt: [u8; 16],
    rest: impl AsyncFnMut(),
) -> Result<String, PasswordFailure> {
    digest(password, COST, salt, rest)
        .await
        .map(|parts| parts.to_string())
}

/// As [`verify`], with rests as in [`hash_with_rests`].
pub async fn verify_with_rests(password: &str, hash: &str, rest: impl AsyncFnMut()) -> bool {
    let Ok(parts) = hash.parse::<HashParts>() else {
        return false;
    };
    digest(password, parts.get_cost(), parts.get_salt_raw(), rest)
        .await
        .is_ok_and(|found| hash::equal(&found.to_string(), &parts.to_string()))
}

/// Rounds between two rests: some 300 µs. A request that needs several turns is behind one each
/// time.
const ROUNDS: u64 = 4;

/// What the crate `bcrypt` works out in one go, in steps.
async fn digest(
    password: &str,
    cost: u32,
    salt: [u8; 16],
    mut rest: impl AsyncFnMut(),
) -> Result<HashParts, PasswordFailure> {
    if !(4..=31).contains(&cost) {
        return Err(PasswordFailure::Failed(format!(
            "bcrypt has no cost {cost}"
        )));
    }
    // A zero ends the key, where there is room for it.
    let mut key = password.as_bytes().to_vec();
    key.push(0);
    key.truncate(MAX_BYTES);
    let mut state = Blowfish::bc_init_state();
    state.salted_expand_key(&salt, &key);
    for round in 1..=1u64 << cost {
        state.bc_expand_key(&key);
        state.bc_expand_key(&salt);
        if round % ROUNDS == 0 {
            rest().await;
        }
    }
    let text: Vec<u8> = b"OrpheanBeholderScryDoubt"
        .as_chunks::<8>()
        .0
        .iter()
        .flat_map(|block| {
            let [a, b, c, d, e, f, g, h] = *block;
            let mut halves = [[a, b, c, d], [e, f, g, h]].map(u32::from_be_bytes);
            for _ in 0..64 {
                halves = state.bc_encrypt(halves);
            }
            halves.map(u32::to_be_bytes).concat()
        })
        .collect();
    // The last byte is left out, as bcrypt always has.
    let base64 = GeneralPurpose::new(&BCRYPT, NO_PAD);
    let (salt, text) = (base64.encode(salt), base64.encode(&text[..23]));
    format!("$2b${cost:02}${salt}{text}")
        .parse()
        .map_err(|error: BcryptError| PasswordFailure::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;

    use super::*;

    #[test]
    fn a_password_is_recognised_by_its_hash_and_no_other_is() {
        let hash = hash("correct horse", [7; 16]).unwrap();
        assert!(hash.starts_with("$2b$12$"));
        assert!(verify("correct horse", &hash));
        assert!(!verify("wrong horse", &hash));
        assert!(!verify("correct horse", "no hash"));
    }

    #[test]
    fn with_rests_the_hash_is_the_same() {
        let longest = "x".repeat(MAX_BYTES);
        for password in ["", "pass\u{0}word", "пароль", &longest[1..], &longest] {
            let mut rests = 0;
            let rest = async || rests += 1;
            let rested = block_on(hash_with_rests(password, [7; 16], rest)).unwrap();
            assert_eq!(rested, hash(password, [7; 16]).unwrap());
            assert!(rests > 1000, "{rests}");
        }
    }

    #[test]
    fn with_rests_a_password_is_recognised_by_its_hash_and_no_other_is() {
        let verify =
            |password, hash: &str| block_on(verify_with_rests(password, hash, async || ()));
        let cheap = bcrypt::hash_with_salt("correct horse", 4, [7; 16]).unwrap();
        for version in [bcrypt::Version::TwoA, bcrypt::Version::TwoB] {
            let hash = cheap.format_for_version(version);
            assert!(verify("correct horse", &hash));
            assert!(!verify("wrong horse", &hash));
        }
        assert!(!verify("correct horse", "no hash"));
        assert!(!verify(
            "correct horse",
            &cheap.to_string().replacen("04", "99", 1)
        ));
    }

    #[test]
    fn hashes_made_by_go_are_recognised() {
        // golang.org/x/crypto/bcrypt writes version 2a.
        let hash = hash("password123", [1; 16])
            .unwrap()
            .replacen("$2b$", "$2a$", 1);
        assert!(verify("password123", &hash));
    }

    #[test]
    fn the_decoy_is_a_hash_at_full_cost() {
        let decoy: bcrypt::HashParts = DECOY.parse().unwrap();
        assert_eq!(decoy.get_cost(), COST);
        assert!(!verify("", DECOY));
    }
}
