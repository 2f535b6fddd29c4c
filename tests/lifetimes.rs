//! Another lifetime for sessions that live already: what `Lifetime` says about it.

mod support;

use std::time::Duration;

use sessionring::{
    Lifetime, SessionId, SessionRing, Sessions,
    record::{Header, Keyspace},
};
use sessionring_testkit::Reply;
use support::{Login, login, logins};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn lasting(ring: &SessionRing, idle: Duration, absolute: Duration) -> Sessions<Login> {
    logins(ring).lifetime(Lifetime::new(idle, absolute).unwrap())
}

/// As long as that, less what the test has taken.
async fn lives(ring: &SessionRing, id: &SessionId, expected: Duration) {
    let remaining = logins(ring).remaining(id).await.unwrap().expect("a session");
    assert!(expected - MINUTE < remaining && remaining <= expected, "{remaining:?}, expected {expected:?}");
}

on_both! {
    async fn a_shorter_idle_time_holds_from_the_next_use(ring: SessionRing) {
        let (before, after) = (lasting(&ring, 10 * HOUR, 20 * HOUR), lasting(&ring, HOUR, 20 * HOUR));
        for id in before.create_many(&[login(0), login(1), login(2), login(3), login(4)]).await {
            let id = id.unwrap();
            after.get(&id).await.unwrap();
            lives(&ring, &id, 10 * HOUR).await;
            match logins(&ring).get(&id).await.unwrap().unwrap().user {
                0 => after.touch(&id).await.unwrap(),
                1 => after.set(&id, &login(9)).await.unwrap(),
                2 => drop(after.visit(&id).await.unwrap().unwrap()),
                3 => after.update(&id, |l| l.user = 9).await.unwrap(),
                _ => {
                    let mut session = after.load(&id).await.unwrap().unwrap();
                    after.save(&mut session).await.unwrap();
                }
            }
            lives(&ring, &id, HOUR).await;
        }
    }

    async fn a_longer_idle_time_holds_from_the_next_use(ring: SessionRing) {
        let (before, after) = (lasting(&ring, HOUR, 20 * HOUR), lasting(&ring, 10 * HOUR, 20 * HOUR));
        let id = before.create(&login(1)).await.unwrap();
        after.get(&id).await.unwrap();
        lives(&ring, &id, HOUR).await;
        after.touch(&id).await.unwrap();
        lives(&ring, &id, 10 * HOUR).await;
    }

    async fn a_longer_absolute_time_prolongs_no_session(ring: SessionRing) {
        let (before, after) = (lasting(&ring, HOUR, 2 * HOUR), lasting(&ring, 10 * HOUR, 20 * HOUR));
        let id = before.create(&login(1)).await.unwrap();
        after.touch(&id).await.unwrap();
        lives(&ring, &id, 2 * HOUR).await;
        after.update(&id, |l| l.user = 2).await.unwrap();
        lives(&ring, &id, 2 * HOUR).await;
        let new = after.create(&login(1)).await.unwrap();
        lives(&ring, &new, 10 * HOUR).await;
    }

    async fn a_shorter_absolute_time_cuts_no_session_short(ring: SessionRing) {
        let (before, after) = (lasting(&ring, 10 * HOUR, 20 * HOUR), lasting(&ring, HOUR, 2 * HOUR));
        let id = before.create(&login(1)).await.unwrap();
        after.update(&id, |l| l.user = 2).await.unwrap();
        lives(&ring, &id, HOUR).await;
        // Its own end is where it was.
        before.touch(&id).await.unwrap();
        lives(&ring, &id, 10 * HOUR).await;
        lasting(&ring, 30 * HOUR, 30 * HOUR).touch(&id).await.unwrap();
        lives(&ring, &id, 20 * HOUR).await;
    }

    async fn each_preset_is_kept(ring: SessionRing) {
        for preset in [Lifetime::NIST_AAL1, Lifetime::NIST_AAL2, Lifetime::NIST_AAL3, Lifetime::OWASP] {
            let id = logins(&ring).lifetime(preset).create(&login(1)).await.unwrap();
            lives(&ring, &id, preset.idle()).await;
            // Whoever lets it idle longer finds its end.
            lasting(&ring, 1000 * HOUR, 1000 * HOUR).touch(&id).await.unwrap();
            lives(&ring, &id, preset.absolute()).await;
        }
    }
}

/// The end of a session is the node's, set once: nothing that is done with it moves it by a millisecond.
#[tokio::test]
async fn the_end_is_set_once() {
    let server = support::server();
    let ring = support::nodes([server.address()]).connect().await.unwrap();
    let id = lasting(&ring, HOUR, 2 * HOUR).create(&login(1)).await.unwrap();
    let key = Keyspace::new(ring.name(), "login").key(&id);
    let end = || {
        let Reply::Bulk(record) = server.command(&[b"GET", key.as_bytes()]).unwrap() else {
            panic!("nothing")
        };
        Header::decode(&record).unwrap().max_deadline
    };
    let begin = end();
    for other in [lasting(&ring, MINUTE, MINUTE), lasting(&ring, 100 * HOUR, 100 * HOUR)] {
        other.touch(&id).await.unwrap();
        other.set(&id, &login(2)).await.unwrap();
        other.update(&id, |l| l.user = 3).await.unwrap();
        assert_eq!(end(), begin);
    }
}
