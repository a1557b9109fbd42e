//! `/health` and `/ready`.

use schemars::JsonSchema;
use serde::Serialize;

use super::response::{Answer, ok};
use super::{Admitted, ApiError, App};
use crate::ports::Ports;
use crate::{Store, Timestamp};

#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    status: &'static str,
    #[serde(serialize_with = "crate::time::serialize")]
    timestamp: Timestamp,
}

/// Mark that a host puts into the extensions of a request while it is about to stop: `/ready` then
/// answers 503, so that balancers send requests elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Stopping;

/// Mark that a host puts into the extensions of a request on a connection beyond those that it has
/// room for: `/health` alone is answered then, so that nobody takes the process for dead.
#[derive(Debug, Clone, Copy)]
pub struct Crowded;

/// The answer of `/health` at `now`: the process lives.
pub(super) fn health(now: Timestamp) -> Answer {
    ok(&Health {
        status: "ok",
        timestamp: now,
    })
}

impl<P: Ports> App<P> {
    /// The process lives. Storage is not asked.
    pub(super) async fn health(&self, _: Admitted<'_>) -> Answer {
        health(self.now())
    }

    /// The process can do its work: storage answers.
    pub(super) async fn ready(&self, request: Admitted<'_>) -> Answer {
        if request.parts.extensions.get::<Stopping>().is_some() {
            return Err(ApiError::stopping());
        }
        self.ports.store().ping().await?;
        health(self.now())
    }
}
