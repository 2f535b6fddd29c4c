//! Sealed sessions and rings with a secret, with the eyes of somebody who can read and write the servers.

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use sessionring::{
    Error, RingSecret, SealingKeys, SessionId, SessionRing, Sessions,
    record::{Header, Json, Key, Keyspace},
};
use sessionring_testkit::{Client, RedisServer, Reply};
use support::{Login, login, logins, server};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn keys() -> SealingKeys {
    SealingKeys::new(1, &OLD).unwrap()
}

fn sealed(ring: &SessionRing) -> Sessions<Login> {
    logins(ring).codec(Json).seal(keys())
}

/// One server, a ring on it, and somebody who reads and writes what is stored there.
struct Attacked {
    _server: RedisServer,
    ring: SessionRing,
    client: Client,
}

impl Attacked {
    async fn new() -> Attacked {
        let server = server();
        let ring = support::nodes([server.address()]).connect().await.unwrap();
        Attacked { ring, client: server.client().unwrap(), _server: server }
    }

    fn key(&self, namespace: &str, id: &SessionId) -> Key {
        Keyspace::new(self.ring.name(), namespace).key(id)
    }

    fn read(&mut self, key: &Key) -> Vec<u8> {
        match self.client.command(&[b"GET", key.as_bytes()]).unwrap() {
            Reply::Bulk(bytes) => bytes,
            reply => panic!("{reply:?}"),
        }
    }

    fn write(&mut self, key: &Key, record: &[u8]) {
        let command: [&[u8]; 4] = [b"SET", key.as_bytes(), record, b"KEEPTTL"];
        assert_eq!(self.client.command(&command).unwrap(), Reply::Simple("OK".into()));
    }
}

fn seal_of(record: &[u8]) -> u16 {
    Header::decode(record).unwrap().seal
}

on_both! {
    async fn a_sealed_session_from_log_in_to_log_out(ring: SessionRing) {
        let logins = sealed(&ring);
        let id = logins.create(&login(7)).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(7)));
        logins.set(&id, &login(8)).await.unwrap();
        logins.update(&id, |l| l.user += 1).await.unwrap();
        logins.touch(&id).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), Some(login(9)));
        assert_eq!(logins.visit(&id).await.unwrap(), Some(login(9)));
        logins.delete(&id).await.unwrap();
        assert_eq!(logins.get(&id).await.unwrap(), None);
        assert!(logins.set(&id, &login(1)).await.unwrap_err().is_deleted());
    }

    async fn many_sealed_sessions_at_once(ring: SessionRing) {
        let logins = sealed(&ring);
        let values: Vec<Login> = (0..100).map(login).collect();
        let ids: Vec<SessionId> = logins.create_many(&values).await.into_iter().map(Result::unwrap).collect();
        assert!(logins.update_many(&ids, |_, l| l.user += 1).await.iter().all(Result::is_ok));
        let sessions: Vec<_> = ids.iter().take(50).map(|id| (id.clone(), login(0))).collect();
        assert!(logins.set_many(&sessions).await.iter().all(Result::is_ok));
        let read: Vec<u64> = logins.get_many(&ids).await.into_iter().map(|l| l.unwrap().unwrap().user).collect();
        assert_eq!(read, (0..100).map(|n| if n < 50 { 0 } else { n + 1 }).collect::<Vec<_>>());
    }

    async fn a_key_is_changed_in_three_deploys(ring: SessionRing) {
        let old = || SealingKeys::new(1, &OLD).unwrap();
        let new = || SealingKeys::new(2, &NEW).unwrap();
        let deploys = [
            old(),
            old().also_open(2, &NEW).unwrap(),
            new().also_open(1, &OLD).unwrap(),
            new(),
        ].map(|keys| logins(&ring).seal(keys));
        let id = deploys[0].create(&login(0)).await.unwrap();
        // Each deploy runs beside the one before, and both write and read.
        for both in deploys.windows(2) {
            for (writer, reader) in [(0, 1), (1, 0), (1, 1)] {
                both[writer].update(&id, |l| l.user += 1).await.unwrap();
                both[reader].get(&id).await.unwrap().unwrap();
            }
        }
        assert_eq!(deploys[3].get(&id).await.unwrap(), Some(login(9)));
        let error = deploys[0].get(&id).await.unwrap_err();
        assert!(error.is_upgrade_required() && error.to_string().contains("sealed with key 2"), "{error}");
    }

    async fn sealing_is_introduced_in_three_deploys(ring: SessionRing) {
        let plain = logins(&ring);
        let (opens, introducing, seals) = (
            logins(&ring).open_sealed(keys()),
            logins(&ring).seal(keys().accept_unsealed()),
            logins(&ring).seal(keys()),
        );
        let id = plain.create(&login(0)).await.unwrap();
        opens.update(&id, |l| l.user += 1).await.unwrap();
        assert_eq!(plain.get(&id).await.unwrap(), Some(login(1)), "nothing is sealed yet");
        introducing.update(&id, |l| l.user += 1).await.unwrap();
        assert_eq!(opens.get(&id).await.unwrap(), Some(login(2)));
        assert_eq!(seals.get(&id).await.unwrap(), Some(login(2)));
        assert!(plain.get(&id).await.unwrap_err().is_upgrade_required());
        // An update by one who only opens goes back to what everyone reads.
        opens.update(&id, |l| l.user += 1).await.unwrap();
        assert_eq!(plain.get(&id).await.unwrap(), Some(login(3)));
        let error = seals.get(&id).await.unwrap_err();
        assert!(error.is_corrupt() && error.to_string().contains("accept_unsealed"), "{error}");
    }

    async fn the_limit_counts_what_the_application_stores(ring: SessionRing) {
        let exactly = serde_json::to_vec(&login(7)).unwrap().len();
        let fits = sealed(&ring).max_bytes(exactly);
        let id = fits.create(&login(7)).await.unwrap();
        assert_eq!(fits.get(&id).await.unwrap(), Some(login(7)));
        assert!(fits.clone().max_bytes(exactly - 1).get(&id).await.unwrap_err().is_too_large());
    }
}

#[tokio::test]
async fn a_server_does_not_show_what_is_in_a_session() {
    let mut attacked = Attacked::new().await;
    let id = sealed(&attacked.ring).create(&login(7)).await.unwrap();
    let key = attacked.key("login", &id);
    let (first, book) = (attacked.read(&key), b"book");
    assert!(!first.windows(4).any(|part| part == book));
    // The same session again looks like another.
    sealed(&attacked.ring).set(&id, &login(7)).await.unwrap();
    let again = attacked.read(&key);
    let (nonce, text) = (Header::LEN..Header::LEN + 24, Header::LEN + 24..first.len() - 16);
    assert_ne!(first[nonce.clone()], again[nonce]);
    assert_ne!(first[text.clone()], again[text]);
    logins(&attacked.ring).codec(Json).open_sealed(keys()).set(&id, &login(7)).await.unwrap();
    assert!(attacked.read(&key).windows(4).any(|part| part == book), "the test would see it");
}

/// Whatever single bit is flipped: the session is read as it was, or is an error, or is gone; it is never another one.
/// It may be read only where the bytes are the node's or change when a session moves, gone only where they say when it
/// ends or since when it counts.
#[tokio::test]
async fn a_flipped_bit_anywhere_makes_no_other_session() {
    let mut attacked = Attacked::new().await;
    let logins = sealed(&attacked.ring);
    let id = logins.create(&login(7)).await.unwrap();
    let key = attacked.key("login", &id);
    let record = attacked.read(&key);
    for at in 0..record.len() {
        for bit in 0..8 {
            let mut wrong = record.clone();
            wrong[at] ^= 1 << bit;
            attacked.write(&key, &wrong);
            match logins.get(&id).await {
                Ok(Some(value)) => {
                    assert_eq!(value, login(7));
                    assert!(matches!(at, 2 | 8..14 | 22..35), "byte {at} bit {bit} is not protected");
                }
                Ok(None) => assert!(matches!(at, 8..14 | 29..35), "byte {at} bit {bit} ended the session"),
                Err(error) => {
                    assert!(error.is_corrupt() || error.is_upgrade_required(), "byte {at}: {error}")
                }
            }
        }
    }
    // Nothing at all would be no session, as if it had been deleted.
    for len in 1..record.len() {
        attacked.write(&key, &record[..len]);
        assert!(logins.get(&id).await.unwrap_err().is_corrupt(), "cut to {len}");
    }
    attacked.write(&key, &[&*record, b"x"].concat());
    assert!(logins.get(&id).await.unwrap_err().is_corrupt());
    attacked.write(&key, &record);
    assert_eq!(logins.get(&id).await.unwrap(), Some(login(7)));
}

#[tokio::test]
async fn a_record_in_another_place_is_refused() {
    let mut attacked = Attacked::new().await;
    let ring = attacked.ring.clone();
    let logins = sealed(&ring);
    let admins = ring.sessions::<Login>("admin").codec(Json).seal(keys());
    let (mine, theirs) = (logins.create(&login(1)).await.unwrap(), logins.create(&login(2)).await.unwrap());
    admins.create_with_id(&mine, &login(3)).await.unwrap();
    let place = attacked.key("login", &mine);
    let own = attacked.read(&place);
    for other in [attacked.key("login", &theirs), attacked.key("admin", &mine)] {
        let record = attacked.read(&other);
        attacked.write(&place, &record);
        let error = logins.get(&mine).await.unwrap_err();
        assert!(error.is_corrupt(), "{error}");
        assert!(logins.update(&mine, |l| l.user = 9).await.unwrap_err().is_corrupt());
        // The header of one with the payload of the other.
        attacked.write(&place, &[&own[..Header::LEN], &record[Header::LEN..]].concat());
        assert!(logins.get(&mine).await.unwrap_err().is_corrupt());
    }
    // It can still be ended.
    logins.delete(&mine).await.unwrap();
    assert_eq!(logins.get(&mine).await.unwrap(), None);
}

#[tokio::test]
async fn a_forged_session_without_a_seal_is_refused() {
    let mut attacked = Attacked::new().await;
    let logins = sealed(&attacked.ring);
    let id = logins.create(&login(7)).await.unwrap();
    let key = attacked.key("login", &id);
    let mut forged = attacked.read(&key)[..Header::LEN].to_vec();
    forged[6..8].fill(0);
    forged.extend_from_slice(br#"{"user":1,"cart":[]}"#);
    attacked.write(&key, &forged);
    assert!(logins.get(&id).await.unwrap_err().is_corrupt());
    // What the introduction of sealing costs as long as it takes.
    let introducing = support::logins(&attacked.ring).seal(keys().accept_unsealed());
    assert_eq!(introducing.get(&id).await.unwrap().unwrap().user, 1);
}

/// SECURITY.md says so: the version is the node's, and cannot be bound.
#[tokio::test]
async fn an_older_record_of_the_same_session_is_believed() {
    let mut attacked = Attacked::new().await;
    let logins = sealed(&attacked.ring);
    let id = logins.create(&login(1)).await.unwrap();
    let key = attacked.key("login", &id);
    let older = attacked.read(&key);
    logins.set(&id, &login(2)).await.unwrap();
    attacked.write(&key, &older);
    assert_eq!(logins.get(&id).await.unwrap(), Some(login(1)));
    logins.delete(&id).await.unwrap();
    attacked.write(&key, &older);
    assert_eq!(logins.get(&id).await.unwrap(), Some(login(1)));
}

#[tokio::test]
async fn the_next_write_seals_anew() {
    let mut attacked = Attacked::new().await;
    let old = sealed(&attacked.ring);
    let new = logins(&attacked.ring).seal(SealingKeys::new(2, &NEW).unwrap().also_open(1, &OLD).unwrap());
    let id = old.create(&login(7)).await.unwrap();
    let key = attacked.key("login", &id);
    new.get(&id).await.unwrap();
    new.touch(&id).await.unwrap();
    assert_eq!(seal_of(&attacked.read(&key)), 1, "neither a read nor a touch writes it");
    new.update(&id, |l| l.user += 1).await.unwrap();
    assert_eq!(seal_of(&attacked.read(&key)), 2);
}

#[tokio::test]
async fn another_key_of_the_same_number_opens_nothing() {
    let attacked = Attacked::new().await;
    let id = sealed(&attacked.ring).create(&login(7)).await.unwrap();
    let wrong = logins(&attacked.ring).seal(SealingKeys::new(1, &NEW).unwrap());
    assert!(wrong.get(&id).await.unwrap_err().is_corrupt());
    assert!(wrong.update(&id, |l| l.user = 1).await.unwrap_err().is_corrupt());
    assert_eq!(sealed(&attacked.ring).get(&id).await.unwrap(), Some(login(7)), "and changes nothing");
}

#[test]
fn keys_and_secrets_that_are_none_say_what_to_do() {
    for (error, says) in [
        (Error::from(SealingKeys::new(0, &OLD).unwrap_err()), "from 1 up"),
        (Error::from(SealingKeys::new(1, b"secret").unwrap_err()), "32 bytes, this has 6"),
        (Error::from(keys().also_open(1, &NEW).unwrap_err()), "two sealing keys of number 1"),
        (Error::from(RingSecret::new(b"secret").unwrap_err()), "at least 32 bytes, this has 6"),
    ] {
        assert!(error.is_configuration() && error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn nothing_shows_a_key_or_a_secret() {
    let builder = support::nodes(["memory:".to_owned()]).secret(RingSecret::new(&[0xab; 32]).unwrap());
    let shown = format!("{builder:?}");
    let ring = builder.connect().await.unwrap();
    let sessions = logins(&ring).seal(SealingKeys::new(1, &[0xab; 32]).unwrap());
    let shown = format!("{shown} {ring:?} {sessions:?} {:?}", Keyspace::with_secret("r", "n", None));
    assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"), "{shown}");
}

#[tokio::test]
async fn rings_of_different_secrets_share_servers_and_no_session() {
    let server = server();
    let secrets = [None, Some([1; 32]), Some([2; 32])];
    let mut rings = Vec::new();
    for secret in &secrets {
        let builder = support::nodes([server.address()]);
        let secret = secret.map(|bytes| RingSecret::new(&bytes).unwrap());
        let builder = secret.into_iter().fold(builder, |builder, secret| builder.secret(secret));
        rings.push(builder.connect().await.unwrap());
    }
    let foreign = SessionId::foreign("customer-4711").unwrap();
    for id in [SessionId::generate().unwrap(), foreign] {
        for (i, ring) in rings.iter().enumerate() {
            logins(ring).create_with_id(&id, &login(i as u64)).await.unwrap();
        }
        for (i, ring) in rings.iter().enumerate() {
            assert_eq!(logins(ring).get(&id).await.unwrap(), Some(login(i as u64)));
        }
        logins(&rings[1]).delete(&id).await.unwrap();
        assert_eq!(logins(&rings[0]).get(&id).await.unwrap(), Some(login(0)));
        assert_eq!(logins(&rings[2]).get(&id).await.unwrap(), Some(login(2)));
    }
}

/// The mover has neither secret nor keys: it goes by the token, and what it changes in a record is not bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_sessions_of_a_ring_with_a_secret_move() {
    let servers = support::servers(2);
    let ring = support::on(&servers[..1]).secret(RingSecret::new(&[7; 32]).unwrap()).connect().await.unwrap();
    let logins = sealed(&ring);
    let values: Vec<Login> = (0..200).map(login).collect();
    let mut ids: Vec<SessionId> = logins.create_many(&values).await.into_iter().map(Result::unwrap).collect();
    for i in 0..50_u64 {
        let id = SessionId::foreign(format!("customer-{i}")).unwrap();
        logins.create_with_id(&id, &login(1000 + i)).await.unwrap();
        ids.push(id);
    }
    ring.add_node("z", servers[1].address()).await.unwrap().wait().await.unwrap();
    let mut owners = BTreeMap::new();
    for (i, id) in ids.iter().enumerate() {
        let user = if i < 200 { i as u64 } else { 800 + i as u64 };
        assert_eq!(logins.get(id).await.unwrap(), Some(login(user)), "{i}");
        *owners.entry(ring.owner(id).to_string()).or_insert(0) += 1;
    }
    for (name, server) in [("a", &servers[0]), ("z", &servers[1])] {
        let Reply::Array(keys) = server.command(&["KEYS", "*"]).unwrap() else { panic!("no list") };
        let sessions = keys.iter().filter(|key| key.bytes().is_some_and(|key| Key::parse(key).is_some()));
        assert_eq!(sessions.count(), owners[name], "owner() says where a session is, foreign ids included");
    }
}

proptest! {
    /// Keys of one secret are as good as those of none: equal only for the same id.
    #[test]
    fn keys_with_a_secret_are_apart(
        a in prop::collection::vec(any::<u8>(), 1..40),
        b in prop::collection::vec(any::<u8>(), 1..40),
        secrets in any::<[[u8; 32]; 2]>(),
    ) {
        let [one, two] = secrets.map(|secret| {
            let secret = RingSecret::new(&secret).unwrap();
            Keyspace::with_secret("shop", "login", Some(&secret))
        });
        let [a_id, b_id] = [&a, &b].map(|id| SessionId::foreign(id).unwrap());
        prop_assert_eq!(one.key(&a_id) == one.key(&b_id), a == b);
        prop_assert_eq!(one.key(&a_id) == two.key(&a_id), secrets[0] == secrets[1]);
        prop_assert_eq!(one.key(&a_id), one.clone().key(&a_id));
    }
}
