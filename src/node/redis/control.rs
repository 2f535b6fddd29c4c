//! `control.lua`: what goes into it and what comes out; and questions about what the server holds.

use redis::Cmd;

use super::{
    answers::Value,
    failure,
    link::{RedisLink, pipeline},
};
use crate::{
    node::{Failure, Survey, Surveyed},
    protocol::{Ballot, Control, ControlReply, Slot, Standing},
    record::Key,
    ring::NodeId,
    topology::{Fence, MetaKeys},
};

pub(super) const SOURCE: &str = include_str!("control.lua");

impl RedisLink {
    pub(super) async fn execute_control(&self, control: &Control) -> Result<ControlReply, Failure> {
        let command = encode(&self.shared.control_hash, &self.shared.keys, control);
        let value = self.one(command.clone()).await?;
        let value = match value {
            Value::ServerError(error) if error.code() == "NOSCRIPT" => {
                self.one(super::link::with_source(&command, SOURCE)).await?
            }
            value => value,
        };
        match value {
            Value::ServerError(error) => Err(failure::of_control(&self.shared.id, &error)),
            value => decode(value).ok_or_else(|| Failure::Lost(self.garbage())),
        }
    }

    pub(super) async fn execute_survey(&self, survey: &Survey) -> Result<Surveyed, Failure> {
        let surveyed = match survey {
            Survey::Scan { prefix, cursor, count } => {
                let mut command = redis::cmd("SCAN");
                command.arg(*cursor).arg("MATCH").arg(beginning_with(prefix)).arg("COUNT").arg(*count);
                let value = self.one(command).await?;
                decode_scan(unless_error(&self.shared.id, value)?, prefix)
            }
            Survey::Weigh(keys) => self.weigh(keys).await?,
            Survey::Count => {
                let value = self.one(redis::cmd("DBSIZE")).await?;
                match unless_error(&self.shared.id, value)? {
                    Value::Int(count) => u64::try_from(count).ok().map(Surveyed::Count),
                    _ => None,
                }
            }
        };
        surveyed.ok_or_else(|| Failure::Lost(self.garbage()))
    }

    async fn weigh(&self, keys: &[Key]) -> Result<Option<Surveyed>, Failure> {
        let lengths = keys.iter().map(|key| redis::cmd("STRLEN").arg(key.as_bytes()).to_owned());
        if keys.is_empty() {
            return Ok(Some(Surveyed::Weights(Vec::new())));
        }
        let mut weights = Vec::with_capacity(keys.len());
        for value in self.send(&pipeline(lengths)).await? {
            weights.push(match value {
                // Something else stands under the key: no record.
                Value::ServerError(error) if error.code() == "WRONGTYPE" => 0,
                Value::ServerError(error) => return Err(failure::of_control(&self.shared.id, &error)),
                Value::Int(bytes @ 0..) => bytes as u64,
                _ => return Ok(None),
            });
        }
        Ok(Some(Surveyed::Weights(weights)))
    }

    async fn one(&self, command: Cmd) -> Result<Value, Failure> {
        let mut values = self.send(&pipeline([command])).await?;
        Ok(values.pop().unwrap_or(Value::Nil))
    }
}

fn encode(hash: &str, keys: &MetaKeys, control: &Control) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(hash).arg(6);
    for key in [&keys.node, &keys.incarnation, &keys.fence, &keys.document, &keys.ballot, &keys.void] {
        command.arg(key);
    }
    match control {
        Control::Look => command.arg("l"),
        Control::Load => command.arg("L"),
        Control::Mark { name, incarnation } => {
            command.arg("m").arg(name).arg(incarnation.to_be_bytes().as_slice())
        }
        Control::Prepare { slot, ballot } => {
            command.arg("p").arg(encode_slot(slot)).arg(ballot.encode().as_slice())
        }
        Control::Accept { slot, ballot, document } => {
            command.arg("a").arg(encode_slot(slot)).arg(ballot.encode().as_slice()).arg(&**document)
        }
        Control::Raise { name, fence, document, incarnation } => command
            .arg("r")
            .arg(name)
            .arg(fence.encode().as_slice())
            .arg(&**document)
            .arg(incarnation.to_be_bytes().as_slice()),
        Control::Depose { incarnation, successor } => {
            command.arg("d").arg(incarnation.to_be_bytes().as_slice()).arg(successor.to_be_bytes().as_slice())
        }
    };
    command
}

fn encode_slot(slot: &Slot) -> Vec<u8> {
    slot.as_ref().map_or_else(Vec::new, |fence: &Fence| fence.encode().to_vec())
}

/// What an answer of the script means; `None` for what it never says.
pub(super) fn decode(value: Value) -> Option<ControlReply> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter().map(|part| match part {
        Value::BulkString(bytes) => Some(Some(Vec::from(bytes))),
        Value::Nil => Some(None),
        _ => None,
    });
    let mut next = || parts.next().unwrap_or(Some(None));
    let letter = next()??;
    Some(match &letter[..] {
        b"A" => ControlReply::Accepted,
        b"O" => ControlReply::Outbid(Ballot::decode(&next()??)?),
        letter => {
            let standing = standing(next()?, next()?, next()?);
            match letter {
                b"S" => ControlReply::Standing(standing),
                b"R" => ControlReply::Refused(standing),
                b"L" => ControlReply::Loaded(standing, next()?.map(Into::into)),
                b"P" => {
                    let accepted = match next()? {
                        Some(ballot) => Some((Ballot::decode(&ballot)?, next()??.into())),
                        None => None,
                    };
                    ControlReply::Promised { accepted, standing }
                }
                _ => return None,
            }
        }
    })
}

/// What the three keys hold. An incarnation of another length is none, as for the script.
pub(super) fn standing(
    owner: Option<Vec<u8>>,
    incarnation: Option<Vec<u8>>,
    fence: Option<Vec<u8>>,
) -> Standing {
    Standing {
        owner: owner.map(|name| String::from_utf8_lossy(&name).into_owned()),
        incarnation: incarnation.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?))),
        fence,
    }
}

fn unless_error(id: &NodeId, value: Value) -> Result<Value, Failure> {
    match value {
        Value::ServerError(error) => Err(failure::of_control(id, &error)),
        value => Ok(value),
    }
}

/// The pattern of all keys that begin with these bytes, whatever they mean in a pattern.
fn beginning_with(prefix: &[u8]) -> Vec<u8> {
    let mut pattern: Vec<u8> = prefix.iter().flat_map(|&byte| [b'\\', byte]).collect();
    pattern.push(b'*');
    pattern
}

fn decode_scan(value: Value, prefix: &[u8]) -> Option<Surveyed> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(cursor), Value::Array(found)] = &parts[..] else { return None };
    let cursor = std::str::from_utf8(cursor).ok()?.parse().ok()?;
    let mut keys = Vec::with_capacity(found.len());
    for key in found {
        let Value::BulkString(key) = key else { return None };
        keys.extend(Key::parse(key).filter(|_| key.starts_with(prefix)));
    }
    Some(Surveyed::Keys(cursor, keys))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn bytes_of_a_prefix_mean_themselves() {
        assert_eq!(beginning_with(b"*?\\"), b"\\*\\?\\\\*");
    }

    #[test]
    fn what_the_script_never_says_is_no_answer() {
        let bulk = |text: &[u8]| Value::BulkString(Bytes::copy_from_slice(text));
        for wrong in [
            Value::Nil,
            Value::Int(1),
            Value::Array(vec![]),
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![bulk(b"x")]),
            Value::Array(vec![bulk(b"O"), bulk(b"short")]),
            Value::Array(vec![bulk(b"O")]),
            Value::Array(vec![bulk(b"S"), Value::Int(1)]),
            Value::Array(vec![bulk(b"P"), Value::Nil, Value::Nil, Value::Nil, bulk(b"short"), bulk(b"d")]),
            Value::Array(vec![bulk(b"P"), Value::Nil, Value::Nil, Value::Nil, bulk(&[0; 16])]),
        ] {
            assert_eq!(decode(wrong.clone()), None, "{wrong:?}");
        }
        let prefix = b"abc";
        for wrong in [
            Value::Nil,
            Value::Array(vec![bulk(b"0")]),
            Value::Array(vec![bulk(b"x"), Value::Array(vec![])]),
            Value::Array(vec![bulk(b"0"), Value::Array(vec![Value::Int(1)])]),
        ] {
            assert_eq!(decode_scan(wrong.clone(), prefix), None, "{wrong:?}");
        }
    }
}
