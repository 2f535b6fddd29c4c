//! For the tests of applications: the bytes of your own session types, pinned.
//!
//! What is stored today is read by what you deploy tomorrow. Write down the bytes once, and a change of the type that would
//! log people out fails a test instead.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use sessionring::{SessionData, Upgrades, record::MessagePack, testing};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct LoginV1 { user: u64 }
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Login { user: u64, admin: bool }
//!
//! impl SessionData for Login {
//!     const VERSION: u16 = 2;
//!
//!     fn upgrades() -> Upgrades<Login> {
//!         Upgrades::from(1, |old: LoginV1| Login { user: old.user, admin: false })
//!     }
//! }
//!
//! let login = Login { user: 7, admin: false };
//! testing::assert_golden(&MessagePack, &login, b"\x82\xa4user\x07\xa5admin\xc2");
//! testing::assert_upgrades(&MessagePack, 1, b"\x81\xa4user\x07", &login);
//! ```

use std::fmt::Debug;

use crate::record::{Codec, SessionData};

/// `value` is stored as the bytes `golden`, and they are read as it.
///
/// # Panics
/// They are not. The message has the bytes as they are now, ready to be put into the test: if the change is meant, and
/// live sessions can be read all the same.
#[track_caller]
pub fn assert_golden<T: PartialEq + Debug>(codec: &impl Codec<T>, value: &T, golden: impl AsRef<[u8]>) {
    let golden = golden.as_ref();
    let encoded = codec.encode(value);
    let encoded = encoded.unwrap_or_else(|error| panic!("{value:?} does not encode: {error}"));
    assert!(
        encoded == golden,
        "{value:?} is stored otherwise than before: as\n  b\"{}\"\nand not as\n  b\"{}\"\n\
         Sessions that live now have the old bytes: raise SessionData::VERSION and say how they are upgraded, or see \
         that both are read",
        encoded.escape_ascii(),
        golden.escape_ascii(),
    );
    match codec.decode(golden) {
        Ok(read) => assert!(&read == value, "what was stored of {value:?} is read as {read:?}"),
        Err(error) => panic!("what was stored of {value:?} does not decode: {error}"),
    }
}

/// A session of an older `version`, stored as `golden`, becomes `expected`.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn assert_upgrades<T>(codec: &impl Codec<T>, version: u16, golden: impl AsRef<[u8]>, expected: &T)
where
    T: SessionData + PartialEq + Debug,
{
    assert!(version < T::VERSION, "version {version} is not older than {}", T::VERSION);
    match T::upgrades().read(version, codec.id(), golden.as_ref()) {
        Some(Ok(read)) => {
            assert!(&read == expected, "version {version} becomes {read:?} and not {expected:?}")
        }
        Some(Err(error)) => panic!("version {version} does not decode: {error}"),
        None => panic!("upgrades() does not say what becomes of version {version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Json, Upgrades};

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Name(String);

    impl SessionData for Name {
        const VERSION: u16 = 2;

        fn upgrades() -> Upgrades<Name> {
            Upgrades::from(1, |n: u8| Name(n.to_string()))
        }
    }

    fn name() -> Name {
        Name("7".into())
    }

    #[test]
    fn what_is_as_it_was_passes() {
        assert_golden(&Json, &name(), r#""7""#);
        assert_upgrades(&Json, 1, "7", &name());
    }

    #[test]
    #[should_panic(expected = r#"b"\"7\"""#)]
    fn other_bytes_are_shown() {
        assert_golden(&Json, &name(), r#""8""#);
    }

    #[test]
    #[should_panic(expected = "becomes Name(\"8\")")]
    fn another_upgrade_is_shown() {
        assert_upgrades(&Json, 1, "8", &name());
    }

    #[test]
    #[should_panic(expected = "does not say")]
    fn a_version_that_was_dropped_is_shown() {
        assert_upgrades(&Json, 0, "7", &name());
    }

    #[test]
    #[should_panic(expected = "not older")]
    fn the_version_of_today_is_no_older_one() {
        assert_upgrades(&Json, 2, "7", &name());
    }
}
