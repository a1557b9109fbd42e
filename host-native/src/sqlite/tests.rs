use kubeagents_core::store_suite;
use tempfile::TempDir;

use super::{NativeStore, open};

fn run(name: &str, case: impl AsyncFnOnce(&NativeStore, &str)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let directory = TempDir::new().unwrap();
        let store = open(&directory.path().join("kubeagents.db")).await.unwrap();
        case(&store, name).await;
    });
}

store_suite!(run);
