//! The topology document over arbitrary histories of changes, from the public surface alone.
//!
//! Every step is judged token by token, by the slow and obvious way, at tokens on both sides of every boundary of
//! hashed rings and in many arcs of balanced ones.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};
use sessionring::{
    Epoch,
    ring::{Member, NodeId, NodeIndex, Placement, Ring, Share, Token, Weight},
    topology::{
        Change, ChangeError, Cost, Document, DocumentError, DocumentMember, Edit, Fence, PROTOCOL_VERSION,
        Policy, Source, Tenure,
    },
};

// ---- making documents

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn member(name: &str, weight: u32) -> DocumentMember {
    DocumentMember {
        id: id(name),
        weight: Weight::new(weight),
        address: format!("redis://{name}.internal:6379"),
        incarnation: Token::of(name.as_bytes()).get(),
        process: 0,
        leaving: false,
        rejoined: false,
    }
}

fn add(name: &str, weight: u32) -> Edit {
    let DocumentMember { id, weight, address, incarnation, process, .. } = member(name, weight);
    Edit::Add { id, weight, address, incarnation, process }
}

fn remove(name: &str) -> Edit {
    Edit::Remove { id: id(name) }
}

fn reweight(name: &str, weight: u32) -> Edit {
    Edit::Reweight { id: id(name), weight: Weight::new(weight) }
}

fn forget(name: &str) -> Change {
    Change::Forget { node: id(name) }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Hashed(u32),
    Balanced,
}

fn found(kind: Kind, members: Vec<DocumentMember>) -> Document {
    let in_ring = members.iter().map(|m| Member::new(m.id.clone(), m.weight));
    let ring = match kind {
        Kind::Hashed(vnodes) => Ring::hashed(in_ring, vnodes),
        Kind::Balanced => Ring::balanced(in_ring),
    };
    Document::found("shop", Epoch::FIRST, Policy::Trust, ring.unwrap(), members).unwrap()
}

fn equal(kind: Kind, names: &[&str]) -> Document {
    found(kind, names.iter().map(|name| member(name, 1)).collect())
}

fn next(document: &Document, change: Change) -> Document {
    document.next(&change).unwrap_or_else(|error| panic!("{change:?}: {error}"))
}

// ---- by name, so that documents can be compared

#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    owner: String,
    since: u64,
    source: Option<(String, u64)>,
}

fn named(document: &Document, tenure: Tenure) -> Named {
    let name = |index: NodeIndex| document.members()[index.get()].id.to_string();
    Named {
        owner: name(tenure.owner),
        since: tenure.since.get(),
        source: tenure.source.map(|source| (name(source.node), source.since.get())),
    }
}

fn at(document: &Document, token: Token) -> Named {
    named(document, document.tenure(token))
}

/// Tokens to look at: in a hashed ring around all the ends, in a balanced one in the middle of some arcs.
fn probes(documents: &[&Document]) -> Vec<Token> {
    let mut tokens = vec![0, 1, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1];
    for document in documents {
        match document.ring().placement() {
            Placement::Hashed { .. } => {
                let ends = document.ring().ranges().map(|(range, _)| range.end().get());
                tokens.extend(ends.flat_map(|end| [end.wrapping_sub(1), end, end.wrapping_add(1)]));
            }
            _ => tokens.extend((0..512_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        }
    }
    tokens.sort_unstable();
    tokens.dedup();
    tokens.into_iter().map(Token::new).collect()
}

// ---- golden bytes

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Ring `shop`; `a` and the leaving `b` in four arcs at epoch 5: the second moves from `b` to `a`.
const BALANCED: &str = "
    01 01 00 02 0001 00000002 7cbb800c3fdc53bc 0000000000000005
    0002
    01 61 00000001 00 1111111111111111 0000000000000000 0009 72656469733a2f2f61
    01 62 00000003 01 2222222222222222 0000000000000007 0009 72656469733a2f2f62
    00000002 00000001
    0000 000000000001
    0000 000000000003
    0000 000000000005 0001 000000000002
    00 02 01 01";

/// Ring `shop`, `a` and `b` with one virtual node each, under `Strict`, as founded.
const HASHED: &str = "
    01 01 01 01 0001 00000001 7cbb800c3fdc53bc 0000000000000001
    0002
    01 61 00000001 00 1111111111111111 0000000000000000 0009 72656469733a2f2f61
    01 62 00000001 00 2222222222222222 0000000000000007 0009 72656469733a2f2f62
    00000002 00000000
    0000 000000000001
    0001 000000000001
    00000003
    5ad2f53e90bd3b13 01
    c26e424bec3bd637 00
    ffffffffffffffff 01";

#[test]
fn golden_bytes_of_a_balanced_document() {
    let document = Document::decode(&hex(BALANCED)).unwrap();
    assert_eq!(document.encode()[..], hex(BALANCED));
    assert_eq!((document.epoch(), document.policy()), (Epoch::new(5), Policy::Trust));
    let (a, b) = (document.member(&id("a")).unwrap().0, document.member(&id("b")).unwrap().0);
    let expected = DocumentMember {
        id: id("b"),
        weight: Weight::new(3),
        address: "redis://b".to_owned(),
        incarnation: 0x2222_2222_2222_2222,
        process: 7,
        leaving: true,
        rejoined: false,
    };
    assert_eq!(document.members()[b.get()], expected);
    assert_eq!(document.ring().members()[b.get()].weight(), Weight::ZERO);
    let since = |since, source| Tenure { owner: a, since: Epoch::new(since), source };
    let moving = since(5, Some(Source { node: b, since: Epoch::new(2) }));
    let tenures: Vec<Tenure> = document.tenures().map(|(_, tenure)| tenure).collect();
    assert_eq!(tenures, [since(1, None), moving, since(3, None), since(3, None)]);
    assert_eq!(document.tenure(Token::new(1 << 62)), moving);
    assert_eq!(document.tenure(Token::new(u64::MAX)), since(3, None));
    assert_eq!(
        document.fence(),
        Fence {
            protocol: 1,
            cluster: 0x7cbb_800c_3fdc_53bc,
            epoch: Epoch::new(5),
            nonce: Token::of(&hex(BALANCED)).get()
        }
    );
}

#[test]
fn golden_bytes_of_a_hashed_document() {
    let ring = Ring::hashed(["a", "b"].map(|name| Member::from(id(name))), 1).unwrap();
    let members = vec![
        DocumentMember {
            address: "redis://b".into(),
            incarnation: 0x2222_2222_2222_2222,
            process: 7,
            ..member("b", 1)
        },
        DocumentMember { address: "redis://a".into(), incarnation: 0x1111_1111_1111_1111, ..member("a", 1) },
    ];
    let document = Document::found("shop", Epoch::FIRST, Policy::Strict, ring, members).unwrap();
    assert_eq!(document.encode()[..], hex(HASHED));
    assert_eq!(Document::decode(&hex(HASHED)), Ok(document));
}

#[test]
fn a_fence_names_one_document() {
    let document = equal(Kind::Balanced, &["a", "b"]);
    let cluster = Token::of(b"shop").get();
    assert_eq!(
        (document.fence().cluster, document.fence().epoch, document.fence().protocol),
        (cluster, Epoch::FIRST, PROTOCOL_VERSION)
    );
    let other = DocumentMember { incarnation: 1, ..member("b", 1) };
    let other = found(Kind::Balanced, vec![member("a", 1), other]);
    assert_ne!(document.fence(), other.fence());
    assert_ne!(document, other);
    assert_eq!(document.fence(), equal(Kind::Balanced, &["b", "a"]).fence());
    assert_eq!(
        format!("{document:?}"),
        format!(
            "Document {{ epoch: 1, nonce: {:016x}, members: 2, migrating: false, .. }}",
            document.fence().nonce
        )
    );
}

// ---- single changes

const BOTH: [Kind; 2] = [Kind::Hashed(20), Kind::Balanced];

fn all_equal(before: &Document, after: &Document) {
    for token in probes(&[before, after]) {
        assert_eq!(at(before, token), at(after, token), "{token}");
    }
}

#[test]
fn an_aborted_join_leaves_everything_as_it_was() {
    for kind in BOTH {
        let founded = equal(kind, &["a", "b", "c"]);
        let joining = next(&founded, Change::Resize(vec![add("d", 1)]));
        assert!(joining.is_migrating() && joining.flows().len() == 3);
        let aborted = next(&joining, forget("d"));
        assert!(!aborted.is_migrating());
        assert_eq!((aborted.members(), aborted.ring()), (founded.members(), founded.ring()));
        all_equal(&founded, &aborted);
    }
}

#[test]
fn the_death_of_an_only_heir_calls_the_leaving_back() {
    for kind in BOTH {
        let founded = found(kind, vec![member("a", 2), member("b", 3)]);
        let edits = vec![remove("a"), remove("b"), add("x", 1)];
        let replaced = next(&founded, Change::Resize(edits));
        assert_eq!(replaced.sources().len(), 2);
        let back = next(&replaced, forget("x"));
        assert_eq!(back.members(), founded.members());
        assert!(!back.is_migrating());
        all_equal(&founded, &back);
    }
}

#[test]
fn the_death_of_an_only_heir_gives_drained_sources_a_weight_again() {
    for kind in BOTH {
        let founded = equal(kind, &["a", "b"]);
        let drained = next(&founded, Change::Resize(vec![reweight("a", 0), reweight("b", 0), add("x", 1)]));
        let back = next(&drained, forget("x"));
        assert!(!back.is_migrating());
        all_equal(&founded, &back);
    }
}

#[test]
fn a_dead_heir_of_a_leaving_node_is_replaced_and_the_source_kept() {
    for kind in BOTH {
        let founded = equal(kind, &["a", "b", "c"]);
        let moving = next(&founded, Change::Resize(vec![remove("a"), add("x", 1)]));
        let after = next(&moving, forget("x"));
        let mut from_a = 0;
        for token in probes(&[&founded, &moving]) {
            let (before, after) = (at(&moving, token), at(&after, token));
            if before.owner == "x" && before.source == Some(("a".to_owned(), 1)) {
                from_a += 1;
                assert_eq!((after.since, after.source), (3, Some(("a".to_owned(), 1))));
            }
        }
        assert!(from_a > 0);
        assert!(after.member(&id("a")).unwrap().1.leaving);
        let settled = next(&after, Change::Settle);
        assert_eq!(settled.members().len(), 2);
    }
}

#[test]
fn a_forgotten_source_takes_what_had_not_moved_with_it() {
    for kind in BOTH {
        let founded = equal(kind, &["a", "b", "c"]);
        let moving = next(&founded, Change::Resize(vec![remove("a")]));
        let cost = moving.cost_of_forgetting(&id("a")).unwrap();
        let share = founded.ring().share(&id("a")).unwrap();
        assert_eq!(cost, Cost { departing: share, ..Cost::default() });
        let after = next(&moving, forget("a"));
        assert!(!after.is_migrating());
        assert_eq!(after.ring().members().len(), 2);
        for token in probes(&[&moving, &after]) {
            assert_eq!(at(&after, token), Named { source: None, ..at(&moving, token) });
        }
        assert_eq!(moving.cost_of_forgetting(&id("z")), None);
    }
}

/// Bytes of a balanced document whose members `a`, `b`, `c` and `d` have weight 1.
fn handmade(epoch: u64, arc_bits: u8, tenures: &[String; 2], indexes: &[u8]) -> Document {
    let names = ["61", "62", "63", "64"];
    let members = names.map(|name| format!("01 {name} 00000001 00 {:016x} {:016x} 0001 61", 1, 0)).concat();
    let counts = [&tenures[0], &tenures[1]].map(|text| text.len() / 16);
    let (resting, moving) = (counts[0], counts[1] / 2);
    let text = format!(
        "01 01 00 02 0001 000000{arc_bits:02x} {:016x} {epoch:016x} 0004 {members} {resting:08x} {moving:08x} {} {}",
        7, tenures[0], tenures[1]
    );
    Document::decode(&[&hex(&text)[..], indexes].concat()).unwrap()
}

#[test]
fn a_token_that_moves_is_left_alone_when_shares_are_evened_out() {
    // Far more than its share is `a`'s: two arcs on their way from `c`, one at rest; `b` has the last one.
    let resting = "0000000000000001 0001000000000001".replace(' ', "");
    let document = handmade(3, 2, &[resting, "00000000000000030002000000000001".to_owned()], &[2, 2, 0, 1]);
    let after = next(&document, forget("b"));
    let mut moved_on = 0;
    for token in probes(&[&document, &after]) {
        let (before, now) = (at(&document, token), at(&after, token));
        judge(&forget("b"), 4, false, &before, &now).unwrap();
        if before.source.is_some() {
            assert_eq!(now, before);
        }
        moved_on += usize::from(now.source == Some(("a".to_owned(), 1)));
    }
    assert!(moved_on > 0, "evening out begins where nothing moves");
    is_whole(&after, &probes(&[&after])).unwrap();
}

#[test]
fn indexes_are_as_wide_as_the_tenures_are_many() {
    for (tenures, arc_bits, width) in [(256_u64, 8, 1), (257, 9, 2), (1 << 16, 16, 2), (1 << 17, 17, 4)] {
        let resting = (1..=tenures).map(|since| format!("0000{since:012x}")).collect::<String>();
        let arcs = 1_u64 << arc_bits;
        let indexes = (0..arcs).flat_map(|arc| {
            let bytes = (arc * 5 % tenures).to_be_bytes();
            bytes[8 - width..].to_vec()
        });
        let document = handmade(tenures, arc_bits, &[resting, String::new()], &indexes.collect::<Vec<u8>>());
        for arc in (0..arcs).step_by(97).chain([arcs - 1]) {
            let since = document.tenure(Token::new(arc << (64 - arc_bits))).since;
            assert_eq!(since.get(), arc * 5 % tenures + 1, "arc {arc} of {arcs}");
        }
        let members = 4 * (1 + 1 + 4 + 1 + 8 + 8 + 2 + 1);
        let expected = 28 + members + 8 + 8 * tenures as usize + (width << arc_bits);
        assert_eq!(document.encode().len(), expected);
    }
}

#[test]
fn a_member_that_owns_nothing_leaves_by_settling_too() {
    for kind in BOTH {
        let founded = found(kind, vec![member("a", 1), member("b", 0)]);
        let leaving = next(&founded, Change::Resize(vec![remove("b")]));
        assert!(leaving.is_migrating() && leaving.flows().is_empty());
        let settled = next(&leaving, Change::Settle);
        assert_eq!((settled.members().len(), settled.is_migrating()), (1, false));
        // Somebody who comes to own nothing moves nothing.
        assert!(!next(&settled, Change::Resize(vec![add("c", 0)])).is_migrating());
    }
}

#[test]
fn what_cannot_be_says_why() {
    let stable = equal(Kind::Hashed(4), &["a", "b"]);
    let moving = next(&stable, Change::Resize(vec![add("c", 1)]));
    let readmit = |incarnation| Change::Readmit { node: id("a"), incarnation, process: 0, keep: true };
    let address = |address: &str| Change::Move { node: id("a"), address: address.to_owned() };
    let unknown = || ChangeError::UnknownNode { node: id("z") };
    let bad_address = || ChangeError::Document(DocumentError::Address { node: id("a") });
    let one = equal(Kind::Balanced, &["a"]);
    let cases = [
        (&moving, Change::Resize(vec![add("d", 1)]), ChangeError::Migrating),
        (&stable, Change::Settle, ChangeError::NothingToSettle),
        (&stable, Change::Resize(vec![]), ChangeError::NothingChanges),
        (&stable, Change::Resize(vec![reweight("a", 1)]), ChangeError::NothingChanges),
        (&stable, readmit(stable.members()[0].incarnation), ChangeError::NothingChanges),
        (&stable, address("redis://a.internal:6379"), ChangeError::NothingChanges),
        (&stable, Change::Resize(vec![remove("z")]), unknown()),
        (&stable, Change::Resize(vec![reweight("z", 1)]), unknown()),
        (&stable, forget("z"), unknown()),
        (&stable, Change::Move { node: id("z"), address: "x".into() }, unknown()),
        (&stable, Change::Readmit { node: id("z"), incarnation: 1, process: 1, keep: false }, unknown()),
        (&stable, Change::Resize(vec![add("a", 1)]), ChangeError::NodeExists { node: id("a") }),
        (&stable, Change::Resize(vec![add("c", 1), remove("c")]), ChangeError::NamedTwice { node: id("c") }),
        (&stable, Change::Resize(vec![remove("a"), reweight("b", 0)]), ChangeError::NoWeightLeft),
        (&one, forget("a"), ChangeError::LastNode { node: id("a") }),
        (&one, Change::Resize(vec![remove("a")]), ChangeError::NoWeightLeft),
        (&stable, address(""), bad_address()),
        (&stable, address("redis://app:hunter2@a"), bad_address()),
        (&stable, address("unix:/run/redis.sock?pass=hunter2"), bad_address()),
        (&stable, address("redis://a\n"), bad_address()),
        (&stable, address(&"a".repeat(1025)), bad_address()),
    ];
    for (document, change, expected) in cases {
        let error = document.next(&change).expect_err(&format!("{change:?}"));
        assert_eq!(error, expected, "{change:?}");
        assert!(!error.to_string().contains("hunter2"));
    }
    for good in ["unix:/tmp/a@b", "memory:a@b", "redis://[::1]:7000/3", &"a".repeat(1024)] {
        next(&stable, address(good));
    }
}

#[test]
fn a_founding_needs_one_list_of_members() {
    let ring = || Ring::balanced(["a", "b"].map(|name| Member::from(id(name)))).unwrap();
    let found = |members| Document::found("shop", Epoch::FIRST, Policy::Trust, ring(), members);
    let leaving = DocumentMember { leaving: true, rejoined: false, ..member("b", 1) };
    for (wrong, node) in [
        (vec![member("a", 1)], "b"),
        (vec![member("a", 1), member("b", 2)], "b"),
        (vec![member("a", 1), member("b", 1), member("c", 1)], "c"),
        (vec![member("a", 1), leaving], "b"),
        (vec![member("b", 1), member("b", 1)], "a"),
    ] {
        assert_eq!(found(wrong), Err(DocumentError::Members { node: id(node) }));
    }
    for epoch in [0, 1 << 48] {
        let epoch = Epoch::new(epoch);
        let members = vec![member("a", 1), member("b", 1)];
        let result = Document::found("shop", epoch, Policy::Trust, ring(), members);
        assert_eq!(result, Err(DocumentError::Epoch(epoch)));
    }
    // After a ring of blank nodes, stamps of older epochs count for nothing.
    let members = vec![member("a", 1), member("b", 1)];
    let later = Document::found("shop", Epoch::new(9), Policy::Trust, ring(), members).unwrap();
    assert!(later.tenures().all(|(_, tenure)| tenure.since == Epoch::new(9) && tenure.source.is_none()));
}

#[test]
fn a_document_is_bounded() {
    let hashed = |vnodes, names: &[&str]| {
        let members: Vec<_> = names.iter().map(|name| member(name, 1)).collect();
        let ring = Ring::hashed(names.iter().map(|name| Member::from(id(name))), vnodes).unwrap();
        Document::found("shop", Epoch::FIRST, Policy::Trust, ring, members)
    };
    assert_eq!(
        hashed((1 << 20) + 1, &["a"]).map(|_| ()),
        Err(DocumentError::TooManyTokens { tokens: (1 << 20) + 1 })
    );
    // Every second token belongs to the other of two: about half a million runs for each.
    assert!(hashed(1 << 20, &["a"]).is_ok());
    let names: Vec<String> = (0..64).map(|i| format!("n{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = hashed(1 << 14, &names).unwrap_err();
    assert!(matches!(error, DocumentError::TooLarge { bytes } if bytes > 8 << 20), "{error}");
    assert!(error.to_string().contains("fewer vnodes"));
    // A change is refused before its ring is built.
    let one = hashed(1 << 20, &["a"]).unwrap();
    let error = one.next(&Change::Resize(vec![reweight("a", u32::MAX)])).unwrap_err();
    assert!(matches!(error, ChangeError::Document(DocumentError::TooManyTokens { .. })), "{error}");
}

#[test]
fn a_hundred_nodes_fit_in_little() {
    let names: Vec<String> = (0..100).map(|i| format!("redis-{i:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for kind in [Kind::Balanced, Kind::Hashed(160)] {
        let founded = equal(kind, &names);
        let joining = next(&founded, Change::Resize(vec![add("redis-100", 1)]));
        let leaving = next(&founded, Change::Resize(vec![remove("redis-050")]));
        let sizes = [&founded, &joining, &leaving].map(|document| document.encode().len());
        println!("100 nodes, {kind:?}: {sizes:?} bytes founded, while one joins, while one leaves");
        assert!(sizes.iter().all(|&size| size < 256 << 10));
    }
}

// ---- bytes that are no document

fn damaged(bytes: &[u8]) -> DocumentError {
    Document::decode(bytes).expect_err("these bytes are no document")
}

#[test]
fn newer_documents_ask_for_an_upgrade() {
    let good = hex(BALANCED);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    assert_eq!(damaged(&[2]), DocumentError::NewerProtocol(2));
    assert_eq!(damaged(&with(0, 2)), DocumentError::NewerProtocol(2));
    assert_eq!(damaged(&with(1, 2)), DocumentError::Newer { what: "format", version: 2 });
    assert_eq!(damaged(&with(5, 2)), DocumentError::Newer { what: "placement version", version: 2 });
    for at in 0..2 {
        assert!(matches!(damaged(&with(at, 0)), DocumentError::Damaged { .. }));
    }
}

#[test]
fn what_is_not_exactly_a_document_is_refused() {
    let good = hex(BALANCED);
    for len in 0..good.len() {
        damaged(&good[..len]);
    }
    damaged(&[&good[..], &[0]].concat());
    let replaced = |what: &str, with: &str| {
        let text = BALANCED.replacen(what, with, 1);
        assert_ne!(text, BALANCED);
        damaged(&hex(&text)).to_string()
    };
    // Members out of order, an owner and a source that are not there, an owner without weight.
    assert!(replaced("01 61 00000001", "01 63 00000001").contains("sorted"));
    assert!(replaced("0000 000000000001", "0002 000000000001").contains("member that is not there"));
    assert!(replaced("0001 000000000002", "0002 000000000002").contains("member that is not there"));
    assert!(replaced("0001 000000000002", "0000 000000000002").contains("moves to where it is"));
    assert!(replaced("01 61 00000001", "01 61 00000000").contains("weight 0"));
    assert!(replaced("0000 000000000001", "0001 000000000001").contains("weight 0"));
    // A since that is no epoch yet, or never was.
    assert!(replaced("0000 000000000001", "0000 000000000006").contains("begins"));
    assert!(replaced("0000 000000000001", "0000 000000000000").contains("begins"));
    // A tenure that does not exist, one that nothing is under, and tenures out of order.
    assert!(replaced("00 02 01 01", "00 03 01 01").contains("no such tenure"));
    assert!(replaced("00 02 01 01", "00 02 00 00").contains("encoded"));
    // Ranges that go backwards, end too early, or disagree with the hashed ring.
    let hashed = |what: &str, with: &str| damaged(&hex(&HASHED.replacen(what, with, 1))).to_string();
    assert!(hashed("c26e424bec3bd637", "5ad2f53e90bd3b13").contains("cover the circle"));
    assert!(hashed("ffffffffffffffff", "fffffffffffffffe").contains("cover the circle"));
    assert!(hashed("5ad2f53e90bd3b13", "5ad2f53e90bd3b14").contains("hashed ring"));
    assert!(hashed("c26e424bec3bd637 00", "c26e424bec3bd637 01").contains("hashed ring"));
    let swapped =
        BALANCED.replace("000000000001\n", "000000000009\n").replace("000000000003\n", "000000000001\n");
    let swapped = swapped.replace("000000000009\n", "000000000003\n");
    assert!(damaged(&hex(&swapped)).to_string().contains("encoded"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        let _ = Document::decode(&bytes);
        // Past the versions, so that the rest is reached.
        for (at, byte) in [1, 1, 0, 1 + (bytes.first().copied().unwrap_or(0) & 1), 0, 1, 0, 0, 0].iter().enumerate() {
            if let Some(place) = bytes.get_mut(at) {
                *place = *byte;
            }
        }
        let _ = Document::decode(&bytes);
    }

    #[test]
    fn a_mutated_document_is_refused_or_whole(
        start in 0..3_usize,
        mutations in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        tokens in prop::collection::vec(any::<u64>(), 16),
    ) {
        let document = match start {
            0 => Document::decode(&hex(BALANCED)).unwrap(),
            1 => equal(Kind::Hashed(2), &["a", "b", "c"]),
            _ => next(&equal(Kind::Hashed(2), &["a", "b"]), Change::Resize(vec![add("c", 2), remove("a")])),
        };
        let mut bytes = document.encode().to_vec();
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(decoded) = Document::decode(&bytes) {
            prop_assert_eq!(&decoded.encode()[..], &bytes[..]);
            for token in tokens.into_iter().map(Token::new).chain([Token::MIN, Token::MAX]) {
                let tenure = decoded.tenure(token);
                prop_assert_eq!(&decoded.members()[tenure.owner.get()].id, decoded.ring().owner(token));
                prop_assert!(tenure.since <= decoded.epoch());
            }
            prop_assert_eq!(decoded.flows().is_empty(), decoded.sources().is_empty());
        }
    }
}

// ---- histories

/// What may be asked for; members are chosen by index when their number is known.
#[derive(Debug, Clone)]
enum Step {
    Resize(Vec<(u8, Index, u32)>),
    Settle,
    Forget(Index),
    Readmit(Index, bool),
    Move(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let edits = prop::collection::vec((0..4_u8, any::<Index>(), 0..4_u32), 1..4);
    prop_oneof![
        4 => edits.prop_map(Step::Resize),
        3 => Just(Step::Settle),
        3 => any::<Index>().prop_map(Step::Forget),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(node, keep)| Step::Readmit(node, keep)),
        1 => any::<Index>().prop_map(Step::Move),
    ]
}

/// At most 12 names, so that forgotten ones come back.
fn name(index: usize) -> String {
    format!("node-{}", index % 12)
}

fn change(document: &Document, step: &Step, epoch: u64) -> Change {
    let some = |index: &Index| index.get(document.members()).id.clone();
    match step {
        Step::Resize(edits) => Change::Resize(
            edits
                .iter()
                .map(|(what, index, weight)| match what {
                    0 => Edit::Remove { id: some(index) },
                    1 => Edit::Reweight { id: some(index), weight: Weight::new(*weight) },
                    _ => add(&name(index.index(12)), *weight),
                })
                .collect(),
        ),
        Step::Settle => Change::Settle,
        Step::Forget(node) => Change::Forget { node: some(node) },
        Step::Readmit(node, keep) => {
            Change::Readmit { node: some(node), incarnation: epoch, process: epoch << 8, keep: *keep }
        }
        Step::Move(node) => Change::Move { node: some(node), address: format!("redis://moved:{epoch}") },
    }
}

/// Whether a refusal is right, judged by the error's own words.
fn is_refused_rightly(document: &Document, change: &Change, error: &ChangeError) -> bool {
    let ids: Vec<&NodeId> = document.members().iter().map(|member| &member.id).collect();
    let edits: &[Edit] = if let Change::Resize(edits) = change { edits } else { &[] };
    let named = |edit: &Edit| match edit {
        Edit::Add { id, .. } | Edit::Remove { id } | Edit::Reweight { id, .. } => id.clone(),
        _ => unreachable!("a new edit"),
    };
    match error {
        ChangeError::Migrating => !edits.is_empty() && document.is_migrating(),
        ChangeError::NothingToSettle => *change == Change::Settle && !document.is_migrating(),
        ChangeError::NodeExists { node } => {
            ids.contains(&node) && edits.iter().any(|edit| matches!(edit, Edit::Add { id, .. } if id == node))
        }
        ChangeError::NamedTwice { node } => edits.iter().filter(|edit| named(edit) == *node).count() > 1,
        ChangeError::NoWeightLeft => document
            .members()
            .iter()
            .all(|member| member.weight == Weight::ZERO || edits.iter().any(|edit| named(edit) == member.id)),
        ChangeError::NothingChanges => edits.iter().all(|edit| match edit {
            Edit::Reweight { id, weight } => document.member(id).unwrap().1.weight == *weight,
            _ => false,
        }),
        ChangeError::LastNode { node } => {
            let others = document.members().iter().filter(|member| member.id != *node);
            others.clone().all(|member| member.weight == Weight::ZERO) && {
                let sources = document.sources();
                others.clone().all(|member| !sources.contains(&document.member(&member.id).unwrap().0))
            }
        }
        _ => false,
    }
}

/// What §2 of docs/resize.md says about one token.
fn judge(
    change: &Change,
    epoch: u64,
    hashed: bool,
    before: &Named,
    after: &Named,
) -> Result<(), TestCaseError> {
    match change {
        Change::Resize(_) if before.owner == after.owner => prop_assert_eq!(before, after),
        Change::Resize(_) => {
            let source = Some((before.owner.clone(), before.since));
            prop_assert_eq!(after, &Named { owner: after.owner.clone(), since: epoch, source });
        }
        Change::Settle => prop_assert_eq!(after, &Named { source: None, ..before.clone() }),
        Change::Move { .. } | Change::Readmit { keep: true, .. } => prop_assert_eq!(before, after),
        Change::Readmit { node, .. } => {
            let raised = |name: &str, since| if name == node.as_str() { epoch } else { since };
            let source = before.source.as_ref().map(|(name, since)| (name.clone(), raised(name, *since)));
            let since = raised(&before.owner, before.since);
            prop_assert_eq!(after, &Named { owner: before.owner.clone(), since, source });
        }
        Change::Forget { node } => {
            let gone = |name: &str| name == node.as_str();
            let living = before.source.clone().filter(|(name, _)| !gone(name));
            prop_assert!(!gone(&after.owner));
            if gone(&before.owner) {
                match living {
                    Some((source, since)) if source == after.owner => {
                        let back = Named { owner: source, since, source: None };
                        prop_assert_eq!(after, &back);
                    }
                    // Nothing that a living source holds is given up, whoever is the heir now.
                    living => {
                        prop_assert_eq!((after.since, &after.source), (epoch, &living));
                    }
                }
            } else if after.owner == before.owner {
                prop_assert_eq!(after, &Named { source: living, ..before.clone() });
            } else {
                prop_assert!(!hashed && living.is_none());
                let source = Some((before.owner.clone(), before.since));
                prop_assert_eq!(after, &Named { owner: after.owner.clone(), since: epoch, source });
            }
        }
        _ => unreachable!("a new change"),
    }
    Ok(())
}

fn by_name(document: &Document) -> BTreeMap<(String, String), Share> {
    let name = |index: NodeIndex| document.members()[index.get()].id.to_string();
    document.flows().into_iter().map(|(from, to, share)| ((name(from), name(to)), share)).collect()
}

/// What a document says about itself agrees with what it says about its tokens, and with its bytes.
fn is_whole(document: &Document, tokens: &[Token]) -> Result<(), TestCaseError> {
    let decoded = Document::decode(document.encode()).unwrap();
    prop_assert_eq!(&decoded, document);
    prop_assert_eq!(decoded.fence(), document.fence());
    prop_assert_eq!(decoded.members(), document.members());
    prop_assert_eq!(decoded.ring(), document.ring());
    prop_assert_eq!(decoded.is_migrating(), document.is_migrating());

    let in_ring =
        |m: &DocumentMember| Member::new(m.id.clone(), if m.leaving { Weight::ZERO } else { m.weight });
    let in_ring: Vec<Member> = document.members().iter().map(in_ring).collect();
    prop_assert_eq!(document.ring().members(), &in_ring[..]);
    if let Placement::Hashed { vnodes } = document.ring().placement() {
        prop_assert_eq!(document.ring(), &Ring::hashed(in_ring, vnodes).unwrap());
    }

    let (sources, flows) = (document.sources(), document.flows());
    for &token in tokens {
        let tenure = document.tenure(token);
        prop_assert_eq!(decoded.tenure(token), tenure);
        prop_assert_eq!(document.ring().owner_index(token), tenure.owner);
        prop_assert!(tenure.since <= document.epoch());
        if let Some(source) = tenure.source {
            prop_assert!(source.since <= document.epoch() && source.node != tenure.owner);
            prop_assert!(sources.contains(&source.node) && document.is_migrating());
            prop_assert!(flows.iter().any(|&(from, to, _)| (from, to) == (source.node, tenure.owner)));
            prop_assert!(document.partners(source.node).contains(&tenure.owner));
            prop_assert!(document.partners(tenure.owner).contains(&source.node));
        }
    }

    // Every range under its tenure, from one end of the circle to the other, and the sums over them.
    let (mut start, mut sums) = (0_u128, BTreeMap::new());
    for (range, tenure) in document.tenures() {
        prop_assert_eq!(u128::from(range.start().get()), start);
        prop_assert_eq!(document.tenure(range.start()), tenure);
        prop_assert_eq!(document.tenure(range.end()), tenure);
        start += range.share().tokens();
        if let Some(source) = tenure.source {
            *sums.entry((source.node, tenure.owner)).or_insert(0) += range.share().tokens();
        }
    }
    prop_assert_eq!(start, Share::ALL.tokens());
    let told: BTreeMap<_, _> = flows.iter().map(|&(from, to, share)| ((from, to), share.tokens())).collect();
    prop_assert_eq!(&told, &sums);
    let from: BTreeSet<_> = sums.keys().map(|pair| pair.0).collect();
    prop_assert_eq!(sources, from.into_iter().collect::<Vec<_>>());
    for (index, member) in document.members().iter().enumerate() {
        let (node, _) = document.member(&member.id).unwrap();
        prop_assert_eq!(node.get(), index);
        let with = sums.keys().filter_map(|&(from, to)| match node {
            _ if from == node => Some(to),
            _ if to == node => Some(from),
            _ => None,
        });
        prop_assert_eq!(
            document.partners(node),
            with.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
        let cost = document.cost_of_forgetting(&member.id).unwrap();
        let sum = |pick: &dyn Fn((NodeIndex, NodeIndex)) -> bool| {
            flows.iter().filter(|flow| pick((flow.0, flow.1))).map(|flow| flow.2).sum::<Share>()
        };
        prop_assert_eq!(cost.owned + cost.arriving, document.ring().share(&member.id).unwrap());
        prop_assert_eq!(cost.arriving, sum(&|(_, to)| to == node));
        prop_assert_eq!(cost.departing, sum(&|(from, _)| from == node));
    }
    Ok(())
}

/// Every member of a balanced ring owns its weight's part to within one arc.
fn is_balanced(ring: &Ring) -> Result<(), TestCaseError> {
    let Placement::Balanced { arc_bits } = ring.placement() else { return Ok(()) };
    let total: u64 = ring.members().iter().map(|m| u64::from(m.weight().get())).sum();
    for (member, share) in ring.shares() {
        let arcs = (share.tokens() >> (64 - arc_bits)) as u64;
        let quota = u64::from(member.weight().get()) << arc_bits;
        prop_assert!(arcs >= quota / total && arcs <= quota.div_ceil(total), "{member:?} owns {arcs}");
    }
    Ok(())
}

fn history(kind: Kind, first: &[u32], steps: &[Step]) -> Result<(), TestCaseError> {
    let mut first: Vec<_> = first.iter().zip(0..).map(|(&weight, i)| member(&name(i), weight)).collect();
    first[0].weight = Weight::ONE;
    let mut document = found(kind, first);
    let fixed: Vec<Token> = (0..256_u64).map(|i| Token::of(&i.to_be_bytes())).collect();
    is_whole(&document, &probes(&[&document]))?;
    // Until which epoch, for each of the fixed tokens, a node held it, as its owner or as its source.
    let mut held: Vec<BTreeMap<String, u64>> = vec![BTreeMap::new(); fixed.len()];
    let mut even = true;

    for step in steps {
        let epoch = document.epoch().get() + 1;
        let change = change(&document, step, epoch);
        let after = match document.next(&change) {
            Ok(after) => after,
            Err(error) => {
                prop_assert!(is_refused_rightly(&document, &change, &error), "{change:?}: {error}");
                continue;
            }
        };
        prop_assert_eq!(after.epoch().get(), epoch);
        prop_assert_eq!(
            (after.fence().cluster, after.policy()),
            (document.fence().cluster, document.policy())
        );
        let tokens = probes(&[&document, &after]);
        let hashed = matches!(kind, Kind::Hashed(_));
        for &token in &tokens {
            judge(&change, epoch, hashed, &at(&document, token), &at(&after, token))?;
        }
        is_whole(&after, &tokens)?;

        for (&token, held) in fixed.iter().zip(&mut held) {
            let holders = |named: Named| -> BTreeMap<String, u64> {
                named.source.into_iter().chain([(named.owner, named.since)]).collect()
            };
            let (old, new) = (holders(at(&document, token)), holders(at(&after, token)));
            held.extend(old.keys().map(|node| (node.clone(), epoch - 1)));
            for (node, since) in &new {
                match old.get(node) {
                    Some(before) => prop_assert!(since >= before),
                    None => prop_assert!(held.get(node).is_none_or(|until| since > until), "{node} {token}"),
                }
            }
        }

        match &change {
            Change::Resize(_) => {
                let diff = document.ring().diff(after.ring());
                let flows: BTreeMap<_, _> = diff
                    .flows()
                    .iter()
                    .map(|flow| ((flow.from().to_string(), flow.to().to_string()), flow.share()))
                    .collect();
                prop_assert_eq!(by_name(&after), flows);
                even = true;
            }
            Change::Settle => {
                prop_assert!(!after.is_migrating());
                prop_assert!(after.members().iter().all(|member| !member.leaving));
            }
            Change::Forget { node } => {
                prop_assert!(after.member(node).is_none());
                // Tokens that are moving stay where they are, which may leave shares uneven until the next change.
                even &= !document.is_migrating();
            }
            _ => {}
        }
        if even {
            is_balanced(after.ring())?;
        }
        document = after;
    }
    Ok(())
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![3 => Just(1_u32), 1 => 0..4_u32], 3..=6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn histories_of_hashed_rings(
        vnodes in 1..24_u32,
        first in weights(),
        steps in prop::collection::vec(step(), 1..16),
    ) {
        history(Kind::Hashed(vnodes), &first, &steps)?;
    }
}

proptest! {
    // Each step deals 2^16 arcs.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn histories_of_balanced_rings(first in weights(), steps in prop::collection::vec(step(), 4..12)) {
        history(Kind::Balanced, &first, &steps)?;
    }
}
