//! Golden vectors: whole rings as literals.
//!
//! They were computed from `docs/placement.md` by a second implementation. Whoever has to change one is about
//! to move sessions in every ring that runs, and needs a new placement version instead.

use crate::ring::{Member, NodeId, Ring, Token, Weight};

fn members(weights: &[(&str, u32)]) -> Vec<Member> {
    let member = |&(name, weight)| Member::new(NodeId::new(name).unwrap(), Weight::new(weight));
    weights.iter().map(member).collect()
}

fn fingerprint(ring: &Ring) -> String {
    ring.fingerprint().to_string()
}

#[test]
fn a_hashed_ring_is_frozen() {
    let ring = Ring::hashed(members(&[("a", 1), ("b", 2), ("c", 1)]), 2).unwrap();
    let tokens = [
        (0x2504_7411_af02_bdcc, "b"),
        (0x2b9e_973e_cc6b_73a2, "c"),
        (0x57fd_494f_1ce1_cb44, "c"),
        (0x5ad2_f53e_90bd_3b13, "b"),
        (0xb311_50e0_228b_f145, "b"),
        (0xbb2c_25d6_2ec7_821f, "a"),
        (0xc26e_424b_ec3b_d637, "a"),
        (0xe41f_d717_cee0_1acb, "b"),
        (u64::MAX, "b"),
    ];
    let ranges: Vec<_> =
        ring.ranges().map(|(range, owner)| (range.end().get(), ring.node(owner).as_str())).collect();
    assert_eq!(ranges, tokens);
    assert_eq!(fingerprint(&ring), "8be97771167cdc53");
}

#[test]
fn owners_of_keys_are_frozen() {
    let nodes = members(&[("a", 1), ("b", 2), ("c", 1)]);
    let owners = |ring: Ring| {
        let keys: [&[u8]; 4] = [b"", b"session", b"abcdefghijklmnopqrstuv", b"another key"];
        keys.map(|key| ring.owner(Token::of(key)).to_string()).join(" ")
    };
    assert_eq!(owners(Ring::hashed(nodes.clone(), 160).unwrap()), "c a a b");
    assert_eq!(owners(Ring::balanced(nodes).unwrap()), "b c b b");
}

#[test]
fn a_balanced_ring_and_its_successors_are_frozen() {
    let founded = Ring::balanced(members(&[("a", 1), ("b", 2), ("c", 1)])).unwrap();
    assert_eq!(
        founded.arc_owners().unwrap()[..32],
        [1, 0, 1, 1, 1, 2, 1, 2, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 2, 1, 0, 1, 2, 1, 1, 0, 0, 1, 2, 2, 1, 1]
    );
    assert_eq!(fingerprint(&founded), "9e42d1867b0cb55b");

    // One node leaves, one comes with three times the weight, and one comes to own nothing.
    let second = founded.evolve(members(&[("a", 1), ("c", 1), ("d", 3), ("e", 0)])).unwrap();
    assert_eq!(
        second.arc_owners().unwrap()[..32],
        [2, 0, 2, 2, 2, 2, 2, 1, 0, 2, 2, 0, 0, 2, 2, 0, 0, 0, 1, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2]
    );
    assert_eq!(fingerprint(&second), "5fc64457465b1dd4");

    // So uneven that the arcs are split.
    let third = second.evolve(members(&[("a", 1), ("c", 5000)])).unwrap();
    let arcs = third.arc_owners().unwrap();
    let of_a: Vec<usize> = (0..arcs.len()).filter(|&arc| arcs[arc] == 0).collect();
    assert_eq!((arcs.len(), of_a.len()), (1 << 20, 210));
    assert_eq!(of_a[..8], [1508, 2116, 13392, 15854, 17174, 19230, 37626, 39639]);
    assert_eq!(fingerprint(&third), "420def9574ee9125");
}
