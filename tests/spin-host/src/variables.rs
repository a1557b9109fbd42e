//! `spin:variables`.

use wasmtime::component::Accessor;

use crate::bindings::spin::variables::variables::{Error, Host, HostWithStore};
use crate::state::{Imports, State};

impl Host for State {}

impl<T: Send> HostWithStore<T> for Imports {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> Result<String, Error> {
        let application = accessor.with(|mut access| access.get().application.clone());
        application
            .variables
            .get(&name)
            .cloned()
            .ok_or(Error::Undefined(name))
    }
}
