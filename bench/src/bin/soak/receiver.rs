//! A receiver of notifications that now and then is out of order.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::Failure;

/// One message in so many is refused when it comes first.
const REFUSED: usize = 20;

/// What the receiver was told.
#[derive(Clone, Default)]
pub(crate) struct Receiver(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    /// How often each message was taken.
    messages: HashMap<String, usize>,
    /// Messages that were refused once.
    refused: HashSet<String>,
    attempts: usize,
}

impl Receiver {
    /// Starts a receiver. Returns its address too.
    pub(crate) async fn start() -> Result<(Self, SocketAddr), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let receiver = Self::default();
        let this = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                let service = service_fn(move |request| this.clone().receive(request));
                let connection = http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok((receiver, address))
    }

    /// How often each message was taken.
    pub(crate) fn messages(&self) -> HashMap<String, usize> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.messages.clone()
    }

    async fn receive(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Empty<Bytes>>, Infallible> {
        let mut answer = Response::new(Empty::new());
        *answer.status_mut() = match request.into_body().collect().await {
            Ok(body) => self.take(&body.to_bytes()),
            Err(_) => StatusCode::BAD_REQUEST,
        };
        Ok(answer)
    }

    fn take(&self, body: &[u8]) -> StatusCode {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = body["content"]["text"].as_str().unwrap_or_default();
        let mut lines = text.lines();
        let Some(message) = lines.find_map(|line| line.strip_prefix("Message: ")) else {
            return StatusCode::BAD_REQUEST;
        };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.attempts += 1;
        if told.attempts.is_multiple_of(REFUSED) && told.refused.insert(message.to_owned()) {
            return StatusCode::BAD_GATEWAY;
        }
        *told.messages.entry(message.to_owned()).or_default() += 1;
        StatusCode::OK
    }
}
