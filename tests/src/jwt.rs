use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The header and the claims of `token`, without a look at its signature.
#[track_caller]
pub(crate) fn read(token: &str) -> (Value, Value) {
    let parts: Vec<_> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "a JWT has three parts: {token}");
    let part = |i: usize| {
        let json = URL_SAFE_NO_PAD
            .decode(parts[i])
            .expect("unpadded base64url");
        serde_json::from_slice(&json).expect("JSON in a JWT")
    };
    (part(0), part(1))
}

/// A token with `claims`, signed with HS256.
pub(crate) fn sign(claims: &Value, secret: &str) -> String {
    let unsigned = encode(&json!({"alg": "HS256", "typ": "JWT"}), claims);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.update(unsigned.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{unsigned}.{signature}")
}

/// A token with `claims` that says it needs no signature.
pub(crate) fn unsigned(claims: &Value) -> String {
    format!("{}.", encode(&json!({"alg": "none", "typ": "JWT"}), claims))
}

fn encode(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}
