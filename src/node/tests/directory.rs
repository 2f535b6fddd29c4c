//! Who we are at a node that a document names without credentials.

use sessionring_testkit::RedisServer;

use super::*;
use crate::protocol::Control;

fn directory(contacts: &[(&str, &str)]) -> Directory {
    let contacts =
        contacts.iter().map(|(name, address)| (node_id(name), Address::parse(address).unwrap())).collect();
    let clocks = Clocks::new(Duration::from_secs(2));
    Directory::new("directory", contacts, clocks, false, Duration::from_secs(5)).unwrap()
}

/// User and password with which a node is greeted.
fn login(directory: &Directory, name: &str, address: &str) -> String {
    match directory.transport(&node_id(name), address).unwrap() {
        AnyTransport::Redis(transport) => {
            match directory.access().credentials(&transport.id, &transport.address) {
                Some(login) => format!("{}:{}", login.user().unwrap_or_default(), login.secret()),
                None => "nobody".into(),
            }
        }
        AnyTransport::Memory(_) | AnyTransport::Simulated(_) => "memory".into(),
    }
}

#[tokio::test]
async fn credentials_are_those_of_the_name_then_of_the_server_then_of_the_first_that_has_any() {
    let directory = directory(&[
        ("open", "redis://h0:1"),
        ("a", "redis://alice:pa@h1:1"),
        ("b", "redis://bob:pb@h2:2"),
        ("c", "redis://:pc@h3:3/5"),
    ]);
    let login = |name, address| login(&directory, name, address);
    assert_eq!(login("b", "redis://elsewhere:9"), "bob:pb");
    assert_eq!(login("b", "redis://h1:1"), "bob:pb");
    assert_eq!(login("new", "redis://h3:3"), ":pc");
    assert_eq!(login("new", "redis://h2:2/7"), "bob:pb");
    assert_eq!(login("new", "redis://elsewhere:9"), "alice:pa");
    assert_eq!(login("open", "redis://h0:1"), "alice:pa");
}

#[tokio::test]
async fn a_route_goes_before_the_document_and_has_its_own_credentials_or_the_known_ones() {
    let route = |address: &str| {
        directory(&[("a", "redis://alice:pa@h1:1")]).route(node_id("a"), Address::parse(address).unwrap())
    };
    let routed = route("redis://tunnel:5");
    let AnyTransport::Redis(transport) = routed.transport(&node_id("a"), "redis://h1:1").unwrap() else {
        panic!()
    };
    assert_eq!(transport.address.to_string(), "tunnel:5");
    assert_eq!(login(&routed, "a", "redis://h1:1"), "alice:pa");
    assert_eq!(login(&route("redis://tom:pt@tunnel:5"), "a", "redis://h1:1"), "tom:pt");
    assert_eq!(login(&routed, "b", "redis://h1:1"), "alice:pa");
}

#[tokio::test]
async fn credentials_given_apart_go_from_the_particular_to_the_general() {
    let directory =
        directory(&[("a", "redis://alice:pa@h1:1"), ("b", "redis://h2:2"), ("c", "redis://h3:3")]);
    let login = |name, address| login(&directory, name, address);
    let access = directory.access();
    access.set_credentials(Credentials::new("app", "pw"));
    access.set_node_credentials(node_id("c"), Credentials::password("pc"));
    assert_eq!(login("a", "redis://h1:1"), "alice:pa");
    assert_eq!(login("b", "redis://h2:2"), "app:pw");
    assert_eq!(login("c", "redis://h3:3"), ":pc");
    // Neither the same server nor the first contact lends its own any more.
    assert_eq!(login("new", "redis://h1:1"), "app:pw");
    assert_eq!(login("new", "redis://elsewhere:9"), "app:pw");
    // What is replaced counts from the next connection on.
    access.set_credentials(Credentials::new("app", "new"));
    access.set_node_credentials(node_id("a"), Credentials::new("alice", "new"));
    assert_eq!(login("b", "redis://h2:2"), "app:new");
    assert_eq!(login("a", "redis://h1:1"), "alice:new");
}

#[tokio::test]
async fn what_was_given_for_tls_is_never_lent_to_plaintext() {
    let directory = directory(&[("a", "rediss://alice:pa@h1:1"), ("b", "redis://h2:2")]);
    let login = |name, address| login(&directory, name, address);
    assert_eq!(login("new", "rediss://elsewhere:9"), "alice:pa");
    assert_eq!(login("new", "redis://elsewhere:9"), "nobody");
    assert_eq!(login("a", "redis://elsewhere:9"), "nobody");
    assert_eq!(login("b", "redis://h2:2"), "nobody");
}

#[tokio::test]
async fn sentinels_have_credentials_of_their_own() {
    let directory = directory(&[
        ("a", "redis+sentinel://alice:pa@s1,s2/a?sentinel_user=wa&sentinel_password=sa"),
        ("b", "rediss+sentinel://bob:pb@s3/b?sentinel_password=sb"),
        ("c", "redis+sentinel://s1,s2/c"),
    ]);
    let access = directory.access();
    let login = |name: &str, address: &str| {
        let Address::Redis(address) = Address::parse(address).unwrap() else { panic!() };
        let credentials = access.sentinel_credentials(&node_id(name), &address);
        credentials
            .map_or("nobody".to_owned(), |it| format!("{}:{}", it.user().unwrap_or_default(), it.secret()))
    };
    // As a document holds them. What was given for TLS is never lent to plaintext.
    assert_eq!(login("a", "redis+sentinel://s1:26379,s2:26379/a"), "wa:sa");
    assert_eq!(login("b", "rediss+sentinel://s3:26379/b"), ":sb");
    assert_eq!(login("b", "redis+sentinel://s3:26379/b"), "wa:sa");
    assert_eq!(login("c", "redis+sentinel://s1:26379,s2:26379/c"), "wa:sa");
    access.set_sentinel_credentials(Credentials::password("all"));
    assert_eq!(login("a", "redis+sentinel://s1:26379,s2:26379/a"), "wa:sa");
    assert_eq!(login("c", "redis+sentinel://s1:26379,s2:26379/c"), ":all");
    // Nobody is told at the servers who we are to the Sentinels, nor the other way round.
    access.set_credentials(Credentials::password("of servers"));
    assert_eq!(login("c", "redis+sentinel://s1:26379,s2:26379/c"), ":all");
    assert!(!format!("{access:?}").contains("\"sa\""));
}

#[tokio::test]
async fn debug_shows_no_credentials() {
    let directory = directory(&[("a", "redis://alice:hunter2@h1:1")]);
    directory.access().set_credentials(Credentials::new("app", "hunter2"));
    directory.access().set_node_credentials(node_id("b"), Credentials::password("hunter2"));
    let transport = directory.transport(&node_id("a"), "redis://h1:1").unwrap();
    let shown = format!("{:?} {transport:?}", directory.access());
    assert!(shown.contains("h1:1") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn nobody_sees_the_credentials_of_contact_points() {
    let directory = directory(&[("a", "redis://alice:hunter2@h1:1/3"), ("b", "memory:")]);
    let contacts: Vec<_> =
        directory.contacts().into_iter().map(|(id, address)| format!("{id} {address}")).collect();
    assert_eq!(contacts[0], "a redis://h1:1/3");
    assert!(contacts[1].starts_with("b memory:") && contacts[1].len() > "b memory:".len());
    let error = directory.transport(&node_id("x"), "redis://u:hunter2@h:x").unwrap_err();
    assert!(error.is_configuration() && !error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn an_in_memory_node_lives_as_long_as_its_directory() {
    let directory = directory(&[("a", "memory:")]);
    let address = directory.contacts().first().cloned().unwrap().1;
    let mark = Control::Mark { name: "a".into(), incarnation: 7 };
    directory.control(&node_id("a"), &address).unwrap().call(mark).await.unwrap();
    let node = directory.control_alone(&node_id("a"), &address).unwrap();
    assert_eq!(node.greet().await.unwrap().standing.incarnation, Some(7));
}

#[tokio::test]
async fn a_node_with_a_password_is_reached_by_what_the_document_says() {
    let server = RedisServer::builder().password("secret").start().unwrap_or_else(|error| panic!("{error}"));
    let public = format!("redis://127.0.0.1:{}", server.port());
    let known = directory(&[("contact", &format!("redis://:secret@127.0.0.1:{}", server.port()))]);
    known.control(&node_id("a"), &public).unwrap().call(Control::Look).await.unwrap();
    let error =
        directory(&[]).control(&node_id("a"), &public).unwrap().call(Control::Look).await.unwrap_err();
    assert!(error.is_configuration(), "{error}");
}
