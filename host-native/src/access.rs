//! The log of accesses: a line for each request, once its answer is sent.

use http::{Request, Response, StatusCode};
use kubeagents_core::settings::Networks;
use kubeagents_core::{AccessLine, Answered, Outcome};
use tokio::time::Instant;
use tracing::Level;

/// What is logged of accesses.
#[derive(Debug, Default)]
pub(crate) struct AccessLog {
    /// Whether lines are asked for, rather than written for debugging only.
    pub(crate) is_asked_for: bool,
    /// Proxies that say whose a request is.
    pub(crate) trusted: Option<Networks>,
}

impl AccessLog {
    /// The access that a request begins, where a line of it is written.
    pub(crate) fn begin<B>(&self, request: &Request<B>) -> Option<Box<Access>> {
        let is_written =
            self.is_asked_for || tracing::enabled!(target: AccessLine::TARGET, Level::DEBUG);
        is_written.then(|| {
            Box::new(Access {
                line: AccessLine::of(request, self.trusted.as_ref()),
                is_asked_for: self.is_asked_for,
                begun: Instant::now(),
                status: None,
                bytes: 0,
            })
        })
    }
}

/// An access under way. Its end, whatever it is, writes the line.
#[derive(Debug)]
pub(crate) struct Access {
    line: AccessLine,
    is_asked_for: bool,
    begun: Instant,
    status: Option<StatusCode>,
    bytes: u64,
}

impl Access {
    /// Notes the head of the answer.
    pub(crate) fn answer<T>(&mut self, response: &Response<T>) {
        self.status = Some(response.status());
        if let Some(outcome) = response.extensions().get::<Outcome>() {
            self.line.note(outcome);
        }
    }

    /// Notes that a part of the answer's body is sent.
    pub(crate) fn send(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let answered = Answered {
            status: self.status,
            bytes: self.bytes,
            elapsed: self.begun.elapsed(),
        };
        self.line.write(self.is_asked_for, answered);
    }
}
