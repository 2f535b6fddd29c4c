//! The sessions of one principal: the tag that they share, and the list of them.

use sha2::{Digest, Sha256};

use super::{Key, Keyspace, Millis, RingSecret};
use crate::ring::Token;

/// What the ids of a principal's sessions begin with, and what his entries bear.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Principal {
    /// Routing tag: all his sessions and the list of them are of one token.
    pub(crate) tag: [u8; 8],
    /// Tells him from others whose tags are the same.
    pub(crate) digest: [u8; 16],
}

/// The principals of one namespace. Their lists stand in a namespace of their own, so that whoever lists sessions does not
/// meet them.
#[derive(Clone)]
pub(crate) struct Principals(Keyspace);

impl Principals {
    pub(crate) fn new(ring: &str, namespace: &str, secret: Option<&RingSecret>) -> Principals {
        let names = Sha256::new_with_prefix(b"sessionring principals\0")
            .chain_update((ring.len() as u64).to_be_bytes())
            .chain_update(ring)
            .chain_update(namespace)
            .finalize();
        Principals(Keyspace::of_names(ring, &names.into(), secret))
    }

    pub(crate) fn of(&self, principal: &[u8]) -> Principal {
        let bytes = self.0.digest(3, principal);
        let (mut tag, mut digest) = ([0; 8], [0; 16]);
        tag.copy_from_slice(&bytes[..8]);
        digest.copy_from_slice(&bytes[8..24]);
        Principal { tag, digest }
    }

    /// Where the list stands of those who have this tag. It follows from the tag alone, so that it is found from an id.
    pub(crate) fn index(&self, tag: [u8; 8]) -> Key {
        let digest = self.0.digest(2, &tag);
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        self.0.at(Token::of(&tag), short)
    }
}

/// One session in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The digest in its key.
    pub(crate) place: [u8; 16],
    /// Whose it is.
    pub(crate) principal: [u8; 16],
    /// The log-in that it came from: rotations keep it.
    pub(crate) login: u64,
    /// The session is gone by then at the latest.
    pub(crate) deadline: Millis,
    /// When the entry was made.
    pub(crate) added: Millis,
    /// When the log-in was.
    pub(crate) begun: Millis,
}

/// Every session of the principals of one tag, and maybe some that are none: an entry comes before its session, and goes
/// after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) entries: Vec<Entry>,
}

/// Bytes that are no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexError {
    Newer(u8),
    Corrupt,
}

const VERSION: u8 = 1;
const ENTRY: usize = 58;

impl Index {
    /// So many entries a list may have: it is read and written whole, and stays below 60 kB.
    pub(crate) const MOST: usize = 1024;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + ENTRY * self.entries.len());
        bytes.push(VERSION);
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.place);
            bytes.extend_from_slice(&entry.principal);
            bytes.extend_from_slice(&entry.login.to_be_bytes());
            for time in [entry.deadline, entry.added, entry.begun] {
                bytes.extend_from_slice(&time.to_be_bytes()[2..]);
            }
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Index, IndexError> {
        let (&version, entries) = bytes.split_first().ok_or(IndexError::Corrupt)?;
        match version {
            0 => return Err(IndexError::Corrupt),
            VERSION => {}
            newer => return Err(IndexError::Newer(newer)),
        }
        let (entries, []) = entries.as_chunks::<ENTRY>() else { return Err(IndexError::Corrupt) };
        if entries.len() > Index::MOST {
            return Err(IndexError::Corrupt);
        }
        Ok(Index { entries: entries.iter().map(decode_entry).collect() })
    }

    /// When the last of its sessions is gone.
    pub(crate) fn deadline(&self) -> Millis {
        self.entries.iter().map(|entry| entry.deadline).max().unwrap_or(0)
    }
}

fn decode_entry(bytes: &[u8; ENTRY]) -> Entry {
    let number = |from: usize, to: usize| bytes[from..to].iter().fold(0, |n, &b| n << 8 | u64::from(b));
    let digest = |from: usize| std::array::from_fn(|i| bytes[from + i]);
    Entry {
        place: digest(0),
        principal: digest(16),
        login: number(32, 40),
        deadline: number(40, 46),
        added: number(46, 52),
        begun: number(52, 58),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(n: u8) -> Entry {
        Entry {
            place: [n; 16],
            principal: [n + 1; 16],
            login: 0x0102_0304_0506_0708,
            deadline: 1_700_028_800_000,
            added: 1_700_000_060_000,
            begun: 1_700_000_000_000,
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The example of docs/format.md.
    #[test]
    fn golden_bytes() {
        let index = Index { entries: vec![entry(0x11)] };
        let bytes = index.encode();
        let expected = "0111111111111111111111111111111111121212121212121212121212121212120102030405060708018bd19cdc00\
                        018bcfe65260018bcfe56800";
        assert_eq!(hex(&bytes), expected);
        assert_eq!(Index::decode(&bytes), Ok(index));
        assert_eq!(Index::decode(&[1]), Ok(Index::default()));
        let format: String = include_str!("../../docs/format.md").split_whitespace().collect();
        assert!(format.contains(expected));
        for secret in [None, Some(RingSecret::new(&[7; 32]).unwrap())] {
            let principals = Principals::new("shop", "login", secret.as_ref());
            let ada = principals.of(b"ada");
            let made = [hex(&ada.tag), hex(&ada.digest), hex(principals.index(ada.tag).as_bytes())];
            for made in made {
                assert!(format.contains(&made), "{made}");
            }
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert_eq!(Index::decode(&[]), Err(IndexError::Corrupt));
        assert_eq!(Index::decode(&[0]), Err(IndexError::Corrupt));
        assert_eq!(Index::decode(&[2]), Err(IndexError::Newer(2)));
        let whole = Index { entries: vec![entry(1), entry(2)] }.encode();
        for len in (1..whole.len()).filter(|len| ![1, 1 + ENTRY].contains(len)) {
            assert_eq!(Index::decode(&whole[..len]), Err(IndexError::Corrupt), "{len}");
        }
        let many = |n| Index { entries: vec![entry(1); n] }.encode();
        assert!(Index::decode(&many(Index::MOST)).is_ok());
        assert_eq!(Index::decode(&many(Index::MOST + 1)), Err(IndexError::Corrupt));
    }

    #[test]
    fn lists_are_of_their_own_namespace_and_on_the_node_of_the_sessions() {
        let (logins, carts) = (Principals::new("r", "login", None), Principals::new("r", "cart", None));
        let ada = logins.of(b"ada");
        assert_eq!(logins.index(ada.tag).token(), Token::of(&ada.tag));
        assert_ne!(logins.index(ada.tag).prefix(), Keyspace::new("r", "login").prefix());
        assert!(carts.of(b"ada") != ada && logins.of(b"eve") != ada);
        assert_ne!(carts.index(ada.tag), logins.index(ada.tag));
        let secret = RingSecret::new(&[7; 32]).unwrap();
        assert!(Principals::new("r", "login", Some(&secret)).of(b"ada") != ada);
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), version in 0..3_u8) {
            for bytes in [bytes.clone(), [&[version][..], &bytes[..bytes.len() / ENTRY * ENTRY]].concat()] {
                if let Ok(index) = Index::decode(&bytes) {
                    prop_assert_eq!(index.encode(), bytes);
                }
            }
        }
    }
}
