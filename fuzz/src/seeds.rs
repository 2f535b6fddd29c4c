//! Where fuzzing starts from: small, valid inputs of each target, made by the library itself.
//!
//! `UPDATE_SEEDS=1 cargo test --test fuzz_checks seeds_are` writes them to `fuzz/seeds/TARGET/NAME`. Without it the test
//! compares: the seeds are golden bytes of every format, too.

use super::*;

/// Every seed: target, name, bytes.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add =
        |target: &'static str, name: &str, bytes: Vec<u8>| seeds.push((target, name.to_owned(), bytes));

    let live = header([b'L', 0, 1], 1_700_000_000_000, 1_700_086_400_000);
    let tombstone = header([b'T', 0, 0], 1_700_000_000_001, 1_700_086_400_000);
    let unknown = header([b'M', 0, 0], 1_700_000_000_001, 1_700_086_400_000);
    let pending = header([b'L', 1, 3], 1_700_000_000_002, 1_700_086_400_000);
    let last = header([b'L', 0, 2], (1 << 53) - 1, (1 << 48) - 1);
    add("envelope", "live", [&live[..], b"\x07payload"].concat());
    add("envelope", "tombstone", tombstone.clone());
    add("envelope", "unknown_kind", unknown.clone());
    add("envelope", "pending", [&pending[..], b"{}"].concat());
    let forward = [
        &header([b'T', 2, 0], 1_700_000_000_003, 1_700_086_400_000)[..],
        b"\x01\x8b\xcf\xe5\x68\x07",
        &[9; 24],
    ]
    .concat();
    add("envelope", "forward", forward.clone());
    add("envelope", "last_version", last.clone());
    add("envelope", "newer_format", b"\x02whatever comes".to_vec());

    let id = SessionId::from_bytes(std::array::from_fn(|i| i as u8 * 10));
    add("id", "generated", id.expose().into_bytes());
    add("id", "foreign", b"customer-4711".to_vec());
    add("id", "dashes", b"-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_".to_vec());

    add("key", "golden", Keyspace::new("sessionring", "login").key(&id).as_bytes().to_vec());
    add("key", "names", b"\x04shop\x05logincustomer-4711".to_vec());

    let mine = FENCE.encode().to_vec();
    let other = |change: fn(&mut Fence)| {
        let mut fence = FENCE;
        change(&mut fence);
        [&mine[..], &fence.encode()].concat()
    };
    add("fence", "none", mine.clone());
    add("fence", "same", other(|_| {}));
    add("fence", "stale", other(|fence| fence.epoch = Epoch::new(8)));
    add("fence", "behind", other(|fence| fence.epoch = Epoch::new(6)));
    add("fence", "foreign", other(|fence| fence.cluster += 1));
    add("fence", "other_topology", other(|fence| fence.nonce += 1));
    add("fence", "newer", [&mine[..], b"\x02newer"].concat());

    let login = Login {
        user: 70_000,
        name: Some("Zoë".into()),
        cart: vec![
            Shape::Nothing,
            Shape::One(Box::new(Inner::Text("book".into()))),
            Shape::Two(-300, "tea".into()),
            Shape::Named { a: Some(Inner::Bytes(vec![1, 2, 3])), b: [1, 255, 65_535] },
            Shape::Named { a: None, b: [0; 3] },
        ],
        flags: BTreeMap::from([("admin".into(), false), ("beta".into(), true)]),
        score: Number(0.1),
        theme: (-5, '☕'),
    };
    for (choice, name) in [(0, "bincode"), (1, "message_pack"), (2, "json")] {
        let mut add = |of: &str, bytes: Vec<u8>| {
            let bytes = [&[choice][..], &bytes].concat();
            add("codecs", &format!("{name}_{of}"), bytes);
        };
        add("login", encode(choice, &login));
        add("shapes", encode(choice, &login.cart));
        add("strings", encode(choice, &vec!["a".to_owned(), "long ".repeat(60)]));
        add("numbers", encode(choice, &vec![0_u64, 250, 251, 65_536, u64::MAX]));
        add("map", encode(choice, &HashMap::from([("key".to_owned(), "value".to_owned())])));
        add("bytes", encode(choice, &BTreeMap::from([(7_u32, vec![0_u8, 127, 255])])));
        add("tuple", encode(choice, &(7_u8, i128::MIN, 'é', Some(true))));
    }
    add("codecs", "bincode_claimed_length", b"\0\xfd\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec());
    add("codecs", "message_pack_claimed_length", b"\x01\xdd\xff\xff\xff\xff".to_vec());
    add("codecs", "json_deep", [&b"\x02"[..], &b"[".repeat(200)].concat());

    for (name, text) in [
        ("plain", "redis://127.0.0.1"),
        ("full", "redis://app:PW@[::1]:7000/3"),
        ("query", "redis://:PW@cache.internal:6379/0?protocol=resp3"),
        ("valkey", "valkey://cache.internal"),
        ("unix", "unix:/run/redis.sock?db=2&user=app&pass=PW"),
        ("memory", "memory:a"),
        ("bad_port", "redis://u:PW@h:x"),
        ("slash", "redis://u:P/PW@h"),
        ("tls", "rediss://app:PW@host/#insecure"),
    ] {
        add("address", name, text.into());
    }

    let fence = bulk(&FENCE.encode());
    let batch = |reads: bool, requests: u8| 1 | u8::from(reads) << 1 | requests << 2;
    let reply = |what: u8, parts: &[&[u8]]| [&[what][..], &parts.concat()].concat();
    add(
        "server_reply",
        "reads",
        reply(batch(true, 2), &[b"*4\r\n", &fence, b"$2\r\n17\r\n", b"$-1\r\n", &bulk(&live)]),
    );
    add(
        "server_reply",
        "reads_of_another_fence",
        reply(batch(true, 1), &[b"*3\r\n$3\r\nold\r\n$-1\r\n$-1\r\n"]),
    );
    add(
        "server_reply",
        "writes",
        reply(
            batch(false, 6),
            &[
                b"*7\r\n:18\r\n:1700000000000\r\n:0\r\n:-1\r\n:-2\r\n",
                b"*2\r\n:1\r\n",
                &bulk(&live),
                b"*2\r\n:4\r\n",
                &bulk(&unknown),
            ],
        ),
    );
    add(
        "server_reply",
        "inspected",
        reply(batch(false, 1), &[b"*2\r\n:0\r\n*3\r\n:2\r\n", &bulk(&live), b":3600000\r\n"]),
    );
    add(
        "server_reply",
        "moved",
        reply(batch(false, 3), &[b"*4\r\n:19\r\n:-3\r\n:-4\r\n*2\r\n:5\r\n", &bulk(&tombstone)]),
    );
    add(
        "server_reply",
        "forwarded",
        reply(batch(false, 1), &[b"*2\r\n:20\r\n*2\r\n:6\r\n", &bulk(&forward)]),
    );
    add(
        "server_reply",
        "fetched",
        reply(
            2 | 3 << 2,
            &[
                b"*6\r\n*2\r\n$10\r\n1700000000\r\n$1\r\n7\r\n*4\r\n",
                &fence,
                &bulk(&live),
                &bulk(&tombstone),
                b"$-1\r\n:3600000\r\n:-1\r\n:-2\r\n",
                &fence,
            ],
        ),
    );
    for (name, text) in [
        ("out_of_memory", "OOM command not allowed when used memory > 'maxmemory'."),
        ("wrong_type", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ] {
        let part = [&b"*2\r\n:0\r\n*2\r\n:3\r\n"[..], &bulk(text.as_bytes())].concat();
        add("server_reply", name, reply(batch(false, 1), &[&part]));
    }
    let more = reply(batch(true, 1), &[b"*4\r\n", &fence, b"$-1\r\n$-1\r\n$-1\r\n"]);
    add("server_reply", "one_answer_too_many", more);
    add("server_reply", "one_answer_too_few", reply(batch(false, 2), &[b"*2\r\n:0\r\n:1\r\n"]));
    add("server_reply", "unknown_number", reply(batch(false, 1), &[b"*2\r\n:0\r\n:-5\r\n"]));
    add("server_reply", "refused", reply(batch(false, 1), &[&bulk(b"another fence")]));
    add("server_reply", "no_fence", reply(batch(false, 1), &[b"$-1\r\n"]));
    add(
        "server_reply",
        "loading",
        reply(batch(false, 1), &[b"-LOADING Redis is loading the dataset in memory\r\n"]),
    );
    let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Persistence\r\nloading:0\r\n# Memory\r\n\
                maxmemory_policy:noeviction\r\n# Replication\r\nrole:master\r\n";
    let time = b"*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n";
    add("server_reply", "greeting", reply(0, &[&bulk(info.as_bytes()), b"\xff", time]));
    let replica = info.replace("role:master", "role:slave\r\nmaster_host:a\r\nmaster_port:1");
    add("server_reply", "replica", reply(0, &[&bulk(replica.as_bytes()), b"\xff", time]));
    add(
        "server_reply",
        "time_beyond_all_time",
        reply(0, &[&bulk(info.as_bytes()), b"\xff", b"*2\r\n$16\r\n9223372036854775\r\n$6\r\n808000\r\n"]),
    );

    // Numbers of commands as in `Script`: i t c s u v d D r ? m M l e, plant, n or f; then the scope.
    add(
        "apply",
        "life_of_a_session",
        vec![
            2, 0, 4, 6, 1, 1, b'a', 0, 0, 1, 0, 4, 5, 0, 4, 6, 0, 2, 1, b'b', 6, 0, 4, 6, 3, 3, 0, 4, 6, 4, 0,
        ],
    );
    add("apply", "conflict", vec![2, 0, 4, 6, 1, 0, 5, 0, 4, 6, 1, 2, 0, 3, 0, 4, 6, 3, 0]);
    let expiry = vec![2, 0, 1, 6, 1, 0, 0xd0, 0, 4, 0, 4, 6, 2, 0, 0xf1, 0, 7, 2, 0, 4, 6, 3, 0];
    add("apply", "expiry_and_again", expiry);
    add("apply", "upsert_after_log_out", vec![7, 0, 4, 6, 1, 4, 0, 4, 6, 2, 0, 0xe7, 0, 4, 6, 3]);
    // Create, forward twice, as another operation, set, log out, a second later recheck and create; a successor twice, too
    // late, and forwarded at once.
    add(
        "apply",
        "forwarded",
        vec![
            2, 0, 4, 6, 1, 1, b'a', 15, 1, 0, 4, 3, 0, 5, 2, b'k', b'y', 15, 1, 0, 4, 3, 0, 5, 0, 15, 1, 0,
            4, 3, 0, 6, 0, 3, 0, 4, 6, 2, 0, 6, 0, 4, 6, 3, 0xc8, 0, 2, 0, 4, 6, 4, 0,
        ],
    );
    add(
        "apply",
        "successor",
        vec![15, 0, 0, 4, 6, 1, 0, 15, 0, 0, 4, 6, 1, 0, 15, 1, 0, 4, 0, 0, 2, 0, 3, 0, 4, 6, 3, 0],
    );
    add("apply", "late_successor", vec![15, 0, 0, 4, 8, 1, 0, 0, 0]);
    // Create unchecked, install, set unchecked, checked and settled, fetch, install again, release, fetch.
    add(
        "apply",
        "carried_over",
        vec![
            2, 13, 4, 6, 1, 0, 10, 12, 4, 6, 0, 5, 1, b'a', 3, 13, 4, 6, 2, 0, 3, 14, 4, 6, 2, 0, 3, 12, 4,
            6, 2, 0, 9, 8, 10, 12, 4, 6, 0, 5, 0, 12, 8, 9, 8,
        ],
    );
    // Tombstones: installed, released, fetched, erased; installs that come late.
    add(
        "apply",
        "carried_tombstone",
        vec![
            11, 8, 4, 6, 1, 5, 0, 12, 8, 9, 8, 6, 13, 4, 6, 1, 8, 8, 13, 0, 10, 8, 9, 6, 0, 5, 0, 11, 8, 9,
            6, 0, 5, 0,
        ],
    );
    for (name, bytes) in [
        ("pending", &pending),
        ("unknown_kind", &unknown),
        ("last_version", &last),
        ("tombstone", &tombstone),
        ("forward", &forward),
        ("leftover", &[&live[..13], b"\x05", &live[14..]].concat()),
    ] {
        let plant = [&[14, bytes.len() as u8][..], bytes].concat();
        let steps = [
            0, 8, 8, 8, 9, 8, 3, 9, 4, 6, 1, 0, 1, 10, 4, 6, 9, 4, 6, 2, 10, 8, 4, 6, 0, 5, 0, 12, 8, 13, 8,
            2, 8, 4, 6, 3, 0,
        ];
        add("apply", name, [&plant[..], &steps].concat());
    }
    seeds
}

/// Kind, flags and codec; version; absolute deadline.
fn header([kind, flags, codec]: [u8; 3], version: u64, max_deadline: u64) -> Vec<u8> {
    let mut bytes = vec![1, kind, flags, codec, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    bytes.extend(0x1112_1314_1516_1718_u64.to_be_bytes());
    bytes.extend(&version.to_be_bytes()[1..]);
    bytes.extend(&max_deadline.to_be_bytes()[2..]);
    assert_eq!(bytes.len(), Header::LEN);
    bytes
}

fn encode<T: Serialize + DeserializeOwned>(choice: u8, value: &T) -> Vec<u8> {
    let bytes = match choice {
        0 => Bincode.encode(value),
        1 => MessagePack.encode(value),
        _ => Json.encode(value),
    };
    bytes.expect("a plain value")
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
