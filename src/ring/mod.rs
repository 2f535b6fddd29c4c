//! Placement: which node owns a token.
