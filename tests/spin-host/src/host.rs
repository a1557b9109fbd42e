//! Runs the application as `spin up` does: HTTP in front, instances of the component behind.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, cli::OutputFile};
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_http::handler::{
    ErrorCode, HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, ViewFn,
    WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p3::WasiHttpView;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::bindings;
use crate::manifest::{AllowedHost, Manifest};
use crate::outbound::Outbound;
use crate::state::{Application, Imports, State};

/// Time that an instance is kept without requests: Spin's default.
const IDLE: Duration = Duration::from_secs(1);

/// Policy for the reuse of instances.
#[derive(Debug, Clone, Copy)]
pub struct Reuse {
    /// Number of requests that an instance serves before it is thrown away.
    pub requests: usize,
    /// Number of requests that it serves at once.
    pub concurrent: usize,
}

impl Reuse {
    /// Default of Spin 4.1.
    pub const SPIN: Self = Self {
        requests: 128,
        concurrent: 16,
    };
    /// A fresh instance for every request.
    pub const NONE: Self = Self {
        requests: 1,
        concurrent: 1,
    };
}

/// Options for running the application.
#[derive(Debug, Clone)]
pub struct Options {
    /// Values for variables, by their names in the manifest.
    pub variables: BTreeMap<String, String>,
    /// Directory of the SQLite database and the log. The caller's to create and to delete.
    pub directory: PathBuf,
    /// Policies for instances: each instance gets the next one, in turn.
    pub reuse: Vec<Reuse>,
}

impl Options {
    /// Spin's defaults.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            variables: BTreeMap::new(),
            directory: directory.into(),
            reuse: vec![Reuse::SPIN],
        }
    }

    /// Sets a variable.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// The file that the component's standard error goes to.
    pub fn log(&self) -> PathBuf {
        self.directory.join("stderr.log")
    }
}

/// A component, compiled to machine code, which takes seconds and is done once for many hosts.
#[derive(Clone)]
pub struct Compiled {
    component: Component,
}

impl Compiled {
    /// Compiles a component.
    ///
    /// # Errors
    /// When the file is missing or is no component.
    pub fn new(file: &Path) -> Result<Self> {
        let mut config = Config::new();
        config.wasm_component_model_async(true);
        let component = Component::from_file(&Engine::new(&config)?, file)?;
        Ok(Self { component })
    }

    /// The interfaces that it imports, with their versions.
    pub fn imports(&self) -> Vec<String> {
        let component = self.component.component_type();
        component
            .imports(self.component.engine())
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    /// The interfaces that it exports, with their versions.
    pub fn exports(&self) -> Vec<String> {
        let component = self.component.component_type();
        component
            .exports(self.component.engine())
            .map(|(name, _)| name.to_owned())
            .collect()
    }
}

/// A running application. It ends with the runtime that it was started on; to be dropped first, so
/// that what the end cuts off is not taken for a failure.
pub struct SpinHost {
    address: SocketAddr,
    application: Arc<Application>,
    instances: Arc<AtomicU64>,
}

impl SpinHost {
    /// Starts the application on a free port of the loopback address.
    ///
    /// # Errors
    /// When the manifest cannot be resolved, the component imports what there is not, or the
    /// directory cannot be written to.
    pub async fn start(
        manifest: &Manifest,
        compiled: &Compiled,
        options: &Options,
    ) -> Result<Self> {
        let component = manifest.component()?;
        let resolve = |template: &String| manifest.resolve(template, &options.variables);
        let allowed_hosts = component.allowed_outbound_hosts.iter();
        let variables = component.variables.iter();
        let application = Arc::new(Application {
            variables: variables
                .map(|(name, template)| Ok((name.clone(), resolve(template)?)))
                .collect::<Result<_>>()?,
            allowed_hosts: allowed_hosts
                .map(|template| AllowedHost::parse(&resolve(template)?))
                .collect::<Result<_>>()?,
            sqlite_databases: component.sqlite_databases.clone(),
            sqlite_file: options.directory.join("sqlite_db.db"),
            statements: AtomicU64::new(0),
            ending: AtomicBool::new(false),
        });
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(options.log())?;
        let instances = Arc::new(AtomicU64::new(0));
        let handler = ProxyHandler::new(Instances {
            pre: link(&compiled.component)?,
            application: application.clone(),
            log,
            reuse: options.reuse.clone(),
            started: instances.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(serve(listener, handler));
        Ok(Self {
            address,
            application,
            instances,
        })
    }

    /// The base URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of SQL statements that the component has run.
    pub fn statements(&self) -> u64 {
        self.application.statements.load(Ordering::Relaxed)
    }

    /// Returns the number of instances of the component so far.
    pub fn instances(&self) -> u64 {
        self.instances.load(Ordering::Relaxed)
    }
}

impl Drop for SpinHost {
    fn drop(&mut self) {
        self.application.ending.store(true, Ordering::Relaxed);
    }
}

fn link(component: &Component) -> Result<Arc<ProxyPre<State>>> {
    let mut linker = Linker::<State>::new(component.engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    bindings::spin::sqlite::sqlite::add_to_linker::<_, Imports>(&mut linker, |state| state)?;
    bindings::spin::postgres::postgres::add_to_linker::<_, Imports>(&mut linker, |state| state)?;
    bindings::spin::variables::variables::add_to_linker::<_, Imports>(&mut linker, |state| state)?;
    let pre = ServicePre::new(linker.instantiate_pre(component)?)?;
    Ok(Arc::new(ProxyPre::P3(pre)))
}

async fn serve(listener: TcpListener, handler: ProxyHandler<Instances>) {
    while let Ok((stream, peer)) = listener.accept().await {
        let handler = handler.clone();
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request| answer(handler.clone(), peer, request));
            // A client may go at any time.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, wasmtime::Error>;

async fn answer(
    handler: ProxyHandler<Instances>,
    peer: SocketAddr,
    mut request: http::Request<Incoming>,
) -> Result<http::Response<Body>> {
    let host = request
        .headers()
        .get(http::header::HOST)
        .context("a request without Host")?;
    let path = request
        .uri()
        .path_and_query()
        .context("a request without a path")?;
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(host.as_bytes())
        .path_and_query(path.clone())
        .build()?;
    *request.uri_mut() = uri;
    // As Spin does: after what a client may have sent under this name.
    let headers = request.headers_mut();
    headers.append("spin-client-addr", peer.to_string().parse()?);
    let request = request.map(|body| {
        body.map_err(|_| ErrorCode::P3(bindings_error("the request broke off")))
            .boxed_unsync()
    });
    match handler.handle((), request).await {
        Ok(response) => Ok(response),
        Err(error) => {
            eprintln!("the component failed: {error:?}");
            let mut response = http::Response::new(
                Full::new(Bytes::new())
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            );
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            Ok(response)
        }
    }
}

fn bindings_error(text: &str) -> wasmtime_wasi_http::p3::bindings::http::types::ErrorCode {
    wasmtime_wasi_http::p3::bindings::http::types::ErrorCode::InternalError(Some(text.to_owned()))
}

/// Makes instances.
struct Instances {
    pre: Arc<ProxyPre<State>>,
    application: Arc<Application>,
    log: File,
    reuse: Vec<Reuse>,
    started: Arc<AtomicU64>,
}

impl HandlerState for Instances {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Policy;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Policy>> {
        let started = self.started.fetch_add(1, Ordering::Relaxed);
        let log = OutputFile::new(self.log.try_clone()?);
        let state = State {
            application: self.application.clone(),
            table: wasmtime::component::ResourceTable::new(),
            wasi: WasiCtx::builder().stderr(log.clone()).stdout(log).build(),
            http: WasiHttpCtx::new(),
            outbound: Outbound(self.application.clone()),
        };
        let engine = match &*self.pre {
            ProxyPre::P3(pre) => pre.engine().clone(),
        };
        let mut store = Store::new(&engine, state);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            view: ViewFn::P3(State::http),
            expiration: Expiration(Box::pin(tokio::time::sleep(IDLE))),
            state: Policy(self.reuse[started as usize % self.reuse.len()]),
        })
    }
}

/// Ends an instance that has been idle for long. A request may take any time, as under Spin.
struct Expiration(Pin<Box<tokio::time::Sleep>>);

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        if status != WorkerStatus::Idle {
            return Poll::Pending;
        }
        self.0.as_mut().reset((start + IDLE).into());
        self.0.as_mut().poll(context)
    }
}

/// An instance's policy.
struct Policy(Reuse);

impl WorkerState for Policy {
    type StoreData = State;
    type RequestId = ();

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.0.requests {
            ShouldAccept::Never
        } else if concurrent >= self.0.concurrent {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        (): (),
        _: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<State>, result: Result<(), wasmtime::Error>) {
        let application = &store.data().application;
        if let Err(error) = result
            && !application.ending.load(Ordering::Relaxed)
        {
            eprintln!("an instance failed: {error:?}");
        }
    }
}
