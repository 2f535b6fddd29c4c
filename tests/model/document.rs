//! What of a document matters to one session: who owns its token since when, and which memories and processes are meant.

/// At most so many nodes.
pub(crate) const NODES: usize = 3;

/// A document; its epoch is its place in the history, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Document {
    pub(crate) owner: usize,
    pub(crate) since: u64,
    /// Where the token moves away from, and since when that node had it.
    pub(crate) source: Option<(usize, u64)>,
    /// The epoch in which it began to move; until its fence is there, the source is the owner that it was.
    pub(crate) began: u64,
    pub(crate) incarnations: [u8; NODES],
    pub(crate) processes: [u8; NODES],
    /// The token came back from a node that was forgotten: until the owner has this fence, nobody has used that.
    pub(crate) returned: u64,
    /// After a loss: until owner and source have this fence, nobody has concluded that the owner has no record.
    pub(crate) paired: u64,
}

impl Document {
    pub(crate) fn founded() -> Document {
        Document {
            owner: 0,
            since: 1,
            source: None,
            began: 1,
            incarnations: [1; NODES],
            processes: [0; NODES],
            returned: 0,
            paired: 0,
        }
    }

    /// Add, remove, reweight: the token goes to another node.
    pub(crate) fn moved(&self, to: usize, since: u64) -> Document {
        Document { owner: to, since, source: Some((self.owner, self.since)), began: since, ..self.clone() }
    }

    pub(crate) fn settled(&self) -> Document {
        Document { source: None, ..self.clone() }
    }

    /// Whatever the node still holds is nothing.
    pub(crate) fn readmitted(&self, node: usize, incarnation: u8, process: u8, epoch: u64) -> Document {
        let mut next = self.clone();
        // A blank node is initialised when its partner has the fence. One with data is raised by whoever comes.
        if next.incarnations[node] == incarnation {
            next.paired = epoch;
        }
        next.incarnations[node] = incarnation;
        next.processes[node] = process;
        if self.owner == node {
            next.since = epoch;
        }
        if let Some((source, since)) = &mut next.source
            && *source == node
        {
            *since = epoch;
        }
        next
    }

    /// The node is gone for good. `survivor` gets what comes from nowhere.
    pub(crate) fn forgotten(&self, node: usize, survivor: usize, epoch: u64) -> Document {
        let mut next = Document { source: self.source.filter(|(source, _)| *source != node), ..self.clone() };
        if self.owner == node {
            (next.owner, next.since) = next.source.take().unwrap_or((survivor, epoch));
            next.returned = epoch;
        }
        next.paired = epoch;
        next
    }

    /// The node with which this one shares the moving token.
    pub(crate) fn partner(&self, node: usize) -> Option<usize> {
        match self.source {
            Some((source, _)) if source == node => Some(self.owner),
            Some((source, _)) if self.owner == node => Some(source),
            _ => None,
        }
    }
}
