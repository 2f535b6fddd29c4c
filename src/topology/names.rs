/// The keys beside the records, one of each per ring and node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaKeys {
    /// The ring's name.
    pub ring: String,
    /// Holds the [`Fence`](super::Fence).
    pub fence: String,
    /// Holds the document that the fence names.
    pub document: String,
    /// Holds the name of the node, so that one database is never used under two.
    pub node: String,
    /// Holds what names this memory of the node.
    pub incarnation: String,
    /// Holds what the node promised and accepted for the document after its fence.
    pub ballot: String,
    /// Counts batches of writes; one that runs backwards proves that the node went back in time.
    pub seq: String,
    /// Never holds anything. Deleting it lets a script write on a node that is out of memory: Redis lets one finish
    /// that has begun with a write that needs none.
    pub void: String,
}

impl MetaKeys {
    /// The keys of the ring called `ring`.
    pub fn new(ring: &str) -> MetaKeys {
        let key = |what: &str| format!("sessionring:{ring}:{what}");
        MetaKeys {
            ring: ring.to_owned(),
            fence: key("fence"),
            document: key("document"),
            node: key("node"),
            incarnation: key("incarnation"),
            ballot: key("ballot"),
            seq: key("seq"),
            void: key("void"),
        }
    }
}
