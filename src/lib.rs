//! **Rocket Launching** learns from ad clicks as they happen.
//!
//! Modules stand in the order in which the data flows; a module imports what stands above it, `domain`, `config` and `keys`,
//! and nothing further down. `pipeline` alone wires stages together.
//!
//! ```text
//! Kafka ─ stream ─ wire ─ join ─ features ─ batch ─ train (embedding, nets) ─ evaluate ─ checkpoint ─ publish ─ Kafka ─ serving
//! ```
//!
//! # Invariants
//! 1. **Test, then train**: scores that feed a metric come from the forward pass before the update ([`train`]).
//! 2. **One commit point**: weights, optimizer, positions, join memory and GAUC belong to one checkpoint number ([`checkpoint`]).
//! 3. Positions in our checkpoint are the truth; offsets committed to the broker are advice for lag tools ([`stream`]).
//! 4. **Conservation**: every offset that is done is counted exactly once, as trained, dropped (by reason) or dead-lettered ([`pipeline`]).
//! 5. A snapshot comes from a committed checkpoint, and its version is that checkpoint's number: never reused ([`publish`]).
//! 6. Saving leaves the training state bit-equal ([`checkpoint`]).
//! 7. The gradient block: the hint never moves the booster's head ([`nets`]).
//! 8. Where keys are trusted, only what they have signed counts on the snapshot topic, each key in its role ([`keys`]).
//! 9. The trainer promotes no version that a gate holds back, and remembers as good only what promoted versions were taught ([`publish`]).
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "trainer")]
pub mod batch;
#[cfg(feature = "trainer")]
pub mod bench;
#[cfg(feature = "capi")]
pub mod capi;
#[cfg(feature = "trainer")]
pub mod checkpoint;
pub mod config;
#[cfg(feature = "trainer")]
pub mod ctl;
#[cfg(feature = "trainer")]
pub mod daemon;
pub mod domain;
#[cfg(feature = "trainer")]
pub mod embedding;
#[cfg(feature = "trainer")]
pub mod evaluate;
#[doc(hidden)]
pub mod failpoint;
pub mod features;
#[cfg(feature = "trainer")]
pub mod interchange;
#[cfg(feature = "trainer")]
pub mod join;
pub mod keys;
#[cfg(feature = "trainer")]
mod libtorch;
#[cfg(feature = "trainer")]
mod matrix;
#[cfg(feature = "trainer")]
pub mod nets;
#[cfg(feature = "trainer")]
pub mod pipeline;
#[cfg(feature = "trainer")]
pub mod publish;
pub mod serving;
#[cfg(feature = "trainer")]
pub mod store;
pub mod stream;
pub mod telemetry;
#[cfg(feature = "trainer")]
pub mod train;
mod vectors;
pub mod wire;
