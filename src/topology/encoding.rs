//! The document as bytes. `docs/format.md` gives the layout; integers are big-endian.

use super::{
    Document, DocumentError, DocumentMember, Epoch, PROTOCOL_VERSION, Policy, Source, Tenure,
    document::{MAX_DOCUMENT_BYTES, Parts, View, check_tokens},
    territory::{Run, Territory},
};
use crate::ring::{MAX_ARC_BITS, Member, NodeId, NodeIndex, PLACEMENT_VERSION, Placement, Ring};

/// The layout of the document under this protocol.
const FORMAT_VERSION: u8 = 1;

const HASHED: u8 = 1;
const BALANCED: u8 = 2;
const LEAVING: u8 = 1;
const REJOINED: u8 = 2;

/// Bytes of a tenure without a source; one with a source has twice as many.
const TENURE_LEN: usize = 8;

/// Bytes of an index into so many tenures.
fn index_width(tenures: usize) -> usize {
    match tenures {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// What is encoded fits: members and their names and addresses were checked, and there are no more tenures than
/// arcs or ranges.
pub(super) fn encode(document: &View<'_>) -> Vec<u8> {
    let View { members, table, territory, .. } = document;
    let width = index_width(table.len());
    let mut out =
        Vec::with_capacity(64 + members.len() * 64 + table.len() * 16 + territory.len() * (width + 8));
    out.extend([PROTOCOL_VERSION, FORMAT_VERSION]);
    out.push(match document.policy {
        Policy::Trust => 0,
        Policy::Strict => 1,
    });
    let (kind, parameter) = match document.placement {
        Placement::Hashed { vnodes } => (HASHED, vnodes),
        Placement::Balanced { arc_bits } => (BALANCED, arc_bits),
    };
    out.push(kind);
    out.extend(PLACEMENT_VERSION.to_be_bytes());
    out.extend(parameter.to_be_bytes());
    out.extend(document.cluster.to_be_bytes());
    out.extend(document.epoch.get().to_be_bytes());

    out.extend((members.len() as u16).to_be_bytes());
    for member in *members {
        out.push(member.id.as_str().len() as u8);
        out.extend(member.id.as_str().as_bytes());
        out.extend(member.weight.get().to_be_bytes());
        out.push(if member.leaving { LEAVING } else { 0 } | if member.rejoined { REJOINED } else { 0 });
        out.extend(member.incarnation.to_be_bytes());
        out.extend(member.process.to_be_bytes());
        out.extend((member.address.len() as u16).to_be_bytes());
        out.extend(member.address.as_bytes());
    }

    let resting = table.iter().take_while(|tenure| tenure.source.is_none()).count();
    out.extend((resting as u32).to_be_bytes());
    out.extend(((table.len() - resting) as u32).to_be_bytes());
    let mut place = |node: NodeIndex, since: Epoch| {
        out.extend((node.get() as u16).to_be_bytes());
        out.extend(&since.get().to_be_bytes()[2..]);
    };
    for tenure in *table {
        place(tenure.owner, tenure.since);
        if let Some(source) = tenure.source {
            place(source.node, source.since);
        }
    }

    if let Territory::Ranges(_) = territory {
        out.extend((territory.len() as u32).to_be_bytes());
    }
    for at in 0..territory.len() {
        let (end, index) = territory.run(at);
        if let Territory::Ranges(_) = territory {
            out.extend(end.to_be_bytes());
        }
        out.extend(&index.to_be_bytes()[4 - width..]);
    }
    out
}

/// See [`Document::decode`]. What it allocates stays in proportion to the bytes that are there, and to the virtual
/// nodes that a document may describe.
pub(super) fn decode(bytes: &[u8]) -> Result<Document, DocumentError> {
    let mut reader = Reader { rest: bytes };
    match reader.byte()? {
        0 => return Err(damaged("protocol version 0 does not exist")),
        newer if newer > PROTOCOL_VERSION => return Err(DocumentError::NewerProtocol(newer)),
        _ => {}
    }
    match reader.byte()? {
        0 => return Err(damaged("format version 0 does not exist")),
        newer if newer > FORMAT_VERSION => {
            return Err(DocumentError::Newer { what: "format", version: newer.into() });
        }
        _ => {}
    }
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(DocumentError::TooLarge { bytes: bytes.len() });
    }
    let policy = match reader.byte()? {
        0 => Policy::Trust,
        1 => Policy::Strict,
        _ => return Err(damaged("no such policy")),
    };
    let kind = reader.byte()?;
    match reader.number::<2>()? as u16 {
        PLACEMENT_VERSION => {}
        0 => return Err(damaged("placement version 0 does not exist")),
        version => return Err(DocumentError::Newer { what: "placement version", version }),
    }
    let parameter = reader.number::<4>()? as u32;
    let placement = match kind {
        HASHED => Placement::Hashed { vnodes: parameter },
        BALANCED if (1..=MAX_ARC_BITS).contains(&parameter) => Placement::Balanced { arc_bits: parameter },
        BALANCED => return Err(damaged("a ring cannot be cut so finely, or so coarsely")),
        _ => return Err(damaged("no such placement")),
    };
    let cluster = reader.number::<8>()?;
    let epoch = Epoch::new(reader.number::<8>()?);

    let members = members(&mut reader)?;
    let table = table(&mut reader, members.len(), epoch)?;
    let width = index_width(table.len());
    let in_ring: Vec<Member> = members.iter().map(DocumentMember::in_ring).collect();
    let tenure = |index: usize| table.get(index).copied().ok_or(damaged("no such tenure"));

    let (runs, ring) = match placement {
        Placement::Balanced { arc_bits } => {
            let indexes = reader.take(width << arc_bits)?;
            let runs = indexes
                .chunks_exact(width)
                .zip(0_u64..)
                .map(|(index, arc)| {
                    Ok((arc << (64 - arc_bits) | u64::MAX >> arc_bits, tenure(number(index) as usize)?))
                })
                .collect::<Result<Vec<Run>, DocumentError>>()?;
            let owners = runs.iter().map(|(_, tenure)| tenure.owner.get() as u16).collect();
            let ring = Ring::from_arcs(in_ring, arc_bits, owners)?;
            (runs, ring)
        }
        Placement::Hashed { vnodes } => {
            let ranges = reader.number::<4>()? as usize;
            let ranges = reader.take(ranges.saturating_mul(8 + width))?.chunks_exact(8 + width);
            let runs = ranges
                .map(|range| Ok((number(&range[..8]), tenure(number(&range[8..]) as usize)?)))
                .collect::<Result<Vec<Run>, DocumentError>>()?;
            let ascending = runs.windows(2).all(|pair| pair[0].0 < pair[1].0);
            if !ascending || runs.last().is_none_or(|last| last.0 != u64::MAX) {
                return Err(damaged("the ranges do not cover the circle in order"));
            }
            check_tokens(placement, &in_ring)?;
            let ring = Ring::hashed(in_ring, vnodes)?;
            if !agree(&ring, &runs) {
                return Err(damaged("the owners are not those of the hashed ring"));
            }
            (runs, ring)
        }
    };
    if !reader.rest.is_empty() {
        return Err(damaged("there are bytes behind its end"));
    }
    let document = Document::assemble(Parts { cluster, epoch, policy, ring, members, runs })?;
    // One document, one encoding: so equal documents have equal fences.
    if document.encode() != bytes {
        return Err(damaged("it is not encoded the way it should be"));
    }
    Ok(document)
}

fn members(reader: &mut Reader<'_>) -> Result<Vec<DocumentMember>, DocumentError> {
    let count = reader.number::<2>()?;
    let mut members: Vec<DocumentMember> = Vec::new();
    for _ in 0..count {
        let len = reader.byte()?;
        let id = NodeId::new(reader.text(len.into())?)?;
        if members.last().is_some_and(|last| last.id >= id) {
            return Err(damaged("the members are not sorted by name"));
        }
        let weight = crate::ring::Weight::new(reader.number::<4>()? as u32);
        let flags = reader.byte()?;
        if flags & !(LEAVING | REJOINED) != 0 {
            return Err(damaged("a member has a flag that does not exist"));
        }
        let (leaving, rejoined) = (flags & LEAVING != 0, flags & REJOINED != 0);
        let (incarnation, process) = (reader.number::<8>()?, reader.number::<8>()?);
        let len = reader.number::<2>()? as usize;
        let address = reader.text(len)?.to_owned();
        members.push(DocumentMember { id, weight, address, incarnation, process, leaving, rejoined });
    }
    Ok(members)
}

fn table(reader: &mut Reader<'_>, members: usize, epoch: Epoch) -> Result<Vec<Tenure>, DocumentError> {
    let (resting, moving) = (reader.number::<4>()? as usize, reader.number::<4>()? as usize);
    let place = |bytes: &[u8]| {
        let (node, since) = (number(&bytes[..2]), Epoch::new(number(&bytes[2..])));
        if node >= members as u64 {
            return Err(damaged("a tenure names a member that is not there"));
        }
        if since < Epoch::FIRST || since > epoch {
            return Err(damaged("a tenure begins before the ring, or after the document"));
        }
        Ok((NodeIndex::new(node as u16), since))
    };
    let mut table = Vec::new();
    for bytes in reader.take(resting.saturating_mul(TENURE_LEN))?.chunks_exact(TENURE_LEN) {
        let (owner, since) = place(bytes)?;
        table.push(Tenure { owner, since, source: None });
    }
    for bytes in reader.take(moving.saturating_mul(2 * TENURE_LEN))?.chunks_exact(2 * TENURE_LEN) {
        let (owner, since) = place(&bytes[..TENURE_LEN])?;
        let (node, source_since) = place(&bytes[TENURE_LEN..])?;
        if node == owner {
            return Err(damaged("a token moves to where it is"));
        }
        table.push(Tenure { owner, since, source: Some(Source { node, since: source_since }) });
    }
    Ok(table)
}

/// Whether every token has the owner that the ring gives it.
fn agree(ring: &Ring, runs: &[Run]) -> bool {
    let mut ranges = ring.ranges().peekable();
    runs.iter().all(|&(end, tenure)| {
        while let Some(&(range, owner)) = ranges.peek() {
            if owner != tenure.owner {
                return false;
            }
            if range.end().get() > end {
                return true;
            }
            ranges.next();
            if range.end().get() == end {
                return true;
            }
        }
        false
    })
}

fn damaged(what: &'static str) -> DocumentError {
    DocumentError::Damaged { what }
}

/// A big-endian number of up to 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DocumentError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(damaged("it is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, DocumentError> {
        Ok(self.take(1)?[0])
    }

    fn number<const LEN: usize>(&mut self) -> Result<u64, DocumentError> {
        Ok(number(self.take(LEN)?))
    }

    fn text(&mut self, len: usize) -> Result<&'a str, DocumentError> {
        std::str::from_utf8(self.take(len)?).map_err(|_| damaged("a name or an address is no text"))
    }
}
