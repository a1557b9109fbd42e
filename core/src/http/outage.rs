//! Answers of a host that has no [`App`](super::App), since it could not set one up.

use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};

use super::endpoints::Endpoint;
use super::operations::health;
use super::request_id::RequestIds;
use super::response::Answer;
use super::trace::Trace;
use super::{ApiError, Reply, Target, conclude, endpoint_name, openapi, page, resolve};
use crate::ports::{Clock, Entropy};
use crate::settings::CorsPolicy;

/// Why there is no application.
#[derive(Debug)]
pub enum Outage<'a> {
    /// The configuration is bad. Nothing is served, and any web page may read that.
    Misconfigured(Box<dyn Error + Send + Sync>),
    /// There is no storage. What needs none is served.
    Storage {
        /// Why it did not answer; `None` while it is still being made ready.
        failure: Option<Box<dyn Error + Send + Sync>>,
        /// Which web pages may read it.
        cors: &'a CorsPolicy,
        /// Whether the page is served.
        dashboard: bool,
    },
}

impl Outage<'_> {
    /// Answers a request, and logs the cause where it is refused for a failure.
    pub fn answer<B>(
        self,
        request: Request<B>,
        clock: &impl Clock,
        entropy: &impl Entropy,
    ) -> Response<Bytes> {
        let (parts, _) = request.into_parts();
        let (cors, dashboard) = match &self {
            Self::Misconfigured(_) => (&CorsPolicy::Any, true),
            Self::Storage {
                cors, dashboard, ..
            } => (*cors, *dashboard),
        };
        let target = resolve(cors, dashboard, &parts);
        let id = RequestIds::new(entropy).of(&parts.headers);
        let trace = Trace::begin(id, &parts, endpoint_name(&target));
        let span = trace.span.clone();
        let answer = || -> Answer {
            let failure = match self {
                Self::Misconfigured(cause) => return Err(ApiError::misconfigured(cause)),
                Self::Storage { failure, .. } => failure,
            };
            match target? {
                Target::Answered(response) => Ok(response),
                Target::Page(file) => page::serve(file, &parts.headers),
                Target::Endpoint(_, row) => match row.endpoint {
                    Endpoint::Health => health(clock.now()),
                    Endpoint::OpenApi => openapi::serve(),
                    _ => Err(failure.map_or_else(ApiError::starting, ApiError::unavailable)),
                },
            }
        };
        span.in_scope(|| {
            let answer = answer().map(|response| response.map(Reply::Whole));
            conclude(cors, &parts, answer, trace).map(Reply::into_whole)
        })
    }
}
