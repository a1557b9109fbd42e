//! Requests in, answers out.

use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use kubeagents_core::settings::Host;
use kubeagents_host_wasm::{Config, Instance, StartError, log};
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::{http_service, variables, wasip3};
use tokio::sync::OnceCell;

use super::platform::Spin;
use super::store::AnyStore;

type Ready = Instance<AnyStore, Spin>;

thread_local! {
    /// What the requests that this instance serves share. It holds nothing of any of them.
    static INSTANCE: Rc<OnceCell<Ready>> = Rc::default();
}

async fn start() -> Result<Ready, StartError> {
    log::init();
    let config = Config::read(Host::Spin, async |name| match variables::get(name).await {
        Ok(value) => Ok(Some(value)),
        Err(variables::Error::Undefined(_)) => Ok(None),
        Err(error) => Err(format!("{error:?}")),
    })
    .await?;
    let store = AnyStore::open(config.values.database_url.as_ref())
        .await
        .map_err(|cause| config.without_storage(cause))?;
    Instance::start(config, store, Spin).await
}

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    let shared = INSTANCE.with(Rc::clone);
    let answer = match shared.get_or_try_init(start).await {
        Ok(instance) => {
            let answer = instance.handle(request).await;
            if instance.may_deliver() {
                deliver_after_answer(Rc::clone(&shared));
            }
            answer
        }
        Err(error) => error.answer(request),
    };
    answer.map(Full::<Bytes>::new)
}

/// What is spawned runs on when the answer has been handed over.
fn deliver_after_answer(shared: Rc<OnceCell<Ready>>) {
    wasip3::spawn(async move {
        if let Some(instance) = shared.get() {
            instance.deliver().await;
        }
    });
}
