//! An application on ports that a test holds in its hands.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use kubeagents_core::delivery::{Answer, PostError, Poster};
use kubeagents_core::ports::{
    Clock, Entropy, Events, Mail, Mailer, NoEvents, NoThread, Notifier, PasswordFailure, Passwords,
    Ports, Reports, SubscribeError,
};
use kubeagents_core::settings::{Host, Values};
use kubeagents_core::store::MemoryStore;
use kubeagents_core::{
    App, AuthMode, ChannelMail, Incoming, Peer, Recorded, Recorder, ReportPolicy, Settings,
    StoreError, Timestamp, Witness, Workspace, password,
};
use serde_json::{Value, json};

/// A clock that stands still until it is moved. Clones are one clock.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn advance(&self, by: TimeDelta) {
        let micros = by.num_microseconds().unwrap();
        self.0.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        DateTime::from_timestamp_micros(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// Bytes that differ at every call and are the same in every run.
#[derive(Clone, Default)]
pub(crate) struct CountingEntropy(Arc<AtomicU64>);

impl Entropy for CountingEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        let stream = kubeagents_core::sha256_hex(count.to_le_bytes());
        for (byte, random) in buffer.iter_mut().zip(stream.bytes().cycle()) {
            *byte = random;
        }
    }
}

pub(crate) struct TestPorts {
    store: MemoryStore,
    clock: TestClock,
    entropy: CountingEntropy,
    recorder: Recorder<MemoryStore, TestClock, CountingEntropy>,
    mails: Mutex<Vec<Mail>>,
    /// What happens while the next password is checked.
    meanwhile: Mutex<Option<Meanwhile>>,
    /// How often something was done at leisure.
    leisurely: AtomicUsize,
}

type Meanwhile = Pin<Box<dyn Future<Output = ()>>>;

impl Passwords for TestPorts {
    fn admits(&self, _: Option<IpAddr>) -> bool {
        true
    }
    async fn hash(
        &self,
        _: Option<IpAddr>,
        password: String,
        salt: [u8; 16],
    ) -> Result<String, PasswordFailure> {
        // As cheap as can be: what it costs is tested elsewhere.
        let hash = bcrypt::hash_with_salt(password, 4, salt);
        hash.map(|parts| parts.to_string())
            .map_err(|error| PasswordFailure::Failed(error.to_string()))
    }
    async fn verify(
        &self,
        _: Option<IpAddr>,
        password: String,
        hash: String,
    ) -> Result<bool, PasswordFailure> {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        let_others(1).await;
        Ok(password::verify(&password, &hash))
    }
}

impl Mailer for TestPorts {
    fn send(&self, mail: Mail) {
        self.clock.advance(TimeDelta::milliseconds(3));
        self.mails.lock().unwrap().push(mail);
    }
}

impl Notifier for TestPorts {
    fn wake(&self) {}
}

impl Poster for TestPorts {
    async fn post(&self, _: Request<Bytes>) -> Result<Answer, PostError> {
        Err(PostError::Timeout)
    }
    async fn mail(&self, _: ChannelMail) -> Result<Answer, PostError> {
        Err(PostError::Timeout)
    }
    async fn sleep(&self, duration: Duration) {
        self.clock.advance(TimeDelta::from_std(duration).unwrap());
    }
}

impl Reports for TestPorts {
    async fn record(
        &self,
        workspace: &Workspace,
        incoming: impl Into<Incoming>,
    ) -> Result<Recorded, StoreError> {
        self.recorder
            .record(workspace, &incoming.into(), async |_| true)
            .await
    }
}

/// Live events of which every reader hears that there are too many readers.
pub(crate) struct Crowded;

impl Events for Crowded {
    type Feed = Infallible;

    const SUPPORTED: bool = true;

    async fn subscribe(
        &self,
        workspace: &Workspace,
        after: Option<&str>,
    ) -> Result<Infallible, SubscribeError> {
        NoEvents.subscribe(workspace, after).await
    }
}

impl Ports for TestPorts {
    type Store = MemoryStore;
    type Clock = TestClock;
    type Entropy = CountingEntropy;
    type Passwords = Self;
    type Mailer = Self;
    type Notifier = Self;
    type Poster = Self;
    type Reports = Self;
    type Events = Crowded;

    fn store(&self) -> &MemoryStore {
        &self.store
    }
    fn clock(&self) -> &TestClock {
        &self.clock
    }
    fn entropy(&self) -> &CountingEntropy {
        &self.entropy
    }
    fn passwords(&self) -> &Self {
        self
    }
    fn mailer(&self) -> &Self {
        self
    }
    fn notifier(&self) -> &Self {
        self
    }
    fn reports(&self) -> &Self {
        self
    }
    fn events(&self) -> &Crowded {
        &Crowded
    }
    fn poster(&self) -> &Self {
        self
    }

    async fn pause(&self, duration: Duration) {
        let_others(1000).await;
        self.clock.advance(TimeDelta::from_std(duration).unwrap());
    }

    fn reads_beside_reports(&self) -> usize {
        1
    }

    fn has_siblings(&self) -> bool {
        true
    }

    async fn at_leisure<T: Send + 'static>(
        &self,
        _: &Workspace,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoThread> {
        self.leisurely.fetch_add(1, Ordering::Relaxed);
        Ok(work())
    }
}

/// Lets what else is under way get on, so many times.
async fn let_others(mut times: usize) {
    std::future::poll_fn(|context| {
        let is_over = times == 0;
        times = times.saturating_sub(1);
        context.waker().wake_by_ref();
        if is_over {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

pub(crate) const JWT_SECRET: &str = "a secret of the tests, long enough for HS256";

/// What these variables mean.
pub(crate) fn values(variables: &[(&'static str, &str)]) -> Values {
    let texts = variables
        .iter()
        .map(|(name, text)| (*name, (*text).to_owned()));
    Values::read(Host::Native, texts.collect()).unwrap()
}

pub(crate) fn settings(mode: AuthMode) -> Settings {
    Settings {
        values: values(&[]),
        host: Host::Native,
        mode,
        loopback_only: false,
        own_url: Some("http://127.0.0.1:8080".into()),
        jwt_secret: JWT_SECRET.into(),
    }
}

/// A server without a socket.
pub(crate) struct Server {
    pub(crate) app: App<TestPorts>,
    pub(crate) clock: TestClock,
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) response: Response<Bytes>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.response.body()).unwrap()
    }
}

impl Server {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::on(MemoryStore::default(), settings)
    }

    /// Another server on the same storage.
    pub(crate) fn beside(&self, settings: Settings) -> Self {
        Self::on(self.app.ports().store.clone(), settings)
    }

    fn on(store: MemoryStore, settings: Settings) -> Self {
        let clock = TestClock(Arc::new(AtomicI64::new(1_800_000_000_000_000)));
        let entropy = CountingEntropy::default();
        let recorder = Recorder {
            store: store.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            policy: ReportPolicy::new(&settings),
            witness: Witness::default(),
        };
        let ports = TestPorts {
            store,
            clock: clock.clone(),
            entropy,
            recorder,
            mails: Mutex::default(),
            meanwhile: Mutex::default(),
            leisurely: AtomicUsize::new(0),
        };
        Self {
            app: App::new(ports, settings),
            clock,
        }
    }

    pub(crate) fn send(&self, request: Request<impl Into<Bytes>>) -> Reply {
        futures_executor::block_on(self.answer(request))
    }

    /// Sends requests at once; their replies.
    pub(crate) fn send_together(&self, requests: Vec<Request<String>>) -> Vec<Reply> {
        let requests = requests.into_iter().map(|request| self.answer(request));
        futures_executor::block_on(futures_util::future::join_all(requests))
    }

    async fn answer(&self, request: Request<impl Into<Bytes>>) -> Reply {
        let request = request.map(|body| Full::new(body.into()));
        let response = self.app.handle(request).await;
        let response = response.map(kubeagents_core::Reply::into_whole);
        Reply {
            status: response.status(),
            response,
        }
    }

    /// Lets something happen while the next password is checked.
    pub(crate) fn meanwhile(&self, happens: impl AsyncFnOnce(MemoryStore) + 'static) {
        let store = self.app.ports().store.clone();
        let happens = Box::pin(async move { happens(store).await });
        *self.app.ports().meanwhile.lock().unwrap() = Some(happens);
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(String::new()).unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Request::post(path).body(body.to_string()).unwrap())
    }

    pub(crate) fn get_as(&self, token: &str, path: &str) -> Reply {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        self.send(request.body(String::new()).unwrap())
    }

    /// Sends a JSON body from this address.
    pub(crate) fn post_from(&self, peer: &str, path: &str, body: &Value) -> Reply {
        let request = Request::post(path).extension(Peer(peer.parse().unwrap()));
        self.send(request.body(body.to_string()).unwrap())
    }

    /// Registers and verifies an account; its access token.
    pub(crate) fn verified(&self, email: &str, password: &str) -> String {
        let body = json!({"email": email, "password": password});
        let reply = self.post("/api/auth/register", &body);
        assert_eq!(reply.status, StatusCode::CREATED);
        let reply = self.get(&format!("/api/auth/verify?token={}", self.mailed_token()));
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// How often something was done at leisure.
    pub(crate) fn leisurely(&self) -> usize {
        self.app.ports().leisurely.load(Ordering::Relaxed)
    }

    /// How many mails were sent to an address.
    pub(crate) fn mails_to(&self, email: &str) -> usize {
        let mails = self.app.ports().mails.lock().unwrap();
        mails.iter().filter(|mail| mail.to == email).count()
    }

    /// The link of the newest mail.
    pub(crate) fn mailed_link(&self) -> String {
        let mails = self.app.ports().mails.lock().unwrap();
        mails.last().unwrap().link.clone()
    }

    /// The token of the newest verification mail.
    pub(crate) fn mailed_token(&self) -> String {
        let link = self.mailed_link();
        link.split_once("token=").unwrap().1.to_owned()
    }
}
