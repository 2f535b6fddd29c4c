//! What a session costs in Redis beyond its payload, and what a log-out leaves behind.

use std::collections::{BTreeMap, HashMap};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sessionring::{
    SessionId, SessionRing,
    record::{Bincode, Codec, Keyspace},
};
use sessionring_testkit::{Client, RedisServer, Reply};
use time::OffsetDateTime;

use crate::{Result, lab::Lab, statistics::Spread};

/// Sessions of different lengths, since the allocator rounds up: one length alone would measure its steps.
const LENGTHS: usize = 600;
/// When the rival's records expire: in 2033.
const EXPIRY: i64 = 2_000_000_000;
/// Log-ins and log-outs.
const CHURN: usize = 20_000;

/// What an application keeps, as a type of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Login {
    user: u64,
    csrf: String,
    cart: Vec<Item>,
    notes: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    article: u32,
    title: String,
    count: u16,
}

impl Login {
    /// About 150 bytes and `notes` more.
    fn new(notes: usize) -> Login {
        let item = |article, title: &str, count| Item { article, title: title.into(), count };
        Login {
            user: 4_200_042,
            csrf: "kX3vQm0aT9wZbN5eRyUo7pLc".into(),
            cart: vec![item(1001, "The Art of Computer Programming", 1), item(77, "tea, green", 12)],
            notes: "n".repeat(notes),
        }
    }

    /// The same as tower-sessions has it.
    fn data(&self) -> HashMap<String, Value> {
        HashMap::from([
            ("user".into(), json!(self.user)),
            ("csrf".into(), json!(self.csrf)),
            ("cart".into(), json!(self.cart)),
            ("notes".into(), json!(self.notes)),
        ])
    }
}

/// `tower_sessions_core::session::Id`
#[derive(Serialize)]
struct TowerId(i128);

/// `tower_sessions_core::session::Record`, which tower-sessions-redis-store writes as `rmp_serde::to_vec` has it.
#[derive(Serialize)]
struct TowerRecord {
    id: TowerId,
    data: HashMap<String, Value>,
    expiry_date: OffsetDateTime,
}

/// Bytes beyond the payload, over sessions of different lengths.
#[derive(Debug)]
pub(crate) struct Records {
    /// For the same sessions, each in its store's own encoding. (The rival's is longer, so that it also pays more for
    /// the rounding up.)
    pub(crate) ours: Spread,
    pub(crate) theirs: Spread,
    /// For sessions that take the same number of bytes in both encodings.
    pub(crate) at_equal_lengths: (Spread, Spread),
    /// The same sessions with their payload.
    pub(crate) in_all: (Spread, Spread),
}

/// The payload is what the session's data takes in the encoding of that store: the rest (key, header or id and
/// expiry, Redis' own structures) is what the store costs.
pub(crate) fn records(lab: &Lab) -> Result<Records> {
    let server = RedisServer::start()?;
    let (name, namespace) = ("memory", "login");
    let ring = lab.block_on(async {
        Ok(SessionRing::builder().name(name).node("node-0", server.address()).connect().await?)
    })?;
    let sessions = ring.sessions::<Login>(namespace);
    let keyspace = Keyspace::new(name, namespace);
    let mut client = server.client()?;
    // By the length of the payload.
    let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
    for notes in 0..LENGTHS {
        let login = Login::new(notes);
        let id: SessionId = lab.block_on(async { Ok(sessions.create(&login).await?) })?;
        let payload = Bincode.encode(&login)?.len();
        ours.insert(payload, beyond(&mut client, keyspace.key(&id).as_bytes(), payload)?);

        let data = login.data();
        let payload = rmp_serde::to_vec(&data)?.len();
        let id = i128::from_le_bytes([notes as u8; 16]);
        let key = BASE64URL_NOPAD.encode(&id.to_le_bytes());
        let expiry_date = OffsetDateTime::from_unix_timestamp(EXPIRY)?;
        let record = rmp_serde::to_vec(&TowerRecord { id: TowerId(id), data, expiry_date })?;
        let expiry = EXPIRY.to_string();
        client.command(&[b"SET".as_slice(), key.as_bytes(), &record, b"EXAT", expiry.as_bytes()])?.ok()?;
        theirs.insert(payload, beyond(&mut client, key.as_bytes(), payload)?);
    }
    lab.block_on(async {
        ring.close().await;
        Ok(())
    })?;
    let equal = ours.iter().filter_map(|(payload, ours)| Some((*ours, *theirs.get(payload)?)));
    let (ours_equal, theirs_equal): (Vec<f64>, Vec<f64>) = equal.unzip();
    Ok(Records {
        ours: mean(ours.values().copied()),
        theirs: mean(theirs.values().copied()),
        at_equal_lengths: (mean(ours_equal), mean(theirs_equal)),
        in_all: (in_all(&ours), in_all(&theirs)),
    })
}

fn beyond(client: &mut Client, key: &[u8], payload: usize) -> Result<f64> {
    match client.command(&[b"MEMORY".as_slice(), b"USAGE", key])? {
        Reply::Int(bytes) => Ok(bytes as f64 - payload as f64),
        other => Err(format!("MEMORY USAGE answered {other:?}").into()),
    }
}

fn in_all(by_payload: &BTreeMap<usize, f64>) -> Spread {
    mean(by_payload.iter().map(|(&payload, beyond)| payload as f64 + beyond))
}

/// With the range. The mean, since the allocator's steps make clusters of values.
fn mean(values: impl IntoIterator<Item = f64>) -> Spread {
    let values: Vec<f64> = values.into_iter().collect();
    let range = Spread::of(values.iter().copied()).unwrap_or(Spread::single(0.0));
    Spread { median: values.iter().sum::<f64>() / values.len().max(1) as f64, ..range }
}

/// Bytes of a node's memory for each session, and for each log-out that is still remembered.
#[derive(Debug)]
pub(crate) struct Churn {
    pub(crate) sessions: f64,
    pub(crate) tombstones: f64,
}

/// Creates and deletes sessions on a fresh node. A tombstone lives as long as its session would have, and a quarter of
/// an hour.
pub(crate) fn churn(lab: &Lab) -> Result<Churn> {
    let server = RedisServer::start()?;
    let used = || -> Result<f64> {
        Ok(server.info("used_memory")?.ok_or("INFO without used_memory")?.parse::<f64>()?)
    };
    lab.block_on(async {
        let ring = SessionRing::builder().name("churn").node("node-0", server.address()).connect().await?;
        let sessions = ring.sessions::<Login>("login");
        let logins = vec![Login::new(150); 1000];
        // Connections and scripts take their memory before it counts.
        for id in sessions.create_many(&logins[..10]).await {
            sessions.delete(&id?).await?;
        }
        let before = used()?;
        let mut ids = Vec::with_capacity(CHURN);
        while ids.len() < CHURN {
            for id in sessions.create_many(&logins).await {
                ids.push(id?);
            }
        }
        let full = used()?;
        for some in ids.chunks(1000) {
            for deleted in sessions.delete_many(some).await {
                deleted?;
            }
        }
        let after = used()?;
        ring.close().await;
        Ok(Churn { sessions: (full - before) / CHURN as f64, tombstones: (after - before) / CHURN as f64 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rivals_record_is_what_it_writes() {
        let data = HashMap::from([("user".to_owned(), json!(42))]);
        let expiry_date = OffsetDateTime::from_unix_timestamp(0).unwrap();
        let record = TowerRecord { id: TowerId(1), data, expiry_date };
        let bytes = rmp_serde::to_vec(&record).unwrap();
        // An array of three; the id as 16 bytes; a map; year, day of year, h, m, s, ns and three of the offset.
        let id = [&[0x93, 0xc4, 16][..], &[0; 15], &[1]].concat();
        let rest = b"\x81\xa4user\x2a\x99\xcd\x07\xb2\x01\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(bytes, [&id[..], rest].concat());
    }

    #[test]
    fn both_hold_the_same() {
        let login = Login::new(3);
        let data: Value = login.data().into_iter().collect();
        assert_eq!(serde_json::from_value::<Login>(data).unwrap(), login);
    }
}
