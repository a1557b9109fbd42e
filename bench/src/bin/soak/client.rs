//! Requests to the servers, whichever of them answers.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::Failure;

/// How long a request may take. Then another is sent, to the next server.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a request waits after an attempt that failed.
const REST: Duration = Duration::from_millis(100);

/// A client of all servers.
#[derive(Clone)]
pub(crate) struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    urls: Vec<String>,
}

impl Client {
    pub(crate) fn new(urls: Vec<String>) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new()).build_http();
        Self { http, urls }
    }

    /// Sends a request to one of the servers, and returns the answer's head with its body unread.
    pub(crate) async fn open(
        &self,
        server: usize,
        method: &Method,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let url = &self.urls[server % self.urls.len()];
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{url}{path}"));
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.http.request(request.body(Full::new(body))?);
        Ok(timeout(DEADLINE, answer).await??)
    }

    /// Sends a request once.
    pub(crate) async fn once(
        &self,
        server: usize,
        method: &Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), Failure> {
        let body = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        let whole = async {
            let answer = self.open(server, method, path, token, &[], body).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            Ok((status, body))
        };
        timeout(DEADLINE, whole).await?
    }

    /// Sends a request to one server after the other, until one of them gives an answer that is not 503.
    /// Returns how many attempts it took too.
    pub(crate) async fn until_answered(
        &self,
        server: usize,
        method: Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> (StatusCode, Value, usize) {
        let mut attempts = 0;
        loop {
            let sent = self.once(server + attempts, &method, path, token, body);
            attempts += 1;
            match sent.await {
                Ok((status, answer)) if status != StatusCode::SERVICE_UNAVAILABLE => {
                    return (status, answer, attempts);
                }
                Ok(_) | Err(_) => sleep(REST).await,
            }
        }
    }

    /// The body of a 2xx answer.
    pub(crate) async fn fetch(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let answer = self.until_answered(0, method.clone(), path, token, body);
        let (status, answer, _) = answer.await;
        if status.is_success() {
            Ok(answer)
        } else {
            Err(format!("{method} {path}: {status} {answer}").into())
        }
    }

    /// All rows of a list, which has them under `name`.
    pub(crate) async fn rows(
        &self,
        path: &str,
        token: &str,
        name: &str,
    ) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        let mut page = path.to_owned();
        loop {
            let mut answer = self.fetch(Method::GET, &page, token, &Value::Null).await?;
            if let Some(Value::Array(more)) = answer.get_mut(name).map(Value::take) {
                rows.extend(more);
            }
            match answer["next_cursor"].as_str() {
                Some(cursor) => page = format!("{path}?cursor={cursor}"),
                None => return Ok(rows),
            }
        }
    }
}
