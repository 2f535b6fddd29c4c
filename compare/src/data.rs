//! The sessions that everybody stores: the same ids and the same bytes on both sides.

use std::ops::Range;

use sessionring::SessionId;
use sessionring_benches::keys::{Random, random_key};

/// At most so many sessions of a size, and at most so many bytes of them.
const SESSIONS: usize = 20_000;
const BYTES: usize = 32 << 20;

/// Sessions of one size.
#[derive(Debug)]
pub(crate) struct Data {
    /// Bytes of each value.
    pub(crate) size: usize,
    pub(crate) ids: Vec<SessionId>,
    /// The same ids as text, for those who use it as the key.
    pub(crate) keys: Vec<String>,
    /// Text, since that costs every client the same to decode: none of them has bytes as its cheapest type.
    pub(crate) values: Vec<String>,
}

impl Data {
    /// Always the same for a size.
    pub(crate) fn new(size: usize) -> Data {
        let mut random = Random::new(0x5e55 + size as u64);
        let count = SESSIONS.min(BYTES / size).max(1);
        let ids: Vec<SessionId> = (0..count)
            .map(|_| {
                let mut bytes = [0; 24];
                bytes
                    .chunks_exact_mut(8)
                    .for_each(|chunk| chunk.copy_from_slice(&random.next_u64().to_ne_bytes()));
                SessionId::from_bytes(bytes)
            })
            .collect();
        let keys = ids.iter().map(SessionId::expose).collect();
        let values = (0..count).map(|_| text(&mut random, size)).collect();
        Data { size, ids, keys, values }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// `many` neighbours, beginning near `i`.
    pub(crate) fn neighbours(&self, i: usize, many: usize) -> Range<usize> {
        let many = many.min(self.len());
        let first = i.min(self.len() - many);
        first..first + many
    }
}

/// `size` random URL-safe characters.
fn text(random: &mut Random, size: usize) -> String {
    let mut text = Vec::with_capacity(size + 22);
    while text.len() < size {
        text.extend(random_key(random));
    }
    text.truncate(size);
    text.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_bounds() {
        let data = Data::new(300);
        assert_eq!((data.len(), data.values[7].len(), data.keys[7].len()), (SESSIONS, 300, 32));
        assert_ne!(data.values[0], data.values[1]);
        assert_eq!(data.neighbours(SESSIONS - 1, 100), SESSIONS - 100..SESSIONS);
        assert_eq!(Data::new(64 << 10).len(), 512);
        assert_eq!(Data::new(300).values[9], data.values[9]);
    }
}
