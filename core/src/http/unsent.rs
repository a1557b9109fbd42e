//! Answers that are made and not yet sent. They share a budget: whoever asks for much and reads
//! nothing of it must not take up the memory that everybody needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;

use super::ApiError;
use super::response::Answer;

/// The most bytes of answers that an instance holds at once.
const BUDGET_BYTES: usize = 64 << 20;

/// Answers up to this size are always sent: most are, and `/ready` among them.
const SMALL_BYTES: usize = 4 << 10;

/// The bytes of all answers that are held.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsent(Arc<AtomicUsize>);

/// A body with the part of the budget that it takes up until its last piece is gone.
struct Held {
    bytes: Bytes,
    unsent: Unsent,
}

impl Unsent {
    /// The same answer, held until it is sent.
    ///
    /// # Errors
    /// [`ApiError`] where the answers of others take up all the room there is.
    pub(super) fn hold(&self, response: Response<Bytes>) -> Answer {
        let bytes = response.body().len();
        // What is shared is there in any case.
        if bytes <= SMALL_BYTES || !response.body().is_unique() {
            return Ok(response);
        }
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let response = response.map(|bytes| {
            Bytes::from_owner(Held {
                bytes,
                unsent: self.clone(),
            })
        });
        match before + bytes > BUDGET_BYTES {
            true => Err(ApiError::overloaded("too many unread answers, try again")),
            false => Ok(response),
        }
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.unsent.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Response<Bytes> {
        Response::new(Bytes::from(vec![b'x'; bytes]))
    }

    #[test]
    fn large_answers_share_a_budget_until_their_last_piece_is_sent() {
        let unsent = Unsent::default();
        let mut held: Vec<Bytes> = (0..16)
            .map(|_| unsent.hold(answer(4 << 20)).unwrap().into_body())
            .collect();
        assert!(unsent.hold(answer(SMALL_BYTES + 1)).is_err());
        assert!(unsent.hold(answer(SMALL_BYTES)).is_ok());
        let document = Bytes::from(vec![b'x'; 1 << 20]);
        assert!(unsent.hold(Response::new(document.clone())).is_ok());

        let last_piece = held.remove(0).split_off((4 << 20) - 1);
        assert!(unsent.hold(answer(SMALL_BYTES + 1)).is_err());
        drop(last_piece);
        assert_eq!(
            unsent.hold(answer(4 << 20)).unwrap().into_body().len(),
            4 << 20
        );
        drop(held);
        assert_eq!(unsent.0.load(Ordering::Relaxed), 0);
    }
}
