//! The subscriber: boot from disk, follow the snapshot topic, verify, probe, swap, score.
//!
//! architecture invariant: compiles without Burn, sled and the trainer (`--no-default-features --features serving`), and but for `service`,
//! `http` and `grpc`, which are the sidecar's (feature `scorer`), without a web server or an async runtime.

mod artifact;
mod cache;
mod catalog;
mod click_rates;
mod follower;
#[cfg(feature = "scorer")]
pub mod grpc;
#[cfg(feature = "scorer")]
pub mod http;
mod matmul;
mod model;
mod net;
#[cfg(feature = "scorer")]
pub mod service;
mod shared;
mod subscriber;

pub use artifact::HEADER_BYTES_MAX;
pub use cache::{Boot, CacheError, Seen, SnapshotCache};
pub use catalog::{Catalog, CatalogError, Marks};
pub use model::{Candidate, ModelError, ServedModel};
pub use net::LightNet;
#[cfg(feature = "trainer")]
pub(crate) use shared::worth_a_line;
pub use shared::{Incident, SubscriberStatus};
pub use subscriber::{Subscriber, SubscriberConfig, SubscriberError};
