//! Records of the snapshot topic: keys, envelope, manifest, pointer, pin, lease, audit entry.
//!
//! | key | value | life |
//! |---|---|---|
//! | `c/<version:020>/<index:06>` | raw chunk | until collected |
//! | `m/<version:020>` | [`Manifest`] in an [`Envelope`], sent after every chunk is acknowledged | until collected |
//! | `a/current` | [`Pointer`] | latest wins |
//! | `p/all` | [`Pin`]; unpin is a pin to null | latest wins |
//! | `e/publisher` | [`Lease`] | latest wins |
//! | `h/<seq:020>` | [`AuditEntry`] | kept |

mod acts;
mod envelope;
mod field;
mod key;
mod manifest;

pub use acts::{Act, AuditEntry, Lease, Pin, Pointer};
pub use envelope::{Envelope, RecordError, Signature, open, seal};
pub use field::{field_from_json, field_to_json};
pub use key::{CHUNKS_MAX, Key};
pub use manifest::{Architecture, Artifact, HeadQuality, Manifest, Probe, Provenance, Quality, TensorInfo, schema_hash};

/// Version of this protocol; a reader refuses a higher one.
pub const PROTOCOL: u32 = 1;
/// Largest record value a reader looks at.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
