//! What moves between two rings.

use std::collections::BTreeMap;
use std::fmt;

use crate::ring::member::total_weight;
use crate::ring::{Member, NodeId, Ring, Share, Token, TokenRange};

/// The tokens whose owner differs between two rings, by name. Made by [`Ring::diff`].
///
/// It displays as a table, a line for each pair of nodes:
///
/// ```
/// use sessionring::ring::{Member, NodeId, Ring};
///
/// let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| Member::from(NodeId::new(name).expect("a valid name")));
/// let before = Ring::balanced([a.clone(), b.clone(), c.clone()])?;
/// let diff = before.diff(&before.evolve([a, b, c, d])?);
/// assert_eq!(
///     diff.to_string(),
///     "from  to   share\n\
///      a     d    8.33%\n\
///      b     d    8.33%\n\
///      c     d    8.33%\n\
///      moved     25.00%  (no placement could move less than 25.00%)\n"
/// );
/// # Ok::<(), sessionring::ring::RingError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    moves: Vec<Move>,
    flows: Vec<Flow>,
    optimal: f64,
}

/// A range of tokens that goes from one node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    range: TokenRange,
    from: NodeId,
    to: NodeId,
}

impl Move {
    /// The tokens.
    #[must_use]
    pub const fn range(&self) -> TokenRange {
        self.range
    }

    /// The owner in the old ring.
    #[must_use]
    pub const fn from(&self) -> &NodeId {
        &self.from
    }

    /// The owner in the new ring.
    #[must_use]
    pub const fn to(&self) -> &NodeId {
        &self.to
    }
}

/// How much goes from one node to another, over all ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    from: NodeId,
    to: NodeId,
    share: Share,
}

impl Flow {
    /// The owner in the old ring.
    #[must_use]
    pub const fn from(&self) -> &NodeId {
        &self.from
    }

    /// The owner in the new ring.
    #[must_use]
    pub const fn to(&self) -> &NodeId {
        &self.to
    }

    /// The exact part of the circle.
    #[must_use]
    pub const fn share(&self) -> Share {
        self.share
    }
}

impl Diff {
    /// The moving ranges in ascending order; adjacent ranges with the same two nodes are one.
    #[must_use]
    pub fn moves(&self) -> &[Move] {
        &self.moves
    }

    /// The move that `token` takes part in, or `None` if its owner stays. Binary search.
    #[must_use]
    pub fn find(&self, token: Token) -> Option<&Move> {
        let after = self.moves.partition_point(|m| m.range.start() <= token);
        self.moves[..after].last().filter(|m| m.range.contains(token))
    }

    /// How much goes from each node to each other, sorted by the two names; pairs without any are left out.
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// How much moves in all.
    #[must_use]
    pub fn moved(&self) -> Share {
        self.flows.iter().map(Flow::share).sum()
    }

    /// The least that any placement would have to move, as a fraction from 0 to 1: what the nodes together
    /// lose if each owns exactly its weight's part before and after,
    /// Σ max(0, old weight / old total − new weight / new total), a node that is not there having weight 0.
    ///
    /// A hashed ring, whose shares are random, may move a little less as well as more.
    #[must_use]
    pub fn optimal(&self) -> f64 {
        self.optimal
    }

    /// Whether nothing moves.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    pub(super) fn between(old: &Ring, new: &Ring) -> Diff {
        // Where each old member stands among the new ones: owners are compared by name, at the price of an index.
        let renamed: Vec<_> = old.members().iter().map(|member| new.index_of(member.id())).collect();
        let mut moves: Vec<Move> = Vec::new();
        let mut flows = BTreeMap::new();
        // The pair of owners of the last piece that moved, while the next piece may still continue it.
        let mut open = None;

        let (mut olds, mut news) = (old.ranges(), new.ranges());
        let (mut a, mut b) = (olds.next(), news.next());
        let mut start = Token::MIN;
        while let (Some((old_range, from)), Some((new_range, to))) = (a, b) {
            let end = old_range.end().min(new_range.end());
            if renamed[from.get()] == Some(to) {
                open = None;
            } else if let Some(piece) = TokenRange::new(start, end) {
                *flows.entry((from, to)).or_insert(Share::NONE) += piece.share();
                match moves.last_mut().filter(|_| open == Some((from, to))) {
                    Some(last) => last.range = TokenRange::new(last.range.start(), end).unwrap_or(piece),
                    None => moves.push(Move {
                        range: piece,
                        from: old.node(from).clone(),
                        to: new.node(to).clone(),
                    }),
                }
                open = Some((from, to));
            }
            if old_range.end() == end {
                a = olds.next();
            }
            if new_range.end() == end {
                b = news.next();
            }
            // Past the last token both are exhausted, and the start no longer matters.
            start = Token::new(end.get().wrapping_add(1));
        }

        let flows = flows
            .into_iter()
            .map(|((from, to), share)| Flow { from: old.node(from).clone(), to: new.node(to).clone(), share })
            .collect();
        Diff { moves, flows, optimal: optimal(old.members(), new) }
    }
}

/// See [`Diff::optimal`]. Exact up to the last division: over the common denominator the sum stays below 2^96.
fn optimal(old: &[Member], new: &Ring) -> f64 {
    let (old_total, new_total) = (u128::from(total_weight(old)), u128::from(total_weight(new.members())));
    let weight_in_new = |member: &Member| {
        new.index_of(member.id()).map_or(0, |at| u128::from(new.members()[at.get()].weight().get()))
    };
    let lost: u128 = old
        .iter()
        .map(|member| {
            let before = u128::from(member.weight().get()) * new_total;
            before.saturating_sub(weight_in_new(member) * old_total)
        })
        .sum();
    lost as f64 / (old_total * new_total) as f64
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = |name: fn(&Flow) -> &NodeId, title: &str| {
            self.flows.iter().map(|flow| name(flow).as_str().len()).fold(title.len(), usize::max)
        };
        let (from, to) = (widest(Flow::from, "from"), widest(Flow::to, "to"));
        if !self.is_empty() {
            writeln!(f, "{:from$}  {:to$}   share", "from", "to")?;
        }
        for flow in &self.flows {
            writeln!(f, "{:from$}  {:to$}  {:>6}", flow.from, flow.to, flow.share)?;
        }
        let (names, moved, least) = (from + 2 + to, self.moved(), self.optimal * 100.0);
        writeln!(f, "{:names$}  {moved:>6}  (no placement could move less than {least:.2}%)", "moved")
    }
}
