//! Programs that never outlive the test that started them, nor do the programs that they start.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use crate::Result;

/// Reads the number of a process group. When the pipe closes, at the end of the test or because the test was killed, it
/// kills the whole group and removes the folder.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
read -r group
read -r _
[ -z "$group" ] || kill -s KILL -- "-$group"
# Who has just been killed may still be making a file.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" && exit
    sleep 0.1
done
"#;

/// A program, and all that it starts.
#[derive(Debug)]
pub(crate) struct Kept {
    program: Child,
    output: BufReader<ChildStdout>,
    watchdog: Child,
    pipe: Option<ChildStdin>,
    folder: TempDir,
}

impl Kept {
    /// Starts it with a folder of its own for whatever it writes.
    pub(crate) fn start(program: &Path, args: &[&str]) -> Result<Kept> {
        let folder = tempfile::Builder::new().prefix("shop-browser-").tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "shop-browser-watchdog"])
            .arg(folder.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let mut pipe = watchdog.stdin.take().ok_or("the watchdog has no stdin")?;
        let mut program = Command::new(program)
            .args(args)
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        writeln!(pipe, "{}", program.id())?;
        let output = BufReader::new(program.stdout.take().ok_or("the program has no stdout")?);
        Ok(Kept { program, output, watchdog, pipe: Some(pipe), folder })
    }

    /// What follows this on the next line that has it, on stdout.
    pub(crate) fn line_after(&mut self, mark: &str) -> Result<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line)? > 0 {
            if let Some((_, rest)) = line.split_once(mark) {
                return Ok(rest.trim().to_owned());
            }
            line.clear();
        }
        Err(format!("it ended without saying {mark:?}:\n{}", self.log()).into())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it said on stderr.
    fn log(&self) -> String {
        let log = fs::read(self.folder().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
        self.pipe = None;
        // Errors would mean that they have ended already.
        let _ = self.watchdog.wait();
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
