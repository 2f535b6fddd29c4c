//! Fields of a stored session that its reader does not know, kept when he writes it back.

use std::collections::BTreeMap;

use super::{
    CodecId,
    codec::{join, split},
};

/// What was stored, and what of it its reader knew. Only for codecs that write names.
#[derive(Clone)]
pub(crate) struct Unknown {
    codec: CodecId,
    schema: u16,
    stored: Vec<u8>,
    /// What was read, encoded again.
    known: Vec<u8>,
}

impl Unknown {
    pub(crate) fn new(codec: CodecId, schema: u16, stored: Vec<u8>, known: Vec<u8>) -> Unknown {
        Unknown { codec, schema, stored, known }
    }

    /// The version of the shape, which is the newer one if the writer has an older.
    pub(crate) fn schema(&self) -> u16 {
        self.schema
    }

    /// The `changed` value, encoded, with what its writer did not know.
    pub(crate) fn put_back(&self, changed: Vec<u8>) -> Vec<u8> {
        merge(self.codec, &self.stored, &self.known, changed)
    }
}

/// A three-way merge: what was stored and not known stays, what was known and changed is written, what the writer took
/// away is gone.
fn merge(codec: CodecId, stored: &[u8], known: &[u8], changed: Vec<u8>) -> Vec<u8> {
    if known == stored {
        return changed;
    }
    if known == changed {
        return stored.to_vec();
    }
    let [Some(stored), Some(known), Some(fields)] =
        [stored, known, &changed].map(|encoded| split(codec, encoded))
    else {
        return changed;
    };
    let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = stored
        .iter()
        .filter(|(name, _)| !known.contains_key(*name))
        .map(|(name, value)| (name.clone(), value.to_vec()))
        .collect();
    for (name, value) in fields {
        let value = match (stored.get(&name), known.get(&name)) {
            (Some(stored), Some(known)) => merge(codec, stored, known, value.to_vec()),
            _ => value.to_vec(),
        };
        merged.insert(name, value);
    }
    join(codec, &merged).unwrap_or(changed)
}

/// Whether two encoded values are the same but for the order of fields.
pub(crate) fn same(codec: CodecId, a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let (Some(a), Some(b)) = (split(codec, a), split(codec, b)) else { return false };
    a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(codec, a, b)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize, de::DeserializeOwned};

    use super::*;
    use crate::record::{Codec, Json, MessagePack};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Older {
        user: u128,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        prefs: OlderPrefs,
        items: Vec<OlderItem>,
        #[serde(default)]
        tags: BTreeMap<String, OlderItem>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct OlderPrefs {
        size: f32,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct OlderItem {
        sku: u8,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Newer {
        user: u128,
        note: Option<String>,
        prefs: NewerPrefs,
        items: Vec<NewerItem>,
        tags: BTreeMap<String, NewerItem>,
        wide: u128,
        bytes: Vec<u8>,
        nested: Option<NewerPrefs>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct NewerPrefs {
        size: f32,
        theme: String,
        ratio: f64,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct NewerItem {
        sku: u8,
        count: u64,
    }

    fn newer() -> Newer {
        let prefs = NewerPrefs { size: 0.1, theme: "dark \"é\"".into(), ratio: 986.0870425411839 };
        Newer {
            user: u128::MAX,
            note: Some("x".into()),
            prefs: prefs.clone(),
            items: vec![NewerItem { sku: 1, count: 2 }],
            tags: BTreeMap::from([("a".into(), NewerItem { sku: 3, count: u64::MAX })]),
            wide: u128::MAX - 1,
            bytes: vec![0, 255],
            nested: Some(prefs),
        }
    }

    trait Both: Codec<Older> + Codec<Newer> {}
    impl<C: Codec<Older> + Codec<Newer>> Both for C {}

    /// What a program of the older shape makes of a session of the newer one.
    fn rewrite(codec: &(impl Both + ?Sized), session: &Newer, change: impl FnOnce(&mut Older)) -> Newer {
        let stored = Codec::<Newer>::encode(codec, session).unwrap();
        let mut value: Older = codec.decode(&stored).unwrap();
        let known = codec.encode(&value).unwrap();
        change(&mut value);
        let unknown = Unknown::new(Codec::<Older>::id(codec), 2, stored, known);
        codec.decode(&unknown.put_back(codec.encode(&value).unwrap())).unwrap()
    }

    fn both(change: impl Fn(&mut Older) + Copy, expected: impl Fn(&mut Newer)) {
        let mut session = newer();
        expected(&mut session);
        assert_eq!(rewrite(&MessagePack, &newer(), change), session);
        assert_eq!(rewrite(&Json, &newer(), change), session);
    }

    #[test]
    fn nothing_is_lost_where_nothing_changes() {
        both(|_| (), |_| ());
    }

    #[test]
    fn what_is_known_changes_and_what_is_unknown_stays() {
        both(|l| l.user = 1, |l| l.user = 1);
        both(|l| l.prefs.size = 2.5, |l| l.prefs.size = 2.5);
        both(|l| l.note = Some("y".into()), |l| l.note = Some("y".into()));
        let sku = |tags: &mut BTreeMap<String, OlderItem>| tags.get_mut("a").unwrap().sku = 9;
        both(move |l| sku(&mut l.tags), |l| l.tags.get_mut("a").unwrap().sku = 9);
    }

    #[test]
    fn what_is_known_and_taken_away_is_gone() {
        both(|l| l.note = None, |l| l.note = None);
        both(|l| l.tags.clear(), |l| l.tags.clear());
    }

    /// Elements have no names, so the list is as the writer knows it.
    #[test]
    fn a_list_that_changes_is_the_writers() {
        let stored = Codec::<Newer>::encode(&Json, &newer()).unwrap();
        let mut value: Older = Json.decode(&stored).unwrap();
        let known = Json.encode(&value).unwrap();
        value.items.push(OlderItem { sku: 5 });
        let written = Unknown::new(CodecId::JSON, 2, stored, known).put_back(Json.encode(&value).unwrap());
        let fields: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(fields["items"], serde_json::json!([{"sku": 1}, {"sku": 5}]));
        assert_eq!(fields["prefs"]["theme"], "dark \"é\"");
    }

    /// A writer who knows everything, whatever the order of his fields, writes what he writes.
    fn who_knows_all_writes_as_he_likes<T>(before: &T, after: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + 'static,
    {
        fn check<T: PartialEq + std::fmt::Debug + 'static>(codec: &dyn Codec<T>, before: &T, after: &T) {
            let stored = codec.encode(before).unwrap();
            let known = codec.encode(&codec.decode(&stored).unwrap()).unwrap();
            let unknown = Unknown::new(codec.id(), 0, stored, known);
            let written = unknown.put_back(codec.encode(after).unwrap());
            assert_eq!(&codec.decode(&written).unwrap(), after);
        }
        check::<T>(&MessagePack, before, after);
        check::<T>(&Json, before, after);
    }

    #[test]
    fn the_order_of_fields_makes_no_difference() {
        let same = |a: &str, b: &str| same(CodecId::JSON, a.as_bytes(), b.as_bytes());
        assert!(same(r#"{"a":{"x":1,"y":[2]},"b":3}"#, r#"{"b":3,"a":{"y":[2],"x":1}}"#));
        for other in [r#"{"a":1}"#, r#"{"a":1,"b":3}"#, r#"{"a":1,"c":2}"#, r#"{"a":1,"b":2,"c":3}"#, "1"] {
            assert!(!same(r#"{"a":1,"b":2}"#, other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_map_is_what_was_written(
            before in prop::collection::hash_map("[a-d]", prop::collection::hash_map("[a-d]", 0..3_u8, 0..4), 0..4),
            after in prop::collection::hash_map("[a-d]", prop::collection::hash_map("[a-d]", 0..3_u8, 0..4), 0..4),
        ) {
            who_knows_all_writes_as_he_likes(&before, &after);
        }
    }
}
