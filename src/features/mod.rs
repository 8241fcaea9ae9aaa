//! Raw fields → slots of 64-bit ids and numbers. The same code in trainer and server.
//!
//! Specification (stable; a server in another language can be written from it): see [`slot_key`].

mod hash;
mod transform;

pub use hash::slot_key;
pub use transform::{FeatureError, FeatureSpec, Features, NUMBER_LIMIT, SlotSpec};
