//! Answers that are made and not yet sent. They share a budget: whoever asks for much and reads
//! nothing of it must not take up the memory that everybody needs.

use bytes::Bytes;
use http::Response;

use super::ApiError;
use super::response::Answer;
use super::shares::Loan;
use crate::Limit;

/// The most bytes of answers that an instance holds at once.
pub(super) const BUDGET_BYTES: usize = 64 << 20;

/// Answers up to this size are always sent: most are, and `/ready` among them.
const SMALL_BYTES: usize = 4 << 10;

/// A body with the memory that it takes up until its last piece is gone.
struct Held {
    bytes: Bytes,
    _loan: Loan,
}

/// The same answer, held until it is sent.
///
/// # Errors
/// [`ApiError`] where other answers take up all the room there is.
pub(super) fn hold(mut loan: Loan, response: Response<Bytes>) -> Answer {
    let bytes = response.body().len();
    // What is shared is there in any case.
    if bytes <= SMALL_BYTES || !response.body().is_unique() {
        return Ok(response);
    }
    loan.grow(bytes, BUDGET_BYTES)
        .map_err(|_| ApiError::overloaded(Limit::Answers, "too many unread answers, try again"))?;
    Ok(response.map(|bytes| Bytes::from_owner(Held { bytes, _loan: loan })))
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::shares::Shares;
    use super::*;
    use crate::Workspace;

    fn answer(bytes: usize) -> Response<Bytes> {
        Response::new(Bytes::from(vec![b'x'; bytes]))
    }

    #[test]
    fn large_answers_share_a_budget_until_their_last_piece_is_sent() {
        let shares = Shares::new(BUDGET_BYTES);
        let hold = |response| hold(shares.open(Some(Workspace::Shared)), response);
        let mut held: Vec<Bytes> = (0..15)
            .map(|_| hold(answer(4 << 20)).unwrap().into_body())
            .collect();
        assert!(hold(answer(SMALL_BYTES + 1)).is_err());
        assert!(hold(answer(SMALL_BYTES)).is_ok());
        let document = Bytes::from(vec![b'x'; 1 << 20]);
        assert!(hold(Response::new(document.clone())).is_ok());

        let last_piece = held.remove(0).split_off((4 << 20) - 1);
        assert!(hold(answer(SMALL_BYTES + 1)).is_err());
        drop(last_piece);
        assert_eq!(hold(answer(4 << 20)).unwrap().into_body().len(), 4 << 20);
    }
}
