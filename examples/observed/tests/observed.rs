//! Runs the example as a user does, and reads what it shows.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use sessionring_testkit::RedisServer;

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn observed() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observed"));
    command.env_remove("RUST_LOG").env("NO_COLOR", "1");
    command
}

/// The value of the line that begins like this.
fn value(scrape: &str, line: &str) -> f64 {
    let found = scrape.lines().find_map(|candidate| candidate.strip_prefix(line));
    found.unwrap_or_else(|| panic!("{line} in\n{scrape}")).trim().parse().unwrap()
}

fn check(scrape: &str) {
    let requests = |operation, outcome| {
        let labels = format!("{{ring=\"shop\",operation=\"{operation}\",outcome=\"{outcome}\"}}");
        value(scrape, &format!("sessionring_requests_total{labels}"))
    };
    assert_eq!(requests("create", "ok"), 3_000.0);
    assert_eq!(requests("visit", "ok"), 1_000.0);
    assert_eq!(requests("save", "ok"), 1_000.0);
    assert_eq!(requests("delete", "ok"), 100.0);
    assert_eq!(
        value(scrape, "sessionring_request_seconds_count{ring=\"shop\",operation=\"visit\"}"),
        1_000.0
    );
    let sessions = |node| {
        value(scrape, &format!("sessionring_sessions{{ring=\"shop\",namespace=\"login\",node=\"{node}\"}}"))
    };
    assert_eq!(["a", "b", "c", "d"].map(sessions).iter().sum::<f64>(), 2_900.0);
    assert_eq!(value(scrape, "sessionring_node_up{ring=\"shop\",node=\"d\"}"), 1.0);
    assert_eq!(value(scrape, "sessionring_resizing{ring=\"shop\"}"), 0.0);
    assert_eq!(value(scrape, "sessionring_epoch{ring=\"shop\"}"), 3.0);
    for line in [
        "# HELP sessionring_requests_total Requests that were answered or have failed",
        "# TYPE sessionring_request_seconds histogram",
        "sessionring_batch_requests_bucket{ring=\"shop\",node=\"a\",lane=\"scripts\",le=\"1\"}",
    ] {
        assert!(scrape.contains(line), "{line} in\n{scrape}");
    }
}

#[test]
fn it_prints_what_would_be_scraped_and_logs_what_happened() {
    let output = observed().output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{err}");
    check(&out);
    for line in ["topology adopted", "phase=\"settling\"", "observed: 2900 sessions on 4 nodes", "observed: "]
    {
        assert!(err.contains(line), "{line} in\n{err}");
    }
}

#[test]
fn it_is_scraped_over_http() {
    // A server's port stays reserved when it is gone.
    let server = RedisServer::start().unwrap_or_else(|error| panic!("{error}"));
    server.kill().unwrap();
    let address = server.socket_address();
    let child = observed().arg(address.to_string()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut running = Running(child.unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let ready = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("until Ctrl-C")));
    assert!(ready.is_some(), "it ended before it served");
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    check(&response);
}
