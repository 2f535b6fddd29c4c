//! The frozen hash.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Version of everything that decides who owns a token: hash, seed, token derivation, dealing of arcs.
///
/// It stands in the topology and in every [`Fingerprint`](crate::ring::Fingerprint). A change of any of them
/// moves sessions, so it would need a new version beside the old one, never a change in place.
pub const PLACEMENT_VERSION: u16 = 1;

/// The seed of every hash in this module, frozen with version 1: the ASCII bytes `sessring`, big-endian.
///
/// It is not zero, so that our tokens are independent of anything else in an application that hashes the
/// same bytes with plain xxh3.
const SEED: u64 = u64::from_be_bytes(*b"sessring");

/// xxh3-64 of `bytes` with the frozen seed.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, SEED)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Literals: whoever has to change one of these is about to move every session.
    #[test]
    fn the_hash_is_frozen() {
        assert_eq!(PLACEMENT_VERSION, 1);
        assert_eq!(SEED, 0x7365_7373_7269_6e67);
        // One length from each branch of xxh3: 0, 1..=3, 4..=8, 9..=16, 17..=128, 129..=240, longer.
        let bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
        let frozen = [
            (0, 0x2b9d_4317_5137_aea6),
            (1, 0x94bf_27a6_ef44_1d8f),
            (3, 0x22d9_1097_0265_8eb9),
            (4, 0xe896_8663_acb8_c70d),
            (8, 0x9a6a_bd64_a1af_7b2d),
            (16, 0x3803_22db_6a81_a704),
            (22, 0xe35c_9de2_567f_ce9b),
            (128, 0xbb09_b952_819a_63af),
            (240, 0x78e7_9cec_0156_bb30),
            (1024, 0x268d_7cb6_ff33_d91b),
        ];
        for (len, expected) in frozen {
            assert_eq!(hash(&bytes[..len]), expected, "{len} bytes");
        }
    }
}
