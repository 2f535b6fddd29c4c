//! Between codec and record: payloads are sealed on their way out, and opened on their way in.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

use super::Sessions;
use crate::{
    error::{Error, ErrorKind, Result},
    protocol::{Forward, Write},
    record::{Header, Key, NONCE, Record, SealingKeys, Unopened},
    topology::Epoch,
};

/// The keys of a [`Sessions`], and whether what it writes is sealed.
#[derive(Debug, Clone)]
pub(super) struct Sealing {
    keys: Arc<SealingKeys>,
    seals: bool,
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Seals sessions from now on: what is stored is encrypted, and bound to its place, so that whoever can read a node
    /// reads no session, and whoever can write to it makes none, changes none and swaps none. A session that was sealed
    /// with another of these keys is sealed anew by its next write. One that is **not** sealed is refused as
    /// [corrupt](Error::is_corrupt), unless [`accept_unsealed`](SealingKeys::accept_unsealed) is set.
    ///
    /// What this does not protect against is listed in SECURITY.md; above all, an older record of the *same* session can be
    /// put back. A sealed session is 28 bytes longer.
    ///
    /// Where sessions live already, sealing is introduced in three deploys, each of them finished before the next begins:
    ///
    /// 1. [`open_sealed(keys)`](Sessions::open_sealed): everyone can read what will be sealed
    /// 2. `seal(keys.accept_unsealed())`: everyone seals
    /// 3. one absolute lifetime later, `seal(keys)`: nothing else is believed any more
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let ring = sessionring::SessionRing::builder().node("a", "memory:").connect().await?;
    /// use sessionring::SealingKeys;
    ///
    /// let keys = SealingKeys::new(1, &[7; 32])?; // 32 random bytes, from where you keep secrets
    /// let users = ring.sessions::<String>("user").seal(keys);
    /// let id = users.create(&"Ada".to_owned()).await?;
    /// assert_eq!(users.get(&id).await?.as_deref(), Some("Ada"));
    ///
    /// let without = ring.sessions::<String>("user");
    /// assert!(without.get(&id).await.unwrap_err().is_upgrade_required());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn seal(self, keys: SealingKeys) -> Sessions<T> {
        self.with(|options| options.sealing = Some(Sealing { keys: Arc::new(keys), seals: true }))
    }

    /// Opens what others [seal](Sessions::seal), and seals nothing: the first step of introducing it, and the last but
    /// one of giving it up. Believes sessions that are not sealed.
    #[must_use]
    pub fn open_sealed(self, keys: SealingKeys) -> Sessions<T> {
        let keys = Arc::new(keys.accept_unsealed());
        self.with(|options| options.sealing = Some(Sealing { keys, seals: false }))
    }

    /// Seals what is about to be written under `key`, if this application seals.
    pub(super) fn sealed(&self, key: &Key, mut write: Write) -> Result<Write> {
        let Some(Sealing { keys, seals: true }) = &self.options.sealing else { return Ok(write) };
        write.seal = keys.number();
        write.payload = seal(keys, key, &write.header(0, 0, UNKNOWN), &write.payload)?;
        Ok(write)
    }

    /// The same for where a session goes on: otherwise whoever can write to a node could lead his own id to the session of
    /// somebody else.
    pub(super) fn sealed_forward(&self, key: &Key, mut forward: Forward) -> Result<Forward> {
        let Some(Sealing { keys, seals: true }) = &self.options.sealing else { return Ok(forward) };
        forward.seal = keys.number();
        forward.successor = seal(keys, key, &forward.header(0, 0, UNKNOWN), &forward.successor)?;
        Ok(forward)
    }

    /// The encoded session of a record.
    pub(super) fn opened<'a>(&self, key: &Key, record: &Record<'a>) -> Result<Cow<'a, [u8]>> {
        let opened = match &self.options.sealing {
            Some(sealing) => sealing.keys.open(key, &record.header, record.payload),
            None if record.header.seal == 0 => Ok(None),
            None => Err(Unopened::NoKey(record.header.seal)),
        };
        match opened {
            Ok(Some(payload)) => Ok(Cow::Owned(payload)),
            Ok(None) => Ok(Cow::Borrowed(record.payload)),
            Err(Unopened::NoKey(number)) => {
                let message = format!(
                    "the session is sealed with key {number}, which this application does not have; give it the key \
                     ({key:?})"
                );
                Err(self.error(key, ErrorKind::UpgradeRequired, message))
            }
            Err(Unopened::NotAuthentic(number)) => {
                let what = format!(
                    "the session does not open with sealing key {number}: somebody changed it or put it in another's \
                     place, or the key of that number is another one here"
                );
                Err(self.corrupt(key, what))
            }
            Err(Unopened::Unsealed) => {
                let what = "the session is not sealed, and this application believes sealed ones only; \
                            accept_unsealed reads it while sealing is being introduced";
                Err(self.corrupt(key, what.into()))
            }
        }
    }
}

/// Version, deadline and epoch are not known when a payload is sealed, and not bound.
const UNKNOWN: Epoch = Epoch::new(0);

fn seal(keys: &SealingKeys, key: &Key, header: &Header, payload: &[u8]) -> Result<Bytes> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|error| {
        Error::configuration(format!("the operating system gave no random bytes: {error}"))
    })?;
    let sealed = keys.seal(key, header, nonce, payload);
    let too_long = || Error::new(ErrorKind::Encode, "the session is too long to be sealed");
    sealed.map(Bytes::from).ok_or_else(too_long)
}
