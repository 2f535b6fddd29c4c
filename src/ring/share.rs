//! Exact fractions of the circle.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// A fraction of the circle, counted exactly: so many of the 2^64 tokens.
///
/// ```
/// use sessionring::ring::{Member, NodeId, Ring};
///
/// let a = NodeId::new("a")?;
/// let b = NodeId::new("b")?;
/// let ring = Ring::balanced([Member::from(a.clone()), Member::from(b)])?;
/// let share = ring.share(&a).expect("a is a member");
/// assert_eq!(share.tokens(), 1 << 63);
/// assert_eq!(share.as_f64(), 0.5);
/// assert_eq!(share.to_string(), "50.00%");
/// # Ok::<(), sessionring::ring::RingError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Share(u128);

impl Share {
    /// Nothing.
    pub const NONE: Share = Share(0);
    /// The whole circle, 2^64 tokens.
    pub const ALL: Share = Share(1 << 64);

    /// The share of so many tokens; at most 2^64 of them exist, and this is the caller's to see to.
    pub(super) const fn of_tokens(tokens: u128) -> Share {
        Share(tokens)
    }

    /// How many of the 2^64 tokens.
    #[must_use]
    pub const fn tokens(self) -> u128 {
        self.0
    }

    /// The fraction as a number from 0 to 1, to the precision of an `f64`.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Share::ALL.0 as f64
    }
}

impl Add for Share {
    type Output = Share;

    /// Shares of disjoint parts of the circle add up to at most [`Share::ALL`].
    fn add(self, other: Share) -> Share {
        Share(self.0 + other.0)
    }
}

impl AddAssign for Share {
    fn add_assign(&mut self, other: Share) {
        *self = *self + other;
    }
}

impl Sum for Share {
    fn sum<I: Iterator<Item = Share>>(shares: I) -> Share {
        shares.fold(Share::NONE, Add::add)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of 2^64)", self.0)
    }
}

/// In percent, with two decimals or the precision asked for: `{:.4}`.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(2);
        let percent = format!("{:.decimals$}%", self.as_f64() * 100.0);
        // Not `pad`: to a text, the precision would be the length to cut it to.
        let width = f.width().unwrap_or(0);
        write!(f, "{percent:>width$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_shown_in_percent() {
        let third = Share::of_tokens(Share::ALL.tokens() / 3);
        assert_eq!(format!("{third}"), "33.33%");
        assert_eq!(format!("{third:>10.4}|"), "  33.3333%|");
        assert_eq!(format!("{}", Share::ALL), "100.00%");
        assert_eq!([third, third, third].into_iter().sum::<Share>().as_f64(), 1.0);
    }
}
