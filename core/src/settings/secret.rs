//! The secret that signs tokens.

use super::Values;
use crate::ports::Entropy;
use crate::{Store, StoreError};

/// The name under which stores keep the signing secret.
pub const JWT_SECRET_NAME: &str = "jwt_secret";

impl Values {
    /// The configured signing secret, or else the one that storage keeps, made if need be.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn signing_secret<S: Store>(
        &self,
        store: &S,
        entropy: &impl Entropy,
    ) -> Result<String, StoreError> {
        if let Some(secret) = &self.jwt_secret {
            return Ok(secret.clone());
        }
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        let candidate = crate::sha256_hex(bytes);
        store.secret(JWT_SECRET_NAME, &candidate).await
    }
}
