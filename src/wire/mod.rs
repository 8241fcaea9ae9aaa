//! Bytes ↔ types: events, and the records of the snapshot topic.

mod event;
pub mod snapshot;

pub use event::{DecodeError, Decoded, EventDecoder};
