//! What becomes known of a request while it is answered: for the log, and for a host's own records.

use std::sync::{Mutex, PoisonError};

use http::Response;
use http::request::Parts;
use sha2::{Digest, Sha256};
use tracing::Span;
use tracing::field::Empty;

use super::request_id::{REQUEST_ID, RequestId};
use crate::{Limit, Workspace};

/// What became of a request, in the extensions of its answer.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The request's id.
    pub request_id: RequestId,
    /// The endpoint, by its name in the table (`operationId` in the OpenAPI document); `page` for the
    /// page and what it needs, `options` for `OPTIONS`, `none` for what leads nowhere.
    pub endpoint: &'static str,
    /// The `code` of an error.
    pub code: Option<&'static str>,
    /// The limits that something of it is refused for, each as often as that happens: the request itself, a
    /// call in it, or a mail whose sender is told nothing.
    pub limits: Vec<Limit>,
}

/// A request under way.
pub(super) struct Trace {
    id: RequestId,
    endpoint: &'static str,
    limits: Mutex<Vec<Limit>>,
    /// What is logged within it carries the request's id.
    pub(super) span: Span,
}

impl Trace {
    /// The trace of a request to this endpoint.
    pub(super) fn begin(id: RequestId, parts: &Parts, endpoint: &'static str) -> Self {
        // At the level of the gravest line, lest a filter that shows the line leave out the span.
        let span = tracing::error_span!(
            "request",
            request_id = %id.as_str(),
            method = %parts.method,
            endpoint,
            workspace = Empty,
            status = Empty,
            code = Empty,
        );
        Self {
            id,
            endpoint,
            limits: Mutex::default(),
            span,
        }
    }

    /// Notes in which workspace the caller works.
    pub(super) fn note_workspace(&self, pseudonyms: &Pseudonyms, workspace: &Workspace) {
        if !self.span.is_disabled() {
            let name = pseudonyms.of(workspace);
            self.span.record("workspace", name.as_str());
        }
    }

    /// Notes a limit that something of the request is refused for.
    pub(super) fn note_limit(&self, limit: Limit) {
        let limits = self.limits.lock();
        limits.unwrap_or_else(PoisonError::into_inner).push(limit);
    }

    /// Notes the answer, with the `code` of the error if it is one, and gives it the request's id.
    pub(super) fn end<T>(self, response: &mut Response<T>, code: Option<&'static str>) {
        self.span.record("status", response.status().as_u16());
        if let Some(code) = code {
            self.span.record("code", code);
        }
        response.headers_mut().insert(REQUEST_ID, self.id.value());
        let limits = self.limits.into_inner();
        response.extensions_mut().insert(Outcome {
            request_id: self.id,
            endpoint: self.endpoint,
            code,
            limits: limits.unwrap_or_else(PoisonError::into_inner),
        });
    }
}

/// Names of workspaces for those who read logs and traces: one workspace has the same wherever the signing
/// secret is the same, and nobody without that can tell whose it is.
pub(super) struct Pseudonyms(Sha256);

impl Pseudonyms {
    pub(super) fn new(jwt_secret: &str) -> Self {
        let secret = format!("the names of workspaces {jwt_secret} ");
        Self(Sha256::new_with_prefix(secret))
    }

    /// The name of a workspace. That of the shared one is no secret.
    fn of(&self, workspace: &Workspace) -> String {
        let Workspace::Account(id) = workspace else {
            return workspace.key().to_owned();
        };
        let hash = self.0.clone().chain_update(id.as_str()).finalize();
        hex::encode(&hash[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccountId;

    #[test]
    fn a_workspace_has_a_name_of_its_own_on_each_instance() {
        let account = |id: &str| Workspace::Account(AccountId::new(id.to_owned()));
        let names = Pseudonyms::new("a secret");
        let name = names.of(&account("one"));
        assert_eq!(name, Pseudonyms::new("a secret").of(&account("one")));
        assert_ne!(name, names.of(&account("two")));
        assert_ne!(name, Pseudonyms::new("another").of(&account("one")));
        assert_eq!(name.len(), 16);
        assert_eq!(names.of(&Workspace::Shared), "shared");
    }
}
