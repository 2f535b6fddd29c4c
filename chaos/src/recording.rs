//! Histories as files: one line before each operation and one after, written at once.
//!
//! What a process has written survives its death (the bytes are with the system). A line that has no end, because the
//! process was killed while it wrote, is ignored; so an operation may lack its answer, but no answer its operation.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{
    history::{Action, Answer, Nanos, Operation, Reason, Token, now},
    oracles::{Finding, Harm},
};

/// Writes what one process does.
#[derive(Debug)]
pub struct Recorder {
    process: u32,
    file: Mutex<File>,
    next: AtomicU64,
}

/// An operation that has begun.
#[derive(Debug, Clone, Copy)]
#[must_use = "its answer belongs into the recording"]
pub struct Begun(u64);

impl Recorder {
    /// The recording of the process of this number, which no other one has.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path, process: u32) -> io::Result<Recorder> {
        let mut file = File::create_new(path)?;
        writeln!(file, "process {process}")?;
        Ok(Recorder { process, file: Mutex::new(file), next: AtomicU64::new(1) })
    }

    /// A value that nobody else writes.
    pub fn token(&self) -> Token {
        u64::from(self.process) << 40 | self.next.fetch_add(1, Relaxed)
    }

    /// To be called before the operation is asked for.
    pub fn begin(&self, session: usize, action: Action) -> Begun {
        let number = self.next.fetch_add(1, Relaxed);
        let (letter, token) = match action {
            Action::Create(token) => ('c', token),
            Action::Get => ('g', 0),
            Action::Exists => ('e', 0),
            Action::Set(token) => ('s', token),
            Action::Update(token) => ('u', token),
            Action::Touch => ('t', 0),
            Action::Delete => ('d', 0),
        };
        self.line(&format!("> {number} {} {session} {letter} {token}\n", now()));
        Begun(number)
    }

    /// To be called when the answer is there. `replaced`: what the value that was seen says it has replaced.
    pub fn end(&self, begun: Begun, answer: Answer, replaced: Option<Token>) {
        let at = now();
        let (letter, token) = match answer {
            Answer::Done => ('+', 0),
            Answer::Updated(token) => ('u', token),
            Answer::Found(Some(token)) => ('f', token),
            Answer::Found(None) => ('n', 0),
            Answer::There(true) => ('T', 0),
            Answer::There(false) => ('F', 0),
            Answer::NotFound => ('0', 0),
            Answer::Deleted => ('d', 0),
            Answer::AlreadyThere => ('a', 0),
            Answer::Indeterminate => ('?', 0),
            Answer::Refused(Reason::Unavailable) => ('U', 0),
            Answer::Refused(Reason::Full) => ('M', 0),
            Answer::Refused(Reason::Conflict) => ('C', 0),
            Answer::Refused(Reason::Unexpected) => ('X', 0),
        };
        self.line(&format!("< {} {at} {letter} {token} {}\n", begun.0, replaced.unwrap_or(0)));
    }

    /// Something for people.
    pub fn remark(&self, text: &str) {
        self.line(&format!("# {} {}\n", now(), text.replace('\n', " ")));
    }

    /// A process that cannot write what it does must not do it.
    fn line(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            eprintln!("the recording cannot be written: {error}");
            std::process::exit(3);
        }
    }
}

/// What one process did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recording {
    /// The operations, with the number of their session.
    pub operations: Vec<(usize, Operation)>,
    /// Session, value, what it replaced, and when that was seen.
    pub replaced: Vec<(usize, Token, Token, Nanos)>,
    /// What was said to people, and when.
    pub remarks: Vec<(Nanos, String)>,
}

/// Reads a recording.
///
/// # Errors
/// The file cannot be read, or something stands in it that no recorder writes.
pub fn read(path: &Path) -> io::Result<Recording> {
    parse(&fs::read(path)?).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} is no recording", path.display()))
    })
}

fn parse(bytes: &[u8]) -> Option<Recording> {
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let mut lines = std::str::from_utf8(&bytes[..whole]).ok()?.lines();
    let mut recording = Recording::default();
    let Some(first) = lines.next() else { return Some(recording) };
    let process: u32 = first.strip_prefix("process ")?.parse().ok()?;
    let mut begun: BTreeMap<u64, usize> = BTreeMap::new();
    for line in lines {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        match kind {
            ">" => {
                let (id, invoked, session) = (number()?, number()?, number()? as usize);
                let letter = words.next()?;
                let token = words.next()?.parse().ok()?;
                let action = match letter {
                    "c" => Action::Create(token),
                    "g" => Action::Get,
                    "e" => Action::Exists,
                    "s" => Action::Set(token),
                    "u" => Action::Update(token),
                    "t" => Action::Touch,
                    "d" => Action::Delete,
                    _ => return None,
                };
                begun.insert(id, recording.operations.len());
                let operation = Operation::new(process, action, invoked, Answer::Indeterminate, None);
                recording.operations.push((session, operation));
            }
            "<" => {
                let (id, returned) = (number()?, number()?);
                let letter = words.next()?;
                let mut number = || words.next()?.parse::<u64>().ok();
                let (token, replaced) = (number()?, number()?);
                let (session, operation) = &mut recording.operations[begun.remove(&id)?];
                operation.returned = Some(returned);
                operation.answer = match letter {
                    "+" => Answer::Done,
                    "u" => Answer::Updated(token),
                    "f" => Answer::Found(Some(token)),
                    "n" => Answer::Found(None),
                    "T" => Answer::There(true),
                    "F" => Answer::There(false),
                    "0" => Answer::NotFound,
                    "d" => Answer::Deleted,
                    "a" => Answer::AlreadyThere,
                    "?" => Answer::Indeterminate,
                    "U" => Answer::Refused(Reason::Unavailable),
                    "M" => Answer::Refused(Reason::Full),
                    "C" => Answer::Refused(Reason::Conflict),
                    "X" => Answer::Refused(Reason::Unexpected),
                    _ => return None,
                };
                if replaced != 0 && token != 0 {
                    recording.replaced.push((*session, token, replaced, returned));
                }
            }
            "#" => {
                let at = number()?;
                recording.remarks.push((at, words.collect::<Vec<_>>().join(" ")));
            }
            _ => return None,
        }
    }
    Some(recording)
}

/// The history of each session, by its number.
pub type Histories = BTreeMap<usize, Vec<Operation>>;

/// The histories of all sessions, from the recordings of all processes; and updates that replaced another value than
/// their client was told.
pub fn merge(recordings: &[Recording]) -> (Histories, Vec<(usize, Finding)>) {
    let mut sessions: Histories = BTreeMap::new();
    let mut replaced: BTreeMap<Token, (Token, Nanos)> = BTreeMap::new();
    for recording in recordings {
        for &(session, operation) in &recording.operations {
            sessions.entry(session).or_default().push(operation);
        }
        for &(_, token, before, at) in &recording.replaced {
            let known = replaced.entry(token).or_insert((before, at));
            known.1 = known.1.min(at);
        }
    }
    let mut findings = Vec::new();
    for (&session, history) in &mut sessions {
        for operation in history {
            let Action::Update(token) = operation.action else { continue };
            let Some(&(before, at)) = replaced.get(&token) else { continue };
            match operation.answer {
                // Its value was seen, so it has happened, by then, and the value says upon what.
                Answer::Indeterminate => {
                    operation.answer = Answer::Updated(before);
                    operation.returned = Some(at);
                }
                Answer::Updated(told) if told != before => {
                    let operations = vec![*operation];
                    findings.push((session, Finding { harm: Harm::WrongPredecessor, operations }));
                }
                _ => {}
            }
        }
    }
    (sessions, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_torn_line_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let recorder = Recorder::create(&path, 7).unwrap();
        let actions = [
            (Action::Create(recorder.token()), Answer::Done),
            (Action::Get, Answer::Found(Some(5))),
            (Action::Get, Answer::Found(None)),
            (Action::Exists, Answer::There(true)),
            (Action::Exists, Answer::There(false)),
            (Action::Set(recorder.token()), Answer::NotFound),
            (Action::Update(recorder.token()), Answer::Updated(9)),
            (Action::Touch, Answer::Deleted),
            (Action::Create(recorder.token()), Answer::AlreadyThere),
            (Action::Delete, Answer::Indeterminate),
            (Action::Set(recorder.token()), Answer::Refused(Reason::Unavailable)),
            (Action::Set(recorder.token()), Answer::Refused(Reason::Full)),
            (Action::Set(recorder.token()), Answer::Refused(Reason::Conflict)),
            (Action::Set(recorder.token()), Answer::Refused(Reason::Unexpected)),
        ];
        for (session, (action, answer)) in actions.iter().enumerate() {
            let begun = recorder.begin(session, *action);
            recorder.end(begun, *answer, Some(4));
        }
        let begun = recorder.begin(99, Action::Delete);
        recorder.remark("two\nlines");
        let length = fs::metadata(&path).unwrap().len();
        recorder.end(begun, Answer::Done, None);
        let bytes = fs::read(&path).unwrap();
        for torn in [length as usize, bytes.len() - 1] {
            let recording = parse(&bytes[..torn]).unwrap();
            let read: Vec<_> = recording.operations.iter().map(|(_, one)| (one.action, one.answer)).collect();
            assert_eq!(read[..actions.len()], actions);
            let (session, last) = recording.operations[actions.len()];
            assert_eq!((session, last.answer, last.returned), (99, Answer::Indeterminate, None));
            assert_eq!(recording.remarks[0].1, "two lines");
            assert_eq!(recording.replaced.len(), 2);
        }
        assert_eq!(read(&path).unwrap().operations[actions.len()].1.answer, Answer::Done);
        assert!(parse(b"something else\n").is_none());
        assert!(parse(b"proc").unwrap().operations.is_empty());
    }

    #[test]
    fn a_value_that_was_seen_says_what_its_update_replaced() {
        let bytes = b"process 1\n> 1 10 3 u 50\n> 2 11 3 g 0\n< 2 12 f 50 49\n> 3 13 3 u 51\n< 3 14 u 50 0\n> 4 15 3 g 0\n< 4 16 f 51 48\n";
        let (sessions, findings) = merge(&[parse(bytes).unwrap()]);
        let update = sessions[&3][0];
        assert_eq!((update.answer, update.returned), (Answer::Updated(49), Some(12)));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].1.harm, Harm::WrongPredecessor);
    }
}
