//! Bindings of the Spin interfaces, generated from `wit/`.

wasmtime::component::bindgen!({
    path: "wit",
    world: "imports",
    imports: { default: async },
    with: {
        "spin:sqlite/sqlite.connection": crate::sqlite::Connection,
        "spin:postgres/postgres.connection": crate::postgres::Connection,
    },
});
