//! Registrations that nobody has verified go when their link has run out. They queue up, a document each,
//! and every new one looks at the first of them.

use kubeagents_core::{NewAccount, StoreError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::documents::{Change, Document, Rounds, key};
use crate::{KeyValue, KeyValueStore, micros};

/// Key of the queue.
const QUEUE: &str = "registrations";

/// How many of the first are looked at for each new one.
const LOOKS: usize = 3;

/// Which places of the queue are taken.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Queue {
    first: u64,
    next: u64,
}

/// A registration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) id: String,
    /// Key of the claim on its address.
    pub(crate) claim: String,
    /// When its link runs out.
    #[serde(with = "micros")]
    pub(crate) expires: Timestamp,
}

impl Registered {
    pub(crate) fn of(new: &NewAccount, claim: &str) -> Self {
        Self {
            id: new.id.as_str().to_owned(),
            claim: claim.to_owned(),
            expires: new.verification.expires_at,
        }
    }
}

fn place_key(place: u64) -> String {
    key("registration", &[&place.to_string()])
}

impl<K: KeyValue> KeyValueStore<K> {
    /// Queues a registration, before it is stored.
    pub(crate) async fn queue_registration(&self, new: &Registered) -> Result<(), StoreError> {
        let mut rounds = Rounds::default();
        loop {
            let place = self.registrations().await?.next;
            let taken = self.documents.create(&place_key(place), new).await?;
            // Whoever comes to a place counts it, so that none is left out whose writer has died.
            self.change_registrations(|queue| queue.next = queue.next.max(place + 1))
                .await?;
            if taken {
                return Ok(());
            }
            rounds.lost()?;
        }
    }

    /// Takes the first registrations away whose link has run out, unless somebody has verified them.
    pub(crate) async fn purge_registrations(&self, now: Timestamp) -> Result<(), StoreError> {
        for _ in 0..LOOKS {
            let Queue { first, next } = self.registrations().await?;
            if first == next {
                break;
            }
            let place = place_key(first);
            if let Some(Document { value, .. }) = self.documents.read::<Registered>(&place).await? {
                if value.expires >= now {
                    break;
                }
                if let Some(expires) = self.forget_registration(&value, now).await? {
                    self.queue_registration(&Registered { expires, ..value })
                        .await?;
                }
                self.documents.delete(&place).await?;
            }
            self.change_registrations(|queue| queue.first = queue.first.max(first + 1))
                .await?;
        }
        Ok(())
    }

    async fn registrations(&self) -> Result<Queue, StoreError> {
        let queue = self.documents.read::<Queue>(QUEUE).await?;
        Ok(queue.map(|queue| queue.value).unwrap_or_default())
    }

    async fn change_registrations(&self, change: impl Fn(&mut Queue)) -> Result<(), StoreError> {
        self.documents
            .update(QUEUE, |queue: Option<Queue>| {
                let mut queue = queue.unwrap_or_default();
                change(&mut queue);
                (Change::Write(queue), ())
            })
            .await
    }
}
