//! Rings to look keys up in.

use sessionring::ring::{Member, NodeId, Ring, Weight};

/// `nodes` members of weight 1, named as an operator might.
///
/// # Panics
///
/// Never: the names are valid.
pub fn members(nodes: usize) -> Vec<Member> {
    (0..nodes).map(|i| member(&format!("redis-{i}"), 1)).collect()
}

/// One member.
///
/// # Panics
///
/// If the name is not valid.
pub fn member(name: &str, weight: u32) -> Member {
    Member::new(NodeId::new(name).expect("a valid name"), Weight::new(weight))
}

/// A hashed ring of equal nodes.
///
/// # Panics
///
/// If it would have too many tokens.
pub fn hashed(nodes: usize, vnodes: u32) -> Ring {
    Ring::hashed(members(nodes), vnodes).expect("a ring of equal nodes")
}

/// A balanced ring of equal nodes.
///
/// # Panics
///
/// If there are no nodes or too many.
pub fn balanced(nodes: usize) -> Ring {
    Ring::balanced(members(nodes)).expect("a ring of equal nodes")
}
