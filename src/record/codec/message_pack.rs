use rmp_serde::decode::Error;
use serde::{Serialize, de::DeserializeOwned};

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
        let mut rest = payload;
        let Shallow(value) = rmp_serde::from_read(&mut rest).map_err(|error| match error {
            // A message of the type's own may quote the value.
            Error::Syntax(_) | Error::Uncategorized(_) => {
                CodecError::new("MessagePack does not fit the type")
            }
            error => CodecError::new(error),
        })?;
        if !rest.is_empty() {
            return Err(CodecError::new(format_args!("{} bytes are left over", rest.len())));
        }
        Ok(value)
    }
}
