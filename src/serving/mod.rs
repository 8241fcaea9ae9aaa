//! The subscriber: boot from disk, follow the snapshot topic, verify, probe, swap, score.
//!
//! architecture invariant: compiles without Burn, sled and the trainer (`--no-default-features --features serving`), and but for `service`,
//! `http` and `grpc`, which are the sidecar's (feature `scorer`), without a web server or an async runtime.
//!
//! An ad server embeds it with `default-features = false, features = ["serving"]`:
//!
//! ```no_run
//! use rocket_launching::config::KafkaConfig;
//! use rocket_launching::domain::EventTime;
//! use rocket_launching::serving::{Subscriber, SubscriberConfig};
//! use rocket_launching::stream::{KafkaLogReader, LogReader};
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kafka = KafkaConfig { brokers: "kafka-1:9092,kafka-2:9092".to_owned(), ..KafkaConfig::default() };
//! let config = SubscriberConfig::new("ctr", "/var/lib/ads/ctr");
//! let open = move || Ok(Box::new(KafkaLogReader::open(&kafka, "ctr.snapshots")?) as Box<dyn LogReader>);
//! let subscriber = Subscriber::start(config, open)?;
//!
//! // On every request; never waits. It is there at once where a snapshot lies on disk.
//! if let Some(model) = subscriber.model() {
//!     let context = json!({ "user_id": "u1" }).as_object().cloned().unwrap_or_default();
//!     let candidates: Vec<_> = ["a", "b"].iter().filter_map(|item| json!({ "item_id": item }).as_object().cloned()).collect();
//!     let probabilities = model.score(EventTime(1_700_000_000_000), &context, &candidates).map_err(|(_, error)| error)?;
//!     println!("{probabilities:?} by version {}", model.version());
//! }
//! # Ok(())
//! # }
//! ```

mod artifact;
mod cache;
mod candidates;
mod catalog;
mod click_rates;
mod division;
mod fetch;
mod follower;
#[cfg(feature = "scorer")]
pub mod grpc;
#[cfg(feature = "scorer")]
pub mod http;
mod model;
mod net;
mod objects;
mod reports;
mod scratch;
#[cfg(feature = "scorer")]
pub mod service;
mod shared;
mod subscriber;

pub use artifact::HEADER_BYTES_MAX;
pub use cache::{Boot, CacheError, Seen, SnapshotCache};
pub use catalog::{Catalog, CatalogError, Marks};
#[cfg(feature = "trainer")]
pub(crate) use fetch::{Fetch, FetchLimits, Unobtained, from_whole};
#[cfg(feature = "trainer")]
pub(crate) use model::ScoreStage;
pub use model::{CANDIDATE_CACHE_BYTES, Candidate, ModelError, ServedModel};
pub use net::LightNet;
pub use objects::{ObjectError, Objects};
pub use reports::{Reporting, Reports};
#[cfg(feature = "capi")]
pub(crate) use shared::now_ms;
#[cfg(feature = "trainer")]
pub(crate) use shared::worth_a_line;
pub use shared::{Incident, SubscriberStatus};
pub use subscriber::{Subscriber, SubscriberConfig, SubscriberError};
