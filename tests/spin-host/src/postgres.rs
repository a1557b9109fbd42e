//! `spin:postgres`: a connection of its own for each `open`, values as tokio-postgres binds them.

use std::error::Error as StdError;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls};
use wasmtime::component::{Accessor, FutureReader, Resource, StreamReader};

use crate::bindings::spin::postgres::postgres::{
    Column, DbDataType, DbError, DbValue, Error, Host, HostConnection, HostConnectionWithStore,
    ParameterValue, QueryError,
};
use crate::state::{Application, Imports, State};
use crate::stream::Results;

/// An open connection.
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct Connection(Arc<Client>);

type Rows = (
    Vec<Column>,
    StreamReader<Vec<DbValue>>,
    FutureReader<Result<(), Error>>,
);

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
        address: String,
    ) -> Result<Resource<Connection>, Error> {
        let application = accessor.with(|mut access| access.get().application.clone());
        let client = connect(&application, &address).await?;
        accessor
            .with(|mut access| access.get().table.push(Connection(Arc::new(client))))
            .map_err(|error| Error::Other(error.to_string()))
    }

    async fn query_async(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<ParameterValue>,
    ) -> Result<Rows, Error> {
        let client = accessor.with(|mut access| {
            let state = access.get();
            state.application.count_statement();
            state
                .table
                .get(&connection)
                .map(|connection| connection.0.clone())
        });
        let client = client.map_err(|error| Error::Other(error.to_string()))?;
        let parameters = parameters
            .iter()
            .map(parameter)
            .collect::<Result<Vec<_>, _>>()?;
        let prepared = client.prepare(&statement).await.map_err(failed)?;
        let types = prepared.columns().iter().map(|column| Column {
            name: column.name().to_owned(),
            data_type: data_type(column.type_()),
        });
        let columns = types.collect();
        let mut results = client
            .query_raw(&prepared, parameters)
            .await
            .map_err(failed)?
            .boxed();
        let (rows_to, rows) = mpsc::channel(4);
        let (end_to, end) = oneshot::channel();
        tokio::spawn(async move {
            let ended = async {
                while let Some(row) = results.try_next().await.map_err(failed)? {
                    let row = (0..row.len()).map(|column| value(&row, column));
                    let row = row.collect::<Result<_, _>>()?;
                    rows_to
                        .send(row)
                        .await
                        .map_err(|error| Error::Other(error.to_string()))?;
                }
                Ok(())
            };
            let ended = ended.await;
            drop(rows_to);
            // Whoever awaited the end may have gone.
            let _ = end_to.send(ended);
        });
        let (rows, end) = Results { rows, end }.hand_over(accessor, Error::Other)?;
        Ok((columns, rows, end))
    }
}

async fn connect(application: &Application, address: &str) -> Result<Client, Error> {
    let refused = |error: String| Error::ConnectionFailed(error);
    let config: tokio_postgres::Config = address
        .parse()
        .map_err(|error: tokio_postgres::Error| refused(error.to_string()))?;
    for (index, host) in config.get_hosts().iter().enumerate() {
        let tokio_postgres::config::Host::Tcp(host) = host else {
            return Err(refused("not a TCP address".to_owned()));
        };
        let port = config
            .get_ports()
            .get(index)
            .or(config.get_ports().first())
            .copied();
        if !application.allows("postgres", host, port) {
            return Err(refused(format!("address {host} is not permitted")));
        }
    }
    let (client, connection) = config
        .connect(NoTls)
        .await
        .map_err(|error| refused(format!("{error:?}")))?;
    tokio::spawn(connection);
    Ok(client)
}

fn failed(error: tokio_postgres::Error) -> Error {
    let text = format!("{error:?}");
    Error::QueryFailed(match error.as_db_error() {
        None => QueryError::Text(text),
        Some(error) => QueryError::DbError(DbError {
            as_text: text,
            severity: error.severity().to_owned(),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            extras: Vec::new(),
        }),
    })
}

/// NULL of whatever type the statement has there.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(
        &self,
        _: &Type,
        _: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn parameter(value: &ParameterValue) -> Result<Box<dyn ToSql + Sync + Send>, Error> {
    Ok(match value {
        ParameterValue::Boolean(value) => Box::new(*value),
        ParameterValue::Int64(value) => Box::new(*value),
        ParameterValue::Str(value) => Box::new(value.clone()),
        ParameterValue::ArrayInt64(values) => Box::new(values.clone()),
        ParameterValue::ArrayStr(values) => Box::new(values.clone()),
        ParameterValue::DbNull => Box::new(Null),
        other => {
            return Err(Error::BadParameter(format!(
                "not implemented here: {other:?}"
            )));
        }
    })
}

fn data_type(kind: &Type) -> DbDataType {
    match *kind {
        Type::BOOL => DbDataType::Boolean,
        Type::INT8 => DbDataType::Int64,
        Type::TEXT => DbDataType::Str,
        _ => DbDataType::Other(kind.name().to_owned()),
    }
}

fn value(row: &tokio_postgres::Row, column: usize) -> Result<DbValue, Error> {
    let kind = row.columns()[column].type_();
    let value = match *kind {
        Type::BOOL => row
            .try_get::<_, Option<bool>>(column)
            .map(|v| v.map(DbValue::Boolean)),
        Type::INT8 => row
            .try_get::<_, Option<i64>>(column)
            .map(|v| v.map(DbValue::Int64)),
        Type::TEXT => row
            .try_get::<_, Option<String>>(column)
            .map(|v| v.map(DbValue::Str)),
        _ => {
            return Err(Error::ValueConversionFailed(format!(
                "not implemented here: {kind}"
            )));
        }
    };
    value
        .map(|value| value.unwrap_or(DbValue::DbNull))
        .map_err(failed)
}
