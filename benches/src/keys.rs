//! Keys to look up.

/// How many keys a benchmark cycles through: too many for a branch predictor to learn by heart, few enough
/// for the keys themselves to stay in the first-level cache's neighbourhood.
pub const KEYS: usize = 4096;

/// The length of a key: a 16-byte tag in URL-safe text.
pub const KEY_LEN: usize = 22;

/// A small generator with a fixed seed (xorshift64*, Vigna 2016), so that every run measures the same keys.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed, which must not be 0.
    #[must_use]
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// A random key of URL-safe characters.
pub fn random_key(random: &mut Random) -> [u8; KEY_LEN] {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    [(); KEY_LEN].map(|()| ALPHABET[(random.next_u64() >> 58) as usize])
}

/// Random keys, visited round and round.
#[derive(Debug)]
pub struct Keys {
    /// Each on its own, so that no compiler can count on their length.
    keys: Vec<Box<[u8]>>,
    next: usize,
}

impl Keys {
    /// [`KEYS`] keys, always the same.
    #[must_use]
    pub fn new() -> Keys {
        let mut random = Random::new(0x5eed);
        Keys { keys: (0..KEYS).map(|_| random_key(&mut random).into()).collect(), next: 0 }
    }

    /// The next key.
    #[inline]
    pub fn next_key(&mut self) -> &[u8] {
        let at = self.next;
        self.next = (at + 1) % KEYS;
        &self.keys[at]
    }
}

impl Default for Keys {
    fn default() -> Keys {
        Keys::new()
    }
}
