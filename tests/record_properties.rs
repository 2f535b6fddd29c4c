//! What is stored: every layout of `docs/format.md`, as properties, as golden bytes, and as it really stands on a
//! server.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sessionring::{
    Epoch, Lifetime, RingSecret, SessionId, SessionRing, internals,
    protocol::{self, Command, Condition, Effect, Mode, Scope, Stored},
    record::{Bincode, Codec, CodecId, Header, Json, Key, Keyspace, Kind, MessagePack, Record, RecordError},
    ring::Token,
    topology::{Document, Fence, MetaKeys},
};
use sessionring_testkit::{Client, RedisServer, Reply};

// ---- values and codecs

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Login {
    user: u64,
    name: Option<String>,
    balance: i64,
    ratio: f64,
    cart: Vec<Item>,
    prefs: BTreeMap<String, Setting>,
    pair: (u8, char),
    none: (),
    wide: u128,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    sku: String,
    count: u32,
    tags: Vec<Option<bool>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Setting {
    Off,
    Level(i16),
    Pair(f32, String),
    Nested { inner: Box<Option<Setting>>, bytes: Vec<u8> },
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>().prop_filter("JSON has no such number", |f| f.is_finite()),
        // Prices and measures are likelier in a session than 1e-280.
        (0..1_000_000_000_u64).prop_map(|n| n as f64 / 997.0),
    ]
}

fn setting() -> impl Strategy<Value = Setting> {
    let leaf = prop_oneof![
        Just(Setting::Off),
        any::<i16>().prop_map(Setting::Level),
        (any::<f32>().prop_filter("finite", |f| f.is_finite()), any::<String>())
            .prop_map(|(f, s)| Setting::Pair(f, s)),
    ];
    leaf.prop_recursive(4, 8, 1, |inner| {
        (prop::option::of(inner), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(inner, bytes)| Setting::Nested { inner: Box::new(inner), bytes })
    })
}

fn login() -> impl Strategy<Value = Login> {
    let item = (any::<String>(), any::<u32>(), prop::collection::vec(any::<Option<bool>>(), 0..4))
        .prop_map(|(sku, count, tags)| Item { sku, count, tags });
    let scalars = (any::<u64>(), any::<Option<String>>(), any::<i64>(), finite(), any::<u128>());
    let cart = prop::collection::vec(item, 0..5);
    let prefs = prop::collection::btree_map(any::<String>(), setting(), 0..4);
    (scalars, cart, prefs, any::<(u8, char)>()).prop_map(
        |((user, name, balance, ratio, wide), cart, prefs, pair)| Login {
            user,
            name,
            balance,
            ratio,
            cart,
            prefs,
            pair,
            none: (),
            wide,
        },
    )
}

/// All three, and the payload of `value` in each.
fn payloads<T>(value: &T) -> Vec<(&'static dyn Codec<T>, Vec<u8>)>
where
    T: Serialize + DeserializeOwned + Debug + 'static,
{
    let codecs: [&'static dyn Codec<T>; 3] = [&Bincode, &MessagePack, &Json];
    codecs.map(|codec| (codec, codec.encode(value).expect("a plain value"))).into()
}

proptest! {
    #![proptest_config(ProptestConfig { source_file: Some(file!()), ..ProptestConfig::default() })]

    #[test]
    fn sessions_come_back_as_they_were(login in login()) {
        for (codec, payload) in payloads(&login) {
            prop_assert_eq!(codec.decode(&payload), Ok(login.clone()), "{}", codec.id());
        }
    }

    #[test]
    fn a_cut_or_longer_payload_is_an_error(login in login(), extra in any::<u8>()) {
        for (codec, payload) in payloads(&login) {
            for len in 0..payload.len() {
                prop_assert!(codec.decode(&payload[..len]).is_err(), "{} cut to {len}", codec.id());
            }
            // JSON allows white space behind a value.
            if !(codec.id() == CodecId::JSON && extra.is_ascii_whitespace()) {
                let longer = [&payload[..], &[extra]].concat();
                prop_assert!(codec.decode(&longer).is_err(), "{} and {extra}", codec.id());
            }
        }
    }

    /// Whatever a flipped bit makes of a payload, it is an error or a session, and never a panic.
    #[test]
    fn a_damaged_payload_does_no_harm(login in login(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        for (codec, mut payload) in payloads(&login) {
            let at = at.index(payload.len());
            payload[at] = to;
            if let Err(error) = codec.decode(&payload) {
                prop_assert!(error.to_string().len() < 300, "{error}");
            }
        }
    }

    /// Errors go into logs, sessions do not.
    #[test]
    fn an_error_of_a_codec_never_quotes_the_session(secret in "[A-Z]{12}", at in any::<prop::sample::Index>()) {
        #[derive(Debug, Serialize, Deserialize)]
        enum Other { A, B }
        for (codec, payload) in payloads(&vec![secret.clone(); 3]) {
            let cut = &payload[..at.index(payload.len())];
            let errors = match codec.id() {
                CodecId::BINCODE => [
                    Codec::<Vec<Other>>::decode(&Bincode, &payload).err(),
                    Codec::<Vec<String>>::decode(&Bincode, cut).err(),
                ],
                CodecId::MESSAGE_PACK => [
                    Codec::<Vec<Other>>::decode(&MessagePack, &payload).err(),
                    Codec::<Vec<String>>::decode(&MessagePack, cut).err(),
                ],
                _ => [
                    Codec::<Vec<Other>>::decode(&Json, &payload).err(),
                    Codec::<Vec<String>>::decode(&Json, cut).err(),
                ],
            };
            for error in errors {
                let error = error.expect("it does not fit").to_string();
                prop_assert!(!error.contains(&secret), "{error}");
            }
        }
    }
}

// ---- ids

proptest! {
    #[test]
    fn ids_print_and_parse(bytes in any::<[u8; 24]>()) {
        let id = SessionId::from_bytes(bytes);
        let text = id.expose();
        prop_assert_eq!(text.len(), 32);
        prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        prop_assert_eq!(SessionId::parse(&text), Ok(id.clone()));
        prop_assert_eq!(id.as_bytes(), bytes);
        prop_assert_eq!(id.token(), Token::of(&bytes[..8]));
        prop_assert!(!id.is_foreign());
    }

    /// The text of an id is the only one: whatever else parses is another id.
    #[test]
    fn another_text_is_another_id(bytes in any::<[u8; 24]>(), at in 0..32_usize, to in any::<char>()) {
        let id = SessionId::from_bytes(bytes);
        let text: String =
            id.expose().chars().enumerate().map(|(i, c)| if i == at { to } else { c }).collect();
        if text != id.expose() {
            prop_assert_ne!(SessionId::parse(&text), Ok(id));
        }
    }

    #[test]
    fn only_what_the_library_prints_parses(text in "[-_A-Za-z0-9+/=]{30,34}") {
        match SessionId::parse(&text) {
            Ok(id) => prop_assert_eq!(id.expose(), text),
            Err(_) => prop_assert!(text.len() != 32 || text.contains(['+', '/', '='])),
        }
    }

    /// A new secret under the same tag stays on its node.
    #[test]
    fn the_tag_alone_places_an_id(tag in any::<[u8; 8]>(), secrets in any::<[[u8; 16]; 2]>()) {
        prop_assume!(secrets[0] != secrets[1]);
        let [a, b] = secrets.map(|secret| {
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&tag);
            bytes[8..].copy_from_slice(&secret);
            SessionId::from_bytes(bytes)
        });
        prop_assert_eq!(a.token(), b.token());
        let keyspace = Keyspace::new("r", "n");
        prop_assert_ne!(keyspace.key(&a), keyspace.key(&b));
    }

    #[test]
    fn foreign_ids_are_any_bytes(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
        let id = SessionId::foreign(&bytes).expect("up to 4,096 bytes");
        prop_assert_eq!(id.as_bytes(), &bytes);
        prop_assert_eq!(id.token(), Token::of(&bytes));
        if let Ok(text) = String::from_utf8(bytes) {
            prop_assert_eq!(id.expose(), text);
        }
    }
}

// ---- keys

fn any_id() -> impl Strategy<Value = SessionId> {
    prop_oneof![
        any::<[u8; 24]>().prop_map(SessionId::from_bytes),
        prop::collection::vec(any::<u8>(), 1..80).prop_map(|id| SessionId::foreign(id).expect("not empty")),
    ]
}

proptest! {
    #[test]
    fn a_key_carries_prefix_and_token(ring in any::<String>(), space in any::<String>(), id in any_id()) {
        let keyspace = Keyspace::new(&ring, &space);
        let key = keyspace.key(&id);
        prop_assert_eq!(key.as_bytes().len(), 30);
        prop_assert_eq!(key.prefix(), keyspace.prefix());
        prop_assert_eq!(&key.as_bytes()[..6], key.prefix());
        prop_assert_eq!(&key.as_bytes()[6..14], &id.token().get().to_be_bytes());
        prop_assert_eq!(key.token(), id.token());
        prop_assert_eq!(Key::parse(key.as_bytes()), Some(key));
        prop_assert_eq!(Keyspace::new(&ring, &space).key(&id), key);
        let neighbour = Keyspace::new(&ring, "other");
        prop_assert_eq!(&keyspace.prefix()[..3], &neighbour.prefix()[..3]);
    }

    /// The last 16 bytes differ when any of the three does, wherever one ends and the next begins.
    #[test]
    fn ring_namespace_and_id_all_count(
        names in prop::collection::vec("[ab]{0,3}", 4),
        ids in prop::collection::vec(any_id(), 2),
    ) {
        let digest = |ring: &str, space: &str, id| Keyspace::new(ring, space).key(id).as_bytes()[14..].to_vec();
        let one = (&names[0], &names[1], &ids[0]);
        let digest_of_one = digest(one.0, one.1, one.2);
        for two in [
            (&names[2], &names[1], &ids[0]),
            (&names[0], &names[3], &ids[0]),
            (&names[0], &names[1], &ids[1]),
            (&names[2], &names[3], &ids[0]),
            (&names[1], &names[0], &ids[0]),
        ] {
            prop_assert_eq!(one == two, digest_of_one == digest(two.0, two.1, two.2), "{:?} {:?}", one, two);
        }
        // The same bytes as a generated and as a foreign id are two sessions.
        let foreign = SessionId::foreign(ids[0].as_bytes()).expect("an id");
        prop_assert_eq!(ids[0].is_foreign(), digest_of_one == digest(one.0, one.1, &foreign));
    }

    #[test]
    fn thirty_bytes_are_a_key(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        match Key::parse(&bytes) {
            Some(key) => prop_assert_eq!(key.as_bytes(), &bytes),
            None => prop_assert_ne!(bytes.len(), 30),
        }
    }
}

// ---- records

/// The bytes of a header, any that decodes.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(b"LT".to_vec());
    let numbers = (any::<u8>(), any::<u16>(), any::<u16>(), 0..1_u64 << 48, any::<u64>());
    (kind, 0..2_u8, numbers, 0..1_u64 << 53, 0..1_u64 << 48).prop_map(
        |(kind, flags, (codec, schema, seal, stamp, operation), version, deadline)| {
            let mut bytes = vec![1, kind, flags, codec];
            bytes.extend(schema.to_be_bytes());
            bytes.extend(seal.to_be_bytes());
            bytes.extend(&stamp.to_be_bytes()[2..]);
            bytes.extend(operation.to_be_bytes());
            bytes.extend(&version.to_be_bytes()[1..]);
            bytes.extend(&deadline.to_be_bytes()[2..]);
            bytes
        },
    )
}

proptest! {
    #[test]
    fn headers_encode_and_decode(bytes in header(), payload in prop::collection::vec(any::<u8>(), 0..99)) {
        let header = Header::decode(&bytes).expect("a header");
        prop_assert_eq!(header.encode().to_vec(), &bytes[..]);
        prop_assert_eq!(header.encode_client_part().to_vec(), &bytes[..22]);
        let stored = [&bytes[..], &payload].concat();
        let record = Record::decode(&stored).expect("a record");
        prop_assert_eq!(record.header, header);
        prop_assert_eq!(record.payload, &payload);
        for len in 0..Header::LEN {
            prop_assert_eq!(Header::decode(&stored[..len]), Err(RecordError::Truncated(len)));
        }
    }

    /// Every bit counts: a changed record is an error or another record.
    #[test]
    fn no_byte_of_a_record_is_ignored(bytes in header(), payload in prop::collection::vec(any::<u8>(), 0..20)) {
        let stored = [&bytes[..], &payload].concat();
        let record = Record::decode(&stored).expect("a record");
        for at in 0..stored.len() {
            for bit in 0..8 {
                let mut wrong = stored.clone();
                wrong[at] ^= 1 << bit;
                prop_assert_ne!(Record::decode(&wrong), Ok(record.clone()), "byte {} bit {}", at, bit);
            }
        }
    }

    /// A newer format is recognised by its first byte, whatever follows.
    #[test]
    fn the_format_is_looked_at_first(format: u8, rest in prop::collection::vec(any::<u8>(), 0..50)) {
        let bytes = [&[format][..], &rest].concat();
        match (format, Header::decode(&bytes)) {
            (2..32, decoded) => prop_assert_eq!(decoded, Err(RecordError::NewerFormat(format))),
            (0 | 32.., decoded) => prop_assert_eq!(decoded, Err(RecordError::Format(format))),
            (1, decoded) => prop_assert!(!matches!(decoded, Err(RecordError::NewerFormat(_)))),
        }
    }

    #[test]
    fn fences_encode_and_decode(cluster in any::<u64>(), epoch in any::<u64>(), nonce in any::<u64>()) {
        let fence = Fence { protocol: 1, cluster, epoch: Epoch::new(epoch), nonce };
        let bytes = fence.encode();
        prop_assert_eq!(Fence::decode(&bytes), Ok(fence));
        for len in 0..bytes.len() {
            prop_assert!(Fence::decode(&bytes[..len]).is_err());
        }
        for at in 0..bytes.len() {
            let mut wrong = bytes;
            wrong[at] ^= 1;
            prop_assert_ne!(Fence::decode(&wrong), Ok(fence));
        }
    }
}

// ---- the examples of docs/format.md

const FORMAT: &str = include_str!("../docs/format.md");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The document has this example. Its own line breaks and spaces within an example do not count.
#[track_caller]
fn documented(example: &str) {
    let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    assert!(squeeze(FORMAT).contains(&squeeze(example)), "docs/format.md lacks {example}");
}

/// The id of every example: bytes 0, 10, 20 … 230.
fn example_id() -> SessionId {
    SessionId::from_bytes(std::array::from_fn(|i| i as u8 * 10))
}

/// What the instruction `how` of the document does: settled, since epoch 1; 30 minutes, 8 hours, epoch 1, operation
/// 0x1112131415161718. An install is that of the first record in the life of a session.
fn example_instruction(how: u8, version: u64) -> [u8; 50] {
    let mut bytes = [0; 50];
    bytes[..2].copy_from_slice(&[how, b's']);
    bytes[7] = 1;
    let install = how.eq_ignore_ascii_case(&b'm');
    let delete = how.eq_ignore_ascii_case(&b'd');
    let (first, second): (u64, u64) = match how {
        b'm' | b'M' => (1_700_001_800_000, 1_700_028_800_000),
        b'n' => (1_800_000, 1_700_028_800_000),
        b'f' => (1_800_000, 5_000),
        _ => (1_800_000, 28_800_000),
    };
    if b"rile".contains(&how) {
        return bytes;
    }
    bytes[8..14].copy_from_slice(&first.to_be_bytes()[2..]);
    if how == b't' {
        return bytes;
    }
    bytes[14..20].copy_from_slice(&second.to_be_bytes()[2..]);
    bytes[20..28].copy_from_slice(&version.to_be_bytes());
    bytes[28..32].copy_from_slice(match (install, delete) {
        (true, _) => b"\x01L\x01\x03",
        (_, true) => b"\x01T\0\0",
        _ if how == b'f' => b"\x01T\x02\0",
        _ => b"\x01L\0\x03",
    });
    bytes[41] = 1;
    bytes[42..].copy_from_slice(&0x1112_1314_1516_1718_u64.to_be_bytes());
    bytes
}

#[test]
fn the_document_has_the_ids_and_keys_of_the_library() {
    let id = example_id();
    documented(&hex(id.as_bytes()));
    documented(&format!("`{}`", id.expose()));
    documented(&format!("{:016x}", id.token().get()));
    documented(&hex(Keyspace::new("shop", "login").key(&id).as_bytes()));
    let foreign = SessionId::foreign("customer-4711").expect("an id");
    documented(&format!("{:016x}", foreign.token().get()));
    documented(&hex(Keyspace::new("shop", "login").key(&foreign).as_bytes()));
}

#[test]
fn the_document_has_the_fence_of_the_library() {
    let fence = Fence {
        protocol: 1,
        cluster: Token::of(b"shop").get(),
        epoch: Epoch::FIRST,
        nonce: 0x0102_0304_0506_0708,
    };
    documented(&hex(&fence.encode()));
    let keys = MetaKeys::new("shop");
    for key in [keys.fence, keys.seq, keys.node] {
        documented(&format!("`{key}`"));
    }
}

#[test]
fn the_document_has_the_keys_of_a_ring_with_a_secret() {
    let secret = RingSecret::new(&[7; 32]).expect("a secret");
    let logins = Keyspace::with_secret("shop", "login", Some(&secret));
    for id in [example_id(), SessionId::foreign("customer-4711").expect("an id")] {
        documented(&hex(logins.key(&id).as_bytes()));
    }
}

#[test]
fn the_document_has_the_instructions_of_the_library() {
    for how in *b"ritcsuvndDfmMle" {
        let version = if b"vnfmM".contains(&how) { 1_700_000_000_000 } else { 0 };
        let bytes = example_instruction(how, version);
        let payload = if b"csuvnfmM".contains(&how) { &b"{}"[..] } else { b"" };
        let (command, stamp, scope) = internals::command(&bytes, payload.to_vec().into()).expect("a command");
        assert_eq!(scope, Scope::new(Epoch::FIRST, Mode::Settled));
        assert_eq!(internals::instruction(&command, stamp, scope), (bytes, payload));
        documented(&hex(&bytes));
    }
    assert_eq!(internals::command(&[b'x'; 50], Vec::new().into()), None);
}

/// A session's life, by the specification: what each step of the document stores.
#[test]
fn the_document_has_the_records_of_the_library() {
    let mut stored: Option<Stored> = None;
    let mut step = |now: u64, how: u8, version: u64, operation: u8, payload: &'static [u8]| {
        let mut bytes = example_instruction(how, version);
        bytes[49] = operation;
        let (command, stamp, scope) = internals::command(&bytes, payload.into()).expect("a command");
        let (_, effect) = protocol::apply(stored.as_ref(), now, &command, stamp, scope);
        let Effect::Put(put) = effect else { panic!("{effect:?}") };
        documented(&hex(&put.bytes));
        documented(&put.expires.to_string());
        stored = Some(put.clone());
        put
    };
    let created = step(1_700_000_000_000, b'c', 0, 0x18, br#"{"user":7}"#);
    assert_eq!(created.expires, 1_700_001_800_000);
    let updated = step(1_700_000_060_000, b'v', 1_700_000_000_000, 0x19, br#"{"user":8}"#);
    assert_eq!(updated.expires, 1_700_001_860_000);
    let header = Header::decode(&updated.bytes).expect("a header");
    assert_eq!((header.version, header.max_deadline), (1_700_000_000_001, 1_700_028_800_000));
    let gone = step(1_700_000_120_000, b'd', 0, 0x1a, b"");
    // What was left of the session, and the floor, which is 30 minutes in the example.
    assert_eq!(gone.expires, 1_700_001_860_000 + 1_800_000);
    assert_eq!(Header::decode(&gone.bytes).expect("a header").kind, Kind::Tombstone);
    let (command, stamp, scope) =
        internals::command(&example_instruction(b's', 0), Vec::new().into()).expect("a command");
    assert!(matches!(&command, Command::Write(write) if write.condition == Condition::Live));
    let (_, effect) = protocol::apply(stored.as_ref(), 1_700_000_180_000, &command, stamp, scope);
    assert_eq!(effect, Effect::None);
}

// ---- a session as it stands on a server

fn bulk(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(bytes) => bytes,
        reply => panic!("{reply:?}"),
    }
}

fn get(client: &mut Client, key: impl AsRef<[u8]>) -> Vec<u8> {
    bulk(client.command(&[b"GET".as_slice(), key.as_ref()]).expect("an answer"))
}

fn integer(client: &mut Client, command: &str, key: impl AsRef<[u8]>) -> i64 {
    match client.command(&[command.as_bytes(), key.as_ref()]).expect("an answer") {
        Reply::Int(number) => number,
        reply => panic!("{reply:?}"),
    }
}

/// The worked example of the document, on a real server.
#[tokio::test]
async fn a_session_on_a_server_is_what_the_document_says() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let mut client = server.client().expect("a client");
    let ring =
        SessionRing::builder().name("shop").node("a", server.address()).connect().await.expect("a ring");
    let half_hour = Duration::from_secs(1800);
    let lifetime = Lifetime::new(half_hour, 16 * half_hour).expect("a lifetime");
    let logins = ring.sessions::<serde_json::Value>("login").codec(Json).lifetime(lifetime);
    let id = example_id();
    logins.create_with_id(&id, &serde_json::json!({"user": 7})).await.expect("created");

    let key = Keyspace::new("shop", "login").key(&id);
    let stored = get(&mut client, key.as_bytes());
    let record = Record::decode(&stored).expect("a record");
    assert_eq!(&stored[..14], b"\x01L\0\x03\0\0\0\0\0\0\0\0\0\x01");
    assert_eq!(record.payload, br#"{"user":7}"#);
    let header = record.header;
    assert_eq!((header.kind, header.codec, header.stamp), (Kind::Live, CodecId::JSON, Epoch::FIRST));
    assert_eq!(header.max_deadline, header.version + 28_800_000);
    let left = integer(&mut client, "PTTL", key.as_bytes());
    assert!((1_740_000..=1_800_000).contains(&left), "{left}");

    let keys = MetaKeys::new("shop");
    let fence = Fence::decode(&get(&mut client, &keys.fence)).expect("a fence");
    assert_eq!((fence.protocol, fence.epoch, fence.cluster), (1, Epoch::FIRST, Token::of(b"shop").get()));
    assert_eq!(get(&mut client, &keys.node), b"a");
    assert_eq!(get(&mut client, &keys.seq), b"1");
    assert_eq!(get(&mut client, &keys.incarnation).len(), 8);
    let document = Document::decode(&get(&mut client, &keys.document)).expect("a document");
    assert_eq!(document.fence(), fence);
    for key in [&keys.fence, &keys.document, &keys.incarnation, &keys.node, &keys.seq] {
        assert_eq!(integer(&mut client, "PTTL", key), -1, "{key} never expires");
    }
    assert_eq!(client.command(&["DBSIZE"]).expect("an answer"), Reply::Int(6), "and nothing else");

    logins.delete(&id).await.expect("logged out");
    let stored = get(&mut client, key.as_bytes());
    let tombstone = Header::decode(&stored).expect("a header");
    assert_eq!((tombstone.kind, stored.len()), (Kind::Tombstone, Header::LEN));
    assert_eq!((tombstone.version, tombstone.max_deadline), (header.version + 1, header.max_deadline));
    // 15 minutes, and the clock skew that the ring allows, beyond the session.
    let left = integer(&mut client, "PTTL", key.as_bytes());
    assert!((2_642_000..=2_702_000).contains(&left), "{left}");
    assert_eq!(get(&mut client, &keys.seq), b"2");
}

/// What only a newer version writes is an error, never "no session", and stays as it is; a log-out succeeds.
#[tokio::test]
async fn what_only_newer_versions_write_is_an_error_and_stays() {
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    let mut client = server.client().expect("a client");
    let ring =
        SessionRing::builder().name("shop").node("a", server.address()).connect().await.expect("a ring");
    let sessions = ring.sessions::<Vec<u8>>("login");
    let (id, keyspace) = (example_id(), Keyspace::new("shop", "login"));
    let key = keyspace.key(&id);
    sessions.create_with_id(&id, &vec![1, 2, 3]).await.expect("created");
    let record = get(&mut client, key.as_bytes());
    let mut put = |at: usize, byte: u8| {
        let mut record = record.clone();
        record[at] = byte;
        let command: [&[u8]; 4] = [b"SET", key.as_bytes(), &record, b"KEEPTTL"];
        assert_eq!(client.command(&command).expect("an answer"), Reply::Simple("OK".into()));
        record
    };
    // A newer format, a sealed payload, a codec of the future.
    let newer = put(0, 2);
    assert!(sessions.get(&id).await.unwrap_err().is_upgrade_required());
    assert!(sessions.update(&id, Vec::clear).await.unwrap_err().is_upgrade_required());
    assert!(sessions.touch(&id).await.unwrap_err().is_upgrade_required());
    put(7, 1);
    assert!(sessions.get(&id).await.unwrap_err().is_upgrade_required());
    assert!(sessions.update(&id, Vec::clear).await.unwrap_err().is_upgrade_required());
    put(3, 99);
    assert!(sessions.get(&id).await.unwrap_err().is_corrupt());
    put(0, 2);
    assert_eq!(get(&mut server.client().expect("a client"), key.as_bytes()), newer);
    sessions.delete(&id).await.expect("logged out");
    assert_eq!(sessions.get(&id).await.expect("an answer"), None);
}
