//! Password hashes: bcrypt at cost 12, so that accounts made by the Go server keep working.
//!
//! Pure and slow (about a quarter of a second of processor time): hosts call it where that harms
//! nobody.

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
/// [`PasswordFailure`] when bcrypt refuses, which it does for no cost that is fixed here.
pub fn hash(password: &str, salt: [u8; 16]) -> Result<String, PasswordFailure> {
    bcrypt::hash_with_salt(password, COST, salt)
        .map(|parts| parts.to_string())
        .map_err(|error| PasswordFailure(error.to_string()))
}

/// Whether this is the password that was hashed; `false` also for a hash that is none.
pub fn verify(password: &str, hash: &str) -> bool {
    bcrypt::verify(password, hash).unwrap_or(false)
}

#[cfg(test)]
mod tests {
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
