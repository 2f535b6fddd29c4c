//! What a server sends, taken apart as it comes: RESP2, which every server speaks.
//!
//! The driver has a parser, too. It is made for whatever a server may say, and takes four to ten times as long for the
//! answers to a flight (docs/performance.md); what is rare is left to it.

use bytes::{Buf, Bytes, BytesMut};
use redis::{ErrorKind, RedisError, ServerError};

/// So many arrays may be within each other. Those that are asked for are three deep.
const DEEPEST: usize = 8;

/// The most bytes of a string, and values of an array. A flight may not have as many (`bounded`).
const LONGEST: usize = 1 << 30;

/// The most bytes of a line. The text of an error is the longest.
const LONGEST_LINE: usize = 64 << 10;

/// So many values an array is given room for before they are there: whoever announces more has to send them.
const ROOM: usize = 1024;

/// At least so many bytes are read at once, if they are there.
const READ: usize = 64 << 10;

/// A buffer that grew beyond this is given back when it is empty.
const KEPT: usize = 1 << 20;

/// One answer, or a part of one. The driver's has vectors, and whoever makes thousands of them, for others to drop, pays for each.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Nil,
    Int(i64),
    /// A slice of what came: it keeps all that was read with it. Who keeps it for long makes a copy.
    BulkString(Bytes),
    Array(Vec<Value>),
    SimpleString(String),
    Okay,
    ServerError(ServerError),
}

impl Value {
    /// What the driver makes of a line; `None` for what is more than one, or not of RESP2.
    fn of_line(line: redis::Value) -> Option<Value> {
        Some(match line {
            redis::Value::Int(number) => Value::Int(number),
            redis::Value::SimpleString(text) => Value::SimpleString(text),
            redis::Value::Okay => Value::Okay,
            redis::Value::ServerError(error) => Value::ServerError(error),
            _ => return None,
        })
    }
}

/// The answers of one connection, in their order.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// What has come and is not taken apart.
    bytes: BytesMut,
    /// Arrays that are not whole, the outermost first.
    open: Vec<Open>,
    /// How long `bytes` has to be before it is worth another look.
    wanted: usize,
    /// Values that were taken apart and not yet [counted](Answers::count).
    values: usize,
}

#[derive(Debug)]
struct Open {
    values: Vec<Value>,
    missing: usize,
}

enum Piece {
    Whole(Value),
    /// The beginning of an array of so many values.
    Array(usize),
}

impl Answers {
    /// The first answer in these bytes.
    pub(super) fn whole(bytes: &[u8]) -> Option<Value> {
        let mut answers = Answers { bytes: bytes.into(), ..Answers::default() };
        answers.next().ok()?
    }

    /// Where to put what comes next.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = BytesMut::new();
        }
        // What a server announces is believed up to a mebibyte at a time.
        self.bytes.reserve(self.wanted.saturating_sub(self.bytes.len()).clamp(READ, KEPT));
        &mut self.bytes
    }

    /// How many values were taken apart since this was asked last, those of arrays that are not whole included.
    pub(super) fn count(&mut self) -> usize {
        std::mem::take(&mut self.values)
    }

    /// The next whole answer, if it is there.
    ///
    /// # Errors
    /// It is none that Redis gives, and neither is anything that follows.
    pub(super) fn next(&mut self) -> Result<Option<Value>, RedisError> {
        while let Some(piece) = self.piece()? {
            let mut value = match piece {
                Piece::Array(missing @ 1..) => {
                    if self.open.len() == DEEPEST {
                        return Err(malformed("too many arrays within each other"));
                    }
                    self.open.push(Open { values: Vec::with_capacity(missing.min(ROOM)), missing });
                    continue;
                }
                Piece::Array(0) => Value::Array(Vec::new()),
                Piece::Whole(value) => value,
            };
            // It may be the last one of its array, and that the last one of the array around it.
            loop {
                let Some(mut array) = self.open.pop() else { return Ok(Some(value)) };
                array.values.push(value);
                array.missing -= 1;
                if array.missing > 0 {
                    self.open.push(array);
                    break;
                }
                value = Value::Array(array.values);
            }
        }
        Ok(None)
    }

    fn piece(&mut self) -> Result<Option<Piece>, RedisError> {
        if self.bytes.len() < self.wanted {
            return Ok(None);
        }
        self.wanted = 0;
        let Some(&kind) = self.bytes.first() else { return Ok(None) };
        if !b"$:*+-".contains(&kind) {
            return Err(malformed("no answer begins like this"));
        }
        let Some(end) = self.bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
            return if self.bytes.len() < LONGEST_LINE {
                Ok(None)
            } else {
                Err(malformed("a line without end"))
            };
        };
        let line = &self.bytes[..=end];
        let Some(text) = line[1..].strip_suffix(b"\r\n") else {
            return Err(malformed("a line that ends early"));
        };
        let piece = match kind {
            b'$' => {
                let Some(length) = length(text)? else {
                    return Ok(self.taken(end + 1, Piece::Whole(Value::Nil)));
                };
                let (from, to) = (end + 1, end + 1 + length);
                if self.bytes.len() < to + 2 {
                    self.wanted = to + 2;
                    return Ok(None);
                }
                if &self.bytes[to..to + 2] != b"\r\n" {
                    return Err(malformed("a string that goes on behind its end"));
                }
                self.bytes.advance(from);
                let string = self.bytes.split_to(to - from).freeze();
                return Ok(self.taken(2, Piece::Whole(Value::BulkString(string))));
            }
            b'*' => length(text)?.map_or(Piece::Whole(Value::Nil), Piece::Array),
            b':' if let Some(number) = digits(text) => Piece::Whole(Value::Int(number)),
            _ => Piece::Whole(
                Value::of_line(redis::parse_redis_value(line)?)
                    .ok_or_else(|| malformed("an answer of another kind"))?,
            ),
        };
        Ok(self.taken(end + 1, piece))
    }

    fn taken(&mut self, bytes: usize, piece: Piece) -> Option<Piece> {
        self.bytes.advance(bytes);
        self.values += 1;
        Some(piece)
    }
}

/// `None`: there is no string, or no array.
fn length(text: &[u8]) -> Result<Option<usize>, RedisError> {
    if text == b"-1" {
        return Ok(None);
    }
    match digits(text).map(usize::try_from) {
        Some(Ok(length)) if length <= LONGEST => Ok(Some(length)),
        Some(_) => Err(malformed("longer than anything that is asked for")),
        None => Err(malformed("a length that is no number")),
    }
}

/// The number that these digits are: no sign, and few enough to fit.
fn digits(text: &[u8]) -> Option<i64> {
    let fit = (1..=18).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    fit.then(|| text.iter().fold(0, |number, digit| 10 * number + i64::from(digit - b'0')))
}

fn malformed(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Parse, what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that comes of these bytes, in pieces that end at these places.
    fn read(bytes: &[u8], mut cuts: Vec<usize>) -> Result<Vec<Value>, RedisError> {
        let (mut answers, mut values, mut from) = (Answers::default(), Vec::new(), 0);
        cuts.push(bytes.len());
        cuts.sort_unstable();
        for to in cuts {
            answers.buffer().extend_from_slice(&bytes[from..to]);
            from = to;
            while let Some(value) = answers.next()? {
                values.push(value);
            }
        }
        assert!(answers.open.is_empty() || answers.bytes.len() < bytes.len());
        Ok(values)
    }

    fn by_the_driver(bytes: &[u8]) -> Value {
        fn of(value: redis::Value) -> Value {
            match value {
                redis::Value::Nil => Value::Nil,
                redis::Value::BulkString(bytes) => Value::BulkString(bytes.into()),
                redis::Value::Array(values) => Value::Array(values.into_iter().map(of).collect()),
                line => Value::of_line(line).unwrap(),
            }
        }
        of(redis::parse_redis_value(bytes).unwrap())
    }

    fn encoded() -> impl Strategy<Value = Vec<u8>> {
        let line =
            |prefix: char| "[ -~]{0,20}".prop_map(move |text| format!("{prefix}{text}\r\n").into_bytes());
        let leaf = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..40)
                .prop_map(|bytes| [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()),
            2 => any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            1 => Just(b"$-1\r\n".to_vec()),
            1 => Just(b"*-1\r\n".to_vec()),
            1 => line('+'),
            1 => line('-'),
        ];
        leaf.prop_recursive(4, 40, 8, |inner| {
            prop::collection::vec(inner, 0..8)
                .prop_map(|values| [format!("*{}\r\n", values.len()).into_bytes(), values.concat()].concat())
        })
    }

    proptest! {
        #[test]
        fn answers_are_what_the_driver_reads_however_they_come(
            answers in prop::collection::vec(encoded(), 1..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let expected: Vec<Value> =
                answers.iter().map(|bytes| by_the_driver(bytes)).collect();
            let bytes = answers.concat();
            let cuts = cuts.into_iter().map(|cut| cut.index(bytes.len())).collect();
            prop_assert_eq!(read(&bytes, cuts).unwrap(), expected);
        }

        #[test]
        fn garbage_is_refused_or_waits_for_more(
            mut bytes in encoded(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(values) = read(&bytes, Vec::new()) && let Some(first) = values.first() {
                prop_assert_eq!(first, &by_the_driver(&bytes));
            }
        }
    }

    #[test]
    fn what_is_announced_takes_no_memory_before_it_comes() {
        for announced in [&b"*1073741824\r\n"[..], b"$1073741824\r\nabc", b"*1000\r\n*1000\r\n*1000\r\n"] {
            let mut answers = Answers::default();
            answers.buffer().extend_from_slice(announced);
            assert!(answers.next().unwrap().is_none());
            let rooms: usize = answers.open.iter().map(|open| open.values.capacity()).sum();
            assert!(rooms <= 3 * ROOM && answers.buffer().capacity() <= 2 * KEPT);
        }
        for refused in [
            "$99999999999\r\n",
            "$1073741825\r\n",
            "*9999999999\r\n",
            "$-2\r\n",
            "$+1\r\na\r\n",
            "$1\r\nabc\r\n",
            "*1\n",
            "HTTP/1.1 400 Bad Request\r\n",
            &"*1\r\n".repeat(DEEPEST + 1),
            &format!("+{}", "a".repeat(LONGEST_LINE)),
        ] {
            assert!(read(refused.as_bytes(), Vec::new()).is_err(), "{refused:.40}");
        }
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let mut answers = Answers::default();
        let long = vec![7; 3 * KEPT];
        answers.buffer().extend_from_slice(format!("${}\r\n", long.len()).as_bytes());
        assert!(answers.next().unwrap().is_none());
        answers.buffer().extend_from_slice(&long);
        answers.buffer().extend_from_slice(b"\r\n");
        assert_eq!(answers.next().unwrap(), Some(Value::BulkString(long.into())));
        assert!(answers.buffer().capacity() <= KEPT);
    }
}
