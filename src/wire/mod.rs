//! Bytes ↔ types: events, and the records of the snapshot topic.

mod columns;
mod event;
mod json;
mod protobuf;
pub mod snapshot;

pub use event::{DecodeError, Decoded, EVENT_BYTES_MAX, EventDecoder, LIST_VALUES_MAX, Object, ObjectColumns, TEXT_BYTES_MAX, encode};
pub use json::RequestText;
