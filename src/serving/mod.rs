//! The subscriber: boot from disk, follow the snapshot topic, verify, probe, swap, score.
//!
//! architecture invariant: compiles without Burn, sled and the trainer (`--no-default-features --features serving`).

mod artifact;
mod cache;
mod catalog;
mod click_rates;
mod fetch;
mod follower;
pub mod http;
mod matmul;
mod model;
mod net;
mod objects;
mod reports;
mod shared;
mod subscriber;

pub use artifact::HEADER_BYTES_MAX;
pub use cache::{Boot, CacheError, Seen, SnapshotCache};
pub use catalog::{Catalog, CatalogError, Marks};
#[cfg(feature = "trainer")]
pub(crate) use fetch::{Fetch, FetchLimits, Unobtained, from_whole};
pub use model::{Candidate, ModelError, ServedModel};
pub use net::LightNet;
pub use objects::{ObjectError, Objects};
pub use reports::{Reporting, Reports};
#[cfg(feature = "trainer")]
pub(crate) use shared::worth_a_line;
pub use shared::{Incident, SubscriberStatus};
pub use subscriber::{Subscriber, SubscriberConfig, SubscriberError};
