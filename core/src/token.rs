//! Access and refresh tokens: JSON Web Tokens signed with HS256.

use std::sync::Once;

use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use signature::{Signer, Verifier};

use crate::ports::{Entropy, random_uuid};
use crate::{Account, AccountId, Timestamp};

const ISSUER: &str = "kubeagents";

/// A refresh token as it is stored. Tokens that grew out of one login form a family: when a spent
/// one turns up again, one of its two holders is a thief, and the whole family is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// SHA-256 of the token.
    pub token_hash: String,
    /// Whose it is.
    pub account_id: AccountId,
    /// The family, a UUID in text form.
    pub family_id: String,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// When it was exchanged for its successor.
    pub spent_at: Option<Timestamp>,
    /// True if its family has been revoked.
    pub revoked: bool,
}

/// What a token says. The Go server's access tokens carry no `token_type` and no `jti`.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    user_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default)]
    token_type: Option<String>,
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

/// Signs and checks tokens with the instance's secret.
#[derive(Clone)]
pub(crate) struct TokenSigner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    Access,
    Refresh,
}

impl TokenSigner {
    pub(crate) fn new(secret: &str) -> Self {
        static PROVIDER: Once = Once::new();
        // An embedder that has installed a provider of its own keeps it: any does HS256.
        PROVIDER.call_once(|| {
            let _ = HS256_PROVIDER.install_default();
        });
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // The library would ask its own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self {
            validation,
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
        }
    }

    /// A token of `account`, valid from `now` for `expiry`. A random `jti` sets tokens of one
    /// second apart.
    pub(crate) fn sign(
        &self,
        kind: TokenType,
        account: &Account,
        now: Timestamp,
        expiry: TimeDelta,
        entropy: &impl Entropy,
    ) -> Result<String, Error> {
        let claims = Claims {
            iss: ISSUER.into(),
            sub: account.id.as_str().into(),
            user_id: account.id.as_str().into(),
            email: (kind == TokenType::Access).then(|| account.email.clone()),
            token_type: Some(kind.as_str().into()),
            iat: now.timestamp(),
            nbf: now.timestamp(),
            exp: (now + expiry).timestamp(),
            jti: Some(random_uuid(entropy)),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    /// The account of a token of this type that is signed by this instance and valid at `now`.
    pub(crate) fn verify(&self, kind: TokenType, token: &str, now: Timestamp) -> Option<AccountId> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .ok()?
            .claims;
        let of_this_type = match (&claims.token_type, kind) {
            (Some(word), _) => word == kind.as_str(),
            (None, TokenType::Access) => true,
            (None, TokenType::Refresh) => false,
        };
        let now = now.timestamp();
        // Clocks of several hosts differ: a token is good a minute before it was issued.
        let current = claims.nbf - 60 <= now && now < claims.exp;
        (of_this_type && current && claims.sub == claims.user_id)
            .then(|| AccountId::new(claims.user_id))
    }
}

impl TokenType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }
}

/// HS256 is all that is used here; the library's own providers bring RSA and elliptic curves, which
/// a small component does without.
static HS256_PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        hs256_only(algorithm)?;
        Ok(Box::new(Hs256::new(key.as_bytes())?))
    },
    verifier_factory: |algorithm, key| {
        hs256_only(algorithm)?;
        Ok(Box::new(Hs256::new(key.try_get_as_bytes()?)?))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

fn hs256_only(algorithm: &Algorithm) -> Result<(), Error> {
    match algorithm {
        Algorithm::HS256 => Ok(()),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(secret: &[u8]) -> Result<Self, Error> {
        Hmac::new_from_slice(secret)
            .map(Self)
            .map_err(|_| ErrorKind::InvalidKeyFormat.into())
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mac = self.0.clone().chain_update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let mac = self.0.clone().chain_update(message);
        mac.verify_slice(signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}
