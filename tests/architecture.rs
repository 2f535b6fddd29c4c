//! The import rule of ARCHITECTURE.md, enforced: pure code stays apart from I/O, and data flows one way. And what the docs say of the tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each module and what it may name of this crate.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("ring", &[]),
    ("topology", &["ring"]),
    ("record", &["ring", "topology"]),
    ("protocol", &["ring", "topology", "record"]),
    ("error", &["ring", "record"]),
    ("entropy", &["error"]),
    ("telemetry", &["ring", "topology", "record", "protocol", "error"]),
    ("node", &["ring", "topology", "record", "protocol", "error", "entropy", "telemetry"]),
    ("store", &["ring", "topology", "record", "protocol", "error", "entropy", "telemetry", "node"]),
    ("testing", &["record"]),
    ("internals", &["ring", "topology", "record", "protocol", "error", "node", "resize"]),
    ("client", &["ring", "topology", "record", "protocol", "error", "entropy", "telemetry", "node", "store"]),
    (
        "resize",
        &[
            "ring",
            "topology",
            "record",
            "protocol",
            "error",
            "entropy",
            "telemetry",
            "node",
            "store",
            "client",
        ],
    ),
    ("session", &["ring", "topology", "record", "protocol", "error", "entropy", "telemetry", "client"]),
    ("web", PUBLIC),
];

/// What an application could name: the adapters for web frameworks are applications of this crate.
const PUBLIC: &[&str] = &[
    "Error",
    "ErrorKind",
    "Lifetime",
    "OnCorrupt",
    "Result",
    "SealingKeys",
    "Session",
    "SessionId",
    "SessionRing",
    "Sessions",
    "record",
];

/// What pure modules may not name: no I/O, no clock, no source of randomness, no order that differs from run to run.
const IMPURE: [&str; 10] = [
    "tokio",
    "redis::",
    "std::net",
    "std::fs",
    "std::time::Instant",
    "SystemTime",
    "std::thread",
    "rand::",
    "HashMap",
    "HashSet",
];

/// The one exception: fresh ids come from the operating system.
const RANDOM: &str = "record/id.rs";

fn sources(of: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    if of.is_file() {
        found.push((of.to_owned(), code(&fs::read_to_string(of).unwrap())));
        return found;
    }
    for entry in fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|e| e == "rs") {
            found.extend(sources(&path));
        }
    }
    found
}

/// The code without its tests and comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn module(name: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folder = root.join(name);
    let files = sources(&if folder.is_dir() { folder } else { root.join(format!("{name}.rs")) });
    assert!(!files.is_empty());
    files.into_iter().filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "tests")).collect()
}

/// The modules of this crate that a source names, as `crate::x` or in a braced list.
fn uses(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with("pub(") || code[..at].ends_with('_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            used.push(first_name(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    used.push(first_name(&list[start..i]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    used.push(first_name(&list[start..i]));
                    start = i + 1;
                }
                _ => {}
            }
        }
    }
    used.retain(|name| !name.is_empty());
    used
}

fn first_name(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn modules_import_in_one_direction() {
    for (name, allowed) in MAY_USE {
        for (path, code) in module(name) {
            for used in uses(&code) {
                assert!(
                    used == name || allowed.contains(&used.as_str()),
                    "{} names crate::{used}, but {name} may use only {allowed:?}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn pure_modules_are_pure() {
    for name in ["ring", "topology", "record", "protocol"] {
        for (path, code) in module(name) {
            for impure in IMPURE {
                assert!(!code.contains(impure), "{} names {impure}", path.display());
            }
            assert!(!code.contains("getrandom") || path.ends_with(RANDOM), "{} is random", path.display());
        }
    }
}

#[test]
fn only_one_folder_names_the_driver() {
    for (path, code) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        if path.to_string_lossy().contains("src/node/redis/") {
            continue;
        }
        // In src/node, `redis::` alone is the folder of that name.
        for name in ["use redis::", "redis::cmd", "redis::Cmd", "redis::Value", "redis::aio", "RedisError"] {
            assert!(!code.contains(name), "{} names the driver: {name}", path.display());
        }
    }
}

#[test]
fn the_reader_of_this_test_can_trust_it() {
    let code = "use crate::{\n    error::{Error, ErrorKind},\n    node::Node,\n};\nuse crate::ring::Ring;";
    assert_eq!(uses(code), ["error", "node", "ring"]);
}

/// docs/reliability.md says of each case which test covers it.
#[test]
fn the_tests_that_the_table_of_hostile_nodes_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let (_, rest) = text.split_once("<!-- hostile -->").expect("the table is marked");
    let (table, _) = rest.split_once("<!-- /hostile -->").expect("its end is marked");
    let rows: Vec<&str> = table.lines().filter(|line| line.contains(".rs`: `")).collect();
    assert!(rows.len() > 30 && rows.len() + 2 == table.trim().lines().count());
    for row in rows {
        let words: Vec<&str> = row.split('`').collect();
        let [.., file, _, test, _] = words[..] else { panic!("{row}") };
        let folder = if file.contains('/') { "" } else { "tests" };
        let source = fs::read_to_string(root.join(folder).join(file)).unwrap_or_else(|_| panic!("{file}"));
        assert!(source.contains(&format!("fn {test}(")), "{file} has no {test}");
    }
}
