//! `spin:sqlite`: each `open` is a connection of its own to one file, as under Spin.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::types::{Value as SqlValue, ValueRef};
use tokio::sync::{mpsc, oneshot};
use wasmtime::component::{Accessor, FutureReader, Resource, StreamReader};

use crate::bindings::spin::sqlite::sqlite::{
    Error, Host, HostConnection, HostConnectionWithStore, RowResult, Value,
};
use crate::state::{Imports, State};
use crate::stream::Results;

/// An open database.
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct Connection(Arc<Mutex<rusqlite::Connection>>);

type Rows = (
    Vec<String>,
    StreamReader<RowResult>,
    FutureReader<Result<(), Error>>,
);

/// Opens a connection with the settings that Spin's have.
pub(crate) fn open(file: &Path) -> rusqlite::Result<rusqlite::Connection> {
    rusqlite::Connection::open(file)
}

fn io_error(error: impl ToString) -> Error {
    Error::Io(error.to_string())
}

impl Host for State {}

impl HostConnection for State {
    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl<T: Send> HostConnectionWithStore<T> for Imports {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        database: String,
    ) -> Result<Resource<Connection>, Error> {
        let application = accessor.with(|mut access| access.get().application.clone());
        if !application.sqlite_databases.contains(&database) {
            return Err(Error::AccessDenied);
        }
        let connection = open(&application.sqlite_file).map_err(io_error)?;
        let connection = Connection(Arc::new(Mutex::new(connection)));
        accessor
            .with(|mut access| access.get().table.push(connection))
            .map_err(io_error)
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<Rows, Error> {
        let connection = accessor.with(|mut access| {
            let state = access.get();
            state.application.count_statement();
            state
                .table
                .get(&connection)
                .map(|connection| connection.0.clone())
        });
        let connection = connection.map_err(|_| Error::InvalidConnection)?;
        let (columns_to, columns) = oneshot::channel();
        let (rows_to, rows) = mpsc::channel(4);
        let (end_to, end) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let ended = run(&connection, &statement, parameters, columns_to, &rows_to);
            drop(rows_to);
            // Whoever awaited the end may have gone.
            let _ = end_to.send(ended);
        });
        // A statement that cannot be prepared has no columns; its end tells why.
        let columns = columns.await.unwrap_or_default();
        let (rows, end) = Results { rows, end }.hand_over(accessor, Error::Io)?;
        Ok((columns, rows, end))
    }
}

fn run(
    connection: &Mutex<rusqlite::Connection>,
    statement: &str,
    parameters: Vec<Value>,
    columns: oneshot::Sender<Vec<String>>,
    rows: &mpsc::Sender<RowResult>,
) -> Result<(), Error> {
    let connection = connection.lock().map_err(io_error)?;
    let mut statement = connection.prepare_cached(statement).map_err(io_error)?;
    let names: Vec<_> = statement
        .column_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let width = names.len();
    columns
        .send(names)
        .map_err(|_| io_error("the caller has gone"))?;
    let parameters = parameters.into_iter().map(|value| match value {
        Value::Integer(value) => SqlValue::Integer(value),
        Value::Real(value) => SqlValue::Real(value),
        Value::Text(value) => SqlValue::Text(value),
        Value::Blob(value) => SqlValue::Blob(value),
        Value::Null => SqlValue::Null,
    });
    let mut results = statement
        .query(rusqlite::params_from_iter(parameters))
        .map_err(io_error)?;
    while let Some(row) = results.next().map_err(io_error)? {
        let values = (0..width)
            .map(|column| row.get_ref(column).map_err(io_error).and_then(value))
            .collect::<Result<_, _>>()?;
        rows.blocking_send(RowResult { values }).map_err(io_error)?;
    }
    Ok(())
}

fn value(value: ValueRef<'_>) -> Result<Value, Error> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(text) => Value::Text(String::from_utf8(text.to_vec()).map_err(io_error)?),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}
