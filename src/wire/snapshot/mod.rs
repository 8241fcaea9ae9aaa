//! Records of the snapshot topic: keys, envelope, manifest, pointer, pin, lease, audit entry.
//!
//! | key | value | signed by | life |
//! |---|---|---|---|
//! | `c/<version:020>/<index:06>` | a chunk of the encoded artifact, then those of the encoded [`delta`] | nobody; its hash is in the manifest | until collected |
//! | `m/<version:020>` | [`Manifest`] in an [`Envelope`], sent after every chunk is acknowledged | trainer | until collected |
//! | `a/current` | [`Pointer`] | trainer (forward), operator | latest wins |
//! | `a/canary` | [`Canary`] | trainer (forward, or back to `current`), operator | latest wins |
//! | `p/all`, `p/<group>` | [`Pin`]; unpin is a pin to null | operator | latest wins |
//! | `e/publisher` | [`Lease`] | trainer | latest wins |
//! | `h/<seq:020>` | [`AuditEntry`] | trainer (promotions), operator | kept |
//!
//! A version is one artifact, whose length and hash its manifest tells. It can be had in one or two ways: whole, and as a delta from the
//! artifact of an earlier version; either in chunks or, by [`Payload::object`], from an object store.
//!
//! Servers tell where they stand on a topic of their own: [`ServerReport`] by the server's name, signed by nobody, latest wins.
//!
//! Tombstones are not signed: they only ever mean "collected", of chunks and manifests.

mod acts;
mod canary;
pub mod delta;
mod envelope;
mod field;
mod group;
mod key;
mod manifest;
mod payload;
mod report;
mod signing;

pub use acts::{Act, AuditEntry, Lease, Pin, Pointer};
pub use canary::{Canary, WHOLE_PPM, canary_place};
pub use envelope::{Envelope, RecordError, Signature, open, seal};
pub use field::{field_from_json, field_to_json};
pub use group::{Group, NoGroup};
pub use key::{CHUNKS_MAX, Key};
pub use manifest::{Architecture, Artifact, HeadQuality, Manifest, Probe, Provenance, Quality, RowsLoss, TensorInfo, Verdict, schema_hash};
pub use payload::{Delta, Payload};
pub use report::{ServerReport, ServerState};
pub use signing::{open_as, seal_as};

/// What records bear.
pub const PROTOCOL: u32 = 1;
/// Highest protocol a reader takes: that of manifests whose artifact is not on the topic whole, in chunks. A reader of [`PROTOCOL`] alone
/// refuses them by that and serves on what it has, where it would else take them for damaged.
pub const PROTOCOL_MAX: u32 = 2;
/// Highest seq, epoch and version a reader takes in: JSON readers in other languages hold whole numbers exactly up to here, no honest writer
/// comes near it, and counting on from it overflows nowhere.
pub const NUMBER_MAX: u64 = 1 << 53;
/// Largest record value a reader looks at.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
