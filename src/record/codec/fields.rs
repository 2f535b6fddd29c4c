//! Encoded maps, taken apart by name without knowing their type.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::CodecId;

/// The fields of an encoded map, each still encoded. Names are text in JSON, and stand as encoded in MessagePack.
pub(crate) type Fields<'a> = BTreeMap<Vec<u8>, &'a [u8]>;

/// Whether payloads of this codec say the names of their fields.
pub(crate) fn names_fields(codec: CodecId) -> bool {
    [CodecId::MESSAGE_PACK, CodecId::JSON].contains(&codec)
}

/// The fields of an encoded map; `None` for anything else.
pub(crate) fn split(codec: CodecId, encoded: &[u8]) -> Option<Fields<'_>> {
    match codec {
        CodecId::JSON => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(encoded).ok()?;
            Some(fields.into_iter().map(|(name, value)| (name.into(), value.get().as_bytes())).collect())
        }
        CodecId::MESSAGE_PACK => split_message_pack(encoded),
        _ => None,
    }
}

/// The map of these fields; `None` for a codec without names.
pub(crate) fn join(codec: CodecId, fields: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<Vec<u8>> {
    match codec {
        CodecId::JSON => {
            let field = |(name, value): (&Vec<u8>, &Vec<u8>)| {
                let name = serde_json::to_vec(std::str::from_utf8(name).ok()?).ok()?;
                Some([&name, &b":"[..], value].concat())
            };
            let fields: Option<Vec<_>> = fields.iter().map(field).collect();
            Some([b"{", &*fields?.join(&b','), b"}"].concat())
        }
        CodecId::MESSAGE_PACK => {
            let count = u32::try_from(fields.len()).ok()?;
            let head = match count {
                0..=15 => vec![0x80 | count as u8],
                16..=0xffff => [&[0xde], &(count as u16).to_be_bytes()[..]].concat(),
                _ => [&[0xdf], &count.to_be_bytes()[..]].concat(),
            };
            Some(fields.iter().fold(head, |map, (name, value)| [&*map, name, value].concat()))
        }
        _ => None,
    }
}

fn split_message_pack(encoded: &[u8]) -> Option<Fields<'_>> {
    let head = Item::at(encoded)?;
    if !head.is_map {
        return None;
    }
    let mut rest = encoded.get(head.len..)?;
    let mut fields = Fields::new();
    for _ in 0..head.inside / 2 {
        let (name, value) = rest.split_at_checked(whole(rest)?)?;
        let (value, next) = value.split_at_checked(whole(value)?)?;
        fields.insert(name.to_vec(), value);
        rest = next;
    }
    rest.is_empty().then_some(fields)
}

/// How many bytes the value at the beginning takes, with all that is inside of it. Values are counted instead of
/// visited: what nests deep costs no stack.
fn whole(encoded: &[u8]) -> Option<usize> {
    let (mut at, mut open) = (0_usize, 1_usize);
    while open > 0 {
        let item = Item::at(encoded.get(at..)?)?;
        at = at.checked_add(item.len)?;
        open = (open - 1).checked_add(item.inside)?;
    }
    (at <= encoded.len()).then_some(at)
}

/// The head of a value in MessagePack.
struct Item {
    /// Bytes of the value, without the values inside of it.
    len: usize,
    /// Values inside of it.
    inside: usize,
    is_map: bool,
}

impl Item {
    fn at(bytes: &[u8]) -> Option<Item> {
        let (&marker, rest) = bytes.split_first()?;
        let number = |bytes: usize| {
            let bytes = rest.get(..bytes)?;
            Some(bytes.iter().fold(0_usize, |n, &byte| n << 8 | usize::from(byte)))
        };
        let plain = |len| Some(Item { len, inside: 0, is_map: false });
        let array = |len, inside| Some(Item { len, inside, is_map: false });
        let map = |len, pairs: usize| Some(Item { len, inside: pairs.checked_mul(2)?, is_map: true });
        match marker {
            0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => plain(1),
            0x80..=0x8f => map(1, usize::from(marker & 0x0f)),
            0x90..=0x9f => array(1, usize::from(marker & 0x0f)),
            0xa0..=0xbf => plain(1 + usize::from(marker & 0x1f)),
            0xc4 | 0xd9 => plain(2 + number(1)?),
            0xc5 | 0xda => plain(3 + number(2)?),
            0xc6 | 0xdb => plain(number(4)?.checked_add(5)?),
            0xc7 => plain(3 + number(1)?),
            0xc8 => plain(4 + number(2)?),
            0xc9 => plain(number(4)?.checked_add(6)?),
            0xcc | 0xd0 => plain(2),
            0xcd | 0xd1 => plain(3),
            0xca | 0xce | 0xd2 => plain(5),
            0xcb | 0xcf | 0xd3 => plain(9),
            // Extensions of 1, 2, 4, 8 and 16 bytes, with a byte for their type.
            0xd4..=0xd8 => plain(2 + (1 << (marker - 0xd4))),
            0xdc => array(3, number(2)?),
            0xdd => array(5, number(4)?),
            0xde => map(3, number(2)?),
            0xdf => map(5, number(4)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Codec, Json, MessagePack};

    type Map = BTreeMap<String, serde_json::Value>;

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            (-1e9..1e9).prop_map(Into::into),
            "\\PC{0,300}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 60, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
                prop::collection::btree_map("\\PC{0,40}", inner, 0..20)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn check(codec: &dyn Codec<Map>, map: &Map) {
        let encoded = codec.encode(map).unwrap();
        let fields = split(codec.id(), &encoded).unwrap();
        assert_eq!(fields.len(), map.len());
        let owned = fields.into_iter().map(|(name, value)| (name, value.to_vec())).collect();
        assert_eq!(&codec.decode(&join(codec.id(), &owned).unwrap()).unwrap(), map);
    }

    proptest! {
        #[test]
        fn what_was_taken_apart_is_put_together(map in prop::collection::btree_map("\\PC{0,40}", value(), 0..40)) {
            check(&MessagePack, &map);
            check(&Json, &map);
        }

        #[test]
        fn any_bytes_are_fields_or_none(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for codec in [CodecId::MESSAGE_PACK, CodecId::JSON, CodecId::BINCODE] {
                let _ = split(codec, &bytes);
            }
        }
    }

    #[test]
    fn large_maps_and_every_kind_of_value() {
        for count in [0, 15, 16, 0xffff, 0x1_0000] {
            let map: Map = (0..count).map(|n| (format!("{n}"), n.into())).collect();
            check(&MessagePack, &map);
            check(&Json, &map);
        }
        let head = |marker: u8, len: usize| [vec![marker], vec![0; len - 1]].concat();
        for (marker, len) in [
            (0xc0, 1),
            (0xca, 5),
            (0xcb, 9),
            (0xcc, 2),
            (0xcd, 3),
            (0xce, 5),
            (0xcf, 9),
            (0xd0, 2),
            (0xd1, 3),
            (0xd2, 5),
            (0xd3, 9),
            (0xd4, 3),
            (0xd5, 4),
            (0xd6, 6),
            (0xd7, 10),
            (0xd8, 18),
            (0xc4, 2),
            (0xc5, 3),
            (0xc6, 5),
            (0xc7, 3),
            (0xc8, 4),
            (0xc9, 6),
            (0xd9, 2),
            (0xda, 3),
            (0xdb, 5),
            (0xdc, 3),
            (0xdd, 5),
            (0xde, 3),
            (0xdf, 5),
        ] {
            assert_eq!(whole(&head(marker, len)), Some(len), "{marker:#x}");
            assert_eq!(whole(&head(marker, len)[..len - 1]), None, "{marker:#x}, cut");
        }
    }

    #[test]
    fn neither_claimed_lengths_nor_depth_cost_anything() {
        assert!(split(CodecId::MESSAGE_PACK, b"\xdf\xff\xff\xff\xff").is_none());
        assert!(split(CodecId::MESSAGE_PACK, b"\x81\xa1x\xdd\xff\xff\xff\xff").is_none());
        assert!(
            split(CodecId::MESSAGE_PACK, &[b"\x81\xa1x".to_vec(), vec![0x91; 1 << 20]].concat()).is_none()
        );
        let deep = [b"{\"x\":".to_vec(), vec![b'['; 1 << 20]].concat();
        assert!(split(CodecId::JSON, &deep).is_none());
    }
}
