//! The native kubeagents server.
#![forbid(unsafe_code)]

mod access;
mod answer;
mod authorities;
mod body;
mod client;
mod config;
mod connection;
mod delivery;
mod demo;
mod doctor;
mod events;
mod health;
mod logging;
mod mail;
mod manual;
mod mcp;
mod metrics;
mod operator;
mod passwords;
mod ports;
mod postgres;
mod recording;
mod secret_file;
mod server;
mod setup;
mod shutdown;
mod silence;
#[cfg(feature = "otlp")]
mod spans;
#[cfg(not(feature = "otlp"))]
#[path = "spans/none.rs"]
mod spans;
mod sqlite;
mod sweep;
mod threads;
mod tls;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use http::{Method, Request, Response};
use kubeagents_core::ports::Reports;
use kubeagents_core::store::MemoryStore;
use kubeagents_core::{
    App, AuthMode, Outage, Reply, ReportPolicy, Settings, Store, StoreError, causes,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use access::AccessLog;
use answer::Content;
use body::RequestBody;
use config::{Cli, Config, ConfigError, Storage, Task};
use delivery::{Deliverer, Waker, WebhookClient};
use events::{Changes, Hub, NativeEvents, publish};
use mail::MailSender;
use metrics::{InFlight, Metered, MeteredReports, Metrics};
use operator::ErrandError;
use passwords::PasswordThreads;
use ports::{MemoryReports, NativePorts, SystemClock, SystemEntropy};
use postgres::{GoTablesFailure, OpenError};
use server::{Limits, Places};
use silence::Listener;
use spans::{Export, Trace};
use sqlite::BackupError;
use sweep::sweep;
use threads::Threads;
use tls::{Tls, TlsError};

/// The exit code for a configuration that cannot be worked with.
const BAD_CONFIGURATION: u8 = 2;

/// Time that the last spans get to be sent.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Runs the command that stands in the arguments, the server without one.
pub fn run() -> ExitCode {
    if let Some(code) = client::run_at_once() {
        return code;
    }
    let arguments = config::arguments();
    let command = arguments
        .as_ref()
        .ok()
        .and_then(|arguments| arguments.subcommand());
    if let Some((name, arguments)) = command
        && let Some(code) = client::run(name, arguments).or_else(|| manual::run(name, arguments))
    {
        return code;
    }
    let cli = arguments.and_then(|arguments| Cli::read(&arguments));
    let outcome = cli.map_err(StartError::from).and_then(|cli| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_stack_size(STACK)
            .build()
            .map_err(StartError::Runtime)?;
        let (export, mut warnings) = match cli.task {
            Task::Serve(_) => Export::from_env(runtime.handle()),
            _ => (None, Vec::new()),
        };
        warnings.extend(cli.warnings);
        logging::start(cli.log, export.as_ref());
        let outcome = runtime.block_on(perform(cli.task, &warnings));
        if let Some(export) = export {
            export.finish(LAST_SPANS);
        }
        // A thread that reads standard input would be waited for.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", causes(&error));
            match error {
                StartError::Errand(error) if !error.is_configuration() => ExitCode::FAILURE,
                StartError::Sqlite(error) if !error.is_configuration() => ExitCode::FAILURE,
                StartError::Config(_)
                | StartError::Sqlite(_)
                | StartError::Errand(_)
                | StartError::Database(OpenError::Config(_))
                | StartError::GoTables(GoTablesFailure::Open(OpenError::Config(_))) => {
                    ExitCode::from(BAD_CONFIGURATION)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Sends what hooks take, and watches their agents. It is started by hooks.
pub fn watch() -> ExitCode {
    client::watch()
}

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("threads cannot be started")]
    Runtime(#[source] std::io::Error),
    #[error("the random number generator does not answer")]
    Entropy(#[from] getrandom::Error),
    #[error("cannot listen on {0} (HOST, PORT)")]
    Listen(SocketAddr, #[source] std::io::Error),
    #[error("cannot listen on {0} (METRICS_ADDRESS)")]
    ListenMetrics(SocketAddr, #[source] std::io::Error),
    #[error("the metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("mail cannot be set up")]
    Mail(#[from] lettre::transport::smtp::Error),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    #[error("the signing secret cannot be read from storage")]
    Secret(#[from] StoreError),
    #[error(transparent)]
    Health(#[from] health::Unhealthy),
    #[error(transparent)]
    Mcp(#[from] mcp::McpError),
    #[error(transparent)]
    Database(#[from] OpenError),
    #[error(transparent)]
    GoTables(#[from] GoTablesFailure),
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Errand(#[from] ErrandError),
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Config(error) => Self::Config(error),
            TlsError::Setup(error) => Self::Tls(error),
        }
    }
}

async fn perform(task: Task, warnings: &[String]) -> Result<(), StartError> {
    match task {
        Task::Health {
            address,
            is_encrypted,
        } => Ok(health::check(address, is_encrypted).await?),
        Task::Mcp {
            values,
            is_read_only,
        } => {
            log_warnings(warnings);
            let stop = shutdown::on_signals().map_err(StartError::Signals)?;
            Ok(mcp::serve(values, is_read_only, stop).await?)
        }
        Task::DropGoTables(database) => {
            match postgres::drop_go_tables(&database).await? {
                true => tracing::info!("the Go server's tables are dropped"),
                false => tracing::info!("there are no tables of the Go server to drop"),
            }
            Ok(())
        }
        Task::RestoreGoTables(database) => {
            match postgres::restore_go_tables(&database).await? {
                Some(schema) => tracing::info!(schema, "the Go server's tables are back"),
                None => tracing::info!("there are no tables of the Go server to restore"),
            }
            Ok(())
        }
        Task::Backup { database, copy } => {
            sqlite::backup(&database, &copy)?;
            tracing::info!(file = %copy.display(), "the database is copied");
            Ok(())
        }
        Task::Errand { errand, config } => {
            getrandom::fill(&mut [0])?;
            Ok(operator::perform(errand, &config).await?)
        }
        Task::Serve(config) => serve(*config, warnings).await,
    }
}

fn log_warnings(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Serves until a signal says to stop.
async fn serve(mut config: Config, warnings: &[String]) -> Result<(), StartError> {
    // Its failure is told here rather than in the midst of a request.
    getrandom::fill(&mut [0])?;
    let stop = shutdown::on_signals().map_err(StartError::Signals)?;
    let (stop_background, stopping) = watch::channel(false);
    let tls = config.tls.clone().map(Tls::new).transpose()?;
    let (tls, renewal) = tls.unzip();
    let places = server::places();
    let hub = Hub::new(places.clients);
    let stop = {
        let hub = hub.clone();
        async move {
            stop.await;
            hub.close();
        }
    };
    let listen_error = |error| StartError::Listen(config.address(), error);
    let listener = server::listen(config.address()).map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;
    // Where any free port was asked for, it is known only now.
    config.values.port = address.port();
    let metrics = Metrics::new(hub.clone(), config.storage())?;
    if let Some(address) = config.values.metrics_address {
        serve_metrics(address, &metrics)?;
    }
    let (mail, mailing) = mail::set_up(config.smtp.take(), config.page_url())?;
    let mut background: Vec<JoinHandle<()>> = Vec::new();
    if let Some(renewal) = renewal {
        background.push(tokio::spawn(renewal.run(stopping.clone())));
    }

    let config = &config;
    let mut file = None;
    // A generic function could not know that these futures are `Send`.
    macro_rules! start {
        ($store:expr, $settings:expr, $reports:expr) => {{
            let store = $store;
            let (app, deliverer, listener) = assemble(
                config,
                $settings,
                store.clone(),
                $reports,
                mail,
                hub.clone(),
            )?;
            metrics.watch(store.store());
            if config.values.metrics_address.is_some() {
                let counting = metrics.count(store.clone(), stopping.clone());
                background.push(tokio::spawn(counting));
            }
            let publisher = publish(hub.clone(), store.clone(), stopping.clone());
            background.push(tokio::spawn(publisher));
            background.push(tokio::spawn(deliverer.run(stopping.clone())));
            background.push(tokio::spawn(listener.run(stopping.clone())));
            if let Some(worker) = mailing {
                let mailer = worker.run(store.clone(), stopping.clone());
                background.push(tokio::spawn(mailer));
            }
            background.push(tokio::spawn(sweep(store, stopping.clone())));
            app
        }};
    }
    let front = Front {
        listener,
        tls,
        config,
        warnings,
        places,
        metrics: &metrics,
        stop,
    };
    match &config.storage {
        Storage::Memory => {
            let opening = async {
                let store = MemoryStore::of_mib(config.values.max_memory_mib);
                let store = Metered::new(store, metrics.clone());
                let settings = settings(config, &store).await?;
                let record = || {
                    let policy = ReportPolicy::new(&settings);
                    MemoryReports::new(store.clone(), policy, hub.witness())
                };
                let reports = record();
                if config.is_demo {
                    demo::fill(store.store(), ReportPolicy::new(&settings)).await?;
                    background.push(tokio::spawn(demo::go_on(record(), stopping.clone())));
                }
                Ok(start!(store, settings, reports))
            };
            let handle = |app: NativeApp<_, _>, request| answer(app, request);
            front.serve(opening, handle).await?;
        }
        Storage::Sqlite(path) => {
            let opening = async {
                let opened = sqlite::open(path).await?;
                file = Some(opened.clone());
                let store = Metered::new(opened.clone(), metrics.clone());
                let settings = settings(config, &store).await?;
                let policy = ReportPolicy::new(&settings);
                let reports = sqlite::record_reports(store.clone(), policy, hub.witness());
                let app = start!(store, settings, reports);
                if let Some(days) = config.values.history_retention_days {
                    background.push(tokio::spawn(sqlite::purge(opened, days, stopping)));
                }
                Ok(app)
            };
            let handle = |app: NativeApp<_, _>, request| answer(app, request);
            front.serve(opening, handle).await?;
        }
        Storage::Postgres(database) => {
            let opening = async {
                let pool = postgres::open(database, config.values.default_ttl_minutes).await?;
                let store = Metered::new(postgres::store(pool.clone()), metrics.clone());
                let settings = settings(config, &store).await?;
                let policy = ReportPolicy::new(&settings);
                let reports = postgres::record_reports(store.clone(), policy, hub.witness());
                let app = start!(store, settings, reports);
                let retention = config.values.history_retention_days;
                background.push(tokio::spawn(postgres::purge(pool, retention, stopping)));
                Ok(app)
            };
            let handle = |app: NativeApp<_, _>, request| answer(app, request);
            front.serve(opening, handle).await?;
        }
    }

    stop_background.send_replace(true);
    shutdown::finish_background(background).await;
    if let Some(store) = file
        && let Err(error) = store.checkpoint().await
    {
        tracing::warn!(causes = %causes(&error), "the database's file ending in -wal still holds reports: keep it");
    }
    tracing::info!("stopped");
    Ok(())
}

/// The stack of a thread that answers requests, of which the system gives what is used. Futures that are
/// not optimised need more than the usual 2 MiB.
const STACK: usize = 8 << 20;

/// Time for which nobody minds that storage is not ready.
const QUICK_START: Duration = Duration::from_secs(1);

/// Where clients are served, whatever the storage.
struct Front<'a, S> {
    listener: TcpListener,
    tls: Option<Tls>,
    config: &'a Config,
    warnings: &'a [String],
    places: Places,
    metrics: &'a Arc<Metrics>,
    /// Ends when the server is told to stop.
    stop: S,
}

impl<S: Future<Output = ()>> Front<'_, S> {
    /// Serves with `handle` what comes of `opening`. Until then `/health` says that the
    /// process lives, and whoever asks for more is told to come back.
    async fn serve<A, H, F, T>(
        self,
        opening: impl Future<Output = Result<A, StartError>>,
        handle: H,
    ) -> Result<(), StartError>
    where
        A: Clone + Send + Sync + 'static,
        H: Fn(A, Request<RequestBody>) -> F + Clone + Send + Unpin + 'static,
        F: Future<Output = Response<Content<T>>> + Send + 'static,
        T: Stream<Item = Bytes> + Send + 'static,
    {
        let Self {
            listener,
            tls,
            config,
            warnings,
            places,
            metrics,
            stop,
        } = self;
        let limits = Limits {
            places,
            keep_alive: config.values.keep_alive,
            shutdown_delay: config.values.shutdown_delay,
            crowded: "every place for clients is taken: until one leaves, others are served /health alone \
                      (the limit on open files allows no more clients)",
        };
        let access_log = AccessLog {
            is_asked_for: config.values.access_log,
            trusted: config.values.trusted_proxies.clone(),
        };
        let address = format!("{}://{}", config.scheme(), config.address());
        let mode = config.mode();
        // In open mode people may look at once.
        let is_shown = mode == AuthMode::Open && config.values.dashboard_enabled;
        let page = is_shown.then(|| format!("{}/", config.page_url()));
        let page = page.as_ref().map(tracing::field::display);
        let opened = Arc::new(OnceLock::<A>::new());
        let respond = {
            let cors = Arc::new(config.values.cors_policy(mode));
            let dashboard = config.values.dashboard_enabled;
            let opened = opened.clone();
            let metrics = metrics.clone();
            move |request: Request<RequestBody>| {
                let in_flight = InFlight::begin(metrics.clone());
                let (opened, handle, cors) = (opened.clone(), handle.clone(), cors.clone());
                async move {
                    let response = match opened.get() {
                        Some(app) => {
                            let changes = is_change(&request);
                            to_its_end(handle(app.clone(), request), changes).await
                        }
                        None => {
                            let outage = Outage::Storage {
                                failure: None,
                                cors: &cors,
                                dashboard,
                            };
                            let answer = outage.answer(request, &SystemClock, &SystemEntropy);
                            answer.map(Content::Whole)
                        }
                    };
                    in_flight.end(&response);
                    response
                }
            }
        };
        let serving = server::serve(listener, tls, limits, access_log, respond, stop);
        let opening = async {
            tokio::pin!(opening);
            match timeout(QUICK_START, &mut opening).await {
                Ok(app) => app,
                Err(_) => {
                    let storage = config.storage();
                    tracing::info!(%address, storage, "only /health is served until storage is ready");
                    opening.await
                }
            }
        };
        tokio::pin!(serving);
        let app = tokio::select! {
            app = opening => app?,
            () = &mut serving => return Ok(()),
        };
        // Nothing else sets it.
        let _ = opened.set(app);
        tracing::info!(
            %address,
            page,
            storage = %config.storage(),
            auth = %mode.as_str(),
            version = %env!("CARGO_PKG_VERSION"),
            "listening"
        );
        log_warnings(warnings);
        config.warn(mode);
        serving.await;
        Ok(())
    }
}

/// Checks whether a request may change credentials or channels. Where that takes a password, whose turn
/// may be long in coming, nobody waits for a client that has gone.
fn is_change(request: &Request<RequestBody>) -> bool {
    let path = request.uri().path();
    let is_audited = ["/api/apikeys", "/api/channels", "/api/auth/logout"]
        .iter()
        .any(|prefix| path.starts_with(prefix));
    match *request.method() {
        Method::PUT => is_audited || path == "/api/auth/me",
        _ => is_audited && !request.method().is_safe(),
    }
}

/// Answers a request; where it is a change, also if its client has gone: nobody keeps out of the audit
/// by hanging up.
async fn to_its_end<F>(answering: F, is_change: bool) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if !is_change {
        return answering.await;
    }
    match tokio::spawn(answering)
        .await
        .map_err(JoinError::try_into_panic)
    {
        Ok(answer) => answer,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime ends.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// What the configuration and the storage's secret mean to the core.
async fn settings<S: Store>(config: &Config, store: &S) -> Result<Settings, StartError> {
    let jwt_secret = config.values.signing_secret(store, &SystemEntropy).await?;
    Ok(config.settings(jwt_secret))
}

type NativeApp<S, R> = Arc<App<NativePorts<S, R>>>;

type Assembled<S, R> = (
    NativeApp<Metered<S>, MeteredReports<R>>,
    Deliverer<Metered<S>>,
    Listener<Metered<S>>,
);

/// Listens for those who read the metrics, and serves them until the process ends.
fn serve_metrics(address: SocketAddr, metrics: &Arc<Metrics>) -> Result<(), StartError> {
    let listen_error = |error| StartError::ListenMetrics(address, error);
    let listener = server::listen(address).map_err(listen_error)?;
    // Where any free port was asked for, it is known only now.
    let address = listener.local_addr().map_err(listen_error)?;
    let path = metrics::PATH;
    tracing::info!(metrics = %format_args!("http://{address}{path}"), "metrics are served");
    tokio::spawn(metrics::serve(listener, metrics.clone()));
    Ok(())
}

/// Answers a request. A stream of events keeps the application.
async fn answer<S: Changes, R: Reports>(
    app: NativeApp<S, R>,
    request: Request<RequestBody>,
) -> Response<Content<impl Stream<Item = Bytes>>> {
    let trace = Trace::of(request.headers());
    let response = trace.within(app.handle(request)).await;
    response.map(|reply| match reply {
        Reply::Whole(bytes) => Content::Whole(bytes),
        Reply::Events(events) => {
            Content::Stream(unfold((app, events), async |(app, mut events)| {
                let piece = app.next_events(&mut events).await?;
                Some((piece, (app, events)))
            }))
        }
    })
}

/// The application over a storage, what delivers its notifications, and what notices silence.
///
/// Nothing is spawned here, where the types are not known and so neither is whether the futures are
/// `Send`.
fn assemble<S: Changes + Clone, R: Reports>(
    config: &Config,
    settings: Settings,
    store: Metered<S>,
    reports: R,
    mail: MailSender,
    hub: Hub,
) -> Result<Assembled<S, R>, StartError> {
    let notifier = Waker::default();
    let client = WebhookClient::new(
        config.values.notification_timeout,
        config.values.allows_private_receivers(settings.mode),
        config.proxies.clone(),
        mail.postbox(),
    )?;
    let deliverer = Deliverer::new(
        store.clone(),
        notifier.clone(),
        client.clone(),
        store.metrics().clone(),
        &settings,
    );
    let listener = Listener {
        store: store.clone(),
        policy: ReportPolicy::new(&settings),
        waker: notifier.clone(),
    };
    let reports = MeteredReports {
        reports,
        metrics: store.metrics().clone(),
    };
    let ports = NativePorts {
        events: NativeEvents::new(hub, store.clone()),
        store,
        reports,
        passwords: PasswordThreads::new(),
        leisure: Threads::new("leisure", usize::MAX),
        mail,
        notifier,
        client,
    };
    Ok((Arc::new(App::new(ports, settings)), deliverer, listener))
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_change_comes_to_its_end_without_its_client() {
        let (go_on, stored) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let answering = async move {
            stored.await.unwrap();
            end.send("noted").unwrap();
        };
        let mut client = Box::pin(to_its_end(answering, true));
        assert!(poll!(&mut client).is_pending());
        drop(client);
        go_on.send(()).unwrap();
        let ended = timeout(Duration::from_secs(60), ended).await;
        assert_eq!(ended.unwrap(), Ok("noted"));
    }
}
