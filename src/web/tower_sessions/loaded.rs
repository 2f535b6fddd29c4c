//! What a request has loaded, carried through it in the one place that tower-sessions hands from `load` to `save`: the data
//! of the session. Pure.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Under this name it stands among the entries, for nobody to see: tower-sessions gives entries by name only. A name that
/// applications use stays theirs.
const HIDDEN: &str = "\0sessionring: what was loaded";

/// A session as a request has found it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Loaded {
    /// The session that ends when this one is created, since `cycle_id` has given it a new id.
    pub(super) replaces: Option<i128>,
    pub(super) version: u64,
    /// Names the request, among all that write this session.
    pub(super) writer: u64,
    /// The entries as text: one allocation, and nobody reads them unless others were faster.
    base: String,
}

impl Loaded {
    pub(super) fn new(
        replaces: Option<i128>,
        version: u64,
        writer: u64,
        base: &Map<String, Value>,
    ) -> Loaded {
        let base = serde_json::to_string(base).unwrap_or_default();
        Loaded { replaces, version, writer, base }
    }

    /// The entries as the request has found them.
    pub(super) fn base(&self) -> Map<String, Value> {
        serde_json::from_str(&self.base).unwrap_or_default()
    }

    /// Puts it beside the entries.
    pub(super) fn hide_in(self, data: &mut HashMap<String, Value>) {
        let replaces = self.replaces.map(|id| [(id >> 64) as i64 as u64, id as u64]);
        let parts = vec![json!(replaces), self.version.into(), self.writer.into(), Value::String(self.base)];
        data.insert(HIDDEN.to_owned(), Value::Array(parts));
    }

    /// What was put beside these entries, and they alone. Nothing: they are of a new session, or were cleared.
    pub(super) fn split(data: &HashMap<String, Value>) -> (Option<Loaded>, Map<String, Value>) {
        let entries = data.iter().filter(|(key, _)| *key != HIDDEN);
        let entries = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
        (data.get(HIDDEN).and_then(Loaded::read), entries)
    }

    fn read(value: &Value) -> Option<Loaded> {
        let [replaces, version, writer, base] = value.as_array()?.as_slice() else { return None };
        let replaces = match replaces.as_array().map(Vec::as_slice) {
            Some([high, low]) => Some((i128::from(high.as_u64()? as i64) << 64) | i128::from(low.as_u64()?)),
            _ => None,
        };
        let (version, writer) = (version.as_u64()?, writer.as_u64()?);
        Some(Loaded { replaces, version, writer, base: base.as_str()?.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_the_entries_are_as_they_were() {
        let entries = Map::from_iter([("cart".to_owned(), json!(["book"]))]);
        for replaces in [None, Some(0), Some(i128::MAX), Some(u64::MAX.into()), Some(1 << 64)] {
            let loaded = Loaded::new(replaces, u64::MAX, 7, &entries);
            assert_eq!(loaded.base(), entries);
            let mut data = HashMap::from_iter(entries.clone());
            loaded.clone().hide_in(&mut data);
            assert_eq!(Loaded::split(&data), (Some(loaded), entries.clone()));
        }
        assert_eq!(Loaded::split(&HashMap::from_iter(entries.clone())), (None, entries));
    }
}
