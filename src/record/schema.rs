//! Session types that change while their sessions live.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    CodecError, CodecId,
    codec::{Codec, built_in},
};

/// A session type whose shape has a version, which stands in every record of it.
///
/// Types without one go on working (`ring.sessions::<T>()` writes version 0, and reads whatever fits). A version is for what
/// serde does not do by itself: fields that are renamed, split or counted otherwise. Raise it with every such change, and
/// say how a session of the older shape becomes a new one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
/// use serde::{Deserialize, Serialize};
/// use sessionring::{SessionData, Upgrades, record::MessagePack};
///
/// /// What was stored before the type had versions.
/// #[derive(Serialize, Deserialize)]
/// struct LoginV0 { user: u64 }
/// #[derive(Serialize, Deserialize)]
/// struct LoginV1 { user: u64, name: String }
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Login { user: u64, first: String, last: String }
///
/// impl SessionData for Login {
///     const VERSION: u16 = 2;
///
///     fn upgrades() -> Upgrades<Login> {
///         Upgrades::from(0, |old: LoginV0| LoginV1 { user: old.user, name: String::new() }).then(1, |old| {
///             let (first, last) = old.name.split_once(' ').unwrap_or((&old.name, ""));
///             Login { user: old.user, first: first.into(), last: last.into() }
///         })
///     }
/// }
///
/// let before = ring.sessions::<LoginV0>("login").codec(MessagePack);
/// let id = before.create(&LoginV0 { user: 7 }).await?;
/// let logins = ring.versioned_sessions::<Login>("login").codec(MessagePack);
/// assert_eq!(logins.get(&id).await?.expect("logged in").user, 7);
/// # Ok(())
/// # }
/// ```
///
/// # While a deploy is under way
///
/// Old and new programs use the same sessions for a while.
///
/// | a program meets | with [`MessagePack`](super::MessagePack), [`Json`](super::Json) | with [`Bincode`](super::Bincode), your own codecs |
/// |---|---|---|
/// | an older version | upgrades it; its next write stores the new shape | the same (your own codecs: not read) |
/// | its own version, with fields it does not know | reads it, and keeps them when it writes back | is corrupt |
/// | a newer version that has all its fields | reads it, keeps the rest when it writes back, and leaves it the newer version | `UpgradeRequired` |
/// | a newer version that lacks some | `UpgradeRequired` | `UpgradeRequired` |
///
/// *Writes back* is [`update`](crate::Sessions::update) and [`load`](crate::Sessions::load) with
/// [`save`](crate::Sessions::save). [`set`](crate::Sessions::set) has seen nothing, so it stores what the program knows, and its
/// version. `UpgradeRequired` is an error, the session stays as it is: nobody is logged out, but the old program cannot serve
/// him. So with the named codecs **add** fields in one deploy, and take the old ones away in a later one, when no old program
/// runs any more. Do not give a field another meaning under the same name: old programs would read it.
///
/// Unknown fields are kept by their names, in structs and maps inside of each other. Elements of a list have no names: a list
/// that is changed is written as the program knows its elements, one that is not stays as it was. A field that was taken out
/// of a type is unknown to it, and stays in sessions that have it until their version is an older one, or they end. A type that takes a field under another name, too
/// (`#[serde(alias)]`), writes a session that has the other name as it knows it, and keeps nothing else.
pub trait SessionData: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The version of this shape: 1 or more. 0 is what types without versions write.
    const VERSION: u16;

    /// How sessions of older versions become this one. A version that is missing here cannot be read, so drop one only
    /// when an absolute lifetime has passed since it was last written.
    fn upgrades() -> Upgrades<Self> {
        Upgrades::none()
    }
}

type Reader<T> = Arc<dyn Fn(CodecId, &[u8]) -> Result<T, CodecError> + Send + Sync>;

/// How sessions of older versions become a `T`: a chain, the oldest version first.
pub struct Upgrades<T> {
    readers: Vec<(u16, Reader<T>)>,
}

impl<T: 'static> Upgrades<T> {
    /// There is no older version.
    pub fn none() -> Upgrades<T> {
        Upgrades { readers: Vec::new() }
    }

    /// Sessions of this version are `A`s, and become a `T` so.
    pub fn from<A: Serialize + DeserializeOwned + 'static>(
        version: u16,
        upgrade: impl Fn(A) -> T + Send + Sync + 'static,
    ) -> Upgrades<T> {
        Upgrades::none().then(version, upgrade)
    }

    /// Sessions of this version are `T`s. They, and all older ones in the chain, become a `U` so.
    pub fn then<U: 'static>(
        self,
        version: u16,
        upgrade: impl Fn(T) -> U + Send + Sync + 'static,
    ) -> Upgrades<U>
    where
        T: Serialize + DeserializeOwned,
    {
        let upgrade = Arc::new(upgrade);
        let newest: Reader<T> = Arc::new(decode::<T>);
        let readers = self.readers.into_iter().chain([(version, newest)]);
        let upgraded = |(version, read): (u16, Reader<T>)| {
            let upgrade = upgrade.clone();
            let read: Reader<U> = Arc::new(move |codec, payload| read(codec, payload).map(&*upgrade));
            (version, read)
        };
        Upgrades { readers: readers.map(upgraded).collect() }
    }

    /// Reads a payload of an older version. `None`: nothing says how.
    pub(crate) fn read(&self, version: u16, codec: CodecId, payload: &[u8]) -> Option<Result<T, CodecError>> {
        let (_, read) = self.readers.iter().find(|(of, _)| *of == version)?;
        Some(read(codec, payload))
    }
}

fn decode<T: Serialize + DeserializeOwned + 'static>(id: CodecId, payload: &[u8]) -> Result<T, CodecError> {
    let codec: Option<&dyn Codec<T>> = built_in(id);
    let codec =
        codec.ok_or_else(|| CodecError::new("older versions are read with this crate's codecs only"))?;
    codec.decode(payload)
}

impl<T> Clone for Upgrades<T> {
    fn clone(&self) -> Upgrades<T> {
        Upgrades { readers: self.readers.clone() }
    }
}

impl<T> fmt::Debug for Upgrades<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.readers.iter().map(|(version, _)| version)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Bincode, Json, MessagePack};

    fn chain() -> Upgrades<String> {
        Upgrades::from(0, |n: u8| u32::from(n) + 1)
            .then(1, |n: u32| n.to_string())
            .then(4, |s: String| s + "!")
    }

    #[test]
    fn every_version_goes_the_rest_of_the_way() {
        for codec in [CodecId::BINCODE, CodecId::MESSAGE_PACK, CodecId::JSON] {
            fn bytes<T: Serialize + DeserializeOwned + 'static>(codec: CodecId, value: &T) -> Vec<u8> {
                built_in::<T>(codec).unwrap().encode(value).unwrap()
            }
            let read = |version, payload: Vec<u8>| chain().read(version, codec, &payload).unwrap().unwrap();
            assert_eq!(read(0, bytes(codec, &7_u8)), "8!");
            assert_eq!(read(1, bytes(codec, &300_u32)), "300!");
            assert_eq!(read(4, bytes(codec, &"x".to_owned())), "x!");
        }
    }

    #[test]
    fn a_version_that_is_not_in_the_chain_is_not_read() {
        assert!(chain().read(2, CodecId::JSON, b"1").is_none());
        assert!(Upgrades::<u8>::none().read(0, CodecId::JSON, b"1").is_none());
        assert_eq!(format!("{:?}", chain()), "[0, 1, 4]");
    }

    #[test]
    fn what_does_not_fit_its_version_is_an_error() {
        assert!(chain().read(0, CodecId::JSON, b"300").unwrap().is_err());
        assert!(chain().read(0, CodecId::new(128), b"1").unwrap().is_err());
        // One codec of each kind is asked for, so that none is left out above.
        let _: [&dyn Codec<u8>; 3] = [&Bincode, &MessagePack, &Json];
    }
}
