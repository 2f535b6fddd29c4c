//! Keys: where a node keeps a record.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::{RingSecret, SessionId};
use crate::ring::Token;

const PREFIX: usize = 6;
const DIGEST: usize = 16;
const LEN: usize = PREFIX + 8 + DIGEST;

/// The key of one record, 30 bytes of binary:
///
/// | bytes | what | why |
/// |---|---|---|
/// | 0..3 | digest of the ring's name | several rings may share a database |
/// | 3..6 | digest of ring and namespace | a namespace can be listed by prefix |
/// | 6..14 | token, big-endian | a mover selects by token without reading values |
/// | 14..30 | SHA-256 of ring, namespace and id (HMAC-SHA256 in a ring with a secret), first 16 bytes | whoever sees the key cannot make the cookie |
///
/// Two namespaces whose prefixes collide (once in 16 million pairs) still never share a session, because the
/// digest covers the names in full.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; LEN]);

impl Key {
    /// Reads a key back from the bytes a node lists.
    ///
    /// Any 30 bytes are a key of some ring; compare [`prefix`](Key::prefix) to know whether of yours.
    pub fn parse(bytes: &[u8]) -> Option<Key> {
        bytes.try_into().ok().map(Key)
    }

    /// What every key of the ring called `ring` begins with. Other rings may have the same prefix, once in 16 million
    /// pairs.
    pub fn ring_prefix(ring: &str) -> [u8; 3] {
        let digest = Sha256::new_with_prefix(b"sessionring ring\0").chain_update(ring).finalize();
        [digest[0], digest[1], digest[2]]
    }

    /// Where the session stands on the circle.
    pub fn token(&self) -> Token {
        let mut token = [0; 8];
        token.copy_from_slice(&self.0[PREFIX..PREFIX + 8]);
        Token::new(u64::from_be_bytes(token))
    }

    /// Digest of ring and namespace, the first 6 bytes.
    pub fn prefix(&self) -> &[u8] {
        &self.0[..PREFIX]
    }

    /// Token and digest: what makes this key another one than all others of its namespace.
    pub(crate) fn place(&self) -> &[u8] {
        &self.0[PREFIX..]
    }

    /// The digest of the id.
    pub(crate) fn digest(&self) -> [u8; DIGEST] {
        let mut digest = [0; DIGEST];
        digest.copy_from_slice(&self.0[PREFIX + 8..]);
        digest
    }

    /// The key of the same namespace with this [`place`](Key::place); `None` if it is none.
    pub(crate) fn beside(&self, place: &[u8]) -> Option<Key> {
        Key::parse(&[self.prefix(), place].concat())
    }

    /// The key as it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// 60 hexadecimal digits.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// One namespace of one ring: makes the keys of its ids.
///
/// ```
/// use sessionring::{SessionId, record::Keyspace};
///
/// let logins = Keyspace::new("shop", "login");
/// let id = SessionId::generate()?;
/// let key = logins.key(&id);
/// assert_eq!(key.token(), id.token());
/// assert_eq!(key.prefix(), logins.prefix());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Keyspace {
    prefix: [u8; PREFIX],
    seeded: Seeded,
}

/// A hash after one whole block that holds the names, so that an id costs one more block (two with a secret).
#[derive(Clone)]
enum Seeded {
    Plain(Sha256),
    Secret(RingSecret, Hmac<Sha256>),
}

impl Keyspace {
    /// The keyspace of `namespace` in the ring called `ring`.
    pub fn new(ring: &str, namespace: &str) -> Keyspace {
        Keyspace::with_secret(ring, namespace, None)
    }

    /// The same in a ring that has a secret: nobody makes the keys without it, and keys of two secrets never meet.
    pub fn with_secret(ring: &str, namespace: &str, secret: Option<&RingSecret>) -> Keyspace {
        Keyspace::of_names(ring, &digest_of_names(ring, namespace), secret)
    }

    pub(super) fn of_names(ring: &str, names: &[u8; 32], secret: Option<&RingSecret>) -> Keyspace {
        let mut prefix = [0; PREFIX];
        prefix[..3].copy_from_slice(&Key::ring_prefix(ring));
        prefix[3..].copy_from_slice(&names[..3]);
        let mut block = [0; 64];
        block[..32].copy_from_slice(names);
        block[32..].copy_from_slice(b"sessionring id digest, version 1");
        let seeded = match secret {
            None => Seeded::Plain(Sha256::new_with_prefix(block)),
            Some(secret) => Seeded::Secret(secret.clone(), secret.hmac().chain_update(block)),
        };
        Keyspace { prefix, seeded }
    }

    /// The key of `id`.
    pub fn key(&self, id: &SessionId) -> Key {
        let token = match &self.seeded {
            Seeded::Plain(_) => id.token(),
            Seeded::Secret(secret, _) => secret.token(id),
        };
        let digest = self.digest(u8::from(id.is_foreign()), id.as_bytes());
        let mut short = [0; DIGEST];
        short.copy_from_slice(&digest[..DIGEST]);
        self.at(token, short)
    }

    /// The key with this digest of an id that has this tag.
    pub(crate) fn under(&self, tag: [u8; 8], digest: [u8; DIGEST]) -> Key {
        self.at(Token::of(&tag), digest)
    }

    pub(super) fn at(&self, token: Token, digest: [u8; DIGEST]) -> Key {
        let mut key = [0; LEN];
        key[..PREFIX].copy_from_slice(&self.prefix);
        key[PREFIX..PREFIX + 8].copy_from_slice(&token.get().to_be_bytes());
        key[PREFIX + 8..].copy_from_slice(&digest);
        Key(key)
    }

    /// The digest of something of this form.
    pub(super) fn digest(&self, form: u8, bytes: &[u8]) -> [u8; 32] {
        match &self.seeded {
            Seeded::Plain(hash) => hash.clone().chain_update([form]).chain_update(bytes).finalize().into(),
            Seeded::Secret(_, hmac) => {
                hmac.clone().chain_update([form]).chain_update(bytes).finalize().into_bytes().into()
            }
        }
    }

    /// What every key of this namespace begins with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// The length in front keeps ("ab", "c") apart from ("a", "bc").
fn digest_of_names(ring: &str, namespace: &str) -> [u8; 32] {
    Sha256::new_with_prefix(b"sessionring namespace\0")
        .chain_update((ring.len() as u64).to_be_bytes())
        .chain_update(ring)
        .chain_update(namespace)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(key: Key) -> String {
        format!("{key:?}")
    }

    #[test]
    fn golden_keys() {
        let id = SessionId::from_bytes(std::array::from_fn(|i| i as u8 * 10));
        assert_eq!(
            hex(Keyspace::new("sessionring", "login").key(&id)),
            "Key(fa3b1344fdd85338a03218363aa2a54d6cd6c5275b7709326a5fdb0c80c3)"
        );
        let foreign = SessionId::foreign("customer-4711").unwrap();
        assert_eq!(
            hex(Keyspace::new("shop", "").key(&foreign)),
            "Key(e42cf0a743bb2cf8ff76a552ea934d2f0975aef4281acf2d3601059e5d0d)"
        );
    }

    #[test]
    fn golden_keys_of_a_ring_with_a_secret() {
        let secret = RingSecret::new(&[7; 32]).unwrap();
        let keyspace = Keyspace::with_secret("shop", "login", Some(&secret));
        let id = SessionId::from_bytes(std::array::from_fn(|i| i as u8 * 10));
        assert_eq!(
            hex(keyspace.key(&id)),
            "Key(e42cf063ad055338a03218363aa29ce3f338a942b057c724bce247ce0778)"
        );
        assert_eq!(
            hex(keyspace.key(&SessionId::foreign("customer-4711").unwrap())),
            "Key(e42cf063ad05f750caf23c965a8f04be63e31fad3a4b120d91ce99fe34fc)"
        );
    }

    #[test]
    fn keys_of_two_secrets_never_meet() {
        let id = SessionId::from_bytes([7; 24]);
        let secrets =
            [None, Some(RingSecret::new(&[1; 32]).unwrap()), Some(RingSecret::new(&[2; 32]).unwrap())];
        let keys = secrets.map(|secret| Keyspace::with_secret("r", "n", secret.as_ref()).key(&id));
        for (i, a) in keys.iter().enumerate() {
            assert_eq!(a.token(), id.token(), "a mover and a listing need no secret");
            assert_eq!(a.prefix(), Keyspace::new("r", "n").prefix());
            for b in &keys[i + 1..] {
                assert_ne!(a.as_bytes()[14..], b.as_bytes()[14..]);
            }
        }
    }

    #[test]
    fn names_are_kept_apart() {
        let id = SessionId::from_bytes([7; 24]);
        let text = SessionId::foreign(id.as_bytes()).unwrap();
        let keys = [
            Keyspace::new("ab", "c").key(&id),
            Keyspace::new("a", "bc").key(&id),
            Keyspace::new("ab", "").key(&id),
            Keyspace::new("ab", "c").key(&text),
        ];
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[i + 1..] {
                assert_ne!(a.as_bytes()[14..], b.as_bytes()[14..]);
            }
        }
    }

    #[test]
    fn parse_takes_thirty_bytes_and_nothing_else() {
        let key = Keyspace::new("r", "n").key(&SessionId::from_bytes([1; 24]));
        assert_eq!(Key::parse(key.as_bytes()), Some(key));
        assert_eq!(Key::parse(&key.as_bytes()[1..]), None);
        assert_eq!(Key::parse(&[0; 31]), None);
    }
}
