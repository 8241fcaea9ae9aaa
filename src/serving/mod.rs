//! The subscriber: boot from disk, follow the snapshot topic, verify, probe, swap, score.
//!
//! architecture invariant: compiles without Burn, sled and the trainer (`--no-default-features --features serving`).

mod cache;
mod catalog;
pub mod http;
mod model;
mod subscriber;

pub use catalog::{Catalog, CatalogError, Marks};
pub use model::{Candidate, LightNet, ModelError, ServedModel};
