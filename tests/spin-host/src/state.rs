//! What one instance of the component has.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_http::p3::{WasiHttpCtxView, WasiHttpView};

use crate::manifest::AllowedHost;
use crate::outbound::Outbound;

/// State that the instances of one running application share.
pub(crate) struct Application {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) allowed_hosts: Vec<AllowedHost>,
    pub(crate) sqlite_databases: Vec<String>,
    pub(crate) sqlite_file: PathBuf,
    pub(crate) statements: AtomicU64,
    pub(crate) ending: AtomicBool,
}

impl Application {
    pub(crate) fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.allowed_hosts
            .iter()
            .any(|allowed| allowed.allows(scheme, host, port))
    }

    pub(crate) fn count_statement(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }
}

/// An instance's data.
pub(crate) struct State {
    pub(crate) application: Arc<Application>,
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outbound: Outbound,
}

/// The Spin interfaces, implemented on [`State`].
pub(crate) struct Imports;

impl HasData for Imports {
    type Data<'a> = &'a mut State;
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outbound,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
