//! What is recorded and traced is what docs/observability.md says, and nobody can log in with it.

mod support;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics_util::debugging::{DebuggingRecorder, Snapshotter};
use sessionring::{Event, Events, SessionId, SessionRing, Sessions};
use sessionring_testkit::{FaultProxy, RedisServer};
use support::{Login, login, logins};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

const PASSWORD: &str = "correct-horse-battery";

/// Everything that was traced, as text.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Captured;

    fn make_writer(&'a self) -> Captured {
        self.clone()
    }
}

fn watch() -> (Snapshotter, Captured) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install().unwrap();
    let captured = Captured::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(captured.clone())
        .init();
    (snapshotter, captured)
}

/// What a table of the page says of metrics: name, kind, unit and labels.
fn documented() -> BTreeSet<[String; 4]> {
    let page = include_str!("../docs/observability.md");
    let rows = page.lines().filter(|line| line.starts_with("| `sessionring_"));
    let cells = rows.map(|row| {
        row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
    });
    cells.map(|cells| [cells[0].clone(), cells[1].clone(), cells[2].clone(), cells[3].clone()]).collect()
}

/// The same of what was recorded.
fn recorded(snapshotter: &Snapshotter) -> BTreeSet<[String; 4]> {
    let metrics = snapshotter.snapshot().into_vec().into_iter();
    metrics
        .filter(|(key, ..)| key.key().name().starts_with("sessionring"))
        .map(|(key, unit, description, _)| {
            assert!(description.is_some(), "{}", key.key().name());
            let labels: Vec<&str> = key.key().labels().map(|label| label.key()).collect();
            let kind = format!("{:?}", key.kind()).to_lowercase();
            [key.key().name().to_owned(), kind, unit.unwrap().as_str().to_owned(), labels.join(", ")]
        })
        .collect()
}

async fn until(events: &mut Events, wanted: impl Fn(&Event) -> bool) {
    let found = async { while !wanted(&events.next().await.expect("an event")) {} };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("in time");
}

async fn connect(nodes: &[(&str, String)], probe_interval: Duration) -> SessionRing {
    let ring = SessionRing::builder().name("shop").probe_interval(probe_interval);
    let ring = ring.request_timeout(Duration::from_secs(10)).connect_timeout(Duration::from_secs(10));
    nodes.iter().fold(ring, |ring, (name, address)| ring.node(*name, address)).connect().await.unwrap()
}

fn protected() -> RedisServer {
    RedisServer::builder().password(PASSWORD).start().unwrap_or_else(|error| panic!("{error}"))
}

/// One on every node.
async fn create(sessions: &Sessions<Login>, count: u64) -> Vec<SessionId> {
    let values: Vec<Login> = (0..count).map(login).collect();
    sessions.create_many(&values).await.into_iter().collect::<Result<_, _>>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_listed_is_recorded_and_traced_and_no_secret_is() {
    let (snapshotter, captured) = watch();
    let (a, b) = (protected(), protected());
    let proxy = FaultProxy::in_front_of(&b).unwrap();
    let with_password = |port: u16| format!("redis://:{PASSWORD}@127.0.0.1:{port}");
    let nodes = [("a", with_password(a.port())), ("b", with_password(proxy.port()))];
    let ring = connect(&nodes[..1], Duration::from_millis(50)).await;
    // Hears of a resize from no one but a node that refuses its request.
    let behind = connect(&nodes[..1], Duration::from_secs(3600)).await;
    let (logins, late) = (logins(&ring), support::logins(&behind));

    // Requests of every kind; then a resize, which another process hears of by a refusal.
    let mut ids = create(&logins, 200).await;
    let foreign = SessionId::foreign("customer-4711").unwrap();
    logins.create_with_id(&foreign, &login(1)).await.unwrap();
    logins.get(&foreign).await.unwrap().unwrap();
    logins.visit(&foreign).await.unwrap().unwrap();
    logins.set(&foreign, &login(2)).await.unwrap();
    logins.update(&foreign, |login| login.user += 1).await.unwrap();
    logins.touch(&foreign).await.unwrap();
    assert!(logins.exists(&foreign).await.unwrap());
    logins.delete(&foreign).await.unwrap();
    ids.push(foreign);
    let resize = ring.add_node("b", &nodes[1].1).await.unwrap();
    late.get_many(&ids).await.into_iter().for_each(|result| drop(result.unwrap()));
    resize.wait().await.unwrap();
    assert_eq!(logins.list().unthrottled().count().await.total(), 200);
    assert_eq!(logins.estimate().await.total(), 200);

    // What cannot be read.
    let b_id = "b".parse().unwrap();
    let on_a = ids.iter().find(|id| ring.owner(id) != b_id).unwrap();
    a.command(&[b"SET", logins.key_of(on_a).as_bytes(), b"garbage"]).unwrap();
    assert!(logins.get(on_a).await.unwrap_err().is_corrupt());

    // A node that goes, and comes back without its memory.
    let mut events = ring.events();
    proxy.refuse(true).unwrap();
    proxy.cut();
    until(&mut events, |event| matches!(event, Event::NodeDown { .. })).await;
    let on_b = ids.iter().find(|id| ring.owner(id) == b_id).unwrap();
    assert!(logins.get(on_b).await.unwrap_err().is_unavailable());
    b.restart_empty().unwrap();
    proxy.refuse(false).unwrap();
    until(&mut events, |event| matches!(event, Event::NodeUp { .. })).await;

    // A server that would evict, and a fence of a newer protocol.
    a.config_set("maxmemory-policy", "allkeys-lru").unwrap();
    until(&mut events, |event| matches!(event, Event::NodeDown { .. })).await;
    a.config_set("maxmemory-policy", "noeviction").unwrap();
    until(&mut events, |event| matches!(event, Event::NodeUp { .. })).await;
    let fence = a.command(&["GET", "sessionring:shop:fence"]).unwrap().bytes().unwrap().to_vec();
    a.command(&[b"SET".as_slice(), b"sessionring:shop:fence", &[&[99][..], &fence[1..]].concat()]).unwrap();
    assert!(logins.get(on_a).await.unwrap_err().is_upgrade_required());
    ring.close().await;
    behind.close().await;

    assert_eq!(recorded(&snapshotter), documented());

    let text = captured.text();
    let lines: Vec<&str> = text.lines().collect();
    let traced = |parts: &[&str]| {
        assert!(
            lines.iter().any(|line| parts.iter().all(|part| line.contains(part))),
            "{parts:?} in\n{text}"
        );
    };
    for operation in ["read", "visit", "inspect", "create", "set", "save", "touch", "delete"] {
        let operation = format!("operation=\"{operation}\"");
        traced(&["request{", &operation, "node=\"a\"", "epoch=", "outcome=\"ok\"", "close"]);
    }
    traced(&["requests{", "requests=200", "epoch="]);
    traced(&["flight{", "node=\"b\"", "epoch=", "requests="]);
    traced(&["request{", "node=\"b\"", "outcome=\"unavailable\""]);
    traced(&["DEBUG", "connected", "node=\"b\"", "version="]);
    traced(&["DEBUG", "not connected", "node=\"b\""]);
    traced(&["WARN", "node down", "node=\"b\"", "unavailable"]);
    traced(&["INFO", "node up", "node=\"b\""]);
    traced(&["INFO", "topology adopted", "resizing=true"]);
    traced(&["DEBUG", "another topology there", "node=\"a\""]);
    for phase in ["moving", "settling", "cleaning", "done"] {
        traced(&["INFO", "resize", &format!("phase=\"{phase}\"")]);
    }
    traced(&["DEBUG", "resize goes on", "left="]);
    traced(&["WARN", "node readmitted", "node=\"b\""]);
    traced(&["WARN", "session cannot be read", "namespace=\"login\"", "corrupt"]);
    traced(&["endangers", "reason=\"eviction\""]);
    traced(&["ERROR", "refused", "node=\"a\"", "upgrade_required"]);

    let mut seen = text.clone();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        writeln!(seen, "{key:?} {value:?}").unwrap();
    }
    for id in &ids {
        let key = logins.key_of(id);
        let digest = &key.to_string()[28..];
        let id = id.expose();
        // A part of either is too much.
        for secret in [id.get(..12).unwrap_or(&id), &key.to_string()[..20], digest] {
            assert!(!seen.contains(secret), "{secret}");
        }
    }
    for secret in [PASSWORD, "customer-4711", "book"] {
        assert!(!seen.contains(secret), "{secret}");
    }
}
