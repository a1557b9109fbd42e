//! The line that the access log has of a request.

use std::net::IpAddr;
use std::time::Duration;

use http::{Method, Request, StatusCode};

use super::client::Client;
use super::request_id::RequestId;
use super::trace::Outcome;
use crate::settings::Networks;

/// What is logged of a request whose client leaves before it is answered, as proxies log it.
const CLIENT_LEFT: u16 = 499;

/// A request as the access log shows it. Without the query, which may hold a token.
#[derive(Debug)]
pub struct AccessLine {
    method: Method,
    path: String,
    client: Option<IpAddr>,
    request_id: Option<RequestId>,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// The status of the answer; `None` where the client left before it.
    pub status: Option<StatusCode>,
    /// How many bytes of the answer's body were sent.
    pub bytes: u64,
    /// How long it took, until the last of them.
    pub elapsed: Duration,
}

impl AccessLine {
    /// What the filter of the log knows these lines by.
    pub const TARGET: &str = "kubeagents::access";

    /// The line of a request that has just come. `trusted`: the proxies that say whose it is.
    pub fn of<B>(request: &Request<B>, trusted: Option<&Networks>) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            client: Client::of(request.extensions(), request.headers(), trusted).address,
            request_id: RequestId::given(request.headers()),
        }
    }

    /// Notes the id that the request was given.
    pub fn note(&mut self, outcome: &Outcome) {
        self.request_id = Some(outcome.request_id.clone());
    }

    /// Writes the line: at `info` where the log of accesses is asked for, else at `debug`.
    pub fn write(&self, is_asked_for: bool, answered: Answered) {
        let Self {
            method,
            path,
            client,
            request_id,
        } = self;
        let client = client.map(tracing::field::display);
        let request_id = request_id.as_ref().map(RequestId::as_str);
        let request_id = request_id.map(tracing::field::display);
        let status = answered
            .status
            .map_or(CLIENT_LEFT, |status| status.as_u16());
        let bytes = answered.bytes;
        // Whole microseconds.
        let duration_ms = answered.elapsed.as_micros() as f64 / 1000.0;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: AccessLine::TARGET,
                    %method, path, status, bytes, duration_ms, client, request_id,
                    "answered"
                )
            };
        }
        match is_asked_for {
            true => line!(info),
            false => line!(debug),
        }
    }
}
