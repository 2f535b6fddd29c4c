//! How a session becomes bytes, and back.

mod bincode;
mod fields;
mod json;
mod message_pack;
mod shallow;

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::fields::{join, names_fields, split};
pub use self::{bincode::Bincode, json::Json, message_pack::MessagePack};

/// The number by which a record names its codec. 0 is nobody's; 1 to 127 belong to this crate, 128 to 255 to
/// applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodecId(u8);

impl CodecId {
    /// [`Bincode`].
    pub const BINCODE: CodecId = CodecId(1);
    /// [`MessagePack`].
    pub const MESSAGE_PACK: CodecId = CodecId(2);
    /// [`Json`].
    pub const JSON: CodecId = CodecId(3);
    /// The list of a principal's sessions.
    pub(crate) const INDEX: CodecId = CodecId(4);

    /// The id with this number.
    pub const fn new(number: u8) -> CodecId {
        CodecId(number)
    }

    /// The number that stands in the record.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CodecId::BINCODE => f.write_str("bincode"),
            CodecId::MESSAGE_PACK => f.write_str("MessagePack"),
            CodecId::JSON => f.write_str("JSON"),
            CodecId(number) => write!(f, "codec {number}"),
        }
    }
}

/// A value that does not encode, or bytes that do not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

impl CodecError {
    /// An error that says this. Do not put any part of the session into it.
    pub fn new(message: impl fmt::Display) -> CodecError {
        CodecError(message.to_string())
    }
}

/// Turns sessions of type `T` into payloads and back.
///
/// A record names its codec, so a store can change to another one while old records are still read.
///
/// | codec | size | a field is added | readable | choose it |
/// |---|---|---|---|---|
/// | [`Bincode`] | smallest | breaks live sessions, unless it has a [version](super::SessionData) | no | when the type does not change |
/// | [`MessagePack`] | names included | `#[serde(default)]` | no | when the type evolves |
/// | [`Json`] | largest | `#[serde(default)]` | `redis-cli` | when people read records |
///
/// Your own codec takes a number from 128 up:
///
/// ```
/// use sessionring::record::{Codec, CodecError, CodecId};
///
/// #[derive(Debug)]
/// struct Utf8;
///
/// impl Codec<String> for Utf8 {
///     fn id(&self) -> CodecId {
///         CodecId::new(128)
///     }
///     fn encode(&self, value: &String) -> Result<Vec<u8>, CodecError> {
///         Ok(value.clone().into_bytes())
///     }
///     fn decode(&self, payload: &[u8]) -> Result<String, CodecError> {
///         String::from_utf8(payload.to_vec()).map_err(CodecError::new)
///     }
/// }
/// ```
pub trait Codec<T>: fmt::Debug + Send + Sync + 'static {
    /// The number that stands in the record.
    fn id(&self) -> CodecId;

    /// The payload for `value`.
    ///
    /// # Errors
    /// [`CodecError`] for a value that this codec cannot carry.
    fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError>;

    /// The value of `payload`, which is never longer than the store's limit. All of the payload must be used
    /// up, and memory must stay in proportion to its length.
    ///
    /// # Errors
    /// [`CodecError`] for bytes that are not an encoded `T`.
    fn decode(&self, payload: &[u8]) -> Result<T, CodecError>;
}

/// The codec of this crate with this number.
pub(crate) fn built_in<T: Serialize + DeserializeOwned + 'static>(
    id: CodecId,
) -> Option<&'static dyn Codec<T>> {
    match id {
        CodecId::BINCODE => Some(&Bincode),
        CodecId::MESSAGE_PACK => Some(&MessagePack),
        CodecId::JSON => Some(&Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Login {
        user: u64,
        cart: Vec<String>,
        admin: Option<bool>,
    }

    fn login() -> Login {
        Login { user: 300, cart: vec!["book".into(), "tea".into()], admin: None }
    }

    #[track_caller]
    fn check(codec: &dyn Codec<Login>, golden: &[u8]) {
        assert_eq!(codec.encode(&login()).unwrap(), golden);
        assert_eq!(codec.decode(golden).unwrap(), login());
        for len in 0..golden.len() {
            assert!(codec.decode(&golden[..len]).is_err(), "truncated to {len}");
        }
        let longer = [golden, b"\0"].concat();
        assert!(codec.decode(&longer).is_err(), "a byte too many");
    }

    #[test]
    fn golden_bytes() {
        check(&Bincode, b"\xfb\x2c\x01\x02\x04book\x03tea\x00");
        check(&MessagePack, b"\x83\xa4user\xcd\x01\x2c\xa4cart\x92\xa4book\xa3tea\xa5admin\xc0");
        check(&Json, br#"{"user":300,"cart":["book","tea"],"admin":null}"#);
    }

    #[test]
    fn a_field_added_in_a_deploy() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Newer {
            user: u64,
            cart: Vec<String>,
            admin: Option<bool>,
            #[serde(default)]
            theme: u8,
        }
        let newer = Newer { user: 300, cart: login().cart, admin: None, theme: 0 };
        for codec in [&MessagePack as &dyn Codec<Login>, &Json] {
            let bytes = codec.encode(&login()).unwrap();
            assert_eq!(built_in::<Newer>(codec.id()).unwrap().decode(&bytes).unwrap(), newer);
        }
        let bytes = Codec::<Login>::encode(&Bincode, &login()).unwrap();
        assert!(Codec::<Newer>::decode(&Bincode, &bytes).is_err());
    }

    #[test]
    fn the_widest_numbers_of_any_length_decode() {
        for len in [0, 1, 0xfff, 0x1000, 0x1001, 0x1_0000, 0x10_0000] {
            let numbers = vec![1u128; len];
            let bytes = Bincode.encode(&numbers).unwrap();
            assert_eq!(Codec::<Vec<u128>>::decode(&Bincode, &bytes).unwrap(), numbers);
        }
    }

    #[test]
    fn what_nests_without_end_is_refused_before_the_stack_ends() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum Tree {
            Leaf,
            Node(Box<Tree>),
        }
        #[derive(Debug, Serialize, Deserialize)]
        struct List(Option<Box<List>>);
        #[derive(Debug, Serialize, Deserialize)]
        struct Folder {
            folders: Vec<Folder>,
        }
        let tree = (0..100).fold(Tree::Leaf, |tree, _| Tree::Node(Box::new(tree)));
        for codec in [&Bincode as &dyn Codec<Tree>, &MessagePack, &Json] {
            assert_eq!(codec.decode(&codec.encode(&tree).unwrap()).unwrap(), tree);
        }
        let many = 60_000;
        assert!(Codec::<Tree>::decode(&Bincode, &vec![1; many]).is_err());
        assert!(Codec::<List>::decode(&Bincode, &vec![1; many]).is_err());
        assert!(Codec::<Folder>::decode(&Bincode, &vec![1; many]).is_err());
        assert!(Codec::<Tree>::decode(&MessagePack, &b"\x81\xa4Node".repeat(many / 6)).is_err());
        assert!(Codec::<Folder>::decode(&MessagePack, &b"\x81\xa7folders\x91".repeat(many / 10)).is_err());
        assert!(Codec::<Folder>::decode(&MessagePack, &vec![0x91; many]).is_err());
        assert!(Codec::<Tree>::decode(&Json, &b"{\"Node\":".repeat(many / 8)).is_err());
    }

    /// Bytes as types have them that ask for their own, and are content with borrowed ones.
    #[derive(Debug, PartialEq)]
    struct Own(Vec<u8>);

    impl Serialize for Own {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }

    impl<'de> Deserialize<'de> for Own {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Own, D::Error> {
            struct Visitor;
            impl serde::de::Visitor<'_> for Visitor {
                type Value = Own;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("bytes")
                }

                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Own, E> {
                    Ok(Own(bytes.to_vec()))
                }

                fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Own, E> {
                    Ok(Own(bytes))
                }
            }
            deserializer.deserialize_byte_buf(Visitor)
        }
    }

    #[test]
    fn who_asks_for_his_own_text_or_bytes_gets_them() {
        let value = ("text".to_owned(), Box::<str>::from("boxed"), Own(vec![0, 255, 7]));
        for codec in [&Bincode as &dyn Codec<(String, Box<str>, Own)>, &MessagePack] {
            let bytes = codec.encode(&value).unwrap();
            assert_eq!(codec.decode(&bytes).unwrap(), value);
        }
        assert!(Codec::<String>::decode(&Bincode, b"\x02\xff\xff").is_err(), "no UTF-8");
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        let huge = b"\xfd\xff\xff\xff\xff\xff\xff\xff\x7f";
        assert!(Codec::<Vec<u64>>::decode(&Bincode, huge).is_err());
        assert!(Codec::<String>::decode(&Bincode, huge).is_err());
        assert!(Codec::<Vec<u64>>::decode(&MessagePack, b"\xdd\xff\xff\xff\xff").is_err());
        assert!(Codec::<String>::decode(&MessagePack, b"\xdb\xff\xff\xff\xff").is_err());
    }
}
