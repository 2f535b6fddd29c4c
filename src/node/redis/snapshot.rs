//! Records and how long they live: TIME, MGET with the fence, PTTL …, GET of the fence.
//!
//! A script would do, at three times the cost for the node, and a node whose sessions move is asked for each of them. MULTI
//! would do, but a node that is out of memory refuses it, and must be emptied all the same. Neither is needed: the fence
//! is read first and last, it only goes up, and under one fence nobody changes a session at the node that it moves away
//! from; it can only go. So what is read in between fits together.

use super::{answers::Value, commands::Commands, failure, handshake::milliseconds, link::Packed};
use crate::{
    node::{BatchReply, Kind, queue::Waiting},
    protocol::{Command, Outcome, Stored, apply},
    record::{Header, Millis},
    ring::NodeId,
    topology::MetaKeys,
};

/// Adds the commands for these requests.
pub(super) fn pack(keys: &MetaKeys, requests: &[Waiting], commands: &mut Commands) {
    commands.command(1).arg("TIME");
    commands.command(2 + requests.len()).arg("MGET").arg(&keys.fence);
    for Waiting { request, .. } in requests {
        commands.arg(request.key.as_bytes());
    }
    for Waiting { request, .. } in requests {
        commands.command(2).arg("PTTL").arg(request.key.as_bytes());
    }
    commands.command(2).arg("GET").arg(&keys.fence);
}

/// What the answers mean; `None` for what Redis never answers.
pub(super) fn decode(
    id: &NodeId,
    packed: &Packed,
    answers: impl IntoIterator<Item = Value>,
) -> Option<BatchReply> {
    let Packed { fence, scopes, .. } = packed;
    let command = if packed.kind == Kind::Visit { Command::Visit } else { Command::Fetch };
    let mut parts: Vec<Value> = answers.into_iter().collect();
    if let Some(at) = parts.iter().position(|part| matches!(part, Value::ServerError(_)))
        && let Value::ServerError(error) = parts.swap_remove(at)
    {
        return Some(failure::of_batch(id, &error));
    }
    let last = parts.pop()?;
    let mut parts = parts.into_iter();
    let now = milliseconds(parts.next()?)?;
    let mut records = match parts.next()? {
        Value::Array(records) => records.into_iter(),
        _ => return None,
    };
    for stored in [records.next()?, last] {
        match stored {
            Value::BulkString(stored) if stored[..] == fence.encode() => {}
            Value::BulkString(stored) => return Some(BatchReply::Refused(Some(stored.into()))),
            Value::Nil => return Some(BatchReply::Refused(None)),
            _ => return None,
        }
    }
    if records.len() != scopes.len() || parts.len() != scopes.len() {
        return None;
    }
    let fetched = records.zip(parts).zip(scopes).map(|((record, lifetime), scope)| {
        let Value::Int(left) = lifetime else { return None };
        let stored = match record {
            // It may have gone between the two commands.
            Value::BulkString(_) | Value::Nil if left == GONE => return Some(Ok(Outcome::Absent)),
            Value::BulkString(bytes) => Stored { expires: expires(&bytes, now, left)?, bytes },
            // MGET does not tell a key of another type from none.
            Value::Nil => return Some(Ok(Outcome::WrongType)),
            _ => return None,
        };
        Some(Ok(apply(Some(&stored), now, &command, fence.epoch, *scope).0))
    });
    fetched.collect::<Option<Vec<_>>>().map(BatchReply::Done)
}

/// PTTL of a key that is not there, and of one that never expires.
const GONE: i64 = -2;
const FOR_EVER: i64 = -1;

/// When a record expires. It may seem to be a millisecond earlier than it is, because the time was taken first; never later:
/// a copy that outlived what it was taken from could bring it back.
fn expires(record: &[u8], now: Millis, left: i64) -> Option<Millis> {
    match left {
        // A key of ours without an expiry counts as one that expires at its absolute deadline.
        FOR_EVER => Some(Header::decode(record).map_or(now, |header| header.max_deadline.max(now))),
        left => now.checked_add(u64::try_from(left).ok()?),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::answers::Answers, *};
    use crate::{
        node::Failure,
        protocol::{Mode, Scope},
        topology::{Epoch, Fence},
    };

    const NOW: Millis = 1_700_000_000_000;
    const FENCE: Fence = Fence { protocol: 1, cluster: 2, epoch: Epoch::new(7), nonce: 3 };

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(Bytes::copy_from_slice(bytes))
    }

    fn answer(fence: Value, records: Vec<Value>, lifetimes: Vec<Value>) -> Vec<Value> {
        between(fence.clone(), records, lifetimes, fence)
    }

    fn between(fence: Value, records: Vec<Value>, lifetimes: Vec<Value>, last: Value) -> Vec<Value> {
        let time = Value::Array(vec![bulk(b"1700000000"), bulk(b"999")]);
        let records = std::iter::once(fence).chain(records).collect();
        [time, Value::Array(records)].into_iter().chain(lifetimes).chain([last]).collect()
    }

    fn decoded(answer: Vec<Value>, requests: usize) -> Option<BatchReply> {
        let scopes = vec![Scope::new(Epoch::FIRST, Mode::Settled); requests];
        let packed =
            Packed { commands: 0..answer.len(), arguments: 0..0, fence: FENCE, kind: Kind::Fetch, scopes };
        decode(&NodeId::new("a").unwrap(), &packed, answer)
    }

    #[test]
    fn each_record_has_its_own_expiry() {
        let header = [&b"\x01L\0"[..], &[0; 32]].concat();
        let mut endless = header.clone();
        endless[29..].copy_from_slice(&(NOW + 7).to_be_bytes()[2..]);
        let mut live = header;
        live[29..].copy_from_slice(&(NOW + 99).to_be_bytes()[2..]);
        for record in [&mut live, &mut endless] {
            record[8..14].copy_from_slice(&1_u64.to_be_bytes()[2..]);
        }
        let records =
            vec![bulk(&live), bulk(&endless), Value::Nil, Value::Nil, bulk(b"garbage"), bulk(&live)];
        let lifetimes = [50, FOR_EVER, GONE, FOR_EVER, 5, GONE].map(Value::Int).to_vec();
        let Some(BatchReply::Done(answers)) = decoded(answer(bulk(&FENCE.encode()), records, lifetimes), 6)
        else {
            panic!("a whole answer");
        };
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let fetched =
            |record: &[u8], deadline| Outcome::Fetched { record: Bytes::copy_from_slice(record), deadline };
        assert_eq!(
            answers,
            [
                fetched(&live, NOW + 50),
                fetched(&endless, NOW + 7),
                Outcome::Absent,
                Outcome::WrongType,
                Outcome::Unexpected(Bytes::from_static(b"garbage")),
                Outcome::Absent,
            ]
        );
    }

    #[test]
    fn another_fence_refuses_the_batch() {
        let own = bulk(&FENCE.encode());
        for (stored, expected) in [(bulk(b"other"), Some(b"other".to_vec())), (Value::Nil, None)] {
            for (first, last) in [(&stored, &own), (&own, &stored), (&stored, &stored)] {
                let (records, lifetimes) = (vec![Value::Nil], vec![Value::Int(GONE)]);
                let reply = decoded(between(first.clone(), records, lifetimes, last.clone()), 1);
                assert!(matches!(reply, Some(BatchReply::Refused(stored)) if stored == expected));
            }
        }
    }

    #[test]
    fn what_redis_never_answers_is_no_answer() {
        let fence = || bulk(&FENCE.encode());
        for wrong in [
            vec![],
            vec![Value::Nil; 4],
            answer(Value::Okay, vec![Value::Nil], vec![Value::Int(GONE)]),
            answer(fence(), vec![], vec![]),
            answer(fence(), vec![Value::Nil], vec![]),
            answer(fence(), vec![Value::Nil], vec![Value::Nil]),
            answer(fence(), vec![Value::Int(1)], vec![Value::Int(1)]),
            answer(fence(), vec![bulk(b"x")], vec![Value::Int(-3)]),
            answer(fence(), vec![Value::Nil; 2], vec![Value::Int(GONE); 2]),
        ] {
            assert!(decoded(wrong.clone(), 1).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn an_error_anywhere_is_the_answer() {
        let own = || bulk(&FENCE.encode());
        for at in 0..4 {
            let mut parts = answer(own(), vec![Value::Nil], vec![Value::Int(GONE)]);
            parts[at] = Answers::whole(b"-LOADING the dataset\r\n").unwrap();
            assert!(matches!(decoded(parts, 1), Some(BatchReply::Broken(Failure::Unsent(_)))));
        }
    }
}
