/// The keys beside the records, one of each per ring and node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaKeys {
    /// Holds the [`Fence`](super::Fence).
    pub fence: String,
    /// Counts batches of writes; one that runs backwards proves that the node went back in time.
    pub seq: String,
    /// Holds the name of the node, so that one database is never used under two.
    pub node: String,
}

impl MetaKeys {
    /// The keys of the ring called `ring`.
    pub fn new(ring: &str) -> MetaKeys {
        let key = |what: &str| format!("sessionring:{ring}:{what}");
        MetaKeys { fence: key("fence"), seq: key("seq"), node: key("node") }
    }
}
