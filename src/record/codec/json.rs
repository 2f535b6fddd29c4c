use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecError, CodecId};

/// JSON: for people who read records with `redis-cli`. Evolves like [`MessagePack`](super::MessagePack).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn id(&self) -> CodecId {
        CodecId::JSON
    }

    fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        serde_json::to_vec(value).map_err(CodecError::new)
    }

    fn decode(&self, payload: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(payload).map_err(|error| {
            // The message of a type error quotes the value; line and column say as much and leak nothing.
            CodecError::new(format_args!(
                "JSON does not fit the type at line {} column {}",
                error.line(),
                error.column()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// serde_json by itself reads one number in ten as its neighbour: a session would change with each update.
    #[test]
    fn numbers_come_back_to_the_last_bit() {
        for number in
            [0.1, 986.0870425411839, 12.252908042813537, -9.127496842110455e110, f64::MIN_POSITIVE, f64::MAX]
        {
            let bytes = Json.encode(&number).unwrap();
            assert_eq!(Codec::<f64>::decode(&Json, &bytes), Ok(number), "{number:e}");
        }
    }
}
