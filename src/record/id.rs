//! Session ids: what the cookie holds.

use std::{fmt, str::FromStr, sync::Arc};

use data_encoding::BASE64URL_NOPAD;

use crate::ring::Token;

const TAG: usize = 8;
const SECRET: usize = 16;
const GENERATED: usize = TAG + SECRET;
/// 24 bytes are exactly 32 characters of base64: no padding, and no spare bits that could differ.
const TEXT: usize = 32;
const FOREIGN_LIMIT: usize = 4096;

/// The name of one session, known to its user's browser and to nobody else.
///
/// A *generated* id is an 8-byte routing tag and a 16-byte secret (128 bits, OWASP ASVS 5.0 asks for no
/// less), both fresh from the operating system, written as 32 URL-safe characters. The tag alone decides which
/// node owns the session, so that a new secret under the same tag stays on its node.
///
/// A *foreign* id is whatever the application already uses, 1 to 4,096 bytes; it is its own tag.
///
/// `Debug` never shows an id, and there is no `Display`: the text must be asked for with
/// [`expose`](SessionId::expose).
///
/// ```
/// use sessionring::SessionId;
///
/// let id = SessionId::generate()?;
/// let cookie = id.expose();
/// assert_eq!(cookie.len(), 32);
/// assert_eq!(SessionId::parse(&cookie)?, id);
/// assert_eq!(format!("{id:?}"), "SessionId(redacted)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    Generated([u8; GENERATED]),
    Foreign(Arc<[u8]>),
}

/// A text that is not a session id. It never repeats the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// A generated id has another length.
    #[error("a generated session id has 32 characters, this has {0}; treat the cookie as no session")]
    Length(usize),
    /// A generated id has other characters.
    #[error("a generated session id is URL-safe base64 (A-Z a-z 0-9 - _); treat the cookie as no session")]
    Alphabet,
    /// A foreign id is empty or longer than 4,096 bytes.
    #[error("a foreign session id has 1 to 4096 bytes, this has {0}")]
    ForeignLength(usize),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
}

impl SessionId {
    /// A fresh id: 24 bytes from the operating system.
    ///
    /// # Errors
    /// [`IdError::Random`] when the operating system has no random bytes to give.
    pub fn generate() -> Result<SessionId, IdError> {
        let mut bytes = [0; GENERATED];
        getrandom::fill(&mut bytes).map_err(|e| IdError::Random(e.to_string()))?;
        Ok(SessionId(Form::Generated(bytes)))
    }

    /// The id made of these 24 bytes, tag first. For tests and for ids that were stored as bytes; whoever
    /// chooses the bytes answers for their randomness.
    pub fn from_bytes(bytes: [u8; GENERATED]) -> SessionId {
        SessionId(Form::Generated(bytes))
    }

    /// Reads the text of a generated id, as it came in a cookie. Every text that is accepted is the one and
    /// only text of its id.
    ///
    /// # Errors
    /// [`IdError::Length`], [`IdError::Alphabet`].
    pub fn parse(text: &str) -> Result<SessionId, IdError> {
        if text.len() != TEXT {
            return Err(IdError::Length(text.len()));
        }
        let mut bytes = [0; GENERATED];
        BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).map_err(|_| IdError::Alphabet)?;
        Ok(SessionId(Form::Generated(bytes)))
    }

    /// An id that the application made itself. It must be hard to guess: whoever knows it has the session.
    ///
    /// # Errors
    /// [`IdError::ForeignLength`].
    pub fn foreign(id: impl AsRef<[u8]>) -> Result<SessionId, IdError> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > FOREIGN_LIMIT {
            return Err(IdError::ForeignLength(id.len()));
        }
        Ok(SessionId(Form::Foreign(id.into())))
    }

    /// The text of the id, to be put into the cookie and nowhere else. Bytes of a foreign id that are not
    /// UTF-8 are replaced; [`as_bytes`](SessionId::as_bytes) gives them as they are.
    pub fn expose(&self) -> String {
        match &self.0 {
            Form::Generated(bytes) => BASE64URL_NOPAD.encode(bytes),
            Form::Foreign(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// The bytes of the id: tag and secret of a generated one, a foreign one whole. As secret as the text.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Generated(bytes) => bytes,
            Form::Foreign(bytes) => bytes,
        }
    }

    /// Whether the application made this id itself.
    pub fn is_foreign(&self) -> bool {
        matches!(self.0, Form::Foreign(_))
    }

    /// The routing tag of a generated id.
    pub(crate) fn tag(&self) -> Option<[u8; TAG]> {
        match &self.0 {
            Form::Generated(bytes) => bytes.first_chunk().copied(),
            Form::Foreign(_) => None,
        }
    }

    /// Where the session stands on the circle: the hash of the tag, which is no secret.
    pub fn token(&self) -> Token {
        match &self.0 {
            Form::Generated(bytes) => Token::of(&bytes[..TAG]),
            Form::Foreign(bytes) => Token::of(bytes),
        }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_foreign() { "SessionId(foreign, redacted)" } else { "SessionId(redacted)" })
    }
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<SessionId, IdError> {
        SessionId::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_text() {
        let id = SessionId::from_bytes(std::array::from_fn(|i| i as u8 * 10));
        assert_eq!(id.expose(), "AAoUHigyPEZQWmRueIKMlqCqtL7I0tzm");
        assert_eq!(id.token(), Token::of(&[0, 10, 20, 30, 40, 50, 60, 70]));
    }

    #[test]
    fn strict_about_every_character() {
        let text = "AAoUHigyPEZQWmRueIKMlqCqtL7I0tzm";
        assert_eq!(SessionId::parse("").unwrap_err(), IdError::Length(0));
        assert_eq!(SessionId::parse(&text[1..]).unwrap_err(), IdError::Length(31));
        assert_eq!(SessionId::parse(&format!("{text}=")).unwrap_err(), IdError::Length(33));
        for wrong in ['+', '/', '=', ' ', '\n', '\0', 'é'] {
            let mut text: Vec<char> = text.chars().collect();
            text[7] = wrong;
            assert!(SessionId::parse(&text.into_iter().collect::<String>()).is_err());
        }
    }

    #[test]
    fn a_foreign_id_is_never_the_generated_one_of_the_same_text() {
        let id = SessionId::parse("AAoUHigyPEZQWmRueIKMlqCqtL7I0tzm").unwrap();
        assert_ne!(SessionId::foreign(id.expose()).unwrap(), id);
        assert_eq!(SessionId::foreign("").unwrap_err(), IdError::ForeignLength(0));
        assert_eq!(SessionId::foreign([0; 4097]).unwrap_err(), IdError::ForeignLength(4097));
    }
}
