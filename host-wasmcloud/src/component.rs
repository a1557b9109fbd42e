//! Requests in, answers out.

mod bucket;
mod platform;
mod postgres;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use kubeagents_core::settings::{Host, Storage};
use kubeagents_host_wasm::{Config, EitherStore, Instance, StartError, log};
use kubeagents_store_keyvalue::{KeyValueError, KeyValueStore};
use kubeagents_store_postgres::PostgresStore;
use tokio::sync::OnceCell;
use wasip3::http::types::{ErrorCode, Request, Response as WasiResponse};
use wasip3::http_compat::{http_from_wasi_request, http_into_wasi_response};

use bucket::Bucket;
use platform::Wasi;
use postgres::Postgres;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "imports", generate_all });
}

struct Component;

wasip3::http::service::export!(Component);

type Store = EitherStore<KeyValueStore<Bucket>, PostgresStore<Postgres>>;

/// State that the requests of this instance share. It holds nothing of any of them.
struct Ready {
    instance: Instance<Store, Wasi>,
    /// The bucket that is worked on, if it is one.
    bucket: Option<Bucket>,
}

type Shared = Rc<OnceCell<Ready>>;

thread_local! {
    static INSTANCE: Shared = Rc::default();
}

/// Time that an answer waits for receivers of notifications where nothing can run after it.
const DELIVERY_BEFORE_ANSWER: Duration = Duration::from_secs(1);

fn environment(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error @ std::env::VarError::NotUnicode(_)) => Err(error.to_string()),
    }
}

async fn start() -> Result<Ready, StartError> {
    log::init();
    let config = Config::read(Host::Wasmcloud, async |name| environment(name)).await?;
    let (store, bucket) = match config.values.storage {
        Storage::KeyValue => {
            let bucket = Bucket::open(&config.values.bucket)
                .await
                .map_err(|cause| config.without_storage(cause))?;
            let store = KeyValueStore::new(bucket.clone());
            (EitherStore::First(store), Some(bucket))
        }
        Storage::Postgres => {
            let store = Postgres::open()
                .await
                .map_err(|cause| config.without_storage(cause))?;
            (EitherStore::Second(store), None)
        }
    };
    config.warn(&store).await;
    match Instance::start(config, store, Wasi).await {
        Ok(instance) => Ok(Ready { instance, bucket }),
        Err(_) if bucket.is_some_and(|bucket| bucket.cannot_swap()) => Err(unsuitable()),
        Err(error) => Err(error),
    }
}

fn unsuitable() -> StartError {
    StartError::Unsuitable(KeyValueError::Unsupported.into())
}

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<WasiResponse, ErrorCode> {
        let request = http_from_wasi_request(request)?;
        let shared = INSTANCE.with(Rc::clone);
        let reused = shared.initialized();
        let answer = match shared.get_or_try_init(start).await {
            Ok(ready) => {
                let (parts, body) = request.into_parts();
                let bucket = ready.bucket.as_ref();
                let head = bucket.map(|_| http::Request::from_parts(parts.clone(), ()));
                let request = http::Request::from_parts(parts, body);
                let answer = answer(&ready.instance, request, &shared, reused).await;
                match head {
                    Some(head) if bucket.is_some_and(Bucket::cannot_swap) => {
                        unsuitable().answer(head)
                    }
                    _ => answer,
                }
            }
            Err(error) => error.answer(request),
        };
        http_into_wasi_response(answer.map(Full::<Bytes>::new))
    }
}

async fn answer(
    instance: &Instance<Store, Wasi>,
    request: http::Request<wasip3::http_compat::IncomingRequestBody>,
    shared: &Shared,
    reused: bool,
) -> Response<Bytes> {
    let answer = instance.handle(request).await;
    if !instance.may_deliver() {
        return answer;
    }
    if !reused {
        // An instance that the platform makes for one request ends with the answer, so that what
        // is to happen must happen before: not for long, since the rest can wait for others.
        instance.deliver_within(DELIVERY_BEFORE_ANSWER).await;
        return answer;
    }
    let shared = Rc::clone(shared);
    // What is spawned runs on when the answer has been handed over.
    wasip3::spawn_local(async move {
        if let Some(ready) = shared.get() {
            ready.instance.deliver().await;
        }
    });
    answer
}
