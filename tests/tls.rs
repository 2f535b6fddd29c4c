//! TLS to real servers, with certificates that the test makes. Every defence is shown to defend: what it is to keep out is
//! kept out, with an error that stands in docs/operations.md.

#![cfg(feature = "tls")]

mod support;

use std::{
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use sessionring::{Builder, Error, SessionRing, Tls};
use sessionring_testkit::{Authority, FakeServer, Identity, RedisServer, Script};
use support::{login, logins, nodes, server};

/// What certificates of good servers and clients are for.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

fn authority() -> Authority {
    Authority::new().unwrap()
}

fn with_tls(authority: &Authority, identity: &Identity) -> RedisServer {
    RedisServer::builder()
        .tls(&authority.certificate(), identity)
        .start()
        .unwrap_or_else(|error| panic!("{error}"))
}

fn trusting(authority: &Authority) -> Tls {
    Tls::private_ca(authority.certificate()).unwrap()
}

fn showing(tls: Tls, identity: &Identity) -> Tls {
    tls.client_certificate(&identity.certificate, &identity.key).unwrap()
}

async fn works(ring: &SessionRing) {
    let sessions = logins(ring);
    let id = sessions.create(&login(1)).await.unwrap();
    sessions.set(&id, &login(2)).await.unwrap();
    assert_eq!(sessions.get(&id).await.unwrap(), Some(login(2)));
    sessions.delete(&id).await.unwrap();
    assert_eq!(sessions.get(&id).await.unwrap(), None);
}

/// The ring cannot be used, and says so at once: with an error that nobody takes for a server that is down.
async fn refused(builder: Builder) -> Error {
    let error = builder.connect().await.expect_err("connected");
    assert!(error.is_configuration(), "{error:?}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_and_changes_of_the_ring_over_tls() {
    let authority = authority();
    let identity = authority.issue(&NAMES).unwrap();
    let servers: Vec<_> = (0..3).map(|_| with_tls(&authority, &identity)).collect();
    // By IP address, and by name.
    let by_name = format!("rediss://localhost:{}/1", servers[1].tls_port());
    let addresses = [servers[0].tls_address(), by_name];
    let ring = nodes(addresses).tls(trusting(&authority)).connect().await.unwrap();
    works(&ring).await;
    let many: Vec<_> = (0..500).map(login).collect();
    let ids = logins(&ring).create_many(&many).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    ring.add_node("c", servers[2].tls_address()).await.unwrap().wait().await.unwrap();
    ring.remove_node("a").await.unwrap().wait().await.unwrap();
    for (id, login) in ids.iter().zip(many) {
        assert_eq!(logins(&ring).get(id).await.unwrap(), Some(login));
    }

    // Another application learns of the third node from the document, and reaches it the same way.
    let other = nodes([servers[1].tls_address() + "/1"]).name(ring.name());
    let other = other.tls(trusting(&authority)).connect().await.unwrap();
    assert_eq!(other.ring().members().len(), 2);
    assert_eq!(logins(&other).get(&ids[0]).await.unwrap(), Some(login(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_show_certificates() {
    let authority = authority();
    let identity = authority.issue(&NAMES).unwrap();
    let strict = RedisServer::builder()
        .tls(&authority.certificate(), &identity)
        .client_certificates()
        .start()
        .unwrap();
    let tls = showing(trusting(&authority), &authority.issue(&["app"]).unwrap());
    works(&nodes([strict.tls_address()]).tls(tls).connect().await.unwrap()).await;
}

/// A process of its own, because its environment says what the system trusts.
#[test]
fn without_a_word_the_authorities_of_the_system_count() {
    const ADDRESS: &str = "SESSIONRING_TEST_TLS_ADDRESS";
    let authority = authority();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Some(address) = std::env::var_os(ADDRESS) {
        runtime.block_on(async {
            let address = address.into_string().unwrap();
            works(&nodes([address.clone()]).connect().await.unwrap()).await;
            works(&nodes([address]).tls(Tls::system_roots().unwrap()).connect().await.unwrap()).await;
        });
        return;
    }
    let server = with_tls(&authority, &authority.issue(&NAMES).unwrap());
    let child = |trusted: &str| {
        let path = server.dir().join("trusted.pem");
        std::fs::write(&path, trusted).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "without_a_word_the_authorities_of_the_system_count", "--nocapture"])
            .env(ADDRESS, server.tls_address())
            .env("SSL_CERT_FILE", path)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (works, said) = child(&authority.certificate());
    assert!(works, "{said}");
    let (works, said) = child(&self::authority().certificate());
    assert!(!works && said.contains("authority that is not trusted"), "{said}");
    let (works, said) = child("");
    assert!(!works && said.contains("the system has no certificates"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_prove_who_he_is_is_kept_out() {
    let (authority, stranger) = (authority(), self::authority());
    let identity = authority.issue(&NAMES).unwrap();
    let good = with_tls(&authority, &identity);
    let tls = || trusting(&authority);
    let at = |server: &RedisServer| nodes([server.tls_address()]);

    let unknown = refused(at(&good).tls(trusting(&stranger))).await;
    let old = with_tls(&authority, &authority.issue_expired(&NAMES).unwrap());
    let expired = refused(at(&old).tls(tls())).await;
    let elsewhere = with_tls(&authority, &authority.issue(&["cache.example"]).unwrap());
    let other_name = refused(at(&elsewhere).tls(tls())).await;

    let strict = RedisServer::builder()
        .tls(&authority.certificate(), &identity)
        .client_certificates()
        .start()
        .unwrap();
    let nameless = refused(at(&strict).tls(tls())).await;
    let forged = stranger.issue(&["app"]).unwrap();
    let impostor = refused(at(&strict).tls(showing(tls(), &forged))).await;

    let (plain, http) = (server(), FakeServer::start(Script::http()).unwrap());
    let no_tls = nodes([plain.address().replace("redis:", "rediss:")]).tls(tls());
    let no_tls = no_tls.connect_timeout(Duration::from_millis(500)).connect().await.unwrap_err();
    assert!(no_tls.is_unavailable());
    let something = refused(nodes([http.address().replace("redis:", "rediss:")]).tls(tls())).await;
    let no_redis = nodes([format!("redis://127.0.0.1:{}", good.tls_port())]).connect().await.unwrap_err();
    assert!(no_redis.is_unavailable());
    let insecure = refused(nodes(["rediss://10.0.0.1:6379/#insecure".into()])).await;
    let plaintext = refused(nodes(["redis://app:hunter2@10.0.0.1".into()]).tls(tls())).await;

    documented(&[
        ("a certificate of an authority that nobody named", unknown),
        ("a certificate that has expired", expired),
        ("a certificate for another host", other_name),
        ("a server that wants a client certificate, and gets none", nameless),
        ("a client certificate that the server does not trust", impostor),
        ("`rediss://`, and a Redis server without TLS", no_tls),
        ("`rediss://`, and something else that speaks no TLS", something),
        ("`redis://`, and the server wants TLS", no_redis),
        ("a plaintext address where TLS was asked for", plaintext),
        ("an address that asks for unverified certificates", insecure),
    ]);
}

/// The table of docs/operations.md is what happens; `UPDATE_DOCS=1` writes it anew.
fn documented(rows: &[(&str, Error)]) {
    let mut table = String::from("\n\n| what | kind | error |\n|---|---|---|\n");
    for (what, error) in rows {
        let text = plain(&error.to_string());
        assert!(!text.contains("hunter2"), "{text}");
        writeln!(table, "| {what} | `{:?}` | {text} |", error.kind()).unwrap();
    }
    table.push('\n');
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once("<!-- tls errors -->").expect("the table is marked");
    let (old, after) = rest.split_once("<!-- /tls errors -->").expect("its end is marked");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let new = format!("{before}<!-- tls errors -->{table}<!-- /tls errors -->{after}");
        std::fs::write(path, new).unwrap();
    } else {
        assert_eq!(old, table, "docs/operations.md left, what happened right");
    }
}

/// Without what differs from run to run: ports.
fn plain(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once("127.0.0.1:") {
        Some((head, tail)) => {
            let tail = tail.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{head}10.0.0.1:6379{tail}")
        }
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_in_plaintext_where_tls_was_asked_for() {
    let authority = authority();
    let good = with_tls(&authority, &authority.issue(&NAMES).unwrap());
    let plain = server();
    let tls = || trusting(&authority);
    let says = |error: &Error| error.to_string().contains("TLS was asked for");

    // As an address of the application's own, of a route, or of a new node.
    assert!(says(&refused(nodes([good.tls_address(), plain.address()]).tls(tls())).await));
    let routed = nodes([good.tls_address()]).route("a", plain.address());
    assert!(says(&refused(routed.tls(tls())).await));
    let ring = nodes([good.tls_address()]).tls(tls()).connect().await.unwrap();
    let error = ring.add_node("b", plain.address()).await.unwrap_err();
    assert!(says(&error) && error.is_configuration() && ring.epoch() == sessionring::Epoch::FIRST);
    let error = ring.move_address("a", plain.address()).await.unwrap_err();
    assert!(says(&error) && ring.epoch() == sessionring::Epoch::FIRST);

    // As an address that comes into the ring's document later: from an application that did not ask for TLS.
    let careless = nodes([good.address()]).route("a", good.address()).connect().await.unwrap();
    let monitor = plain.monitor().unwrap();
    careless.add_node("b", plain.address()).await.unwrap().wait().await.unwrap();
    let met = monitor.stop().unwrap().iter().filter(|line| line.name() == "INFO").count();
    assert!(met > 0);
    let monitor = plain.monitor().unwrap();
    let (many, mut errors) = ((0..50).map(login).collect::<Vec<_>>(), 0);
    for result in logins(&ring).create_many(&many).await {
        if let Err(error) = result {
            assert!(says(&error) && error.is_configuration() && error.node().unwrap().as_str() == "b");
            errors += 1;
        }
    }
    assert!(errors > 0 && errors < 50 && ring.ring().members().len() == 2);
    // Or is there already.
    assert!(says(&refused(nodes([good.tls_address()]).tls(tls())).await));
    let heard = monitor.stop().unwrap();
    assert!(!heard.iter().any(|line| line.name() == "INFO"), "{heard:?}");

    // When that node has left again, all is well; the others hear of it a moment after whoever changed the ring.
    careless.remove_node("b").await.unwrap().wait().await.unwrap();
    let begin = Instant::now();
    let again = loop {
        match nodes([good.tls_address()]).tls(tls()).connect().await {
            Ok(ring) => break ring,
            Err(error) => assert!(says(&error) && begin.elapsed() < Duration::from_secs(10), "{error}"),
        }
    };
    works(&again).await;
}

#[test]
fn pem_text_that_is_none_is_an_error_and_never_a_panic() {
    let authority = authority();
    let (one, other) = (authority.issue(&NAMES).unwrap(), authority.issue(&NAMES).unwrap());
    let garbled = one.certificate.replace("MII", "AAA");
    let cut = &one.certificate[..one.certificate.len() / 2];
    let not_base64 = "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n";
    for bad in ["", "no certificate", &garbled, cut, not_base64, &one.key] {
        let error = Tls::private_ca(bad).unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("authority"), "{error}");
        let error = trusting(&authority).client_certificate(bad, &one.key).unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("client certificate"), "{error}");
    }
    let garbled_key = one.key.replace("MIG", "AAA");
    let cut_key = &one.key[..one.key.len() / 2];
    for bad in ["", "no key", &garbled_key, cut_key, &one.certificate, &other.key] {
        let error = trusting(&authority).client_certificate(&one.certificate, bad).unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains("key"), "{error}");
        assert!(!format!("{error:?}").contains(&one.key[40..60]), "{error:?}");
    }
}
