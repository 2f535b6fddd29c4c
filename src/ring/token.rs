//! Positions on the circle.

use std::fmt;

use crate::ring::Share;
use crate::ring::hash::hash;

/// A position on the circle of 2^64 hashes.
///
/// A key has one (its hash), and so has each virtual node. The owner of a token is the node at the first
/// virtual node at or after it, wrapping at 2^64.
///
/// ```
/// use sessionring::ring::Token;
///
/// let token = Token::of(b"a routing tag");
/// assert_eq!(token, Token::of(b"a routing tag"));
/// assert_eq!(format!("{:?}", Token::new(0xab)), "Token(00000000000000ab)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The first position on the circle.
    pub const MIN: Token = Token(0);
    /// The last position on the circle; the next one clockwise is [`Token::MIN`].
    pub const MAX: Token = Token(u64::MAX);

    /// The position with this number.
    #[inline]
    #[must_use]
    pub const fn new(position: u64) -> Token {
        Token(position)
    }

    /// The token of a key: xxh3-64 with the frozen seed of this [placement version](crate::ring::PLACEMENT_VERSION).
    #[inline]
    #[must_use]
    pub fn of(bytes: &[u8]) -> Token {
        Token(hash(bytes))
    }

    /// The number of this position, 0 to 2^64 − 1.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Consecutive tokens, both ends included.
///
/// A range never wraps: an arc that crosses 2^64 is two ranges, so whoever selects keys by token needs one
/// comparison with each end and no special case.
///
/// ```
/// use sessionring::ring::{Token, TokenRange};
///
/// let range = TokenRange::new(Token::new(5), Token::new(9)).expect("5 is not after 9");
/// assert!(range.contains(Token::new(9)) && !range.contains(Token::new(10)));
/// assert_eq!(range.share().tokens(), 5);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenRange {
    start: Token,
    end: Token,
}

impl TokenRange {
    /// The range from `start` to `end`, both included; `None` if `start` is after `end`.
    #[must_use]
    pub fn new(start: Token, end: Token) -> Option<TokenRange> {
        (start <= end).then_some(TokenRange { start, end })
    }

    /// The first token of the range.
    #[must_use]
    pub const fn start(&self) -> Token {
        self.start
    }

    /// The last token of the range.
    #[must_use]
    pub const fn end(&self) -> Token {
        self.end
    }

    /// Whether `token` lies in the range.
    #[must_use]
    pub fn contains(&self, token: Token) -> bool {
        self.start <= token && token <= self.end
    }

    /// How much of the circle the range covers.
    #[must_use]
    pub fn share(&self) -> Share {
        Share::of_tokens(u128::from(self.end.0 - self.start.0) + 1)
    }
}

impl fmt::Debug for TokenRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenRange({self})")
    }
}

/// Both ends in hexadecimal: `0000000000000005..=0000000000000009`.
impl fmt::Display for TokenRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_keys_are_frozen() {
        assert_eq!(Token::of(b""), Token::new(0x2b9d_4317_5137_aea6));
        assert_eq!(Token::of(b"session"), Token::new(0x1124_2398_0644_4855));
        assert_eq!(Token::of(b"abcdefghijklmnopqrstuv"), Token::new(0x3c91_ded9_fa48_e61f));
    }

    #[test]
    fn a_range_has_both_its_ends() {
        assert_eq!(TokenRange::new(Token::new(2), Token::new(1)), None);
        let one = TokenRange::new(Token::MAX, Token::MAX).unwrap();
        assert_eq!(one.share().tokens(), 1);
        let all = TokenRange::new(Token::MIN, Token::MAX).unwrap();
        assert_eq!(all.share(), Share::ALL);
        assert_eq!(format!("{one}"), "ffffffffffffffff..=ffffffffffffffff");
    }
}
