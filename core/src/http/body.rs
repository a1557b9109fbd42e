//! Request bodies: read whole, up to a limit.

use std::error::Error;
use std::ops::Deref;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http_body::Body;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ApiError;
use super::shares::Loan;
use crate::Limit;
use crate::json::parse;

/// The largest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// The largest body of a hook, in bytes: agents hand over what their tools put out.
const MAX_HOOK_BODY_BYTES: usize = 8 << 20;

/// The largest body of a request that needs no credentials, in bytes.
const MAX_PUBLIC_BODY_BYTES: usize = 16 << 10;

/// The most bytes of bodies that an instance holds at once, those still arriving included.
pub(super) const BUDGET_BYTES: usize = 64 << 20;

/// The part of the budget that requests without credentials may use, so that nobody can crowd out
/// clients that have some.
const PUBLIC_BUDGET_BYTES: usize = BUDGET_BYTES / 4;

/// How long a request body of which so many bytes have come may take in all, before it ends with
/// [`BodyTimeout`]: ten seconds, and one more for every 16 KiB.
pub const fn body_patience(received: u64) -> Duration {
    Duration::from_secs(10 + received / (16 << 10))
}

/// The error that a host's body ends with when the client sends it too slowly: answered 408.
#[derive(Debug, thiserror::Error)]
#[error("the request body was not received in time")]
pub struct BodyTimeout;

/// A request's standing: how large its body may be, and how much all bodies like it may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Anybody's.
    Public,
    /// A caller's whose credentials have been checked, or that needs none in open mode.
    Admitted,
    /// The same, for a coding agent's hook.
    Hook,
}

impl Standing {
    fn max_body(self) -> usize {
        match self {
            Self::Public => MAX_PUBLIC_BODY_BYTES,
            Self::Admitted => MAX_BODY_BYTES,
            Self::Hook => MAX_HOOK_BODY_BYTES,
        }
    }

    fn budget(self) -> usize {
        match self {
            Self::Public => PUBLIC_BUDGET_BYTES,
            Self::Admitted | Self::Hook => BUDGET_BYTES,
        }
    }
}

/// A whole body, with the memory that it takes up.
#[derive(Debug)]
pub(super) struct Received {
    bytes: Bytes,
    _loan: Loan,
}

impl Deref for Received {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// Reads a body to its end. Its pieces are joined as they come: a client that sends single bytes
/// costs no more than one that sends all at once.
pub(super) async fn read<B>(
    body: B,
    standing: Standing,
    mut loan: Loan,
) -> Result<Received, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let limit = standing.max_body();
    let too_large = || ApiError::too_large(limit);
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut body = pin!(body);
    let mut whole = Pieces::default();
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| read_error(error.into().as_ref()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > limit {
            return Err(too_large());
        }
        loan.grow(data.len(), standing.budget()).map_err(|_| {
            ApiError::overloaded(Limit::Bodies, "too many request bodies at once, try again")
        })?;
        whole.push(data);
    }
    Ok(Received {
        bytes: whole.join(),
        _loan: loan,
    })
}

fn read_error(error: &(dyn Error + 'static)) -> ApiError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<BodyTimeout>() {
            return ApiError::timeout();
        }
        cause = error.source();
    }
    ApiError::bad_request("request body could not be read")
}

/// What has arrived of a body. Most come in one piece, which is kept as it is.
#[derive(Default)]
struct Pieces {
    first: Bytes,
    joined: Vec<u8>,
}

impl Pieces {
    fn len(&self) -> usize {
        self.first.len().max(self.joined.len())
    }

    fn push(&mut self, piece: Bytes) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.joined.is_empty() {
            self.joined
                .extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&piece);
    }

    fn join(self) -> Bytes {
        match self.joined.is_empty() {
            true => self.first,
            false => self.joined.into(),
        }
    }
}

/// What is wrong with a body that [`parse`] refuses, as well as can be said: that it is a form, or
/// the field whose value has a wrong type.
pub(super) fn explain<T: DeserializeOwned>(
    body: &[u8],
    content_type: Option<&HeaderValue>,
    error: &serde_json::Error,
) -> String {
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next();
    // Curl calls a form whatever it is given.
    let is_meant_as_json = body.trim_ascii_start().starts_with(b"{");
    let form = media_type.filter(|media_type| {
        !is_meant_as_json
            && ["multipart/form-data", "application/x-www-form-urlencoded"].contains(media_type)
    });
    match (form, error.is_data()) {
        (Some(form), false) => format!("send JSON, not {form} ({error})"),
        (_, false) => error.to_string(),
        (_, true) => wrong_type::<T>(body).unwrap_or_else(|| error.to_string()),
    }
}

/// The field whose value alone cannot be read, and why.
fn wrong_type<T: DeserializeOwned>(body: &[u8]) -> Option<String> {
    let fields: Map<String, Value> = parse(body).ok()?;
    fields.into_iter().find_map(|(name, value)| {
        let alone = Value::Object(Map::from_iter([(name.clone(), value)]));
        let error = serde_json::from_value::<T>(alone).err()?;
        Some(format!("{name}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use futures_executor::block_on;
    use futures_util::stream;
    use http::StatusCode;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::super::shares::Shares;
    use super::*;
    use crate::Workspace;

    /// A body that arrives in pieces of these sizes.
    fn pieces(
        sizes: impl IntoIterator<Item = usize, IntoIter: Send + 'static>,
    ) -> impl Body<Data = Bytes, Error = Infallible> {
        let frames = sizes
            .into_iter()
            .map(|size| Ok(Frame::data(Bytes::from(vec![b'x'; size]))));
        StreamBody::new(stream::iter(frames))
    }

    fn read_all(
        body: impl Body<Data = Bytes, Error = Infallible>,
        standing: Standing,
        shares: &Shares,
    ) -> Result<Received, StatusCode> {
        let owner = (standing != Standing::Public).then_some(Workspace::Shared);
        block_on(read(body, standing, shares.open(owner))).map_err(|error| {
            let uri = http::Uri::from_static("/");
            error.response(&uri).status()
        })
    }

    #[test]
    fn a_body_has_the_size_that_its_standing_allows() {
        let shares = Shares::new(BUDGET_BYTES);
        for (standing, limit) in [
            (Standing::Public, 16 << 10),
            (Standing::Admitted, MAX_BODY_BYTES),
        ] {
            for sizes in [
                vec![limit],
                vec![1; limit],
                vec![limit - 1, 1],
                vec![0, limit],
            ] {
                let body = read_all(pieces(sizes), standing, &shares).unwrap();
                assert_eq!(body.len(), limit);
            }
            for sizes in [vec![limit + 1], vec![1; limit + 1], vec![limit, 1]] {
                let refused = read_all(pieces(sizes), standing, &shares).unwrap_err();
                assert_eq!(refused, StatusCode::PAYLOAD_TOO_LARGE);
            }
        }
    }

    /// A body that says that it is over. Its end would never come.
    struct Over;

    impl Body for Over {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            panic!("nobody is to wait for it");
        }

        fn is_end_stream(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_body_that_is_over_is_not_waited_for() {
        let shares = Shares::new(BUDGET_BYTES);
        let body = read_all(Over, Standing::Admitted, &shares).unwrap();
        assert!(body.is_empty());
    }

    /// A byte in a buffer of its own, that counts how many such there are.
    struct Single(Arc<AtomicUsize>);

    impl Single {
        fn new(held: &Arc<AtomicUsize>) -> Self {
            held.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(held))
        }
    }

    impl AsRef<[u8]> for Single {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    impl Drop for Single {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_comes_in_single_bytes_is_not_kept_in_pieces() {
        let shares = Shares::new(BUDGET_BYTES);
        let held = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&held);
        let frames = (0..MAX_BODY_BYTES).map(move |_| {
            assert!(count.load(Ordering::Relaxed) <= 1, "pieces are kept");
            Ok(Frame::data(Bytes::from_owner(Single::new(&count))))
        });
        let body = StreamBody::new(stream::iter(frames));
        let body = read_all(body, Standing::Admitted, &shares).unwrap();
        assert_eq!(body.len(), MAX_BODY_BYTES);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bodies_share_a_budget_and_those_without_credentials_a_part_of_it() {
        let shares = Shares::new(BUDGET_BYTES);
        let mib = |standing| read_all(pieces([MAX_BODY_BYTES]), standing, &shares);
        let public = || read_all(pieces([16 << 10]), Standing::Public, &shares);
        let mut held = Vec::new();
        for _ in 0..1024 {
            held.push(public().unwrap());
        }
        assert_eq!(public().unwrap_err(), StatusCode::SERVICE_UNAVAILABLE);
        for _ in 0..45 {
            held.push(mib(Standing::Admitted).unwrap());
        }
        let refused = mib(Standing::Admitted).unwrap_err();
        assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
        held.pop();
        held.push(mib(Standing::Admitted).unwrap());
        drop(held);
        assert!(public().is_ok());
    }
}
