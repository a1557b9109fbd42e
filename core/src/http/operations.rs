//! `/health` and `/ready`.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use super::App;
use super::response::{Answer, json};
use crate::ports::Ports;
use crate::{Store, Timestamp};

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(serialize_with = "crate::time::serialize")]
    timestamp: Timestamp,
}

/// The answer of `/health` at `now`: the process lives.
pub(super) fn health(now: Timestamp) -> Response<Bytes> {
    let body = Health {
        status: "ok",
        timestamp: now,
    };
    json(StatusCode::OK, &body)
}

impl<P: Ports> App<P> {
    /// The process lives. Storage is not asked.
    pub(super) fn health(&self) -> Response<Bytes> {
        health(self.now())
    }

    /// The process can do its work: storage answers.
    pub(super) async fn ready(&self) -> Answer {
        self.ports.store().ping().await?;
        Ok(self.health())
    }
}
