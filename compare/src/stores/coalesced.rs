//! **The ceiling**: what sessionring is built on, and nothing else. One task per node gathers what waits and sends it as one
//! command, reads as `MGET` with a fence in front, writes as one script that looks at each record before it replaces it.
//! No ids, no digests, no ring, no codec, no versions, no deadlines, no limits, nothing that is sent again.
//!
//! What this does not reach over the plain client, no client can that gathers requests, does the same at the server, and goes
//! through the same driver.
//!
//! **The ceiling with versions** puts 35 bytes in front of each value, as a record has them, and its script counts the version up and
//! keeps the deadline: the least that a write does which others can be told apart from. Nothing is judged, no tombstone is looked for,
//! nothing expires at the deadline.

use std::{ops::Range, sync::Arc};

use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection, cmd};
use tokio::sync::{mpsc, oneshot};

use super::{LIFETIME_MS, PATIENCE, Store, change, place};
use crate::{Error, Result, data::Data};

/// Reads or writes that go together at most. More writes would hold the node for longer than half a millisecond.
const READS: usize = 1024;
const WRITES: usize = 96;

/// Looks at the fence once and at the first bytes of each record.
const WRITE: &str = "\
    local stored = redis.call('GET', KEYS[1]) \
    for i = 2, #KEYS do \
        redis.call('GETRANGE', KEYS[i], '0', '34') \
        redis.call('SET', KEYS[i], ARGV[i], 'PX', ARGV[1]) \
    end \
    return stored";
/// The same with the 13 bytes that only the server knows. The second argument is what goes before them.
const WRITE_VERSION: &str = "\
    local stored = redis.call('GET', KEYS[1]) \
    local time = redis.call('TIME') \
    for i = 2, #KEYS do \
        local header = redis.call('GETRANGE', KEYS[i], '0', '34') \
        local version, deadline = 0, time[1] * 1000 + 86400000 \
        if #header == 35 then version, deadline = struct.unpack('>I7I6', header, 23) end \
        redis.call('SET', KEYS[i], ARGV[2] .. struct.pack('>I7I6', version + 1, deadline) .. ARGV[i + 1], 'PX', ARGV[1]) \
    end \
    return stored";
const FENCE: &str = "fence";

/// Bytes in front of a value that has a version, and those of them that the client writes.
const HEADER: usize = 35;
const HEAD: [u8; 22] = [1; 22];

/// What is asked, and who waits for the answer.
struct Waiting<T> {
    i: usize,
    /// What is to be written, if it is not the value of the data.
    value: Option<String>,
    answer: oneshot::Sender<Result<T>>,
}

/// What is stored under which keys.
struct Kept {
    data: Arc<Data>,
    /// Values with versions stand beside those without.
    keys: Vec<String>,
    versions: bool,
}

#[derive(Clone)]
pub(super) struct Coalesced {
    kept: Arc<Kept>,
    nodes: Arc<[Node]>,
}

struct Node {
    reads: mpsc::UnboundedSender<Waiting<Option<String>>>,
    writes: mpsc::UnboundedSender<Waiting<()>>,
}

pub(super) async fn connect(addresses: &[String], data: Arc<Data>, versions: bool) -> Result<Coalesced> {
    let beside = if versions { "+" } else { "" };
    let keys = data.keys.iter().map(|key| format!("{key}{beside}")).collect();
    let kept = Arc::new(Kept { data, keys, versions });
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let mut nodes = Vec::new();
    for address in addresses {
        let client = Client::open(address.as_str())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let () = cmd("SET").arg(FENCE).arg([1u8; 25].as_slice()).query_async(&mut connection).await?;
        let script: String = cmd("SCRIPT")
            .arg("LOAD")
            .arg(if versions { WRITE_VERSION } else { WRITE })
            .query_async(&mut connection)
            .await?;
        let (reads, read) = mpsc::unbounded_channel();
        let (writes, written) = mpsc::unbounded_channel();
        tokio::spawn(read_all(connection.clone(), kept.clone(), read));
        tokio::spawn(write_all(connection, kept.clone(), script, written));
        nodes.push(Node { reads, writes });
    }
    Ok(Coalesced { kept, nodes: nodes.into() })
}

async fn read_all(
    mut connection: MultiplexedConnection,
    kept: Arc<Kept>,
    mut waiting: mpsc::UnboundedReceiver<Waiting<Option<String>>>,
) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, READS).await > 0 {
        let mut mget = cmd("MGET");
        mget.arg(FENCE).arg("seq");
        batch.iter().for_each(|waiting| {
            mget.arg(&kept.keys[waiting.i]);
        });
        let answer: Result<Vec<Option<Vec<u8>>>, _> = mget.query_async(&mut connection).await;
        let values = answer.map(|values| values.into_iter().skip(2));
        hand_out(&mut batch, values.map_err(Error::from), |value| {
            let value = value.map(|mut value| {
                if kept.versions {
                    value.drain(..HEADER.min(value.len()));
                }
                String::from_utf8(value)
            });
            Ok(value.transpose()?)
        });
    }
}

async fn write_all(
    mut connection: MultiplexedConnection,
    kept: Arc<Kept>,
    script: String,
    mut waiting: mpsc::UnboundedReceiver<Waiting<()>>,
) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, WRITES).await > 0 {
        let mut call = cmd("EVALSHA");
        call.arg(&script).arg(1 + batch.len()).arg(FENCE);
        batch.iter().for_each(|waiting| {
            call.arg(&kept.keys[waiting.i]);
        });
        call.arg(LIFETIME_MS);
        if kept.versions {
            call.arg(&HEAD);
        }
        batch.iter().for_each(|Waiting { i, value, .. }| {
            call.arg(value.as_ref().unwrap_or(&kept.data.values[*i]));
        });
        let answer: Result<Vec<u8>, _> = call.query_async(&mut connection).await;
        let done = answer.map(|_| std::iter::repeat(()));
        hand_out(&mut batch, done.map_err(Error::from), Ok);
    }
}

/// Gives everybody his answer, or the error.
fn hand_out<A, T>(
    batch: &mut Vec<Waiting<T>>,
    answers: Result<impl Iterator<Item = A>>,
    read: impl Fn(A) -> Result<T>,
) {
    match answers {
        Ok(answers) => {
            for (waiting, answer) in batch.drain(..).zip(answers) {
                // Who has gone asks no more.
                let _ = waiting.answer.send(read(answer));
            }
        }
        Err(error) => {
            for waiting in batch.drain(..) {
                let _ = waiting.answer.send(Err(error.to_string().into()));
            }
        }
    }
}

impl Coalesced {
    fn node(&self, i: usize) -> &Node {
        &self.nodes[place(&self.kept.keys[i], self.nodes.len())]
    }

    fn ask(&self, i: usize) -> Result<oneshot::Receiver<Result<Option<String>>>> {
        let (answer, answered) = oneshot::channel();
        self.node(i).reads.send(Waiting { i, value: None, answer })?;
        Ok(answered)
    }

    async fn write(&self, i: usize, value: Option<String>) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.node(i).writes.send(Waiting { i, value, answer })?;
        answered.await?
    }
}

impl Store for Coalesced {
    fn data(&self) -> &Data {
        &self.kept.data
    }

    async fn get(&self, i: usize) -> Result<Option<String>> {
        self.ask(i)?.await?
    }

    async fn set(&self, i: usize) -> Result<()> {
        self.write(i, None).await
    }

    async fn visit(&self, i: usize) -> Result<Option<String>> {
        self.get(i).await
    }

    async fn update(&self, i: usize) -> Result<()> {
        let mut value = self.get(i).await?.ok_or("a session is lost")?;
        change(&mut value);
        self.write(i, Some(value)).await
    }

    async fn get_many(&self, range: Range<usize>) -> Result<Vec<Option<String>>> {
        let asked: Vec<_> = range.map(|i| self.ask(i)).collect::<Result<_>>()?;
        let mut values = Vec::with_capacity(asked.len());
        for answered in asked {
            values.push(answered.await??);
        }
        Ok(values)
    }
}
