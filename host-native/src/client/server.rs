//! A kubeagents server as its clients see it, over HTTP.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kubeagents_core::ports::CallerTrace;
use rustls::CertificateError;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::config::Sources;
use crate::authorities;
use crate::causes;
use crate::delivery::tcp;

/// How long the server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How large its answer may be, in bytes.
const ANSWER_BYTES: usize = 16 << 20;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(15);

/// The headers that name the caller's trace, and how long each may be: longer than any that says something,
/// and short enough that no proxy refuses the request for it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const TRACE_BYTES: usize = 1024;

/// A kubeagents server and the credentials for it. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Server {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base_url: String,
    /// `base_url` as it may be shown, without a password.
    shown_url: String,
    authorization: Option<HeaderValue>,
    /// What requests say of the trace that they belong to.
    trace: HeaderMap,
    /// Where address and key come from.
    sources: Sources,
}

/// The mark that ends a text as a sentence, unless it has one.
pub(crate) fn full_stop(text: &str) -> &'static str {
    match text.ends_with('?') {
        true => "",
        false => ".",
    }
}

/// Why there is no answer. The text follows the server's address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("is no address that can be asked")]
    Request(#[from] http::Error),
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("does not speak TLS: should its address begin with http:// instead?")]
    NotTls,
    #[error(
        "cannot be trusted: the authority of its certificate is not known: name it in SSL_CERT_FILE"
    )]
    UnknownAuthority,
    #[error("does not speak HTTP: should its address begin with https:// instead?")]
    NotHttp,
    #[error("breaks off in its answer")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    #[error("does not answer in time")]
    Late,
}

impl From<hyper_util::client::legacy::Error> for NoAnswer {
    fn from(error: hyper_util::client::legacy::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            match error.downcast_ref() {
                Some(rustls::Error::InvalidMessage(_)) => return Self::NotTls,
                Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                    return Self::UnknownAuthority;
                }
                _ => {}
            }
            if error.downcast_ref().is_some_and(hyper::Error::is_parse) {
                return Self::NotHttp;
            }
            // An I/O error that wraps another passes it over as its source.
            let wrapped = error.downcast_ref().and_then(std::io::Error::get_ref);
            cause = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        Self::Unreachable(reason(&error))
    }
}

/// Why a request failed, without the client's own name for the step that did.
fn reason(error: &hyper_util::client::legacy::Error) -> String {
    error.source().map_or_else(|| causes(error), causes)
}

/// What a server answers.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Where a redirect points.
    location: Option<String>,
    /// The state of what was asked for.
    pub(crate) etag: Option<HeaderValue>,
    /// For how many minutes what it stored lasts.
    pub(super) ttl_minutes: Option<u64>,
    body: Bytes,
}

impl Server {
    /// The server at `base_url`, which has no slash at its end.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(
        base_url: String,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, rustls::Error> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(authorities::tls_config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp(GaiResolver::new(), TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self {
            client,
            shown_url: shown(&base_url),
            base_url,
            authorization,
            trace: HeaderMap::new(),
            sources: Sources::default(),
        })
    }

    /// The same with where its address and key come from.
    pub(crate) fn with_sources(self, sources: Sources) -> Self {
        Self { sources, ..self }
    }

    /// The same server, asked as a part of a caller's trace. What no header can carry is left out.
    pub(crate) fn within(&self, caller: Option<&CallerTrace>) -> Self {
        let mut trace = HeaderMap::new();
        if let Some(CallerTrace { parent, state }) = caller {
            let fields = [(TRACEPARENT, Some(parent)), (TRACESTATE, state.as_ref())];
            for (name, text) in fields {
                let text = text.filter(|text| text.len() <= TRACE_BYTES);
                if let Some(Ok(value)) = text.map(HeaderValue::try_from) {
                    trace.insert(name, value);
                }
            }
        }
        Self {
            trace,
            ..self.clone()
        }
    }

    /// Sends a request, and reads its answer whole.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, NoAnswer> {
        let request = self.request(method, path);
        let request = match body.is_empty() {
            true => request,
            false => request.header(CONTENT_TYPE, "application/json"),
        };
        self.send(request.body(Full::new(body))?).await
    }

    /// Asks for what has changed since an earlier answer: 304 when nothing has.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub(crate) async fn ask_for_change(
        &self,
        path: &str,
        etag: Option<&HeaderValue>,
    ) -> Result<Answer, NoAnswer> {
        let mut request = self.request(Method::GET, path);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        self.send(request.body(Full::default())?).await
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_url))
            .header(ACCEPT, "application/json")
            .header(
                USER_AGENT,
                concat!("kubeagents/", env!("CARGO_PKG_VERSION")),
            );
        for (name, value) in &self.trace {
            request = request.header(name, value);
        }
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        timeout(TIMEOUT, async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let headers = response.headers();
            let location = headers.get(LOCATION);
            let location = location.and_then(|to| Some(to.to_str().ok()?.to_owned()));
            let etag = headers.get(ETAG).cloned();
            let ttl_minutes = headers.get("session-ttl-minutes");
            let ttl_minutes = ttl_minutes.and_then(|minutes| minutes.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), ANSWER_BYTES);
            let body = body.collect().await.map_err(NoAnswer::Body)?.to_bytes();
            Ok(Answer {
                status,
                location,
                etag,
                ttl_minutes,
                body,
            })
        })
        .await
        .map_err(|_| NoAnswer::Late)?
    }

    /// What to say where there is no answer.
    pub(crate) fn no_answer(&self, error: &NoAnswer) -> String {
        format!("{} {}", self.shown_url, causes(error))
    }

    /// What an error of the server means here.
    pub(crate) fn refusal(&self, status: StatusCode, error: &Map<String, Value>) -> String {
        let message = message(error).unwrap_or_default();
        match (status, &self.authorization) {
            (StatusCode::UNAUTHORIZED, None) => format!(
                "{} wants an API key, and KUBEAGENTS_API_KEY is not set ({message})",
                self.shown_url
            ),
            (StatusCode::UNAUTHORIZED, Some(_)) => format!(
                "{} does not accept {} ({message})",
                self.shown_url, self.sources.key
            ),
            _ => message.to_owned(),
        }
    }

    /// What to say of an answer that no kubeagents server gives.
    pub(crate) fn foreign(&self, answer: &Answer) -> String {
        let place = match &answer.location {
            Some(location) => format!(", pointing to {location}"),
            None => String::new(),
        };
        format!(
            "{} answers {}{place}, but not as kubeagents does: is {} right?",
            self.shown_url, answer.status, self.sources.url
        )
    }

    /// What to say of an answer that is not the one that was wanted.
    pub(crate) fn trouble(&self, answer: &Answer) -> String {
        match answer.own() {
            Some(error) if !answer.status.is_success() && message(&error).is_some() => {
                self.refusal(answer.status, &error)
            }
            _ => self.foreign(answer),
        }
    }
}

impl Answer {
    /// Checks whether the same request may be answered otherwise later.
    pub(crate) fn is_passing(&self) -> bool {
        !self.status.is_client_error()
            || matches!(
                self.status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            )
    }

    /// The body, if it is one of a kubeagents server: an object, and in an error a message.
    pub(crate) fn own(&self) -> Option<Map<String, Value>> {
        let body: Map<String, Value> = serde_json::from_slice(&self.body).ok()?;
        (self.status == StatusCode::OK || message(&body).is_some()).then_some(body)
    }

    /// The same of an answer to a report, which every kubeagents server knows the place of.
    pub(crate) fn own_of_report(&self) -> Option<Map<String, Value>> {
        let is_known = !matches!(
            self.status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        );
        self.own().filter(|_| is_known)
    }
}

/// What an error says.
pub(crate) fn message(error: &Map<String, Value>) -> Option<&str> {
    ["message", "error"]
        .iter()
        .find_map(|field| error.get(*field)?.as_str())
}

/// A URL without what must not be shown of it.
fn shown(url: &str) -> String {
    let Ok(mut url) = url::Url::parse(url) else {
        return "the server".into();
    };
    // Both fail only where a URL has no host, and then it has neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}
