//! Sorting tokens, which a hash has spread evenly.
//!
//! Radix sort from the least significant digit (Knuth, TAOCP 3, 5.2.5) of the top 33 bits: three passes, each of which moves all
//! tokens, to 2^11 places in memory at once, which is what a processor's caches still hold. By those bits nearly all random
//! tokens differ, so few are out of order then, and not far from their places. For 160,000 tokens it takes half as long as
//! `sort_unstable` of pairs.

const DIGIT: u32 = 11;
const DIGITS: u32 = 3;

/// Sorts `tokens`, and `owners` along with them; equal tokens by owner. Any numbers are sorted, but such as agree in their top
/// bits take as long as insertion takes.
pub(super) fn sort(tokens: &mut Vec<u64>, owners: &mut Vec<u16>) {
    debug_assert_eq!(tokens.len(), owners.len());
    let mut counts = [[0; 1 << DIGIT]; DIGITS as usize];
    for &token in &*tokens {
        for (place, counts) in counts.iter_mut().enumerate() {
            counts[digit(token, place)] += 1;
        }
    }
    let (mut others, mut their_owners) = (vec![0; tokens.len()], vec![0; owners.len()]);
    for (place, counts) in counts.iter_mut().enumerate() {
        let ends = counts.iter_mut().fold(0, |end, count| end + std::mem::replace(count, end));
        debug_assert_eq!(ends, tokens.len());
        for (&token, &owner) in tokens.iter().zip(&*owners) {
            let next = &mut counts[digit(token, place)];
            (others[*next], their_owners[*next]) = (token, owner);
            *next += 1;
        }
        std::mem::swap(tokens, &mut others);
        std::mem::swap(owners, &mut their_owners);
    }
    insert(tokens, owners);
}

/// The digit at `place` of those that count, the least significant first.
#[inline]
fn digit(token: u64, place: usize) -> usize {
    (token >> (64 - DIGIT * (DIGITS - place as u32))) as usize & ((1 << DIGIT) - 1)
}

/// Insertion sort.
fn insert(tokens: &mut [u64], owners: &mut [u16]) {
    for next in 1..tokens.len() {
        let mut at = next;
        while at > 0 && (tokens[at - 1], owners[at - 1]) > (tokens[at], owners[at]) {
            tokens.swap(at - 1, at);
            owners.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_sorting_pairs_gives(
            // Random ones, and such as agree in all that the digits are of.
            mut pairs in vec((prop_oneof![any::<u64>(), any::<u64>().prop_map(|n| n >> 31), 0..3_u64], 0..4_u16), 0..300),
        ) {
            let (mut tokens, mut owners): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            sort(&mut tokens, &mut owners);
            pairs.sort_unstable();
            prop_assert_eq!(tokens.into_iter().zip(owners).collect::<Vec<_>>(), pairs);
        }
    }
}
