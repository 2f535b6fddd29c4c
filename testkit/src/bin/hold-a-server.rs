//! Starts one server, prints `PORT FOLDER`, and holds it until standard input ends.

use std::io::{Read, Write};

use sessionring_testkit::{Error, RedisServer, require_redis};

fn main() -> Result<(), Error> {
    let _ = require_redis();
    let server = RedisServer::start()?;
    server.restart()?; // so that a test sees that the watchdog knows the new process
    let io = |source| Error::Io { what: "standard input and output".into(), source };
    let mut out = std::io::stdout();
    writeln!(out, "{} {}", server.port(), server.dir().display()).map_err(io)?;
    out.flush().map_err(io)?;
    std::io::stdin().read_to_end(&mut Vec::new()).map_err(io)?;
    Ok(())
}
