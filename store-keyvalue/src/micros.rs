//! Instants in documents: microseconds since 1970, the resolution of what is stored.

use kubeagents_core::Timestamp;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<S: Serializer>(
    instant: &Timestamp,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(instant.timestamp_micros())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Timestamp, D::Error> {
    let micros = i64::deserialize(deserializer)?;
    Timestamp::from_timestamp_micros(micros).ok_or_else(|| D::Error::custom("no such instant"))
}

pub(crate) mod option {
    use super::{Deserialize, Deserializer, Error, Serializer, Timestamp};

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(crate) fn serialize<S: Serializer>(
        instant: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match instant {
            Some(instant) => super::serialize(instant, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::<i64>::deserialize(deserializer)?
            .map(|micros| {
                Timestamp::from_timestamp_micros(micros)
                    .ok_or_else(|| D::Error::custom("no such instant"))
            })
            .transpose()
    }
}
