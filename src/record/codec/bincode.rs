use bincode::{
    config::{self, Config},
    error::DecodeError,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecError, CodecId, shallow::Shallow};

/// bincode 2.0.1, standard configuration: little-endian, variable-length integers. The default: fastest and
/// smallest, but positional, so that a type which gains or loses a field no longer reads its live sessions.
///
/// It carries at most 16 MiB, reads at most 256 levels of values in each other, and cannot **read back** a type that asks
/// what comes next (`serde_json::Value`, enums that are `untagged` or have a `tag`), nor one that leaves fields out
/// (`skip_serializing_if`). It does not bound how many elements there are that take no bytes at all: damaged bytes of a
/// `Vec<()>` can cost time, and memory if an element has some. The other two codecs are for these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bincode;

const MOST_BYTES: usize = 16 << 20;

/// Most sessions have no more bytes.
const ROOM: usize = 512;

impl<T: Serialize + DeserializeOwned> Codec<T> for Bincode {
    fn id(&self) -> CodecId {
        CodecId::BINCODE
    }

    fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        // bincode would begin with nothing, and move what it has with each field that is too much.
        let mut payload = Vec::with_capacity(ROOM);
        bincode::serde::encode_into_std_write(value, &mut payload, config::standard())
            .map_err(CodecError::new)?;
        if payload.len() > MOST_BYTES { Err(too_long(payload.len())) } else { Ok(payload) }
    }

    fn decode(&self, payload: &[u8]) -> Result<T, CodecError> {
        // Without a limit bincode allocates whatever length the bytes claim. The limit counts a number at its full
        // size (16 bytes at most) even where one byte holds it, and is a constant: so the next of a few.
        let config = config::standard();
        match payload.len() {
            0..=0x1000 => decode(payload, config.with_limit::<{ 16 * 0x1000 }>()),
            0x1001..=0x1_0000 => decode(payload, config.with_limit::<{ 16 * 0x1_0000 }>()),
            0x1_0001..=0x10_0000 => decode(payload, config.with_limit::<{ 16 * 0x10_0000 }>()),
            0x10_0001..=MOST_BYTES => decode(payload, config.with_limit::<{ 16 * MOST_BYTES }>()),
            more => Err(too_long(more)),
        }
    }
}

fn decode<T: DeserializeOwned>(payload: &[u8], config: impl Config) -> Result<T, CodecError> {
    let (Shallow(value), used) =
        bincode::serde::decode_from_slice(payload, config).map_err(|error| match error {
            // A message of the type's own may quote the value.
            DecodeError::OtherString(_) => CodecError::new("bincode does not fit the type"),
            error => CodecError::new(error),
        })?;
    if used != payload.len() {
        return Err(CodecError::new(format_args!("{} bytes are left over", payload.len() - used)));
    }
    Ok(value)
}

fn too_long(bytes: usize) -> CodecError {
    CodecError::new(format_args!("bincode sessions have at most {MOST_BYTES} bytes, this has {bytes}"))
}
