//! Sealed payloads: encrypted, and bound to the record they stand in.

use std::fmt;

use aes_gcm_siv::{
    Aes256GcmSiv,
    aead::{AeadInOut, KeyInit},
};

use super::{Header, Key};
use crate::topology::Epoch;

/// Bytes that sealing adds to a payload: the nonce in front, the tag behind.
pub(crate) const OVERHEAD: usize = NONCE + TAG;

/// Random, so that no application has to know what another one used. Should one come twice, it says no more than whether two
/// payloads are the same, and that only in the same place with the same operation number: that is what SIV is for.
pub(crate) const NONCE: usize = 12;
const TAG: usize = 16;
const KEY: usize = 32;

/// The keys with which the sessions of an application are sealed: one that seals, and any number that only open.
///
/// A key is 32 random bytes, and has a number from 1 up that stands in every record it sealed. Numbers and keys belong
/// together for ever: a number is not given to another key before the last session of the first has ended. Keys are in no
/// `Debug` output, and overwritten in memory when they are dropped (the bytes you pass in are yours to overwrite).
///
/// Every application must be able to open what any other seals, so a key is changed in three deploys, each of them
/// finished before the next begins:
///
/// 1. everyone opens with the new key: `SealingKeys::new(1, old)?.also_open(2, new)?`
/// 2. everyone seals with it: `SealingKeys::new(2, new)?.also_open(1, old)?`; each session is sealed anew by its next write
/// 3. one absolute lifetime later nothing is sealed with the old key any more: `SealingKeys::new(2, new)?`
///
/// ```
/// use sessionring::SealingKeys;
///
/// // From where you keep secrets; not from the source text.
/// let (old, new) = ([7; 32], [8; 32]);
/// let keys = SealingKeys::new(2, &new)?.also_open(1, &old)?;
/// assert_eq!(format!("{keys:?}"), "SealingKeys { seals: 2, opens: [2, 1], accepts_unsealed: false }");
/// assert!(SealingKeys::new(0, &new).is_err(), "0 means: not sealed");
/// assert!(SealingKeys::new(1, b"too short").is_err());
/// # Ok::<(), sessionring::Error>(())
/// ```
#[derive(Clone)]
pub struct SealingKeys {
    /// The first one seals.
    keys: Vec<(u16, Aes256GcmSiv)>,
    accepts_unsealed: bool,
}

/// Bytes or a number that are no sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealingKeyError {
    /// 0 stands in records that are not sealed.
    #[error("sealing keys are numbered from 1 up: 0 stands in sessions that are not sealed")]
    Number,
    /// Neither more nor less than 32 bytes.
    #[error("a sealing key has 32 bytes, this has {0}; take 32 random bytes, not a password")]
    Length(usize),
    /// Two keys of one number.
    #[error("there are two sealing keys of number {0}; give every key a number of its own")]
    Twice(u16),
}

/// Why a payload does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// It is not sealed, and must be.
    Unsealed,
    /// It is sealed with a key that is not here.
    NoKey(u16),
    /// It is not what was sealed with this key, in this place.
    NotAuthentic(u16),
}

impl SealingKeys {
    /// Seals, and opens, with this key.
    ///
    /// # Errors
    /// [`SealingKeyError::Number`], [`SealingKeyError::Length`].
    pub fn new(number: u16, key: &[u8]) -> Result<SealingKeys, SealingKeyError> {
        SealingKeys { keys: Vec::new(), accepts_unsealed: false }.also_open(number, key)
    }

    /// Opens what this key has sealed, too.
    ///
    /// # Errors
    /// [`SealingKeyError`].
    pub fn also_open(mut self, number: u16, key: &[u8]) -> Result<SealingKeys, SealingKeyError> {
        if number == 0 {
            return Err(SealingKeyError::Number);
        }
        if self.cipher(number).is_some() {
            return Err(SealingKeyError::Twice(number));
        }
        let key: &[u8; KEY] = key.try_into().map_err(|_| SealingKeyError::Length(key.len()))?;
        self.keys.push((number, Aes256GcmSiv::new(key.into())));
        Ok(self)
    }

    /// Reads sessions that are not sealed, too: while sealing is being introduced, and no longer. As long as this is on,
    /// whoever can write to a node can put a session of his own making there, as if there were no seals.
    #[must_use]
    pub fn accept_unsealed(mut self) -> SealingKeys {
        self.accepts_unsealed = true;
        self
    }

    /// The number of the key that seals.
    pub(crate) fn number(&self) -> u16 {
        self.keys[0].0
    }

    fn cipher(&self, number: u16) -> Option<&Aes256GcmSiv> {
        self.keys.iter().find(|(n, _)| *n == number).map(|(_, cipher)| cipher)
    }

    /// The sealed payload of the record under `key` with this `header`, which must name the key that seals. The nonce
    /// is fresh random bytes.
    pub(crate) fn seal(
        &self,
        key: &Key,
        header: &Header,
        nonce: [u8; NONCE],
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let cipher = self.cipher(header.seal)?;
        let mut sealed = Vec::with_capacity(OVERHEAD + payload.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(payload);
        let tag = cipher
            .encrypt_inout_detached(&nonce.into(), &bound(key, header), (&mut sealed[NONCE..]).into())
            .ok()?;
        sealed.extend_from_slice(&tag);
        Some(sealed)
    }

    /// The payload that was sealed for the record under `key`. `None`: it is not sealed, and may be so.
    pub(crate) fn open(
        &self,
        key: &Key,
        header: &Header,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, Unopened> {
        match header.seal {
            0 if self.accepts_unsealed => return Ok(None),
            0 => return Err(Unopened::Unsealed),
            _ => {}
        }
        let cipher = self.cipher(header.seal).ok_or(Unopened::NoKey(header.seal))?;
        open(cipher, &bound(key, header), sealed).map(Some).ok_or(Unopened::NotAuthentic(header.seal))
    }
}

fn open(cipher: &Aes256GcmSiv, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
    let (payload, tag) = rest.split_last_chunk::<TAG>()?;
    let mut payload = payload.to_vec();
    cipher
        .decrypt_inout_detached(&(*nonce).into(), bound, payload.as_mut_slice().into(), &(*tag).into())
        .ok()?;
    Some(payload)
}

/// What a payload is bound to: its key, which stands for ring, namespace and id, and all of the header that the client
/// writes and that stays as it was written. Flags and stamp change when a session moves; version and deadline are the
/// node's, and not known when the payload is sealed.
fn bound(key: &Key, header: &Header) -> Vec<u8> {
    let lasting = Header { pending: false, stamp: Epoch::new(0), ..*header };
    [key.as_bytes(), &lasting.encode_client_part()].concat()
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<u16> = self.keys.iter().map(|(number, _)| *number).collect();
        f.debug_struct("SealingKeys")
            .field("seals", &self.number())
            .field("opens", &numbers)
            .field("accepts_unsealed", &self.accepts_unsealed)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{CodecId, Keyspace, Kind, SessionId};

    fn key(id: u8) -> Key {
        Keyspace::new("shop", "login").key(&SessionId::from_bytes([id; 24]))
    }

    fn keys() -> SealingKeys {
        SealingKeys::new(0x0304, &[9; 32]).unwrap()
    }

    fn header() -> Header {
        Header {
            kind: Kind::Live,
            pending: false,
            forward: false,
            codec: CodecId::JSON,
            schema: 0x0102,
            seal: 0x0304,
            stamp: Epoch::new(5),
            operation: 0x1112_1314_1516_1718,
            version: 1_700_000_000_000,
            max_deadline: 1_800_000_000_000,
        }
    }

    fn sealed() -> Vec<u8> {
        keys().seal(&key(1), &header(), [3; NONCE], br#"{"user":7}"#).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From RFC 8452, appendix C.2: what is computed is AES-256-GCM-SIV.
    #[test]
    fn the_published_vectors() {
        let (mut key, mut nonce) = ([0; 32], [0; 12]);
        (key[0], nonce[0]) = (1, 3);
        let cipher = Aes256GcmSiv::new(&key.into());
        for (text, expected) in [
            (&[][..], "07f5f4169bbf55a8400cd47ea6fd400f"),
            (&[1, 0, 0, 0, 0, 0, 0, 0], "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"),
        ] {
            let mut text = text.to_vec();
            let tag = cipher.encrypt_inout_detached(&nonce.into(), &[], text.as_mut_slice().into()).unwrap();
            assert_eq!(hex(&text) + &hex(&tag), expected);
        }
    }

    #[test]
    fn golden_bytes() {
        // Computed once more by another implementation, from what docs/format.md says.
        let golden = "03030303030303030303030306987ac25a036106a1afdff03ff5560623aedc95656fcca09807";
        assert_eq!(hex(&sealed()), golden);
        assert!(include_str!("../../docs/format.md").replace(' ', "").contains(golden));
        assert_eq!(keys().open(&key(1), &header(), &sealed()), Ok(Some(br#"{"user":7}"#.to_vec())));
    }

    #[test]
    fn what_the_node_changes_does_not_matter_and_all_else_does() {
        let moved = Header {
            pending: true,
            stamp: Epoch::new(6),
            version: 1_700_000_000_001,
            max_deadline: 1,
            ..header()
        };
        assert!(keys().open(&key(1), &moved, &sealed()).is_ok());
        let refused = Err(Unopened::NotAuthentic(0x0304));
        assert_eq!(keys().open(&key(2), &header(), &sealed()), refused, "under another session's key");
        for changed in [
            Header { kind: Kind::Tombstone, ..header() },
            Header { codec: CodecId::BINCODE, ..header() },
            Header { schema: 0x0103, ..header() },
            Header { operation: 1, ..header() },
        ] {
            assert_eq!(keys().open(&key(1), &changed, &sealed()), refused, "{changed:?}");
        }
        // A key of another number that happens to be the same bytes: the number is bound as well.
        let renumbered = keys().also_open(7, &[9; 32]).unwrap();
        let seven = Header { seal: 7, ..header() };
        assert_eq!(renumbered.open(&key(1), &seven, &sealed()), Err(Unopened::NotAuthentic(7)));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_refused() {
        let whole = sealed();
        for len in 0..whole.len() {
            assert!(keys().open(&key(1), &header(), &whole[..len]).is_err(), "cut to {len}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut wrong = whole.clone();
                wrong[at] ^= 1 << bit;
                assert!(keys().open(&key(1), &header(), &wrong).is_err(), "byte {at} bit {bit}");
            }
        }
        assert!(keys().open(&key(1), &header(), &[whole, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_seal_needs_its_key_and_no_seal_needs_leave() {
        let other = SealingKeys::new(1, &[9; 32]).unwrap();
        assert_eq!(other.open(&key(1), &header(), &sealed()), Err(Unopened::NoKey(0x0304)));
        let wrong = SealingKeys::new(0x0304, &[8; 32]).unwrap();
        assert_eq!(wrong.open(&key(1), &header(), &sealed()), Err(Unopened::NotAuthentic(0x0304)));
        let plain = Header { seal: 0, ..header() };
        assert_eq!(keys().open(&key(1), &plain, b"{}"), Err(Unopened::Unsealed));
        assert_eq!(keys().accept_unsealed().open(&key(1), &plain, b"{}"), Ok(None));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        assert_eq!(SealingKeys::new(0, &[1; 32]).unwrap_err(), SealingKeyError::Number);
        assert_eq!(SealingKeys::new(1, &[1; 31]).unwrap_err(), SealingKeyError::Length(31));
        assert_eq!(keys().also_open(0x0304, &[1; 32]).unwrap_err(), SealingKeyError::Twice(0x0304));
    }

    #[test]
    fn keys_are_overwritten_when_they_are_dropped() {
        fn overwritten<T: zeroize::ZeroizeOnDrop>() {}
        overwritten::<aes::Aes256>();
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(
            payload in prop::collection::vec(any::<u8>(), 0..600),
            nonce in any::<[u8; NONCE]>(),
            secret in any::<[u8; 32]>(),
            number in 1..=u16::MAX,
        ) {
            let keys = SealingKeys::new(number, &secret).unwrap();
            let header = Header { seal: number, ..header() };
            let sealed = keys.seal(&key(1), &header, nonce, &payload).unwrap();
            prop_assert_eq!(sealed.len(), payload.len() + OVERHEAD);
            prop_assert_eq!(keys.open(&key(1), &header, &sealed), Ok(Some(payload)));
        }
    }
}
