use std::fmt;

use rmp_serde::{Deserializer, decode::Error};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, Deserializer as _, Visitor},
};

use super::{Codec, CodecError, CodecId, shallow::Shallow};

/// MessagePack with field names: for types that evolve. A field may be added (with `#[serde(default)]`),
/// removed or moved while sessions live on. It reads at most 256 levels of values in each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessagePack;

impl<T: Serialize + DeserializeOwned> Codec<T> for MessagePack {
    fn id(&self) -> CodecId {
        CodecId::MESSAGE_PACK
    }

    fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        rmp_serde::to_vec_named(value).map_err(CodecError::new)
    }

    fn decode(&self, payload: &[u8]) -> Result<T, CodecError> {
        // From a slice, so that strings are copied once.
        let mut reader = Deserializer::from_read_ref(payload);
        let Shallow(value) = Shallow::deserialize(&mut reader).map_err(|error| match error {
            // A message of the type's own may quote the value.
            Error::Syntax(_) | Error::Uncategorized(_) => {
                CodecError::new("MessagePack does not fit the type")
            }
            error => CodecError::new(error),
        })?;
        // At the end nothing begins; what begins before it is refused by `Nothing` without a look at the rest.
        if !matches!(reader.deserialize_any(Nothing), Err(Error::InvalidMarkerRead(_))) {
            return Err(CodecError::new("bytes are left over"));
        }
        Ok(value)
    }
}

/// Fits no value.
struct Nothing;

impl Visitor<'_> for Nothing {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end")
    }
}
