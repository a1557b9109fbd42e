//! Rows on their way to the component.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, Destination, FutureReader, Lift, Lower, StreamProducer, StreamReader, StreamResult,
};

use crate::state::Imports;

/// Rows that are still being read, and how reading them ends.
pub(crate) struct Results<R, E> {
    pub(crate) rows: mpsc::Receiver<R>,
    pub(crate) end: oneshot::Receiver<Result<(), E>>,
}

/// [`Results`] as the component gets them.
type Handed<R, E> = (StreamReader<R>, FutureReader<Result<(), E>>);

impl<R, E> Results<R, E>
where
    R: Lower + Lift + Send + Sync + 'static,
    E: Lower + Lift + Send + Sync + 'static,
{
    /// Hands them to the component. `failure` makes an error of a text.
    pub(crate) fn hand_over<T: Send>(
        self,
        accessor: &Accessor<T, Imports>,
        failure: fn(String) -> E,
    ) -> Result<Handed<R, E>, E> {
        let end = async move {
            let ended = self.end.await;
            wasmtime::error::Ok(ended.unwrap_or_else(|error| Err(failure(error.to_string()))))
        };
        accessor
            .with(|mut access| {
                let rows = StreamReader::new(&mut access, Received(self.rows))?;
                Ok((rows, FutureReader::new(&mut access, end)?))
            })
            .map_err(|error: wasmtime::Error| failure(error.to_string()))
    }
}

/// Elements that a channel receives, one at a time, as Spin hands over rows.
struct Received<T>(mpsc::Receiver<T>);

impl<D, T: Send + Sync + 'static> StreamProducer<D> for Received<T> {
    type Item = T;
    type Buffer = Option<T>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match self.0.poll_recv(context) {
            Poll::Ready(Some(element)) => {
                destination.set_buffer(Some(element));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(None) => Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => Poll::Pending,
        }
    }
}
