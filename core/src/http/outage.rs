//! Answers of a host that has no [`App`](super::App), since it could not set one up.

use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};

use super::endpoints::Endpoint;
use super::operations::health;
use super::response::Answer;
use super::{ApiError, Reply, Target, conclude, openapi, page, resolve};
use crate::Timestamp;
use crate::settings::CorsPolicy;

/// Why there is no application.
#[derive(Debug, Clone, Copy)]
pub enum Outage<'a> {
    /// The configuration is bad. Nothing is served, and any web page may read that.
    Misconfigured,
    /// Storage did not answer. What needs none is served.
    Storage {
        /// Which web pages may read it.
        cors: &'a CorsPolicy,
        /// Whether the page is served.
        dashboard: bool,
    },
}

impl Outage<'_> {
    /// Answers a request, and logs the cause where it is refused for the outage.
    pub fn answer<B>(
        self,
        request: Request<B>,
        cause: impl Error + Send + Sync + 'static,
        now: Timestamp,
    ) -> Response<Bytes> {
        let (parts, _) = request.into_parts();
        match self {
            Self::Misconfigured => {
                let answer = Err(ApiError::misconfigured(cause));
                conclude(&CorsPolicy::Any, &parts, answer).map(Reply::into_whole)
            }
            Self::Storage { cors, dashboard } => {
                let answer = || -> Answer {
                    match resolve(cors, dashboard, &parts)? {
                        Target::Answered(response) => Ok(response),
                        Target::Page(file) => page::serve(file, &parts.headers),
                        Target::Endpoint(_, row) if row.endpoint == Endpoint::Health => health(now),
                        Target::Endpoint(_, row) if row.endpoint == Endpoint::OpenApi => {
                            openapi::serve()
                        }
                        Target::Endpoint(..) => Err(ApiError::unavailable(cause)),
                    }
                };
                let answer = answer().map(|response| response.map(Reply::Whole));
                conclude(cors, &parts, answer).map(Reply::into_whole)
            }
        }
    }
}
