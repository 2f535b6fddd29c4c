//! The checks of the fuzz targets, without a fuzzer: over every seed, over seeds with some bytes changed, and over
//! random bytes.
//!
//! `UPDATE_SEEDS=1 cargo test --test fuzz_checks seeds_are` writes the seeds anew.

use std::{fmt, fs, path::PathBuf};

use proptest::prelude::*;

#[allow(dead_code, unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod checks;

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "seeds", target].iter().collect()
}

fn check(target: &str) -> checks::Check {
    checks::TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name").1
}

/// The seeds that `seeds.rs` makes, and the findings of earlier runs (`found_…`) beside them.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder(target)).expect("a folder of seeds");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

/// Seeds hold formats that are frozen: where this fails, the code is wrong, not the seed.
#[test]
fn seeds_are_what_the_library_makes() {
    let made = checks::seeds::seeds();
    for (target, name, bytes) in &made {
        let path = folder(target).join(name);
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            fs::create_dir_all(folder(target)).expect("a folder for the seeds");
            fs::write(&path, bytes).expect("a seed can be written");
        }
        let stored = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(&stored, bytes, "{}", path.display());
    }
    for (target, _) in checks::TARGETS {
        assert!(made.iter().any(|(name, ..)| *name == target), "{target} has no seeds");
    }
}

#[test]
fn every_seed_passes() {
    for (target, check) in checks::TARGETS {
        for seed in seeds(target) {
            check(&seed);
        }
    }
}

#[test]
fn every_target_has_a_file_and_the_other_way_round() {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fuzz", "fuzz_targets"].iter().collect();
    let files = fs::read_dir(folder).expect("the targets").map(|file| file.expect("a file").path());
    let mut files: Vec<String> =
        files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    let mut targets = checks::TARGETS.map(|(name, _)| name.to_owned());
    files.sort();
    targets.sort();
    assert_eq!(files, targets);
}

/// A failed test shows it as a byte string.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// Changes some bytes of a seed, cuts it, or puts another piece of it somewhere.
fn mutated(target: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let byte = (any::<prop::sample::Index>(), any::<u8>());
    let change = (prop::collection::vec(byte, 0..6), any::<prop::sample::Index>(), 0..4_u8);
    (prop::sample::select(seeds(target)), change).prop_map(|(mut bytes, (changes, at, how))| {
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let at = at.index(bytes.len() + 1);
        match how {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..),
            _ => {}
        }
        bytes
    })
}

fn anything(target: &'static str) {
    let check = check(target);
    let input = prop_oneof![3 => mutated(target), 1 => prop::collection::vec(any::<u8>(), 0..200)];
    let mut config = ProptestConfig::with_cases(1000);
    config.source_file = Some(file!());
    proptest!(config, |(data in input.prop_map(Bytes))| check(&data.0));
}

macro_rules! anything {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                anything(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_tried() {
            assert_eq!(checks::TARGETS.map(|(name, _)| name), [$(stringify!($target)),*]);
        }
    };
}

anything!(envelope id key fence codecs address server_reply apply);
