//! Commands on their way out, as RESP has them: each an array of strings.
//!
//! The driver collects the arguments of a command in a `Cmd`, and copies them from there into what is sent. A flight is
//! mostly that, so here every byte is written once, in its place. What is rare is left to the driver.

use bytes::Bytes;
use redis::Pipeline;

/// Commands that are sent in one go.
#[derive(Debug, Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    count: usize,
    /// Arguments that the last command still lacks.
    missing: usize,
}

/// The same, ready to be sent. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub(super) bytes: Bytes,
    /// How many commands, hence answers.
    pub(super) count: usize,
}

impl Commands {
    /// Room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Commands {
        Commands { bytes: Vec::with_capacity(bytes), ..Commands::default() }
    }

    /// How many commands there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// How many bytes they are so far.
    pub(super) fn written(&self) -> usize {
        self.bytes.len()
    }

    /// Begins a command of so many [arguments](Commands::arg), its name being the first.
    pub(super) fn command(&mut self, arguments: usize) -> &mut Commands {
        debug_assert_eq!(self.missing, 0, "the command before lacks arguments");
        (self.count, self.missing) = (self.count + 1, arguments);
        self.length(b'*', arguments);
        self
    }

    pub(super) fn arg(&mut self, argument: impl AsRef<[u8]>) -> &mut Commands {
        self.arg_of_two(argument.as_ref(), b"")
    }

    /// One argument, whose bytes are in two places.
    pub(super) fn arg_of_two(&mut self, first: &[u8], second: &[u8]) -> &mut Commands {
        self.missing -= 1;
        self.length(b'$', first.len() + second.len());
        for part in [first, second, b"\r\n"] {
            self.bytes.extend_from_slice(part);
        }
        self
    }

    pub(super) fn number(&mut self, number: usize) -> &mut Commands {
        let mut digits = [0; DIGITS];
        self.arg(decimal(number, &mut digits))
    }

    /// The last arguments of the command, so many, as they were written elsewhere.
    pub(super) fn args(&mut self, count: usize, written: &[u8]) -> &mut Commands {
        self.missing -= count;
        self.bytes.extend_from_slice(written);
        self
    }

    pub(super) fn packed(self) -> Bundle {
        debug_assert_eq!(self.missing, 0, "the last command lacks arguments");
        Bundle { bytes: self.bytes.into(), count: self.count }
    }

    fn length(&mut self, mark: u8, length: usize) {
        self.bytes.push(mark);
        let mut digits = [0; DIGITS];
        self.bytes.extend_from_slice(decimal(length, &mut digits));
        self.bytes.extend_from_slice(b"\r\n");
    }
}

impl From<&Pipeline> for Bundle {
    fn from(pipeline: &Pipeline) -> Bundle {
        Bundle { bytes: pipeline.get_packed_pipeline().into(), count: pipeline.len() }
    }
}

/// Digits of the largest number.
const DIGITS: usize = 20;

fn decimal(mut number: usize, digits: &mut [u8; DIGITS]) -> &[u8] {
    let mut first = DIGITS;
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[first..];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn they_are_the_bytes_that_the_driver_would_send(
            commands in vec((vec(vec(any::<u8>(), 0..200), 1..5), any::<usize>()), 1..5),
        ) {
            let (mut ours, mut theirs) = (Commands::default(), Pipeline::new());
            for (arguments, number) in &commands {
                ours.command(arguments.len() + 1);
                let mut command = redis::Cmd::new();
                for argument in arguments {
                    ours.arg(argument);
                    command.arg(argument.as_slice());
                }
                ours.number(*number);
                command.arg(*number);
                theirs.add_command(command);
            }
            prop_assert_eq!(ours.written(), theirs.get_packed_pipeline().len());
            let (ours, theirs) = (ours.packed(), Bundle::from(&theirs));
            prop_assert_eq!((ours.bytes, ours.count), (theirs.bytes, theirs.count));
        }
    }

    #[test]
    fn arguments_that_were_written_before_are_written_again() {
        let mut before = Commands::default();
        let from = before.command(3).arg(b"A").written();
        before.arg_of_two(b"o", b"ne").number(1234);
        let before = before.packed();
        let mut after = Commands::default();
        after.command(3).arg(b"B").args(2, &before.bytes[from..]);
        assert_eq!(after.packed().bytes, &b"*3\r\n$1\r\nB\r\n$3\r\none\r\n$4\r\n1234\r\n"[..]);
    }
}
