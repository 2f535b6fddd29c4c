//! The preference list: the distinct nodes clockwise from a token (Dynamo, SOSP 2007, §4.3).

use std::fmt;
use std::iter::FusedIterator;

use crate::ring::{NodeId, NodeIndex, Ring};

/// The distinct nodes clockwise from a token, the owner first. Made by [`Ring::preference`].
///
/// It ends when every node that owns anything has come. Each step looks only as far round the circle as the
/// next node that has not come yet.
#[derive(Clone)]
pub struct Preference<'a> {
    ring: &'a Ring,
    /// The owners in the order of the circle.
    owners: &'a [u16],
    /// Where in `owners` to look next.
    place: usize,
    left: usize,
    /// One bit for each member.
    seen: Vec<u64>,
}

impl<'a> Preference<'a> {
    pub(super) fn new(ring: &'a Ring, owners: &'a [u16], place: usize, owning: usize) -> Preference<'a> {
        let seen = vec![0; ring.members().len().div_ceil(64)];
        Preference { ring, owners, place, left: owning, seen }
    }

    /// Marks a member as seen; whether it was new.
    fn mark(&mut self, member: u16) -> bool {
        let (word, bit) = (&mut self.seen[usize::from(member) / 64], 1 << (member % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

impl<'a> Iterator for Preference<'a> {
    type Item = &'a NodeId;

    fn next(&mut self) -> Option<&'a NodeId> {
        if self.left == 0 {
            return None;
        }
        // Ends: `left` counts owners that are on the circle and have not been seen.
        loop {
            let member = self.owners[self.place];
            self.place = if self.place + 1 == self.owners.len() { 0 } else { self.place + 1 };
            if self.mark(member) {
                self.left -= 1;
                return Some(self.ring.node(NodeIndex::new(member)));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Preference<'_> {}
impl FusedIterator for Preference<'_> {}

impl fmt::Debug for Preference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preference").field("left", &self.left).finish_non_exhaustive()
    }
}
