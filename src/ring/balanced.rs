//! Rings of equal arcs, dealt out to the node by quota.
//!
//! A balanced ring cuts the circle into 2^bits equal arcs, each with an owner. Quotas follow the weights to
//! within one arc. A new ring is dealt as if from a ring in which no arc has an owner; an evolved one keeps
//! every arc it can.

use std::cmp::Reverse;

use crate::ring::member::{Member, total_weight};
use crate::ring::shuffle::SplitMix64;
use crate::ring::{MAX_ARC_BITS, RingError, Token};

/// How fine a ring is founded, unless that would be too coarse for its smallest member.
const COARSE_ARC_BITS: u32 = 16;

/// The smallest positive quota that the coarse division serves, in arcs. Rounding to whole arcs then changes
/// a share by less than a 64th; it takes about a thousand equal nodes to need the fine one.
const MIN_COARSE_QUOTA: u64 = 64;

/// In place of an owner: the arc belongs to nobody yet. No member has this index, see `MAX_NODES`.
const NOBODY: u16 = u16::MAX;

/// The owners of 2^arc_bits equal arcs.
pub(super) struct Balanced {
    /// 1 to `MAX_ARC_BITS`.
    pub(super) arc_bits: u32,
    /// By arc; arc i is the tokens whose top `arc_bits` bits are i.
    pub(super) owners: Vec<u16>,
}

impl Balanced {
    /// A new ring of the checked `members`.
    pub(super) fn found(members: &[Member]) -> Result<Balanced, RingError> {
        let arc_bits = arc_bits_for(members);
        let mut owners = vec![NOBODY; 1 << arc_bits];
        deal(&mut owners, members)?;
        Ok(Balanced { arc_bits, owners })
    }

    /// The ring of the checked `members` that follows this one, which is of the checked members `old`.
    pub(super) fn evolve(&self, old: &[Member], members: &[Member]) -> Result<Balanced, RingError> {
        // A ring never becomes coarser again: joining arcs of different owners would move sessions.
        let arc_bits = self.arc_bits.max(arc_bits_for(members));
        let position = |member: &Member| members.binary_search_by(|other| other.id().cmp(member.id()));
        let renamed: Vec<u16> = old.iter().map(|m| position(m).map_or(NOBODY, |at| at as u16)).collect();
        let pieces = 1 << (arc_bits - self.arc_bits);
        let split = |&owner: &u16| std::iter::repeat_n(renamed[usize::from(owner)], pieces);
        let mut owners: Vec<u16> = self.owners.iter().flat_map(split).collect();
        deal(&mut owners, members)?;
        Ok(Balanced { arc_bits, owners })
    }

    /// A ring as it was stored.
    pub(super) fn from_arcs(
        members: &[Member],
        arc_bits: u32,
        owners: Vec<u16>,
    ) -> Result<Balanced, RingError> {
        if !(1..=MAX_ARC_BITS).contains(&arc_bits) {
            return Err(RingError::ArcBits { arc_bits });
        }
        if owners.len() != 1 << arc_bits {
            return Err(RingError::ArcCount { expected: 1 << arc_bits, found: owners.len() });
        }
        let may_own = |owner: u16| members.get(usize::from(owner)).is_some_and(|m| m.weight().get() > 0);
        match owners.iter().position(|&owner| !may_own(owner)) {
            Some(arc) => Err(RingError::ArcOwner { arc, owner: owners[arc] }),
            None => Ok(Balanced { arc_bits, owners }),
        }
    }

    /// The arc that holds `token`.
    #[inline]
    pub(super) fn arc(&self, token: Token) -> usize {
        (token.get() >> (64 - self.arc_bits)) as usize
    }

    /// Who owns `token`.
    #[inline]
    pub(super) fn owner(&self, token: Token) -> u16 {
        self.owners[self.arc(token)]
    }
}

/// How finely a ring of these members is cut. A function of the members alone, so that it never matters how
/// a ring came to have them.
fn arc_bits_for(members: &[Member]) -> u32 {
    let smallest = members.iter().map(|m| u64::from(m.weight().get())).filter(|&w| w > 0).min().unwrap_or(0);
    // Weights are below 2^32, their sum below 2^48: neither product overflows.
    if smallest << COARSE_ARC_BITS < MIN_COARSE_QUOTA * total_weight(members) {
        MAX_ARC_BITS
    } else {
        COARSE_ARC_BITS
    }
}

/// Brings every member to its target, moving as few arcs as possible.
///
/// Which arcs a member gives up, and to whom each goes, follows the frozen pseudo-random order. An arc's rank
/// in that order says nothing about its place on the circle, so whatever is chosen by rank lies scattered:
/// the load of a leaving node falls on everybody, and neighbouring arcs have different owners.
fn deal(owners: &mut [u16], members: &[Member]) -> Result<(), RingError> {
    let mut held = vec![0_u32; members.len()];
    for &owner in owners.iter().filter(|&&owner| owner != NOBODY) {
        held[usize::from(owner)] += 1;
    }
    let targets = targets(members, owners.len() as u64, &held)?;

    let mut random = SplitMix64::frozen();
    let mut order: Vec<u32> = (0..owners.len() as u32).collect();
    random.shuffle(&mut order);

    let mut given_up = Vec::new();
    for arc in order {
        let owner = owners[arc as usize];
        if owner == NOBODY {
            given_up.push(arc);
        } else if held[usize::from(owner)] > targets[usize::from(owner)] {
            held[usize::from(owner)] -= 1;
            given_up.push(arc);
        }
    }

    let mut wanted = Vec::with_capacity(given_up.len());
    for (member, (&target, &held)) in targets.iter().zip(&held).enumerate() {
        wanted.extend(std::iter::repeat_n(member as u16, target.saturating_sub(held) as usize));
    }
    random.shuffle(&mut wanted);

    // The targets add up to all arcs, so there are as many takers as arcs.
    debug_assert_eq!(given_up.len(), wanted.len());
    for (arc, taker) in given_up.into_iter().zip(wanted) {
        owners[arc as usize] = taker;
    }
    Ok(())
}

/// How many of `arcs` arcs each member shall have, given how many it has.
///
/// The exact quota of a member is `arcs × weight / total`. Everybody gets at least its floor, and the arcs
/// left over go, one each, to members whose quota is not whole: first to those who already hold more than
/// their floor, since each of them then keeps an arc that would have to move otherwise and nobody else can
/// save one; then by largest remainder (Hamilton's method); then by name. With nothing held this is
/// Hamilton's method alone.
fn targets(members: &[Member], arcs: u64, held: &[u32]) -> Result<Vec<u32>, RingError> {
    let total = total_weight(members);
    let mut left = arcs;
    let mut targets = Vec::with_capacity(members.len());
    let mut candidates = Vec::new();
    for (at, member) in members.iter().enumerate() {
        // 2^20 × 2^32 at most.
        let scaled = arcs * u64::from(member.weight().get());
        let (floor, remainder) = (scaled / total, scaled % total);
        // Judged by the floor, so that it never depends on who happens to hold what.
        if floor == 0 && remainder > 0 {
            return Err(RingError::TooUneven { node: member.id().clone() });
        }
        if remainder > 0 {
            let keeps = u64::from(held[at]) > floor;
            candidates.push((Reverse(keeps), Reverse(remainder), at));
        }
        left -= floor;
        targets.push(floor as u32);
    }
    // Remainders are fractions that add up to `left`, so there are more candidates than arcs left over.
    candidates.sort_unstable();
    for (_, _, at) in candidates.into_iter().take(left as usize) {
        targets[at] += 1;
    }
    Ok(targets)
}
