//! Errors as clients see them, and their causes as the log does.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use chrono::TimeDelta;
use http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode, Uri};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ports::{PasswordFailure, SubscribeError};
use crate::{InvalidField, Limit, Scope, StoreError, causes};

use super::response::json;

/// What `WWW-Authenticate` says of an API key where only an access token will do, in the form of RFC 6750.
const WRONG_KIND: &str = "Bearer error=\"invalid_token\", error_description=\"an access token from \
                          /api/auth/login is needed here, not an API key\"";

/// Why a request is refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{status}: {message}")]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    /// The limit that it is refused for.
    limit: Option<Limit>,
    pub(crate) message: String,
    /// The methods of the route, with 405.
    allow: Option<HeaderValue>,
    /// The seconds to wait, with 429.
    wait: Option<u32>,
    /// Whether the credentials are valid, and of a kind that is of no use here; with 401.
    is_wrong_kind: bool,
    /// What went wrong inside. For the log only.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// Why a request is refused or failed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct ErrorBody<'a> {
    /// The message under `/api/auth` and `/api/apikeys` and for 401, else the code.
    error: &'a str,
    /// What is wrong, for a person.
    message: &'a str,
    /// What is wrong, for a program.
    code: &'a str,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            limit: None,
            message: message.into(),
            allow: None,
            wait: None,
            is_wrong_kind: false,
            source: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// What is wrong, for a program.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The limit that it is refused for.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.limit
    }

    /// Checks whether the request could not be understood.
    pub(super) fn is_bad_request(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
    }

    pub(crate) fn unauthorized(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// The answer to an API key where only an access token will do.
    pub(crate) fn wrong_kind(message: &'static str) -> Self {
        Self {
            is_wrong_kind: true,
            ..Self::unauthorized(message)
        }
    }

    /// The answer where a caller proves by their password who they are.
    pub(crate) fn invalid_password() -> Self {
        Self::unauthorized("invalid password")
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(crate) fn origin_not_allowed() -> Self {
        Self::forbidden(
            "origin is not allowed: the setting CORS_ALLOWED_ORIGINS names those that are",
        )
    }

    pub(crate) fn no_member() -> Self {
        Self::forbidden(
            "this account is no member of the shared workspace: the setting \
             SHARED_WORKSPACE_MEMBERS names those that are",
        )
    }

    pub(crate) fn missing_scope(scope: Scope) -> Self {
        Self::forbidden(format!("this key lacks the scope {}", scope.as_str()))
    }

    pub(crate) fn email_not_verified() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "email_not_verified",
            "email not verified",
        )
    }

    pub(crate) fn registration_disabled() -> Self {
        let message = "registration is disabled";
        Self::new(StatusCode::FORBIDDEN, "registration_disabled", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn unknown_route() -> Self {
        Self::not_found("Not found")
    }

    pub(crate) fn method_not_allowed(allow: HeaderValue) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self {
            allow: Some(allow),
            ..Self::new(status, "method_not_allowed", "Method not allowed")
        }
    }

    pub(crate) fn timeout() -> Self {
        let message = "request body was not received in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    }

    pub(crate) fn conflict(message: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// The answer where there is as much of something as there may be.
    pub(crate) fn limit_reached(limit: Limit, message: impl Into<String>) -> Self {
        Self {
            limit: Some(limit),
            ..Self::new(StatusCode::CONFLICT, "limit_reached", message)
        }
    }

    /// The answer beyond a limit, whose setting the message names.
    pub(crate) fn too_many_requests(
        limit: Limit,
        message: impl Into<String>,
        wait: TimeDelta,
    ) -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        // Whole seconds, and not too early.
        let seconds = (wait + TimeDelta::milliseconds(999)).num_seconds().max(1);
        Self {
            limit: Some(limit),
            wait: Some(seconds.try_into().unwrap_or(u32::MAX)),
            ..Self::new(status, "too_many_requests", message)
        }
    }

    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        let message = match limit_bytes >> 20 {
            0 => format!("request body exceeds {} KiB", limit_bytes >> 10),
            mib => format!("request body exceeds {mib} MiB"),
        };
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// The answer while others take up all the room there is.
    pub(crate) fn overloaded(limit: Limit, message: &'static str) -> Self {
        Self {
            limit: Some(limit),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        }
    }

    /// The answer to who has waited for a turn at reading for too long.
    pub(crate) fn too_many_reads() -> Self {
        let message = "too many lists of this workspace are read at once, try again: the setting \
                       READS_IN_FLIGHT says how many may be";
        Self::overloaded(Limit::Reads, message)
    }

    pub(crate) fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self {
            source: Some(cause.into().into()),
            ..Self::new(status, "internal_error", "internal error")
        }
    }

    pub(crate) fn misconfigured(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let message = "the server is misconfigured; its log says why";
        Self {
            source: Some(cause.into().into()),
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "misconfigured", message)
        }
    }

    pub(crate) fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self {
            source: Some(cause.into().into()),
            ..Self::new(status, "unavailable", "temporarily unavailable, try again")
        }
    }

    /// The answer of a host that cannot do it, for clients to go another way.
    pub(crate) fn not_supported(message: &'static str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_supported", message)
    }

    /// Checks whether the request may well be granted when it is sent again.
    pub(super) fn is_unavailable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    pub(crate) fn starting() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unavailable", "the server is starting, try again")
    }

    pub(crate) fn stopping() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unavailable", "the server is stopping")
    }

    /// Writes what went wrong inside to the log, cause by cause.
    pub(crate) fn log(&self, uri: &Uri) {
        let Some(source) = &self.source else { return };
        let causes = causes(source.as_ref());
        tracing::error!(path = uri.path(), status = self.status.as_u16(), %causes, "request failed");
    }

    /// The error in the form of the contract. `error` repeats the message where existing clients
    /// look for it, and the code elsewhere.
    pub(crate) fn response(&self, uri: &Uri) -> Response<Bytes> {
        let under = |prefix: &str| {
            uri.path()
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let repeats_message =
            self.status == StatusCode::UNAUTHORIZED || under("/api/auth") || under("/api/apikeys");
        let body = ErrorBody {
            error: if repeats_message {
                &self.message
            } else {
                self.code
            },
            message: &self.message,
            code: self.code,
        };
        let mut response = json(self.status, &body);
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                let challenge = match self.is_wrong_kind {
                    true => WRONG_KIND,
                    false => "Bearer",
                };
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if let Some(wait) = self.wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        if let Some(allow) = &self.allow {
            headers.insert(ALLOW, allow.clone());
        }
        response
    }
}

impl From<InvalidField> for ApiError {
    fn from(error: InvalidField) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error)
    }
}

impl From<PasswordFailure> for ApiError {
    fn from(error: PasswordFailure) -> Self {
        match error {
            // Nothing went wrong inside, and whoever sends many must not fill the log.
            PasswordFailure::Crowded => Self::overloaded(
                Limit::Passwords,
                "too many passwords are waiting, try again",
            ),
            PasswordFailure::Failed(_) => Self::unavailable(error),
        }
    }
}

impl From<SubscribeError> for ApiError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Crowded => {
                Self::overloaded(Limit::EventStreams, "too many streams of events, try again")
            }
            SubscribeError::Stopping => Self::stopping(),
            SubscribeError::Store(error) => error.into(),
        }
    }
}
