//! The secret of a ring: without it nobody makes the key of an id.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::SessionId;
use crate::ring::Token;

/// A secret that all applications of a ring share, so that only they can tell under which key the session of an id is
/// stored. At least 32 random bytes. It is in no `Debug` output, and overwritten in memory when it is dropped (the bytes
/// you pass in are yours to overwrite).
///
/// It belongs to the ring for as long as there are sessions in it. **An application with another secret, or with none,
/// looks under other keys**: it finds no session and nobody tells it why; all its users are logged out until the secret is
/// put right. Nor can it change or end what others have stored. A new secret means new sessions.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sessionring::{RingSecret, SessionRing};
///
/// // From where you keep secrets; not from the source text.
/// let secret = RingSecret::new(&[7; 32])?;
/// assert_eq!(format!("{secret:?}"), "RingSecret(redacted)");
/// let ring = SessionRing::builder().node("a", "memory:example-secret").secret(secret).connect().await?;
/// let id = ring.sessions::<u64>("user").create(&7).await?;
///
/// let without = SessionRing::builder().node("a", "memory:example-secret").connect().await?;
/// assert_eq!(without.sessions::<u64>("user").get(&id).await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RingSecret(Hmac<Sha256>);

/// Bytes that are too few to be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret of a ring has at least 32 bytes, this has {0}; take 32 random bytes, not a password")]
pub struct SecretLength(usize);

impl RingSecret {
    /// The secret made of these bytes.
    ///
    /// # Errors
    /// [`SecretLength`]: fewer than 32.
    pub fn new(secret: &[u8]) -> Result<RingSecret, SecretLength> {
        let short = SecretLength(secret.len());
        if secret.len() < 32 {
            return Err(short);
        }
        Hmac::new_from_slice(secret).map(RingSecret).map_err(|_| short)
    }

    /// HMAC-SHA256 with this secret, to be fed and finished.
    pub(super) fn hmac(&self) -> Hmac<Sha256> {
        self.0.clone()
    }

    /// Where the session stands on the circle. The tag of a generated id is random, and no secret. A foreign id may be
    /// easy to guess, and a hash that anyone can compute would confirm the guess.
    pub(crate) fn token(&self, id: &SessionId) -> Token {
        if !id.is_foreign() {
            return id.token();
        }
        let digest: [u8; 32] = self
            .hmac()
            .chain_update(b"sessionring token of a foreign id, version 1\0")
            .chain_update(id.as_bytes())
            .finalize()
            .into_bytes()
            .into();
        let mut token = [0; 8];
        token.copy_from_slice(&digest[..8]);
        Token::new(u64::from_be_bytes(token))
    }
}

impl fmt::Debug for RingSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingSecret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_thirty_two_bytes_or_more() {
        assert_eq!(RingSecret::new(&[7; 31]).unwrap_err(), SecretLength(31));
        assert!(RingSecret::new(&[7; 32]).is_ok() && RingSecret::new(&[7; 100]).is_ok());
    }

    #[test]
    fn tokens_of_foreign_ids_cannot_be_made_without_it() {
        let secret = RingSecret::new(&[7; 32]).unwrap();
        let generated = SessionId::from_bytes([1; 24]);
        assert_eq!(secret.token(&generated), generated.token());
        let foreign = SessionId::foreign("customer-4711").unwrap();
        assert_ne!(secret.token(&foreign), foreign.token());
        assert_ne!(secret.token(&foreign), RingSecret::new(&[8; 32]).unwrap().token(&foreign));
    }

    /// An HMAC is two of these, and is not marked itself.
    #[test]
    fn it_is_overwritten_when_it_is_dropped() {
        fn overwritten<T: zeroize::ZeroizeOnDrop>() {}
        overwritten::<Sha256>();
    }
}
