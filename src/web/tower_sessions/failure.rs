use crate::{Error, ErrorKind, record::IdError};

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Ring(#[from] Error),
    #[error(transparent)]
    Id(#[from] IdError),
}

/// What the framework tells apart. Its errors are texts.
pub(super) enum Category {
    Encode,
    Decode,
    Backend,
}

impl Failure {
    pub(super) fn category(&self) -> Category {
        match self {
            Failure::Ring(error) => match error.kind() {
                ErrorKind::Encode => Category::Encode,
                ErrorKind::Corrupt => Category::Decode,
                _ => Category::Backend,
            },
            Failure::Id(_) => Category::Backend,
        }
    }
}
