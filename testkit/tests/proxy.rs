//! Every fault of the proxy, in front of a real server; and the fake servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sessionring_testkit::{Client, Direction, Error, FakeServer, FaultProxy, RedisServer, Reply, Script};

const SOON: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(60);

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

fn setup() -> (RedisServer, FaultProxy, Client) {
    let server = RedisServer::start().unwrap();
    let proxy = FaultProxy::in_front_of(&server).unwrap();
    let client = Client::connect(proxy.socket_address()).unwrap();
    (server, proxy, client)
}

fn no_answer(client: &mut Client) {
    client.set_timeout(Some(SHORT)).unwrap();
    match client.receive() {
        Err(Error::Io { source, .. }) => {
            assert!(matches!(source.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
        }
        other => panic!("{other:?}"),
    }
    client.set_timeout(Some(SOON)).unwrap();
}

fn is_closed(client: &mut Client) {
    match client.receive() {
        Err(Error::Io { source, .. }) => {
            assert!(!matches!(source.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut))
        }
        other => panic!("{other:?}"),
    }
}

fn get(server: &RedisServer, key: &str) -> Option<String> {
    server.command(&["GET", key]).unwrap().text()
}

#[test]
fn it_forwards_and_counts() {
    let (_server, proxy, mut client) = setup();
    assert_eq!(proxy.address(), format!("redis://127.0.0.1:{}", proxy.port()));
    assert_eq!(client.command(&["SET", "k", "v"]).unwrap(), ok());
    for _ in 0..3 {
        client.send(&["GET", "k"]).unwrap();
    }
    for _ in 0..3 {
        client.receive().unwrap();
    }
    let counts = proxy.take_counts();
    assert_eq!((counts.connections, counts.requests, counts.replies), (1, 4, 4));
    assert!((2..=4).contains(&counts.round_trips), "{counts:?}");
    assert_eq!(counts.bytes_to_server, 27 + 3 * 20);
    assert_eq!(counts.bytes_to_client, 5 + 3 * 7);
    assert_eq!(proxy.counts().requests, 0);

    client.send_raw(b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n").unwrap();
    for _ in 0..3 {
        client.receive().unwrap();
    }
    assert_eq!((proxy.counts().round_trips, proxy.counts().requests), (1, 3));
}

#[test]
fn large_values_pass() {
    let (_server, proxy, mut client) = setup();
    let value = vec![b'x'; 3_000_000];
    assert_eq!(client.command(&[b"SET".as_slice(), b"k", &value]).unwrap(), ok());
    assert_eq!(client.command(&["GET", "k"]).unwrap().bytes(), Some(value.as_slice()));
    assert_eq!((proxy.counts().requests, proxy.counts().round_trips), (2, 2));
}

#[test]
fn connections_end_on_both_sides() {
    let (server, proxy, mut client) = setup();
    client.command(&["QUIT"]).unwrap();
    is_closed(&mut client);
    drop(client);
    let deadline = Instant::now() + SOON;
    while proxy.open_connections() > 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    server.kill().unwrap();
    // Accepted, and closed at once.
    let mut client = Client::connect(proxy.socket_address()).unwrap();
    is_closed(&mut client);
}

#[test]
fn cut_closes_what_is_open() {
    let (_server, proxy, mut client) = setup();
    client.command(&["PING"]).unwrap();
    proxy.cut();
    is_closed(&mut client);
    let mut client = Client::connect(proxy.socket_address()).unwrap();
    client.command(&["PING"]).unwrap();
    drop(proxy);
    is_closed(&mut client);
}

#[test]
fn cut_after_request_executes_and_never_answers() {
    let (server, proxy, mut client) = setup();
    client.command(&["SET", "k", "1"]).unwrap();
    proxy.cut_after_request();
    assert!(proxy.is_armed());
    client.send(&["INCR", "k"]).unwrap();
    is_closed(&mut client);
    assert_eq!(get(&server, "k").as_deref(), Some("2")); // without any waiting
    assert!(!proxy.is_armed());
    let mut client = Client::connect(proxy.socket_address()).unwrap();
    assert_eq!(client.command(&["INCR", "k"]).unwrap(), Reply::Int(3)); // only once
}

#[test]
fn cut_after_request_answers_what_came_before() {
    let (server, proxy, mut client) = setup();
    proxy.cut_after_request_with(b"victim");
    let all =
        b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$6\r\nvictim\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n";
    // However the requests are cut into pieces.
    for piece in all.chunks(7) {
        client.send_raw(piece).unwrap();
    }
    assert_eq!(client.receive().unwrap(), Reply::Int(1));
    is_closed(&mut client);
    assert_eq!(get(&server, "a").as_deref(), Some("1"));
    assert_eq!(get(&server, "victim").as_deref(), Some("1"));
}

#[test]
fn a_black_hole_swallows_both_ways() {
    let (server, proxy, mut client) = setup();
    proxy.blackhole(true);
    client.send(&["SET", "k", "v"]).unwrap();
    assert!(proxy.wait_for(|counts| counts.requests == 1, SOON));
    let mut other = Client::connect(proxy.socket_address()).unwrap(); // accepted
    other.send(&["SET", "k", "v"]).unwrap();
    no_answer(&mut other);
    assert_eq!(get(&server, "k"), None);
    proxy.blackhole(false);
    proxy.cut();
    is_closed(&mut client);
    let mut client = Client::connect(proxy.socket_address()).unwrap();
    assert_eq!(client.command(&["SET", "k", "v"]).unwrap(), ok());
}

#[test]
fn swallowed_answers_mean_executed_requests() {
    let (server, proxy, mut client) = setup();
    proxy.swallow(Direction::ToClient, true);
    client.send(&["SET", "k", "v"]).unwrap();
    assert!(proxy.wait_for(|counts| counts.replies == 1, SOON));
    assert_eq!(get(&server, "k").as_deref(), Some("v"));
    no_answer(&mut client);
}

#[test]
fn a_held_request_arrives_after_its_client_has_gone() {
    let (server, proxy, mut client) = setup();
    client.command(&["PING"]).unwrap();
    let mut monitor = server.monitor().unwrap();
    proxy.hold(Direction::ToServer, true);
    client.send(&["SET", "k", "late"]).unwrap();
    assert!(proxy.wait_for(|counts| counts.requests == 2, SOON));
    no_answer(&mut client);
    drop(client);
    assert_eq!(monitor.take().unwrap(), []);
    assert!(!proxy.is_at_rest(), "a command is held");
    proxy.hold(Direction::ToServer, false);
    assert!(proxy.wait_for(|counts| counts.replies == 2, SOON));
    assert_eq!(get(&server, "k").as_deref(), Some("late"));
}

#[test]
fn held_answers_come_in_order() {
    let (_server, proxy, mut client) = setup();
    proxy.hold(Direction::ToClient, true);
    assert!(proxy.is_at_rest());
    client.send(&["INCR", "n"]).unwrap();
    client.send(&["INCR", "n"]).unwrap();
    assert!(proxy.wait_for(|counts| counts.replies == 2, SOON));
    no_answer(&mut client);
    assert!(!proxy.is_at_rest(), "answers are held");
    proxy.hold(Direction::ToClient, false);
    assert_eq!((client.receive().unwrap(), client.receive().unwrap()), (Reply::Int(1), Reply::Int(2)));
    assert!(proxy.is_at_rest());
}

#[test]
fn delayed_answers_do_not_queue_up() {
    let (_server, proxy, mut client) = setup();
    let delay = Duration::from_millis(50);
    proxy.delay(delay);
    let begin = Instant::now();
    for _ in 0..20 {
        client.send(&["PING"]).unwrap();
        assert!(proxy.wait_for(|_| true, SOON));
    }
    for _ in 0..20 {
        client.receive().unwrap();
    }
    assert!(begin.elapsed() >= delay);
    assert!(begin.elapsed() < delay * 20, "each waited for the one before: {:?}", begin.elapsed());
    proxy.delay(Duration::ZERO);
    client.command(&["PING"]).unwrap();
}

#[test]
fn a_cut_ends_a_delay() {
    let (_server, proxy, mut client) = setup();
    proxy.delay(Duration::from_secs(3600));
    client.send(&["PING"]).unwrap();
    assert!(proxy.wait_for(|counts| counts.replies == 1, SOON));
    proxy.cut();
    is_closed(&mut client);
}

#[test]
fn refused_and_open_again_on_the_same_port() {
    let (_server, proxy, mut client) = setup();
    client.command(&["PING"]).unwrap();
    for _ in 0..5 {
        proxy.refuse(true).unwrap();
        let error = TcpStream::connect(proxy.socket_address()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        proxy.refuse(false).unwrap();
        Client::connect(proxy.socket_address()).unwrap().command(&["PING"]).unwrap();
    }
    client.command(&["PING"]).unwrap(); // open connections stay
}

#[test]
fn it_survives_restarts_of_its_server() {
    let (server, proxy, mut client) = setup();
    client.command(&["PING"]).unwrap();
    server.restart().unwrap();
    is_closed(&mut client);
    let mut client = Client::connect(proxy.socket_address()).unwrap();
    client.command(&["PING"]).unwrap();
}

fn everything_said(fake: &FakeServer, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(fake.socket_address()).unwrap();
    stream.write_all(request).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said); // a reset counts as an end
    said
}

#[test]
fn fake_servers_say_what_they_are_told() {
    let fake = FakeServer::start(Script::http()).unwrap();
    assert_eq!(fake.address(), format!("redis://127.0.0.1:{}", fake.port()));
    assert!(everything_said(&fake, b"PING\r\n").starts_with(b"HTTP/1.1 400"));
    fake.set_script(Script::Close);
    assert_eq!(everything_said(&fake, b""), b"");
    assert_eq!(fake.connections(), 2);

    fake.set_script(Script::loading());
    let mut client = Client::connect(fake.socket_address()).unwrap();
    for _ in 0..2 {
        assert!(client.command(&["GET", "k"]).unwrap().is_error("LOADING"));
    }
    fake.set_script(Script::no_auth());
    let mut client = Client::connect(fake.socket_address()).unwrap();
    assert!(client.command(&["GET", "k"]).unwrap().is_error("NOAUTH"));

    fake.set_script(Script::Greet(b"\xff\x00garbage\r\n".to_vec()));
    let mut client = Client::connect(fake.socket_address()).unwrap();
    assert!(matches!(client.receive(), Err(Error::Protocol { .. })));

    fake.set_script(Script::huge_bulk(1 << 60));
    let mut client = Client::connect(fake.socket_address()).unwrap();
    client.send(&["GET", "k"]).unwrap();
    no_answer(&mut client);
    client.send(&["GET", "k"]).unwrap();
    fake.cut();
    assert!(matches!(client.receive(), Err(Error::Protocol { .. } | Error::Io { .. })));

    fake.set_script(Script::Silence);
    let mut client = Client::connect(fake.socket_address()).unwrap();
    client.send(&["GET", "k"]).unwrap();
    no_answer(&mut client);

    fake.set_script(Script::Once(b":1\r\n".to_vec()));
    let mut client = Client::connect(fake.socket_address()).unwrap();
    assert_eq!(client.command(&["GET", "k"]).unwrap(), Reply::Int(1));
    client.send(&["GET", "k"]).unwrap();
    no_answer(&mut client);

    fake.set_script(Script::respond(|args| format!(":{}\r\n", args.len()).into_bytes()));
    let mut client = Client::connect(fake.socket_address()).unwrap();
    assert_eq!(client.command(&["MGET", "a", "b"]).unwrap(), Reply::Int(3));
    drop(fake);
    assert!(client.receive().is_err());
}

#[test]
fn new_connections_go_to_another_server() {
    let (first, proxy, mut client) = setup();
    let second = RedisServer::start().unwrap();
    proxy.retarget(second.socket_address());
    assert_eq!(client.command(&["SET", "k", "one"]).unwrap(), ok());
    let mut other = Client::connect(proxy.socket_address()).unwrap();
    assert_eq!(other.command(&["SET", "k", "two"]).unwrap(), ok());
    assert_eq!((get(&first, "k"), get(&second, "k")), (Some("one".into()), Some("two".into())));
}
