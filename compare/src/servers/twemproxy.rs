//! A real twemproxy (`nutcracker`) in front of plain nodes.

use std::{
    fmt::Write,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use sessionring_testkit::RedisServer;
use tempfile::TempDir;

use crate::{Result, lab::Absent};

const PATIENCE: Duration = Duration::from_secs(5);
/// Debian puts it where only root's `PATH` leads.
const ALSO: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// Ends the proxy by its id when the pipe to us closes, however we end.
const SCRIPT: &str = r#""$@" & pid=$!; read -r _; kill -KILL "$pid" 2>/dev/null; wait"#;

/// Ended on drop.
#[derive(Debug)]
pub(crate) struct Twemproxy {
    shell: Child,
    port: u16,
    _folder: TempDir,
}

impl Twemproxy {
    pub(crate) fn start(nodes: &[RedisServer]) -> Result<Twemproxy> {
        let program =
            find().ok_or_else(|| Absent("no program nutcracker (twemproxy) on this machine".into()))?;
        let folder = tempfile::Builder::new().prefix("sessionring-twemproxy-").tempdir()?;
        let (port, statistics) = (free_port()?, free_port()?);
        let config = folder.path().join("nutcracker.yml");
        fs::write(&config, configuration(port, nodes))?;
        let log = folder.path().join("nutcracker.log");
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(program)
            .args(["-a", "127.0.0.1", "-s", &statistics.to_string()])
            .args([Path::new("-c"), &config, Path::new("-o"), &log])
            .args([Path::new("-p"), &folder.path().join("nutcracker.pid")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for us; the shell ends it.
            .process_group(0)
            .spawn()?;
        let proxy = Twemproxy { shell, port, _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("twemproxy does not answer on port {port}\n{log}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(proxy)
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Twemproxy {
    fn drop(&mut self) {
        // Closes the pipe. An error would mean that the shell has been reaped already.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn configuration(port: u16, nodes: &[RedisServer]) -> String {
    let mut text = format!(
        "compare:\n  listen: 127.0.0.1:{port}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  \
         auto_eject_hosts: false\n  preconnect: true\n  servers:\n"
    );
    for (i, node) in nodes.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "   - {}:1 node-{i}", node.socket_address());
    }
    text
}

/// The system chooses. Somebody may take it before the proxy does, which then does not start and says so.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ALSO.into_iter().map(PathBuf::from));
    folders.map(|folder| folder.join("nutcracker")).find(|program| program.is_file())
}
