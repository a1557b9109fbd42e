//! Requests in, answers out.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use kubeagents_core::settings::{DatabaseUrl, Host, SettingError};
use kubeagents_core::{Peer, StoreError};
use kubeagents_host_wasm::{Config, ConfigError, EitherStore, Instance, StartError, log};
use kubeagents_store_postgres::{PostgresStore, schema};
use kubeagents_store_sqlite::SqliteStore;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::{http_service, variables, wasip3};
use tokio::sync::OnceCell;

use super::platform::Spin;
use super::postgres::{OpenError, PostgresConnection};
use super::sqlite::{SqliteConnection, open_sqlite};

type Store = EitherStore<SqliteStore<SqliteConnection>, PostgresStore<PostgresConnection>>;

/// State that the requests of this instance share. It holds nothing of any of them.
type Shared = Rc<OnceCell<Instance<Store, Spin>>>;

thread_local! {
    static INSTANCE: Shared = Rc::default();
}

async fn start() -> Result<Instance<Store, Spin>, StartError> {
    log::init();
    let config = Config::read(Host::Spin, async |name| match variables::get(name).await {
        Ok(value) => Ok(Some(value)),
        Err(variables::Error::Undefined(_)) => Ok(None),
        Err(error) => Err(format!("{error:?}")),
    })
    .await?;
    let store = match &config.values.database_url {
        None => {
            let store = open_sqlite()
                .await
                .map_err(|cause| config.without_storage(cause))?;
            EitherStore::First(store)
        }
        Some(DatabaseUrl::Sqlite(_)) => {
            let rule = "must be PostgreSQL's address: Spin's own SQLite has none";
            let error = SettingError::new("database_url", rule, None);
            return Err(ConfigError::from(error).into());
        }
        Some(DatabaseUrl::Postgres(url)) => {
            let connection = match PostgresConnection::open(url).await {
                Ok(connection) => connection,
                Err(OpenError::Failed(cause)) => return Err(config.without_storage(cause)),
                Err(error) => return Err(StartError::Unsuitable(error.into())),
            };
            schema::migrate(&connection)
                .await
                .map_err(|cause| config.without_storage(StoreError::unavailable(cause)))?;
            EitherStore::Second(PostgresStore::new(connection))
        }
    };
    Instance::start(config, store, Spin).await
}

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let shared = INSTANCE.with(Rc::clone);
    let answer = match shared.get_or_try_init(start).await {
        Ok(instance) => answer(instance, request, &shared).await,
        Err(error) => error.answer(request),
    };
    answer.map(Full::<Bytes>::new)
}

/// The client's address and port. Spin adds it behind what a client may have sent under this name.
const CLIENT_ADDRESS: &str = "spin-client-addr";

fn peer(request: &Request) -> Option<Peer> {
    let value = request.headers().get_all(CLIENT_ADDRESS).iter().next_back();
    let address: SocketAddr = value?.to_str().ok()?.parse().ok()?;
    Some(Peer(address.ip()))
}

async fn answer(
    instance: &Instance<Store, Spin>,
    mut request: Request,
    shared: &Shared,
) -> Response<Bytes> {
    if let Some(peer) = peer(&request) {
        request.extensions_mut().insert(peer);
    }
    let answer = instance.handle(request).await;
    if instance.may_deliver() {
        let shared = Rc::clone(shared);
        // What is spawned runs on when the answer has been handed over.
        wasip3::spawn(async move {
            if let Some(instance) = shared.get() {
                instance.deliver().await;
            }
        });
    }
    answer
}
