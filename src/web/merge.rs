//! What becomes of a session that several requests have changed at the same time. Pure.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde_json::{Map, Value};

/// One entry of a session that this request and another one have changed since both had read it.
///
/// Entries that only one of them has changed need no decision: each is as it was changed.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct BothChanged<'a> {
    /// The entry.
    pub key: &'a str,
    /// As this request has read it. `None`: it was not there.
    pub base: Option<&'a Value>,
    /// As this request leaves it. `None`: it was removed.
    pub mine: Option<&'a Value>,
    /// As the others have left it. `None`: it was removed.
    pub theirs: Option<&'a Value>,
}

impl BothChanged<'_> {
    /// What becomes of it unless the application decides otherwise: objects are merged entry by entry; of arrays to which both
    /// have only appended, both additions are kept, theirs first; anything else is as this request, the later one, leaves it.
    pub fn merged(&self) -> Option<Value> {
        match (self.mine, self.theirs) {
            (Some(Value::Object(mine)), Some(Value::Object(theirs))) => {
                let nothing = Map::new();
                let base = self.base.and_then(Value::as_object).unwrap_or(&nothing);
                let mut merged = theirs.clone();
                merge(base, mine, &mut merged, &|both| both.merged());
                Some(Value::Object(merged))
            }
            (Some(Value::Array(mine)), Some(Value::Array(theirs))) => {
                let base = self.base.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let appended = mine.strip_prefix(base).filter(|_| theirs.starts_with(base));
                Some(Value::Array(appended.map_or_else(|| mine.clone(), |own| [theirs, own].concat())))
            }
            (mine, _) => mine.cloned(),
        }
    }
}

/// Brings what `mine` has changed of `base` into `theirs`.
pub(super) fn merge(
    base: &Map<String, Value>,
    mine: &Map<String, Value>,
    theirs: &mut Map<String, Value>,
    both: &(impl Fn(BothChanged<'_>) -> Option<Value> + ?Sized),
) {
    let keys: BTreeSet<&String> = base.keys().chain(mine.keys()).collect();
    for key in keys {
        let (base, mine) = (base.get(key), mine.get(key));
        if mine == base {
            continue;
        }
        let there = theirs.get(key);
        let merged =
            if there == base { mine.cloned() } else { both(BothChanged { key, base, mine, theirs: there }) };
        match merged {
            Some(value) => theirs.insert(key.clone(), value),
            None => theirs.remove(key),
        };
    }
}

/// Who decides where both have changed an entry.
#[derive(Clone)]
pub(super) struct Merge(Arc<dyn Fn(BothChanged<'_>) -> Option<Value> + Send + Sync>);

impl Merge {
    pub(super) fn by(decide: impl Fn(BothChanged<'_>) -> Option<Value> + Send + Sync + 'static) -> Merge {
        Merge(Arc::new(decide))
    }

    pub(super) fn merge(
        &self,
        base: &Map<String, Value>,
        mine: &Map<String, Value>,
        theirs: &mut Map<String, Value>,
    ) {
        merge(base, mine, theirs, &*self.0);
    }
}

impl Default for Merge {
    fn default() -> Merge {
        Merge::by(|both| both.merged())
    }
}

impl fmt::Debug for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Merge")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(base: Value, mine: Value, theirs: Value) -> Value {
        let [base, mine, theirs] = [base, mine, theirs].map(|value| match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        });
        let mut there = theirs;
        Merge::default().merge(&base, &mine, &mut there);
        Value::Object(there)
    }

    #[test]
    fn what_one_of_them_changed_is_as_it_was_changed() {
        let base = json!({"kept": 1, "mine": 1, "theirs": 1, "i removed": 1, "they removed": 1});
        let mine = json!({"kept": 1, "mine": 2, "theirs": 1, "they removed": 1, "i added": [1]});
        let theirs = json!({"kept": 1, "mine": 1, "theirs": 3, "i removed": 1, "they added": {"x": 1}});
        let expected = json!({"kept": 1, "mine": 2, "theirs": 3, "i added": [1], "they added": {"x": 1}});
        assert_eq!(merged(base, mine, theirs), expected);
    }

    #[test]
    fn both_additions_to_a_list_are_kept_also_equal_ones() {
        let base = json!({"cart": ["book"]});
        let mine = json!({"cart": ["book", "tea"]});
        let theirs = json!({"cart": ["book", "tea", "cup"]});
        assert_eq!(merged(base, mine, theirs), json!({"cart": ["book", "tea", "cup", "tea"]}));
        let (mine, theirs) = (json!({"cart": ["tea"]}), json!({"cart": ["cup"]}));
        assert_eq!(merged(json!({}), mine, theirs), json!({"cart": ["cup", "tea"]}), "there was none before");
    }

    #[test]
    fn objects_are_merged_at_every_depth() {
        let base = json!({"cart": {"book": {"n": 1}, "cup": {"n": 1}}});
        let mine = json!({"cart": {"book": {"n": 1, "gift": true}, "tea": {"n": 1}}});
        let theirs = json!({"cart": {"book": {"n": 2}, "cup": {"n": 1}, "pen": {"n": 1}}});
        let expected = json!({"cart": {"book": {"n": 2, "gift": true}, "pen": {"n": 1}, "tea": {"n": 1}}});
        assert_eq!(merged(base, mine, theirs), expected);
    }

    #[test]
    fn of_anything_else_the_later_one_wins() {
        for (base, mine, theirs) in [
            (json!({"x": 1}), json!({"x": 2}), json!({"x": 3})),
            (json!({"x": 1}), json!({}), json!({"x": 3})),
            (json!({"x": [1, 2]}), json!({"x": [1]}), json!({"x": [1, 2, 3]})),
            (json!({"x": [1]}), json!({"x": [1, 2]}), json!({"x": []})),
            (json!({"x": {}}), json!({"x": [1]}), json!({"x": {"y": 1}})),
            (json!({"x": 1}), json!({"x": 2}), json!({})),
        ] {
            assert_eq!(merged(base, mine.clone(), theirs), mine);
        }
    }

    #[test]
    fn an_application_may_decide() {
        let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
        let sum = Merge::by(move |both| match both.key {
            "visits" => Some((number(both.mine) + number(both.theirs) - number(both.base)).into()),
            _ => both.merged(),
        });
        let [base, mine, theirs] = [1, 2, 2].map(|n| Map::from_iter([("visits".to_owned(), json!(n))]));
        let mut there = theirs;
        sum.merge(&base, &mine, &mut there);
        assert_eq!(there["visits"], 3, "also where both have changed it to the same");
    }
}
