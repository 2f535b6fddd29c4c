//! Types that change while their sessions live: what is read, what is kept, what is an error, and what a corrupt session is.

mod support;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sessionring::{
    OnCorrupt, SealingKeys, SessionData, SessionId, SessionRing, Sessions, Upgrades,
    record::{Bincode, Codec, CodecError, CodecId, Header, Json, Keyspace, MessagePack},
};
use sessionring_testkit::Reply;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct V0 {
    user: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct V1 {
    user: u64,
    name: String,
}

impl SessionData for V1 {
    const VERSION: u16 = 1;

    fn upgrades() -> Upgrades<V1> {
        Upgrades::from(0, |old: V0| V1 { user: old.user, name: "?".into() })
    }
}

/// Has all fields of the version before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct V2 {
    user: u64,
    name: String,
    prefs: Prefs,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Prefs {
    theme: String,
    size: u128,
}

impl SessionData for V2 {
    const VERSION: u16 = 2;

    fn upgrades() -> Upgrades<V2> {
        V1::upgrades().then(1, |old| V2 { user: old.user, name: old.name, prefs: Prefs::default() })
    }
}

/// Lacks one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct V3 {
    user: u64,
    first: String,
    last: String,
}

impl SessionData for V3 {
    const VERSION: u16 = 3;

    fn upgrades() -> Upgrades<V3> {
        V2::upgrades().then(2, |old| V3 { user: old.user, first: old.name, last: String::new() })
    }
}

fn v1() -> V1 {
    V1 { user: 7, name: "Ada".into() }
}

fn v2() -> V2 {
    V2 { user: 7, name: "Ada".into(), prefs: Prefs { theme: "dark".into(), size: u128::MAX } }
}

trait AnyCodec: Codec<V0> + Codec<V1> + Codec<V2> + Codec<V3> + Copy {}
impl<C: Codec<V0> + Codec<V1> + Codec<V2> + Codec<V3> + Copy> AnyCodec for C {}

fn of<T: SessionData>(ring: &SessionRing, codec: impl Codec<T>) -> Sessions<T> {
    ring.versioned_sessions::<T>("login").codec(codec)
}

async fn older_versions_are_upgraded(ring: &SessionRing, codec: impl AnyCodec) {
    let plain = ring.sessions::<V0>("login").codec(codec);
    let id = plain.create(&V0 { user: 7 }).await.unwrap();
    let expected = V3 { user: 7, first: "?".into(), last: String::new() };
    assert_eq!(of::<V3>(ring, codec).get(&id).await.unwrap(), Some(expected.clone()));
    // A read writes nothing: the oldest program still reads it.
    assert_eq!(plain.get(&id).await.unwrap(), Some(V0 { user: 7 }));
    of::<V1>(ring, codec).update(&id, |l| l.name.push('!')).await.unwrap();
    let upgraded = of::<V3>(ring, codec).get(&id).await.unwrap().unwrap();
    assert_eq!(upgraded.first, "?!");
    of::<V3>(ring, codec).update(&id, |l| l.last = "L".into()).await.unwrap();
    let error = of::<V2>(ring, codec).get(&id).await.unwrap_err();
    assert!(error.is_upgrade_required() && error.to_string().contains("version 3"), "{error}");
}

async fn a_newer_version_is_served_and_kept(ring: &SessionRing, codec: impl AnyCodec) {
    let (older, newer) = (of::<V1>(ring, codec), of::<V2>(ring, codec));
    let id = newer.create(&v2()).await.unwrap();
    assert_eq!(older.get(&id).await.unwrap(), Some(v1()));
    older.update(&id, |l| l.name.push('!')).await.unwrap();
    let mut session = older.load(&id).await.unwrap().unwrap();
    for _ in 0..2 {
        session.name.push('!');
        older.save(&mut session).await.unwrap();
    }
    let mut behind = older.load(&id).await.unwrap().unwrap();
    newer.update(&id, |l| l.prefs.theme = "light".into()).await.unwrap();
    behind.user = 8;
    older.save_or_merge(&mut behind, |mine, theirs| theirs.user = mine.user).await.unwrap();
    assert!(older.update_many(std::slice::from_ref(&id), |_, l| l.name.push('!')).await[0].is_ok());
    let prefs = Prefs { theme: "light".into(), ..v2().prefs };
    let expected = V2 { user: 8, name: "Ada!!!!".into(), prefs };
    assert_eq!(newer.get(&id).await.unwrap(), Some(expected));
    // One who has not seen it stores what he knows, as what it is.
    older.set(&id, &v1()).await.unwrap();
    assert_eq!(newer.get(&id).await.unwrap(), Some(V2 { prefs: Prefs::default(), ..v2() }));
}

async fn the_same_version_keeps_what_it_does_not_know(ring: &SessionRing, codec: impl AnyCodec) {
    let (fewer, more) =
        (ring.sessions::<V0>("login").codec(codec), ring.sessions::<V2>("login").codec(codec));
    let id = more.create(&v2()).await.unwrap();
    fewer.update(&id, |l| l.user = 8).await.unwrap();
    assert_eq!(more.get(&id).await.unwrap(), Some(V2 { user: 8, ..v2() }));
}

/// As the first shape, with a field that has got another name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Renamed {
    #[serde(alias = "user")]
    customer: u64,
    name: String,
}

async fn a_field_with_two_names_is_written_under_one(
    ring: &SessionRing,
    codec: impl Codec<V1> + Codec<Renamed> + Copy,
) {
    let id = ring.sessions::<V1>("login").codec(codec).create(&v1()).await.unwrap();
    let renamed = ring.sessions::<Renamed>("login").codec(codec);
    for customer in 8..10 {
        renamed.update(&id, |l| l.customer = customer).await.unwrap();
        assert_eq!(renamed.get(&id).await.unwrap(), Some(Renamed { customer, name: "Ada".into() }));
    }
}

on_both! {
    async fn message_pack(ring: SessionRing) {
        older_versions_are_upgraded(&ring, MessagePack).await;
        a_newer_version_is_served_and_kept(&ring, MessagePack).await;
        the_same_version_keeps_what_it_does_not_know(&ring, MessagePack).await;
        a_field_with_two_names_is_written_under_one(&ring, MessagePack).await;
    }

    async fn json(ring: SessionRing) {
        older_versions_are_upgraded(&ring, Json).await;
        a_newer_version_is_served_and_kept(&ring, Json).await;
        the_same_version_keeps_what_it_does_not_know(&ring, Json).await;
        a_field_with_two_names_is_written_under_one(&ring, Json).await;
    }

    async fn bincode(ring: SessionRing) {
        older_versions_are_upgraded(&ring, Bincode).await;
        let id = of::<V2>(&ring, Bincode).create(&v2()).await.unwrap();
        let older = of::<V1>(&ring, Bincode);
        for error in [
            older.get(&id).await.unwrap_err(),
            older.load(&id).await.unwrap_err(),
            older.update(&id, |l| l.user = 1).await.unwrap_err(),
        ] {
            assert!(error.is_upgrade_required() && error.to_string().contains("version 2"), "{error}");
        }
        assert_eq!(of::<V2>(&ring, Bincode).get(&id).await.unwrap(), Some(v2()));

        // Even where the bytes would fit: without names nobody knows what they mean.
        #[derive(Serialize, Deserialize)]
        struct Other {
            weight: u64,
            title: String,
        }
        impl SessionData for Other {
            const VERSION: u16 = 2;
        }
        let other = Other { weight: 1, title: "x".into() };
        let id = of::<Other>(&ring, Bincode).create(&other).await.unwrap();
        assert!(older.get(&id).await.unwrap_err().is_upgrade_required());
    }

    async fn sealed_sessions_change_their_type_too(ring: SessionRing) {
        let keys = || SealingKeys::new(1, &[7; 32]).unwrap();
        let older = of::<V1>(&ring, MessagePack).seal(keys());
        let newer = of::<V2>(&ring, MessagePack).seal(keys());
        let id = newer.create(&v2()).await.unwrap();
        older.update(&id, |l| l.user = 8).await.unwrap();
        assert_eq!(newer.get(&id).await.unwrap(), Some(V2 { user: 8, ..v2() }));
    }

    async fn the_codec_may_change_with_the_type(ring: SessionRing) {
        let id = of::<V1>(&ring, Bincode).create(&v1()).await.unwrap();
        let newer = of::<V2>(&ring, MessagePack);
        newer.update(&id, |l| l.prefs.theme = "dark".into()).await.unwrap();
        assert_eq!(newer.get(&id).await.unwrap().unwrap().prefs.theme, "dark");
        // The older program goes back to bincode, of which the newer one knows how to upgrade it.
        of::<V1>(&ring, Bincode).update(&id, |l| l.user = 8).await.unwrap();
        assert_eq!(newer.get(&id).await.unwrap(), Some(V2 { user: 8, prefs: Prefs::default(), ..v2() }));
    }

    async fn what_cannot_be_upgraded_says_so(ring: SessionRing) {
        let id = ring.sessions::<V2>("login").codec(Json).create(&v2()).await.unwrap();
        #[derive(Debug, Serialize, Deserialize)]
        struct Forgetful(u8);
        impl SessionData for Forgetful {
            const VERSION: u16 = 9;
        }
        let error = of::<Forgetful>(&ring, Json).get(&id).await.unwrap_err();
        assert!(error.is_corrupt() && error.to_string().contains("upgrades()"), "{error}");
        // A codec of one's own is asked for its own version only.
        let own = of::<V1>(&ring, Own);
        let id = own.create(&v1()).await.unwrap();
        assert_eq!(own.get(&id).await.unwrap(), Some(v1()));
        assert!(of::<V2>(&ring, Json).get(&id).await.unwrap_err().is_corrupt());
        assert!(ring.sessions::<V1>("login").also_read(Own).get(&id).await.unwrap_err().is_upgrade_required());
    }

    async fn corrupt_sessions_are_errors_or_none(ring: SessionRing) {
        let fail = ring.sessions::<V2>("login");
        let reset = fail.clone().on_corrupt(OnCorrupt::Reset);
        let id = ring.sessions::<String>("login").create(&"of another type".into()).await.unwrap();
        assert!(fail.get(&id).await.unwrap_err().is_corrupt());
        assert!(fail.load(&id).await.unwrap_err().is_corrupt());
        assert!(reset.get(&id).await.unwrap().is_none());
        assert!(reset.load(&id).await.unwrap().is_none());
        assert!(reset.get_many(std::slice::from_ref(&id)).await[0].as_ref().unwrap().is_none());
        assert!(reset.update(&id, |l| l.user = 1).await.unwrap_err().is_not_found());
        assert!(reset.exists(&id).await.unwrap(), "it was not looked at");
        // Its envelope is whole, so it is there to be replaced.
        reset.set(&id, &v2()).await.unwrap();
        assert_eq!(fail.get(&id).await.unwrap(), Some(v2()));
        // What is whole, and only not for this program, is no corrupt session.
        let newer = of::<V2>(&ring, Bincode).create(&v2()).await.unwrap();
        let older = of::<V1>(&ring, Bincode).on_corrupt(OnCorrupt::Reset);
        assert!(older.get(&newer).await.unwrap_err().is_upgrade_required());
        assert!(reset.clone().max_bytes(1).get(&id).await.unwrap_err().is_too_large());
    }

    async fn a_log_out_is_final_under_reset(ring: SessionRing) {
        let reset = ring.sessions::<V2>("login").on_corrupt(OnCorrupt::Reset).upsert_foreign(true);
        let id = SessionId::foreign("customer-4711").unwrap();
        ring.sessions::<String>("login").create_with_id(&id, &"of another type".into()).await.unwrap();
        assert!(reset.get(&id).await.unwrap().is_none());
        reset.delete(&id).await.unwrap();
        assert!(reset.get(&id).await.unwrap().is_none());
        assert!(reset.set(&id, &v2()).await.unwrap_err().is_deleted());
        assert!(reset.update(&id, |l| l.user = 1).await.unwrap_err().is_deleted());
    }
}

/// JSON under a number of the application's own.
#[derive(Debug, Clone, Copy)]
struct Own;

impl Codec<V1> for Own {
    fn id(&self) -> CodecId {
        CodecId::new(200)
    }

    fn encode(&self, value: &V1) -> Result<Vec<u8>, CodecError> {
        Json.encode(value)
    }

    fn decode(&self, payload: &[u8]) -> Result<V1, CodecError> {
        Json.decode(payload)
    }
}

#[tokio::test]
async fn the_version_stands_in_the_record() {
    let server = support::server();
    let ring = support::nodes([server.address()]).connect().await.unwrap();
    let id = SessionId::generate().unwrap();
    let key = Keyspace::new(ring.name(), "login").key(&id);
    let stored = || {
        let Reply::Bulk(record) = server.command(&[b"GET", key.as_bytes()]).unwrap() else {
            panic!("nothing")
        };
        (Header::decode(&record).unwrap().schema, String::from_utf8(record[Header::LEN..].to_vec()).unwrap())
    };
    ring.sessions::<V0>("login").codec(Json).create_with_id(&id, &V0 { user: 7 }).await.unwrap();
    assert_eq!(stored().0, 0);
    of::<V2>(&ring, Json).update(&id, |l| l.user = 8).await.unwrap();
    let newer = stored();
    assert_eq!(newer.0, 2);
    // Written back by an older program, it stays what it is, with all it has.
    of::<V1>(&ring, Json).update(&id, |_| ()).await.unwrap();
    assert_eq!(stored(), newer);
    of::<V1>(&ring, Json).update(&id, |l| l.user = 9).await.unwrap();
    assert_eq!(stored().0, 2);
    assert!(stored().1.contains(r#""prefs":{"theme":"","size":0}"#), "{}", stored().1);
    // Also one that the older program knows in full.
    #[derive(Serialize, Deserialize)]
    struct Same {
        user: u64,
        name: String,
    }
    impl SessionData for Same {
        const VERSION: u16 = 2;
    }
    of::<Same>(&ring, Json).set(&id, &Same { user: 7, name: "Ada".into() }).await.unwrap();
    of::<V1>(&ring, Json).update(&id, |l| l.user = 8).await.unwrap();
    assert_eq!(stored(), (2, r#"{"user":8,"name":"Ada"}"#.to_owned()));
    of::<V1>(&ring, Json).set(&id, &v1()).await.unwrap();
    assert_eq!(stored(), (1, r#"{"user":7,"name":"Ada"}"#.to_owned()));
}

/// Two shapes of one type at once, from many tasks: no count is lost, and no field.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_two_versions_lose_nothing_to_each_other() {
    let servers = support::servers(2);
    let ring = Arc::new(support::on(&servers).connect().await.unwrap());
    let id = of::<V2>(&ring, MessagePack).create(&V2 { user: 0, ..v2() }).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (ring, id) = (ring.clone(), id.clone());
        writers.spawn(async move {
            for _ in 0..25 {
                if writer % 2 == 0 {
                    of::<V1>(&ring, MessagePack).update(&id, |l| l.user += 1).await.unwrap();
                } else {
                    of::<V2>(&ring, MessagePack).update(&id, |l| l.prefs.size -= 1).await.unwrap();
                }
            }
        });
    }
    writers.join_all().await;
    let expected = V2 { user: 100, prefs: Prefs { theme: "dark".into(), size: u128::MAX - 100 }, ..v2() };
    assert_eq!(of::<V2>(&ring, MessagePack).get(&id).await.unwrap(), Some(expected));
}
