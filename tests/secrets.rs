//! Passwords, keys and ids are in nothing that is shown: neither in `Debug` nor in `Display` of any public type that can hold
//! one, nor in an error.

mod support;

use std::{fmt::Debug, time::Duration};

use sessionring::{Credentials, SessionRing};
use sessionring_testkit::RedisServer;
use support::{login, logins, nodes};

/// Part of every secret here.
const SECRET: &str = "hunter2";

/// Some of the addresses lead nowhere.
const SOON: Duration = Duration::from_millis(300);

#[track_caller]
fn hides(shown: &[&dyn Debug]) {
    for shown in shown {
        for text in [format!("{shown:?}"), format!("{shown:#?}")] {
            assert!(!text.contains(SECRET), "{text}");
        }
    }
}

fn locked() -> RedisServer {
    RedisServer::builder().acl_user("app", &format!("on >{SECRET} ~* +@all")).start().unwrap()
}

#[test]
fn before_a_connection() {
    let (named, default) = (Credentials::new("app", SECRET), Credentials::password(SECRET));
    assert!(format!("{named:?}").contains("app"));
    let builder = SessionRing::builder()
        .node("a", format!("redis://app:{SECRET}@10.0.0.1"))
        .node("b", format!("unix:/run/redis.sock?pass={SECRET}"))
        .route("a", format!("rediss://app:{SECRET}@10.0.0.2"))
        .credentials(named.clone())
        .node_credentials("b", default.clone());
    hides(&[&named, &default, &builder, &Some(named.clone())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_ring() {
    let (one, other) = (locked(), locked());
    let ring = nodes([one.address_as("app", SECRET)]).connect().await.unwrap();
    ring.set_credentials(Credentials::new("app", SECRET));
    let sessions = logins(&ring);
    let id = sessions.create(&login(1)).await.unwrap();
    let plan = ring.plan().add("b", other.address_as("app", SECRET)).unwrap();
    let sample = plan.sample().await.unwrap();
    hides(&[&ring, &ring.warnings(), &sessions, &id, &plan, &sample]);
    assert!(!plan.to_string().contains(SECRET));
    let mut resize = plan.start().await.unwrap();
    let progress = resize.progress().await;
    hides(&[&resize, &progress]);
    resize.wait().await.unwrap();

    // Nor in what the ring keeps on its nodes.
    let document = one.command(&["GET", "sessionring:sessionring:document"]).unwrap();
    let document = document.bytes().unwrap().to_owned();
    assert!(!document.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes()));
    assert!(document.windows(9).any(|bytes| bytes == b"127.0.0.1"));
    // An id is a secret, too.
    assert!(!format!("{id:?}").contains(&id.expose()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_errors() {
    let server = locked();
    let wrong = format!("{SECRET}-wrong");
    let port = server.port();
    for address in [
        format!("redis://app:{wrong}@127.0.0.1:{port}"),
        format!("redis://:{wrong}@127.0.0.1:{port}"),
        format!("redis://app:{wrong}@127.0.0.1:1"),
        format!("rediss://app:{wrong}@127.0.0.1:{port}"),
        format!("redis://app:{wrong}@127.0.0.1:port"),
        format!("redis://app:{wrong}@"),
        format!("reddis://app:{wrong}@127.0.0.1"),
        format!("rediss://app:{wrong}@127.0.0.1/#insecure"),
        format!("rediss://127.0.0.1/?x={wrong}#insecure"),
        format!("app:{wrong}@127.0.0.1"),
        wrong.clone(),
    ] {
        let builder = nodes([address.clone()]).connect_timeout(SOON);
        let error = builder.connect().await.unwrap_err();
        let ring = nodes(["memory:".to_owned()]).connect_timeout(SOON).connect().await.unwrap();
        let added = match ring.plan().add("b", &address) {
            Ok(plan) => plan.start().await.unwrap_err(),
            Err(error) => error,
        };
        let moved = ring.move_address("a", &address).await.err();
        hides(&[&error, &added, &moved]);
        for error in [Some(error), Some(added), moved].into_iter().flatten() {
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
    }
    let apart = nodes([server.address()]).credentials(Credentials::new("app", &wrong));
    let error = apart.connect().await.unwrap_err();
    assert!(error.is_configuration() && !format!("{error} {error:?}").contains(SECRET), "{error}");
}

#[cfg(feature = "tls")]
#[test]
fn in_certificates() {
    use sessionring::Tls;
    use sessionring_testkit::Authority;

    let authority = Authority::new().unwrap();
    let identity = authority.issue(&["app"]).unwrap();
    let tls = Tls::private_ca(authority.certificate()).unwrap();
    let tls = tls.client_certificate(&identity.certificate, &identity.key).unwrap();
    let builder = SessionRing::builder().tls(tls.clone());
    // Any line of the key, in any of its forms, would be too much.
    let lines: Vec<_> = identity.key.lines().filter(|line| !line.starts_with("-----")).collect();
    for shown in [format!("{tls:?}"), format!("{tls:#?}"), format!("{builder:?}")] {
        assert!(shown.contains("client_certificate: true"), "{shown}");
        assert!(!lines.iter().any(|line| shown.contains(&line[..16.min(line.len())])), "{shown}");
        assert!(!shown.contains("PRIVATE KEY") && shown.len() < 600, "{shown}");
    }
}
