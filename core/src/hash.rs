//! SHA-256, the form in which every secret that the server hands out is stored.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-256 in lower-case hexadecimal, 64 characters.
///
/// Enough for tokens of 32 random bytes; passwords are another matter (see [`password`](crate::password)).
pub fn sha256_hex(secret: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(secret))
}

/// A UUID, in text form, that is always the same for these names. No stored text holds the separator.
pub(crate) fn uuid_of(names: &[&str]) -> String {
    let hash = sha256_hex(names.join("\0"));
    let bytes = u128::from_str_radix(&hash[..32], 16).unwrap_or_default();
    let id = uuid::Builder::from_custom_bytes(bytes.to_be_bytes());
    id.into_uuid().to_string()
}

/// Checks whether two secrets are equal, in a time that tells nothing about where they differ.
pub(crate) fn equal(left: &str, right: &str) -> bool {
    // The comparison takes slices of one length; hashing keeps the lengths secret.
    Sha256::digest(left).ct_eq(&Sha256::digest(right)).into()
}
