//! The ring itself.

use std::fmt;
use std::sync::Arc;

use crate::ring::balanced::Balanced;
use crate::ring::hashed::Hashed;
use crate::ring::member::checked;
use crate::ring::{Diff, Fingerprint, Member, NodeId, Preference, RingError, Share, Token, TokenRange};

/// Which node owns which token. Immutable, and a clone shares it.
///
/// ```
/// use sessionring::ring::{Member, NodeId, Ring, Token};
///
/// let names = ["a", "b", "c"];
/// let members = names.map(|name| Member::from(NodeId::new(name).expect("a valid name")));
/// let ring = Ring::balanced(members)?;
///
/// let token = Token::of(b"a routing tag");
/// println!("{token} lives on {}", ring.owner(token));
/// # Ok::<(), sessionring::ring::RingError>(())
/// ```
#[derive(Clone)]
pub struct Ring {
    inner: Arc<Inner>,
}

struct Inner {
    /// Sorted by name, no name twice.
    members: Vec<Member>,
    circle: Circle,
    /// By member.
    shares: Vec<Share>,
    /// How many members own something.
    owning: usize,
    fingerprint: Fingerprint,
}

enum Circle {
    Hashed(Hashed),
    Balanced(Balanced),
}

/// How a ring decides who owns what. It is chosen when a ring is founded and kept from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// `vnodes × weight` tokens for each node, from its name. A pure function of the member list.
    Hashed {
        /// Virtual nodes per unit of weight.
        vnodes: u32,
    },
    /// 2^`arc_bits` equal arcs, dealt out by weight. Depends on the ring before it.
    Balanced {
        /// The arc of a token is the number made of this many of its top bits.
        arc_bits: u32,
    },
}

/// The position of a member in [`Ring::members`]. It is meaningful only with the ring that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(u16);

impl NodeIndex {
    pub(crate) const fn new(index: u16) -> NodeIndex {
        NodeIndex(index)
    }

    /// The position, for indexing tables of one's own with as many entries as the ring has members.
    #[inline]
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl Ring {
    /// A ring with `vnodes × weight` tokens for each node, which come from its name and nothing else.
    ///
    /// It needs no stored state: whoever has the same list of members, in any order, has the same ring. The
    /// price is balance: with 160 virtual nodes the fullest of 100 nodes owns about a fifth more than the mean.
    ///
    /// ```
    /// use sessionring::ring::{Member, NodeId, Ring};
    ///
    /// let a = Member::from(NodeId::new("a")?);
    /// let b = Member::from(NodeId::new("b")?);
    /// let ring = Ring::hashed([a.clone(), b.clone()], 160)?;
    /// assert_eq!(ring.fingerprint(), Ring::hashed([b, a], 160)?.fingerprint());
    /// # Ok::<(), sessionring::ring::RingError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RingError`] if there is no member, a name twice, only weight 0, more than 65,535 members, `vnodes`
    /// is 0, or there would be more than [`MAX_TOKENS`](crate::ring::MAX_TOKENS) tokens.
    pub fn hashed(members: impl IntoIterator<Item = Member>, vnodes: u32) -> Result<Ring, RingError> {
        let members = checked(members)?;
        let circle = Circle::Hashed(Hashed::build(&members, vnodes)?);
        Ok(Ring::assemble(members, circle))
    }

    /// A new ring of equal arcs, dealt out so that every node owns its weight's part to within one arc.
    ///
    /// There are 2^16 arcs, or 2^20 if some member's part would be less than 64 of the larger arcs. The new
    /// ring is a pure function of the list of members, in any order; a ring that follows another comes from
    /// [`Ring::evolve`], and is one that everybody has to be told ([`Ring::arc_owners`], [`Ring::from_arcs`]).
    ///
    /// # Errors
    ///
    /// [`RingError`] if there is no member, a name twice, only weight 0, more than 65,535 members, or a
    /// positive weight so small beside the others that it is worth less than one of 2^20 arcs.
    pub fn balanced(members: impl IntoIterator<Item = Member>) -> Result<Ring, RingError> {
        let members = checked(members)?;
        let circle = Circle::Balanced(Balanced::found(&members)?);
        Ok(Ring::assemble(members, circle))
    }

    /// The ring of other members that follows this one, of the same kind.
    ///
    /// A hashed ring is computed anew, which moves only what has to move. A balanced ring is changed in as few
    /// arcs as possible: none goes from one remaining node to another unless the weights ask for it. If the new
    /// members need finer arcs, all arcs are first split, which moves nothing.
    ///
    /// ```
    /// use sessionring::ring::{Member, NodeId, Ring};
    ///
    /// let [a, b, c] = ["a", "b", "c"].map(|name| Member::from(NodeId::new(name).expect("a valid name")));
    /// let before = Ring::balanced([a.clone(), b.clone()])?;
    /// let after = before.evolve([a, b, c.clone()])?;
    /// assert!(before.diff(&after).moves().iter().all(|m| m.to() == c.id()));
    /// # Ok::<(), sessionring::ring::RingError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Ring::hashed`] and [`Ring::balanced`]; this ring stays as it is.
    pub fn evolve(&self, members: impl IntoIterator<Item = Member>) -> Result<Ring, RingError> {
        let members = checked(members)?;
        let circle = match &self.inner.circle {
            Circle::Hashed(hashed) => Circle::Hashed(Hashed::build(&members, hashed.vnodes)?),
            Circle::Balanced(balanced) => Circle::Balanced(balanced.evolve(self.members(), &members)?),
        };
        Ok(Ring::assemble(members, circle))
    }

    /// The balanced ring with these arcs, as another process gave them: `owners[i]` is the position among
    /// `members` of the owner of arc i, the tokens whose top `arc_bits` bits are i.
    ///
    /// The members must be sorted by name, as [`Ring::members`] returns them, since the owners refer to their
    /// positions. That shares follow the weights is not checked: a ring may be on its way there.
    ///
    /// ```
    /// use sessionring::ring::{Member, NodeId, Placement, Ring};
    ///
    /// let [a, b] = ["a", "b"].map(|name| Member::from(NodeId::new(name).expect("a valid name")));
    /// let ring = Ring::from_arcs([a, b], 2, vec![0, 1, 1, 1])?;
    /// assert_eq!(ring.placement(), Placement::Balanced { arc_bits: 2 });
    /// assert_eq!(ring.arc_owners(), Some(&[0, 1, 1, 1][..]));
    /// # Ok::<(), sessionring::ring::RingError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RingError`] if the members are not sorted or could make no ring at all, `arc_bits` is not 1 to 20,
    /// there are not 2^`arc_bits` owners, or one of them is no member or one of weight 0.
    pub fn from_arcs(
        members: impl IntoIterator<Item = Member>,
        arc_bits: u32,
        owners: Vec<u16>,
    ) -> Result<Ring, RingError> {
        let given: Vec<Member> = members.into_iter().collect();
        if let Some(pair) = given.windows(2).find(|pair| pair[0].id() > pair[1].id()) {
            return Err(RingError::Unsorted { node: pair[1].id().clone() });
        }
        let members = checked(given)?;
        let circle = Circle::Balanced(Balanced::from_arcs(&members, arc_bits, owners)?);
        Ok(Ring::assemble(members, circle))
    }

    fn assemble(members: Vec<Member>, circle: Circle) -> Ring {
        let arcs = match &circle {
            Circle::Hashed(_) => &[][..],
            Circle::Balanced(balanced) => &balanced.owners,
        };
        let fingerprint = Fingerprint::of(circle.placement(), &members, arcs);
        let mut shares = vec![Share::NONE; members.len()];
        for (range, owner) in Ranges::of(&circle) {
            shares[owner.get()] += range.share();
        }
        let owning = shares.iter().filter(|&&share| share > Share::NONE).count();
        Ring { inner: Arc::new(Inner { members, circle, shares, owning, fingerprint }) }
    }

    /// The node that owns `token`. It does not allocate and takes a few nanoseconds.
    #[inline]
    #[must_use]
    pub fn owner(&self, token: Token) -> &NodeId {
        self.node(self.owner_index(token))
    }

    /// The position in [`Ring::members`] of the node that owns `token`.
    #[inline]
    #[must_use]
    pub fn owner_index(&self, token: Token) -> NodeIndex {
        NodeIndex(match &self.inner.circle {
            Circle::Hashed(hashed) => hashed.owner(token),
            Circle::Balanced(balanced) => balanced.owner(token),
        })
    }

    /// The distinct nodes clockwise from `token`, the owner first.
    #[must_use]
    pub fn preference(&self, token: Token) -> Preference<'_> {
        let (owners, place) = match &self.inner.circle {
            Circle::Hashed(hashed) => (&hashed.owners, hashed.place(token)),
            Circle::Balanced(balanced) => (&balanced.owners, balanced.arc(token)),
        };
        Preference::new(self, owners, place, self.inner.owning)
    }

    /// The first `n` of the distinct nodes clockwise from `token`, the owner first; fewer if fewer own
    /// anything.
    ///
    /// ```
    /// use sessionring::ring::{Member, NodeId, Ring, Token};
    ///
    /// let members = ["a", "b", "c"].map(|name| Member::from(NodeId::new(name).expect("a valid name")));
    /// let ring = Ring::hashed(members, 160)?;
    /// let token = Token::of(b"a routing tag");
    /// let nodes = ring.preference_list(token, 2);
    /// assert_eq!((nodes.len(), nodes[0]), (2, ring.owner(token)));
    /// # Ok::<(), sessionring::ring::RingError>(())
    /// ```
    #[must_use]
    pub fn preference_list(&self, token: Token, n: usize) -> Vec<&NodeId> {
        self.preference(token).take(n).collect()
    }

    /// The members, sorted by name, those of weight 0 included.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.inner.members
    }

    /// The name of the member at `index`.
    ///
    /// # Panics
    ///
    /// If `index` comes from a ring with more members than this one.
    #[inline]
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &NodeId {
        self.inner.members[index.get()].id()
    }

    /// The position of a member, or `None` if it is none.
    #[must_use]
    pub fn index_of(&self, node: &NodeId) -> Option<NodeIndex> {
        let found = self.inner.members.binary_search_by(|member| member.id().cmp(node));
        found.ok().map(|at| NodeIndex(at as u16))
    }

    /// How this ring decides who owns what.
    #[must_use]
    pub fn placement(&self) -> Placement {
        self.inner.circle.placement()
    }

    /// The owner of each arc of a balanced ring, as a position in [`Ring::members`]; `None` if it is hashed.
    ///
    /// Together with the members this is all that [`Ring::from_arcs`] needs to make the same ring elsewhere.
    #[must_use]
    pub fn arc_owners(&self) -> Option<&[u16]> {
        match &self.inner.circle {
            Circle::Hashed(_) => None,
            Circle::Balanced(balanced) => Some(&balanced.owners),
        }
    }

    /// How much of the circle each member owns, in the order of [`Ring::members`]. They add up to
    /// [`Share::ALL`].
    #[must_use]
    pub fn shares(&self) -> Shares<'_> {
        Shares { members: self.inner.members.iter(), shares: self.inner.shares.iter() }
    }

    /// How much of the circle a node owns, or `None` if it is no member.
    #[must_use]
    pub fn share(&self, node: &NodeId) -> Option<Share> {
        self.index_of(node).map(|index| self.inner.shares[index.get()])
    }

    /// The ranges between one token or arc and the next, from [`Token::MIN`] to [`Token::MAX`] without a gap,
    /// each with its owner. Neighbours may have the same owner.
    #[must_use]
    pub fn ranges(&self) -> Ranges<'_> {
        Ranges::of(&self.inner.circle)
    }

    /// What moves if this ring is followed by `next`. Takes time in proportion to the tokens or arcs of both.
    #[must_use]
    pub fn diff(&self, next: &Ring) -> Diff {
        Diff::between(self, next)
    }

    /// A digest by which two processes can tell that they hold the same ring. Computed when the ring is built.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint
    }
}

impl Circle {
    fn placement(&self) -> Placement {
        match self {
            Circle::Hashed(hashed) => Placement::Hashed { vnodes: hashed.vnodes },
            Circle::Balanced(balanced) => Placement::Balanced { arc_bits: balanced.arc_bits },
        }
    }
}

/// Two rings are equal if every token has the same owner for the same reason: same kind, members, weights and
/// arcs.
impl PartialEq for Ring {
    fn eq(&self, other: &Ring) -> bool {
        let same = |ring: &Ring| (ring.fingerprint(), ring.placement());
        Arc::ptr_eq(&self.inner, &other.inner)
            || (same(self) == same(other)
                && self.members() == other.members()
                && self.arc_owners() == other.arc_owners())
    }
}

impl Eq for Ring {}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("placement", &self.placement())
            .field("members", &self.members())
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// The members of a ring and how much each owns. Made by [`Ring::shares`].
#[derive(Clone, Debug)]
pub struct Shares<'a> {
    members: std::slice::Iter<'a, Member>,
    shares: std::slice::Iter<'a, Share>,
}

impl<'a> Iterator for Shares<'a> {
    type Item = (&'a Member, Share);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.members.next()?, *self.shares.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.members.size_hint()
    }
}

impl ExactSizeIterator for Shares<'_> {}

/// The circle in order, range by range. Made by [`Ring::ranges`].
#[derive(Clone)]
pub struct Ranges<'a> {
    circle: &'a Circle,
    place: usize,
    /// Where the next range starts; `None` once the last one has ended at [`Token::MAX`].
    start: Option<u64>,
}

impl<'a> Ranges<'a> {
    fn of(circle: &'a Circle) -> Ranges<'a> {
        Ranges { circle, place: 0, start: Some(0) }
    }
}

impl Iterator for Ranges<'_> {
    type Item = (TokenRange, NodeIndex);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.start?;
        let (end, owner) = match self.circle {
            Circle::Hashed(hashed) => match hashed.tokens.get(self.place) {
                Some(&token) => (token, hashed.owners[self.place]),
                // What lies beyond the last token belongs to the first.
                None => (u64::MAX, hashed.owners[0]),
            },
            Circle::Balanced(balanced) => {
                (start | (u64::MAX >> balanced.arc_bits), balanced.owners[self.place])
            }
        };
        self.place += 1;
        self.start = end.checked_add(1);
        let range = TokenRange::new(Token::new(start), Token::new(end))?;
        Some((range, NodeIndex(owner)))
    }
}

impl std::iter::FusedIterator for Ranges<'_> {}

impl fmt::Debug for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranges").field("start", &self.start).finish_non_exhaustive()
    }
}
