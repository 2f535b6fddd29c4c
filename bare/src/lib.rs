//! What holds for the library where an application asks for none of its features, tested in `tests/`.
//!
//! A member of its own, built apart from all others (`cargo test -p bare`): beside a member that asks for a feature everyone has it.
