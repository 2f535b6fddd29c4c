use bincode::{
    config::{self, Configuration},
    error::DecodeError,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecError, CodecId};

/// bincode 2.0.1, standard configuration: little-endian, variable-length integers. The default: fastest and
/// smallest, but positional, so that a type which gains or loses a field no longer reads its live sessions.
///
/// It carries no type that describes itself (such as `serde_json::Value`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bincode;

const CONFIGURATION: Configuration = config::standard();

impl<T: Serialize + DeserializeOwned> Codec<T> for Bincode {
    fn id(&self) -> CodecId {
        CodecId::BINCODE
    }

    fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        bincode::serde::encode_to_vec(value, CONFIGURATION).map_err(CodecError::new)
    }

    fn decode(&self, payload: &[u8]) -> Result<T, CodecError> {
        let (value, used) =
            bincode::serde::decode_from_slice(payload, CONFIGURATION).map_err(|error| match error {
                // A message of the type's own may quote the value.
                DecodeError::OtherString(_) => CodecError::new("bincode does not fit the type"),
                error => CodecError::new(error),
            })?;
        if used != payload.len() {
            return Err(CodecError::new(format_args!("{} bytes are left over", payload.len() - used)));
        }
        Ok(value)
    }
}
