//! Impressions ⋈ clicks on the impression id, in event time. No clock: time comes in as an argument.

mod joiner;

pub use joiner::{JoinOutput, Joiner};
