//! What one instance of a component keeps while the platform reuses it.

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::Scheme;
use http::{Method, Request, Response, Uri};
use http_body::Body;
use kubeagents_core::{
    AccessLine, Answered, App, CorsPolicy, Encrypted, Outage, Recorder, Reply, ReportPolicy,
    Settings, Store, StoreError, Witness, body_patience,
};

use crate::body::RequestBody;
use crate::delivery::Delivery;
use crate::ports::{InlinePasswords, PlatformPoster, SystemEntropy, Waker, WallClock};
use crate::reports::GroupedReports;
use crate::{Config, ConfigError, Platform, WasmPorts};

/// The application with its configuration, secrets and storage, ready for requests.
pub struct Instance<S, P> {
    app: App<WasmPorts<S, P>>,
    delivery: Delivery<S, P>,
    platform: P,
}

/// Failure to make an instance ready to serve the contract. The next request tries again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is bad.
    #[error("the configuration is bad")]
    Config(#[from] ConfigError),
    /// Storage answers, and can never hold the state.
    #[error("the storage cannot be used")]
    Unsuitable(#[source] Box<dyn Error + Send + Sync>),
    /// Storage did not answer.
    #[error("storage did not answer")]
    Store {
        /// Which web pages may read that.
        cors: CorsPolicy,
        /// Whether the page is served meanwhile.
        dashboard: bool,
        /// Storage's error.
        #[source]
        cause: StoreError,
    },
}

impl StartError {
    /// The answer to a request that met this error; logs its causes.
    pub fn answer<B>(self, request: Request<B>) -> Response<Bytes> {
        match self {
            Self::Config(_) | Self::Unsuitable(_) => {
                Outage::Misconfigured(self.into()).answer(request, &WallClock, &SystemEntropy)
            }
            Self::Store {
                cors,
                dashboard,
                cause,
            } => {
                let outage = Outage::Storage {
                    failure: Some(cause.into()),
                    cors: &cors,
                    dashboard,
                };
                outage.answer(request, &WallClock, &SystemEntropy)
            }
        }
    }
}

impl<S: Store + Clone + 'static, P: Platform> Instance<S, P> {
    /// An instance on this storage. Where no signing secret is configured, it is the one that
    /// storage keeps, made if need be.
    ///
    /// # Errors
    /// Those of reading the secret.
    pub async fn start(config: Config, store: S, platform: P) -> Result<Self, StartError> {
        let secret = config.values.signing_secret(&store, &SystemEntropy).await;
        let settings = Settings {
            jwt_secret: secret.map_err(|cause| config.without_storage(cause))?,
            values: config.values,
            host: config.host,
            mode: config.mode,
            loopback_only: true,
            own_url: None,
        };
        let waker = Waker::default();
        let delivery = Delivery::new(store.clone(), platform.clone(), waker.clone(), &settings);
        let recorder = Recorder {
            store,
            clock: WallClock,
            entropy: SystemEntropy,
            policy: ReportPolicy::new(&settings),
            witness: Witness::default(),
        };
        let ports = WasmPorts {
            reports: GroupedReports::new(recorder, platform.clone()),
            waker,
            passwords: InlinePasswords::default(),
            poster: PlatformPoster {
                platform: platform.clone(),
                timeout: settings.values.notification_timeout,
            },
        };
        Ok(Self {
            app: App::new(ports, settings),
            delivery,
            platform,
        })
    }

    /// Answers one request. Several may be under way at once.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut request = request;
        forget_authority(&mut request);
        let length = body_length(&request);
        let platform = || self.platform.clone();
        let request = request.map(|body| RequestBody::new(body, length, platform(), body_patience));
        let values = &self.app.settings().values;
        let line = values.access_log.then(|| {
            let line = AccessLine::of(&request, values.trusted_proxies.as_ref());
            (line, Instant::now())
        });
        let answer = self.app.handle(request).await.map(Reply::into_whole);
        if let Some((mut line, begun)) = line {
            if let Some(outcome) = answer.extensions().get() {
                line.note(outcome);
            }
            let answered = Answered {
                status: Some(answer.status()),
                bytes: answer.body().len() as u64,
                elapsed: begun.elapsed(),
            };
            line.write(true, answered);
        }
        answer
    }

    /// Returns true if notifications may wait: then [`Instance::deliver`] is due after the answer.
    pub fn may_deliver(&self) -> bool {
        self.delivery.is_due()
    }

    /// Delivers what waits in the outbox until nothing is due, for a minute at most: each
    /// notification in three attempts at most, of which each takes no longer than the configured
    /// timeout.
    pub async fn deliver(&self) {
        self.delivery.run().await;
    }

    /// Delivers where a request must wait for it, at most four notifications: all attempts together
    /// may take as long as `limit`, and one that does not end in time has failed.
    pub async fn deliver_within(&self, limit: Duration) {
        self.delivery.run_until(Instant::now() + limit).await;
    }
}

/// The length of a request's body as its head says it: nothing, where it only reads and announces
/// nothing.
fn body_length<B>(request: &Request<B>) -> Option<u64> {
    let headers = request.headers();
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    match headers.get(CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None => matches!(*request.method(), Method::GET | Method::HEAD).then_some(0),
    }
}

/// Leaves `Host` to say what a request asks for. Platforms put an authority into every target: what
/// the header says, or their own address.
fn forget_authority<B>(request: &mut Request<B>) {
    if let (true, Some(path)) = (
        request.headers().contains_key(HOST),
        request.uri().path_and_query().cloned(),
    ) {
        if request.uri().scheme() == Some(&Scheme::HTTPS) {
            request.extensions_mut().insert(Encrypted);
        }
        *request.uri_mut() = Uri::from(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_long_the_body_is() {
        let length = |method: Method, headers: &[(&str, &str)]| {
            let request = Request::builder().method(method);
            let request = headers.iter().fold(request, |it, (k, v)| it.header(*k, *v));
            body_length(&request.body(()).unwrap())
        };
        let (announced, chunked) = (("content-length", "7"), ("transfer-encoding", "chunked"));
        for (method, unannounced) in [
            (Method::GET, Some(0)),
            (Method::HEAD, Some(0)),
            (Method::POST, None),
            (Method::DELETE, None),
        ] {
            let length = |headers: &[_]| length(method.clone(), headers);
            assert_eq!(length(&[]), unannounced);
            assert_eq!(length(&[announced]), Some(7));
            assert_eq!(length(&[chunked]), None);
            assert_eq!(length(&[announced, chunked]), None);
            assert_eq!(length(&[("content-length", "x")]), None);
        }
    }
}
