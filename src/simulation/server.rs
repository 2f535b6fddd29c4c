use std::{collections::VecDeque, sync::Arc};

use super::dice::Dice;
use crate::{
    error::{Error, ErrorKind},
    node::{
        BatchReply, Contents, Failure, Survey, Surveyed,
        simulated::{Question, Response},
    },
    protocol::{Command, Effect, Outcome, govern},
    record::Millis,
    ring::NodeId,
    topology::{Document, MetaKeys},
};

/// A simulated Redis server.
pub(super) struct Server {
    pub(super) id: NodeId,
    pub(super) contents: Contents,
    pub(super) up: bool,
    /// Like a process that was stopped by a signal: what arrives waits.
    pub(super) paused: bool,
    /// At `maxmemory`.
    pub(super) full: bool,
    /// Dumps, oldest first.
    dumps: VecDeque<Contents>,
}

/// What a server has when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    Everything,
    /// A dump, or what a replica had that lagged behind: this many dumps ago.
    Dump(u64),
    Nothing,
}

const DUMPS: usize = 12;

/// What a server did, for the record.
pub(super) struct Deed {
    pub(super) command: Command,
    pub(super) key: crate::record::Key,
    pub(super) outcome: Result<Outcome, ()>,
}

impl Server {
    pub(super) fn new(name: &str, now: Millis) -> Server {
        Server {
            id: NodeId::new(name).expect("a good name"),
            contents: Contents::new(now),
            up: true,
            paused: false,
            full: false,
            dumps: VecDeque::new(),
        }
    }

    /// A dump is written, or a replica has caught up.
    pub(super) fn dump(&mut self) {
        if self.dumps.len() == DUMPS {
            self.dumps.pop_front();
        }
        self.dumps.push_back(self.contents.clone());
    }

    /// Comes back as another process.
    pub(super) fn start(&mut self, memory: Memory) {
        match memory {
            Memory::Everything => {}
            Memory::Dump(age) => {
                let at = self.dumps.len().saturating_sub(1 + age as usize);
                if let Some(dump) = self.dumps.get(at) {
                    self.contents = dump.clone();
                    // What was dumped later is of a history that has not happened.
                    self.dumps.truncate(at + 1);
                }
            }
            Memory::Nothing => {
                self.contents.clear();
                self.dumps.clear();
            }
        }
        self.contents.restart();
        self.up = true;
    }

    /// FLUSHALL: the same process with nothing in it.
    pub(super) fn flush(&mut self) {
        self.contents.clear();
    }

    /// The document that it obeys.
    pub(super) fn document(&mut self, keys: &MetaKeys) -> Option<Document> {
        Document::decode(self.contents.charter(keys).document.as_deref()?).ok()
    }

    /// Executes what has arrived.
    pub(super) fn execute(
        &mut self,
        keys: &Arc<MetaKeys>,
        question: Question,
        dice: &mut Dice,
        deeds: &mut Vec<Deed>,
    ) -> Response {
        match question {
            Question::Greet => Response::Greeted {
                standing: self.contents.charter(keys).standing.clone(),
                process: self.contents.process(),
                time: self.contents.now(),
            },
            Question::Probe => Response::Looked {
                fence: self.contents.charter(keys).standing.fence.clone(),
                time: self.contents.now(),
            },
            Question::Control(control) => Response::Controlled(govern(self.contents.charter(keys), &control)),
            Question::Survey(survey) => Response::Surveyed(self.survey(survey, dice)),
            Question::Batch { fence, requests } => {
                let standing = &self.contents.charter(keys).standing;
                if !standing.obeys(&fence) {
                    return Response::Batch(BatchReply::Refused(standing.fence.clone()));
                }
                let answers = requests.into_iter().map(|request| {
                    let (outcome, effect) = self.contents.judge(&request);
                    let fits = !self.full || !takes_memory(&request.command, &effect);
                    let answer = if fits {
                        self.contents.take(request.key, effect);
                        Ok(outcome.clone())
                    } else {
                        let message = "the node has reached maxmemory (OOM, simulated)";
                        Err(Failure::Unsent(Error::at(ErrorKind::Full, &self.id, message)))
                    };
                    let outcome = if fits { Ok(outcome) } else { Err(()) };
                    deeds.push(Deed { command: request.command, key: request.key, outcome });
                    answer
                });
                Response::Batch(BatchReply::Done(answers.collect()))
            }
        }
    }

    /// A scan gives a few keys at a time, so that it takes long. After a restart an old cursor is anywhere: at worst at
    /// the end.
    fn survey(&mut self, survey: Survey, dice: &mut Dice) -> Surveyed {
        match survey {
            Survey::Scan { cursor, .. } if !self.contents.knows_cursor(cursor) => {
                Surveyed::Keys(0, Vec::new())
            }
            Survey::Scan { prefix, cursor, .. } => {
                let count = 1 + dice.below(8) as usize;
                self.contents.survey(&Survey::Scan { prefix, cursor, count })
            }
            survey => self.contents.survey(&survey),
        }
    }
}

/// What Redis refuses at `maxmemory`: see `src/node/tests/out_of_memory.rs`.
fn takes_memory(command: &Command, effect: &Effect) -> bool {
    let puts = matches!(effect, Effect::Put(_));
    match command {
        Command::Write(_) | Command::Forward(_) => puts,
        Command::Install(install) => puts && !install.for_logout,
        _ => false,
    }
}
