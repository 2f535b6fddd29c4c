//! What each fuzz target checks: one function per parser, over any bytes. It panics where a promise is broken.
//!
//! The fuzz targets call these functions, and so does `tests/fuzz_checks.rs` of the library, over the seeds and
//! over random bytes: an ordinary `cargo test` exercises every one of them, without a fuzzer.

pub mod seeds;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sessionring::{
    SessionId, internals,
    protocol::{self, Command, Condition, Effect, Mode, Outcome, Scope, Stored},
    record::{Bincode, Codec, Header, IdError, Json, Key, Keyspace, Kind, MessagePack, Record},
    ring::Token,
    topology::{Epoch, Fence, Verdict},
};

/// Panics where these bytes break a promise.
pub type Check = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: [(&str, Check); 8] = [
    ("envelope", envelope),
    ("id", id),
    ("key", key),
    ("fence", fence),
    ("codecs", codecs),
    ("address", address),
    ("server_reply", server_reply),
    ("apply", apply),
];

/// A stored record: what decodes encodes to the same bytes, and all of them are looked at.
pub fn envelope(data: &[u8]) {
    match Header::decode(data) {
        Ok(header) => {
            assert_eq!(header.encode().as_slice(), &data[..Header::LEN]);
            assert_eq!(header.encode_client_part().as_slice(), &data[..Header::CLIENT_LEN]);
            let record = Record::decode(data).expect("its header decodes");
            assert_eq!((record.header, record.payload), (header, &data[Header::LEN..]));
            assert!(!format!("{record:?}").is_empty());
            assert!(header.version < 1 << 53 && header.max_deadline < 1 << 48);
            for len in 0..Header::LEN {
                assert!(Header::decode(&data[..len]).is_err());
            }
        }
        Err(error) => {
            assert_eq!(Record::decode(data).expect_err("its header does not decode"), error);
            assert!(!error.to_string().is_empty());
        }
    }
}

/// The text of a cookie: accepted is only what the library itself writes, and no error repeats any of it.
pub fn id(data: &[u8]) {
    if let Ok(foreign) = SessionId::foreign(data) {
        assert!(foreign.is_foreign() && foreign.as_bytes() == data);
        assert_eq!(foreign.token(), Token::of(data));
    } else {
        assert!(data.is_empty() || data.len() > 4096);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match SessionId::parse(text) {
        Ok(id) => {
            assert_eq!(id.expose(), text);
            let bytes: [u8; 24] = id.as_bytes().try_into().expect("24 bytes");
            assert_eq!(SessionId::from_bytes(bytes), id);
            assert_eq!(id.token(), Token::of(&bytes[..8]));
            assert_eq!(format!("{id:?}"), "SessionId(redacted)");
            assert_ne!(SessionId::foreign(text), Ok(id));
        }
        // The length says which error it is, so it can repeat nothing of the text.
        Err(error) => {
            let expected = if text.len() == 32 { IdError::Alphabet } else { IdError::Length(text.len()) };
            assert_eq!(error, expected);
        }
    }
}

/// A key as a node lists it, and the key of any names and id.
pub fn key(data: &[u8]) {
    match Key::parse(data) {
        Some(key) => check_key(key, data),
        None => assert_ne!(data.len(), 30),
    }
    let mut input = Input(data);
    let ring = String::from_utf8_lossy(input.sized()).into_owned();
    let namespace = String::from_utf8_lossy(input.sized()).into_owned();
    let keyspace = Keyspace::new(&ring, &namespace);
    if let Ok(id) = SessionId::foreign(input.0) {
        let key = keyspace.key(&id);
        assert_eq!((key.token(), key.prefix()), (id.token(), keyspace.prefix()));
        check_key(key, key.as_bytes());
        // The digest covers names and id, so none of them can be read from the key.
        let id = input.0;
        assert!(id.len() < 6 || !key.as_bytes().windows(id.len()).any(|window| window == id));
    }
}

fn check_key(key: Key, bytes: &[u8]) {
    assert_eq!(key.as_bytes(), bytes);
    assert_eq!(key.prefix(), &bytes[..6]);
    assert_eq!(key.token().get().to_be_bytes(), bytes[6..14]);
    assert_eq!(Key::parse(key.as_bytes()), Some(key));
    assert_eq!(format!("{key:?}").len(), "Key()".len() + 60);
}

/// What a node stores as its fence. The first 25 bytes are a client's, the rest is the node's.
pub fn fence(data: &[u8]) {
    let (client, stored) = data.split_at(data.len().min(Fence::LEN));
    let client = Fence::decode(client);
    for bytes in [data, stored] {
        if let Ok(fence) = Fence::decode(bytes) {
            assert_eq!(fence.encode().as_slice(), bytes);
        }
    }
    let Ok(mine) = client else { return };
    assert_eq!(mine.judge(None), Verdict::Uninitialised);
    let verdict = mine.judge(Some(stored));
    assert_eq!(verdict == Verdict::Accepted, stored == mine.encode());
    let Ok(theirs) = Fence::decode(stored) else {
        assert!(matches!(verdict, Verdict::UpgradeRequired(_) | Verdict::Corrupt));
        return;
    };
    let back = theirs.judge(Some(&mine.encode()));
    assert!(matches!(
        (verdict, back),
        (Verdict::Accepted, Verdict::Accepted)
            | (Verdict::Stale(_), Verdict::Behind(_))
            | (Verdict::Behind(_), Verdict::Stale(_))
            | (Verdict::Foreign(_), Verdict::Foreign(_))
    ));
    if let Verdict::Stale(epoch) = verdict {
        assert!(epoch > mine.epoch && theirs.cluster == mine.cluster);
    }
}

/// A payload, as many types and in every codec (the first byte chooses it). What decodes must encode, and decode
/// again to the same value.
pub fn codecs(data: &[u8]) {
    let Some((&choice, payload)) = data.split_first() else { return };
    match choice % 3 {
        0 => types(&Bincode, payload),
        1 => {
            types(&MessagePack, payload);
            // Only codecs that describe themselves can be read as anything.
            decode::<serde_json::Value>(&MessagePack, payload);
        }
        _ => {
            types(&Json, payload);
            decode::<serde_json::Value>(&Json, payload);
        }
    }
}

fn types<C>(codec: &C, payload: &[u8])
where
    C: Codec<String>
        + Codec<Vec<u64>>
        + Codec<Vec<String>>
        + Codec<(u8, i128, char, Option<bool>)>
        + Codec<Vec<Shape>>
        + Codec<HashMap<String, String>>
        + Codec<BTreeMap<u32, Vec<u8>>>
        + Codec<Login>,
{
    decode::<String>(codec, payload);
    decode::<Vec<u64>>(codec, payload);
    decode::<Vec<String>>(codec, payload);
    decode::<(u8, i128, char, Option<bool>)>(codec, payload);
    decode::<Vec<Shape>>(codec, payload);
    decode::<HashMap<String, String>>(codec, payload);
    decode::<BTreeMap<u32, Vec<u8>>>(codec, payload);
    decode::<Login>(codec, payload);
}

fn decode<T>(codec: &dyn Codec<T>, payload: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    match codec.decode(payload) {
        Ok(value) => {
            let bytes = codec.encode(&value).expect("a value that was decoded");
            let again = codec.decode(&bytes).expect("a value that was encoded");
            assert_eq!(again, value, "{}", codec.id());
            if let Some(rejoined) = internals::rejoined(codec.id(), payload) {
                codec.decode(&rejoined).expect("the same fields in another order");
            }
        }
        // Messages go into logs: they are short, however long the session.
        Err(error) => assert!(error.to_string().len() < 500, "{error}"),
    }
}

/// What a session may look like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Login {
    pub user: u64,
    pub name: Option<String>,
    pub cart: Vec<Shape>,
    pub flags: BTreeMap<String, bool>,
    pub score: Number,
    #[serde(default)]
    pub theme: (i8, char),
}

/// Every form of an enum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Shape {
    Nothing,
    One(Box<Inner>),
    Two(i64, String),
    Named { a: Option<Inner>, b: [u16; 3] },
}

/// An enum in an enum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Inner {
    Id(u32),
    Text(String),
    Bytes(Vec<u8>),
}

/// A number of which every bit counts, but for what kind of NaN it is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.0.to_bits() == other.0.to_bits() || self.0.is_nan() && other.0.is_nan()
    }
}

/// What stands for a password in an address: whatever of the input says `PW` becomes this.
const PASSWORD: &str = "hunter2";

/// The address of a node: no error repeats any of it, and whatever is shown has no password.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains(PASSWORD) || text.len() > 1000 {
        return;
    }
    let text = text.replace("PW", PASSWORD);
    let shown = match internals::address(&text) {
        Ok(_) if text.starts_with("memory:") => return,
        Ok(shown) => shown,
        Err(error) => {
            assert!(error.is_configuration());
            assert!(!error.to_string().contains(PASSWORD), "{error} for {text:?}");
            return;
        }
    };
    // What stands before the last @ of the authority, and every parameter, may be a password.
    let (place, _parameters) = text.split_once(['?', '#']).unwrap_or((&text, ""));
    let shown_part = match place.split_once(':') {
        Some((_, rest)) if rest.starts_with("//") => {
            let end = rest[2..].find('/').map_or(rest.len(), |at| at + 2);
            let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
            &rest[host..]
        }
        _ => place,
    };
    if !shown_part.contains(PASSWORD) {
        for shown in shown {
            assert!(!shown.contains(PASSWORD), "{shown:?} for {text:?}");
        }
    }
}

/// The fence of the client to which a server answers in [`server_reply`].
pub const FENCE: Fence = Fence { protocol: 1, cluster: 0x0102, epoch: Epoch::new(7), nonce: 0x0304 };

/// Answers of a server, in RESP. The first byte says to what: its two lowest bits 0 a handshake, 1 a script,
/// 2 fetches, 3 reads; the bits above, how many operations. A handshake has the answers to INFO and TIME, a byte 255 between.
pub fn server_reply(data: &[u8]) {
    let Some((&what, answer)) = data.split_first() else { return };
    if what & 3 == 0 {
        let mut parts = answer.splitn(2, |&byte| byte == 0xff);
        let (info, time) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let Err(error) = internals::greeting(info, time, 1_700_000_000_000) {
            assert!(!error.to_string().is_empty());
        }
        return;
    }
    let batch = match what & 3 {
        1 => internals::Batch::Script,
        2 => internals::Batch::Fetches,
        _ => internals::Batch::Reads,
    };
    let (scripted, requests) = (batch == internals::Batch::Script, usize::from(what >> 2));
    match internals::server_reply(answer, &FENCE, batch, requests) {
        internals::Reply::Done(answers) => {
            assert_eq!(answers.len(), requests);
            for answer in answers {
                match answer {
                    Ok(Outcome::Absent) => {}
                    Ok(Outcome::Record(_)) => assert_ne!(batch, internals::Batch::Fetches),
                    Ok(Outcome::Fetched { .. }) => assert_eq!(batch, internals::Batch::Fetches),
                    Ok(Outcome::Applied(version)) => assert!(scripted && version < 1 << 63),
                    Ok(_) => assert_ne!(batch, internals::Batch::Reads),
                    Err(error) => assert!(scripted && !error.to_string().is_empty()),
                }
            }
        }
        internals::Reply::Refused(stored) => {
            // A script refuses under the client's own fence when another ring's script answers; whoever looks at
            // the refusal must find a reason.
            assert!(scripted || stored.as_deref() != Some(&FENCE.encode()));
        }
        internals::Reply::Failed(error) => assert!(!error.to_string().is_empty()),
        _ => {}
    }
}

/// Any sequence of commands on one record, by a clock that only goes forward, with somebody else's bytes put under
/// the key now and then. See [`Script`] for what the bytes say.
pub fn apply(data: &[u8]) {
    let mut input = Input(data);
    let mut node = Script { now: 1_700_000_000_000, stored: None };
    // Long sequences find nothing that short ones do not, and are slow.
    for _ in 0..200 {
        let Some(step) = input.byte() else { break };
        node.step(step, &mut input);
    }
}

/// One record, and the time.
///
/// A step is two bytes. Of the first, bits 0 to 3 choose the command, `i t c s u v d D r ? m M l e` as in a script's
/// call (`?` is a fetch); 14 instead plants bytes (one byte of length, then the bytes) that live for an hour; after 15 one
/// more byte says whether it is `n` (even) or `f`; bits 4 to 7 choose how much time goes by before. The second, which a planting step does not have, is the scope: bits 0 and 1 the mode,
/// bits 2 and 3 the `since`. Each command is followed by its fields, one byte each: two times, what is added to the
/// version (for `v` and `f`), the number of the operation, and the payload (a byte of length, then the bytes). An install has
/// two times, kind (even is live) and version, and the payload.
struct Script {
    now: u64,
    stored: Option<Stored>,
}

/// The last that a record can have.
const LAST_VERSION: u64 = (1 << 53) - 1;

/// Of all that is written.
const STAMP: Epoch = Epoch::new(7);

const HOUR: u64 = 3_600_000;
/// Idle lifetimes, absolute ones, floors and pauses. The last is the longest that the library sends.
const TIMES: [u64; 8] = [0, 1, 2, 1000, HOUR, HOUR + 1, 24 * HOUR, 100 * 366 * 24 * HOUR];

impl Script {
    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        self.now += match step >> 4 {
            0..=8 => 0,
            9..=11 => 1,
            pause => TIMES[usize::from(pause - 9)],
        };
        self.stored.take_if(|stored| stored.expires < self.now);
        let how = match usize::from(step & 15) {
            14 => {
                let bytes = input.sized();
                self.stored = Some(internals::stored(bytes.to_vec(), self.now + HOUR));
                return;
            }
            15 => b"nf"[usize::from(input.byte().unwrap_or(0) & 1)],
            how => b"itcsuvdDr?mMle"[how],
        };
        let mut instruction = [0; internals::INSTRUCTION_LEN];
        let mut set = |at: usize, bytes: &[u8]| instruction[at..at + bytes.len()].copy_from_slice(bytes);
        let scope = input.byte().unwrap_or(0);
        set(0, &[how, b"sucs"[usize::from(scope & 3)]]);
        set(7, &[[1, 6, 7, 7][usize::from(scope >> 2 & 3)]]);
        let time = |byte: u8| TIMES[usize::from(byte & 7)];
        let short = |number: u64| number.to_be_bytes()[2..].to_vec();
        let stamped = |kind: &[u8]| [kind, &[0; 5], &short(STAMP.get())].concat();
        let mut payload = &[][..];
        match how {
            b't' => set(8, &short(time(input.byte().unwrap_or(4)))),
            b'm' | b'M' => {
                let deadline = input.byte().unwrap_or(4);
                let passed = u64::from(deadline >> 3);
                set(8, &short(self.now + time(deadline) - passed));
                set(14, &short(self.now + time(input.byte().unwrap_or(6))));
                let live = input.byte().unwrap_or(0).is_multiple_of(2);
                set(27, &[input.byte().unwrap_or(0)]);
                set(28, &stamped(if live { b"\x01L\x01" } else { b"\x01T\0" }));
                payload = input.sized();
            }
            b'c' | b's' | b'u' | b'v' | b'd' | b'D' | b'n' | b'f' => {
                set(8, &short(time(input.byte().unwrap_or(4))));
                let second = input.byte().unwrap_or(6);
                match how {
                    b'n' => set(14, &short(self.now + time(second) - u64::from(second >> 3))),
                    _ => set(14, &short(time(second))),
                }
                let dead = b"dD".contains(&how);
                set(28, &stamped(if dead { b"\x01T\0" } else { b"\x01L\0" }));
                if how == b'f' {
                    set(28, b"\x01T\x02");
                }
                if how == b'n' {
                    set(27, &[7]);
                }
                if how == b'v' || how == b'f' {
                    let version = self.usable(Epoch::FIRST).map_or(7, |header| header.version);
                    let off = u64::from(input.byte().unwrap_or(0) % 3);
                    set(20, &(version + off).to_be_bytes());
                }
                set(49, &[input.byte().unwrap_or(0)]);
                if !dead {
                    set(31, &[u8::from(how != b'f')]);
                    payload = input.sized();
                }
            }
            _ => {}
        }
        let payload = Bytes::copy_from_slice(payload);
        if how == b'?' {
            // No script does it; its scope is written like that of the recheck.
            instruction[0] = b'r';
            let (_, _, scope) = internals::command(&instruction, payload).expect("a recheck");
            return self.execute(&Command::Fetch, scope);
        }
        let (command, stamp, scope) =
            internals::command(&instruction, payload.clone()).expect("a command's bytes");
        assert_eq!(internals::instruction(&command, stamp, scope), (instruction, &*payload));
        self.execute(&command, scope);
    }

    /// The header of a record that is valid since then.
    fn valid(&self, since: Epoch) -> Option<Header> {
        let header = Header::decode(&self.stored.as_ref()?.bytes).ok()?;
        (header.stamp >= since).then_some(header)
    }

    /// Whether there is a tombstone that says where the session goes on.
    fn forwards(&self) -> bool {
        let Some(bytes) = self.stored.as_ref().map(|stored| &stored.bytes) else { return false };
        let until = bytes.get(Header::LEN..Header::LEN + 6);
        let until = until.map_or(0, |until| until.iter().fold(0, |n, &b| n << 8 | u64::from(b)));
        self.now < until && Header::decode(bytes).is_ok_and(|header| header.forward)
    }

    fn live(&self, since: Epoch) -> Option<Header> {
        self.valid(since).filter(|header| header.kind == Kind::Live)
    }

    /// The header of a live session that a write can work on.
    fn usable(&self, since: Epoch) -> Option<Header> {
        self.live(since).filter(|header| header.version < LAST_VERSION)
    }

    /// Whether there are bytes that are no record.
    fn garbage(&self) -> bool {
        self.stored
            .as_ref()
            .is_some_and(|stored| !stored.bytes.is_empty() && Header::decode(&stored.bytes).is_err())
    }

    /// Before which a session does not end, whatever is written: while its token moves, its end stays.
    fn earliest(&self, scope: Scope) -> u64 {
        let moving = scope.mode != Mode::Settled;
        self.stored.as_ref().filter(|_| moving).map_or(0, |stored| stored.expires)
    }

    fn apply(&self, command: &Command, scope: Scope) -> (Outcome, Effect) {
        protocol::apply(self.stored.as_ref(), self.now, command, STAMP, scope)
    }

    fn execute(&mut self, command: &Command, scope: Scope) {
        let read = self.apply(&Command::Read, scope);
        let expected = match &self.stored {
            Some(stored) => Outcome::Record(stored.bytes.clone()),
            None => Outcome::Absent,
        };
        assert_eq!(read, (expected, Effect::None));

        let (outcome, effect) = self.apply(command, scope);
        let changes = matches!(
            command,
            Command::Write(_) | Command::Touch(_) | Command::Delete(_) | Command::Forward(_)
        );
        match self.valid(scope.since) {
            Some(header) if header.kind == Kind::Tombstone => {
                assert_eq!(effect == Effect::None, *command != Command::Erase, "a tombstone is terminal");
                let copy = matches!(command, Command::Forward(forward)
                    if header.forward && forward.operation == header.operation);
                let follows = match command {
                    Command::Write(write) => !write.condition.creates(),
                    Command::Release => false,
                    _ => true,
                };
                if copy {
                    assert_eq!(outcome, Outcome::Applied(header.version));
                } else if changes || matches!(command, Command::Inspect | Command::Release) {
                    let bytes = self.stored.as_ref().expect("a tombstone").bytes.clone();
                    let forwarded = follows && self.forwards();
                    assert_eq!(outcome, if forwarded { Outcome::Forwarded(bytes) } else { Outcome::Deleted });
                }
            }
            Some(header) if changes && header.pending && scope.mode == Mode::Unchecked => {
                assert_eq!((&outcome, &effect), (&Outcome::Pending, &Effect::None));
            }
            Some(_) => assert_ne!(outcome, Outcome::Pending),
            None if changes && scope.mode == Mode::Unchecked => {
                assert_eq!(effect, Effect::None, "the source was not asked");
                let refused = self.garbage() && !matches!(command, Command::Delete(_));
                assert_eq!(outcome == Outcome::Absent, !refused);
            }
            None => {}
        }
        if let Outcome::Fetched { record, deadline } = &outcome {
            let stored = self.stored.as_ref().expect("what was fetched");
            assert_eq!((record, deadline), (&stored.bytes, &stored.expires));
            assert!(self.valid(scope.since).is_some() && effect == Effect::None);
        }
        self.check_effect(command, scope, &outcome, &effect);
        self.take(effect);
        self.repeat(command, scope, outcome);
    }

    fn check_effect(&self, command: &Command, scope: Scope, outcome: &Outcome, effect: &Effect) {
        match effect {
            Effect::None => {
                if let Outcome::Applied(version) = outcome {
                    let (operation, left) = match command {
                        Command::Write(write) => (write.operation, self.usable(scope.since)),
                        Command::Forward(forward) => (forward.operation, self.valid(scope.since)),
                        command => panic!("{command:?} did nothing"),
                    };
                    let header = left.expect("what a repeated command left");
                    assert_eq!((operation, *version), (header.operation, header.version));
                }
            }
            Effect::Put(put) => {
                let record = Record::decode(&put.bytes).expect("a record of ours");
                assert_eq!(*outcome, Outcome::Applied(record.header.version));
                assert_eq!(record.header.stamp, STAMP);
                if let Command::Install(install) = command {
                    assert_eq!(self.valid(scope.since), None, "a record was written over");
                    assert!(install.for_logout || !self.garbage());
                    assert_eq!((&record.header, record.payload), (&install.header(STAMP), &*install.payload));
                    assert_eq!(record.header.pending, record.header.kind == Kind::Live);
                    assert!(put.expires == install.deadline && self.now <= put.expires);
                    return;
                }
                assert!(!record.header.pending);
                let usable = self.usable(scope.since);
                match usable {
                    Some(old) => {
                        assert_eq!(record.header.version, old.version + 1);
                        assert_eq!(
                            record.header.max_deadline, old.max_deadline,
                            "an absolute deadline moved"
                        );
                    }
                    None => match command {
                        Command::Write(write)
                            if let Condition::Successor { version, max_deadline } = write.condition =>
                        {
                            assert_eq!(
                                (record.header.version, record.header.max_deadline),
                                (version, max_deadline)
                            );
                            assert!(self.now <= max_deadline);
                        }
                        _ => assert_eq!(record.header.version, self.now),
                    },
                }
                self.check_put(command, scope, put, &record, usable.is_some());
            }
            Effect::Expire(at) => {
                let header = self.usable(scope.since).expect("a live session");
                let Command::Touch(idle) = command else { panic!("{command:?} touched") };
                let end = self.earliest(scope).max(self.now + idle);
                assert_eq!(*at, header.max_deadline.min(end));
                assert_eq!(*outcome, Outcome::Applied(header.version));
            }
            Effect::Remove => match command {
                Command::Release => assert!(self.live(scope.since).is_some()),
                Command::Erase => assert!(self.valid(Epoch::new(0)).is_some()),
                command => panic!("{command:?} removed something"),
            },
            _ => {}
        }
    }

    fn check_put(&self, command: &Command, scope: Scope, put: &Stored, record: &Record<'_>, was_live: bool) {
        let header = &record.header;
        match command {
            Command::Write(write) => {
                assert_eq!((header.kind, header.operation), (Kind::Live, write.operation));
                assert_eq!((header.codec, header.schema), (write.codec, write.schema));
                assert_eq!(header.seal, write.seal);
                assert_eq!(record.payload, &*write.payload);
                let earliest = if was_live { self.earliest(scope) } else { 0 };
                assert_eq!(put.expires, header.max_deadline.min(earliest.max(self.now + write.idle)));
                let needs_one = matches!(write.condition, Condition::Live | Condition::Version(_));
                assert!(was_live || !needs_one, "a session that is gone came back");
                assert!(!was_live || !write.condition.creates(), "a session was written over");
                // Where bytes that are no record stand, no write happens.
                assert!(was_live || self.valid(scope.since).is_none() && !self.garbage());
            }
            Command::Delete(delete) => {
                assert_eq!((header.kind, header.operation), (Kind::Tombstone, delete.operation));
                assert!(record.payload.is_empty());
                let leftover = self.valid(scope.since).is_none() && !self.garbage();
                let old = self.stored.as_ref().filter(|_| !leftover);
                let old = old.map_or(self.now, |stored| stored.expires.max(self.now));
                assert!(put.expires >= old + delete.floor, "a log-out is forgotten before the session");
                assert!(!delete.upsertable || put.expires >= header.max_deadline + delete.floor);
            }
            Command::Forward(forward) => {
                assert!(was_live && header.forward && header.kind == Kind::Tombstone);
                assert_eq!(header.operation, forward.operation);
                let until = (self.now + forward.grace).to_be_bytes();
                assert_eq!(record.payload, [&until[2..], &forward.successor].concat());
                let old = self.stored.as_ref().map_or(0, |stored| stored.expires.max(self.now));
                assert_eq!(put.expires, old + forward.floor, "it is forgotten before the session");
            }
            command => panic!("{command:?} stored something"),
        }
    }

    fn take(&mut self, effect: Effect) {
        match (effect, &mut self.stored) {
            (Effect::Put(put), stored) => *stored = Some(put),
            (Effect::Expire(at), Some(stored)) => stored.expires = at,
            (Effect::Remove, stored) => *stored = None,
            _ => {}
        }
        self.stored.take_if(|stored| stored.expires < self.now);
    }

    /// A second copy at the same time changes nothing, whatever the command.
    fn repeat(&mut self, command: &Command, scope: Scope, first: Outcome) {
        if self.stored.is_none() {
            return;
        }
        let (second, effect) = self.apply(command, scope);
        let before = self.stored.clone();
        self.take(effect);
        assert_eq!(self.stored, before, "a second {command:?} changed the record");
        match (command, first) {
            // Nothing can follow the last version, its own copy neither.
            (_, Outcome::Applied(LAST_VERSION)) => {}
            (Command::Write(_) | Command::Touch(_) | Command::Forward(_), first @ Outcome::Applied(_)) => {
                assert_eq!(second, first)
            }
            (Command::Delete(_), Outcome::Applied(_)) => assert_eq!(second, Outcome::Deleted),
            (Command::Install(_), Outcome::Applied(_)) => assert_eq!(second, Outcome::Exists),
            _ => {}
        }
    }
}

/// Bytes that are taken from the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A byte of length, then as many bytes, or as many as there are.
    fn sized(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }
}
