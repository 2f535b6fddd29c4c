//! The process that ends a server whose owner is gone.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::{Error, Result};

/// Reads process ids, one a line; when the pipe closes, kills the last one and removes the folder. It has a
/// process group of its own, so that what Ctrl-C ends is the tests and not the watchdog.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pid=0
while read -r next; do pid=$next; done
if [ "$pid" -gt 0 ]; then kill -KILL "$pid" 2>/dev/null; fi
rm -rf -- "$1"
"#;

#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    pub(crate) fn start(folder: &Path) -> Result<Watchdog> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sessionring-testkit-watchdog"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("start the watchdog (sh)"))?;
        let pipe = shell.stdin.take();
        Ok(Watchdog { shell, pipe })
    }

    /// From now on this is the process to end.
    pub(crate) fn watch(&mut self, pid: u32) -> Result<()> {
        self.tell(pid)
    }

    /// There is nothing to end at present.
    pub(crate) fn rest(&mut self) -> Result<()> {
        self.tell(0)
    }

    fn tell(&mut self, pid: u32) -> Result<()> {
        match &mut self.pipe {
            Some(pipe) => writeln!(pipe, "{pid}").map_err(Error::io("tell the watchdog")),
            None => Ok(()),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe = None;
        // An error would mean that it has been reaped already.
        let _ = self.shell.wait();
    }
}
