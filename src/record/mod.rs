//! What is stored: ids, keys, the envelope around every session, and the codecs inside it.
//!
//! The module is pure: bytes in, values out; time and randomness are passed in.
//!
//! - [`SessionId`]: routing tag and secret; what goes into the cookie
//! - [`Key`]: the 30 bytes under which a node keeps the record; nobody can make a cookie from it
//! - [`Record`]: the envelope, a 35-byte [`Header`] and the payload
//! - [`SessionData`]: types that change while their sessions live
//! - [`SealingKeys`]: payloads encrypted, and bound to their record
//! - [`RingSecret`]: keys that nobody makes without it
//! - [`Codec`]: how a value becomes a payload: [`Bincode`], [`MessagePack`], [`Json`] or your own
//!
//! Every layout is written down byte by byte in `docs/format.md`; golden bytes in the tests keep it so.

mod codec;
mod header;
mod id;
mod key;
mod principal;
mod schema;
mod seal;
mod secret;
mod unknown;

pub use codec::{Bincode, Codec, CodecError, CodecId, Json, MessagePack};
pub(crate) use codec::{built_in, join, names_fields, split};
pub use header::{FORMAT_VERSION, Header, Kind, Millis, Record, RecordError, Version};
pub use id::{IdError, SessionId};
pub use key::{Key, Keyspace};
pub(crate) use principal::{Entry, Index, IndexError, Principal, Principals};
pub use schema::{SessionData, Upgrades};
pub(crate) use seal::{NONCE, OVERHEAD, Unopened};
pub use seal::{SealingKeyError, SealingKeys};
pub use secret::{RingSecret, SecretLength};
pub(crate) use unknown::{Unknown, same};
