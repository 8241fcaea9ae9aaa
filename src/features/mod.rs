//! Raw fields → slots of 64-bit ids and numbers. The same code in trainer and server.
//!
//! Specification (stable; a server in another language can be written from it): see [`slot_key`], [`joint_key`] and
//! [`click_rate_inputs`].

mod click_rate;
mod hash;
mod transform;

pub use click_rate::{CLICK_RATE_INPUTS, Counts, click_rate_inputs};
pub use hash::{joint_key, slot_key};
pub use transform::{ClickRateSpec, FeatureError, FeatureSpec, Features, InputColumn, NO_KEY, NUMBER_LIMIT, Parts, Side, Sides, SlotSpec};
