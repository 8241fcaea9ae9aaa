use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::{PROTOCOL_MAX, RECORD_BYTES_MAX};
use crate::keys::{Role, Unverified};

/// What every record but a chunk is wrapped in; `sigs` is empty where nobody signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Base64 of the JSON payload.
    pub payload_b64: String,
    /// Signatures over record key and payload bytes.
    pub sigs: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key: the first 8 bytes of its blake3, hex.
    pub keyid: String,
    /// `ed25519`.
    pub alg: String,
    /// Base64.
    pub sig: String,
}

/// Why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Larger than [`RECORD_BYTES_MAX`].
    #[error("record of {0} bytes is above the limit of {RECORD_BYTES_MAX}")]
    TooLarge(usize),
    /// Not an envelope, or not the payload its key says.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// Kind of record.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// Written by a newer program.
    #[error("protocol {found} is newer than this reader's {PROTOCOL_MAX}: update it")]
    Protocol {
        /// The record's protocol.
        found: u32,
    },
    /// Nobody has signed it, and only what is signed counts here.
    #[error("{what} is not signed")]
    Unsigned {
        /// Kind of record.
        what: &'static str,
    },
    /// No signature of a trusted key fits.
    #[error("{what} {why}")]
    Signature {
        /// Kind of record.
        what: &'static str,
        /// Why not.
        why: Unverified,
    },
    /// Rightly signed by somebody who may not write it.
    #[error("{what} signed as {role}, who may not write it")]
    Role {
        /// Kind of record.
        what: &'static str,
        /// The key's role.
        role: Role,
    },
}

/// The one field that every payload of every protocol has.
#[derive(Deserialize)]
struct Protocol {
    proto: u32,
}

impl Envelope {
    /// The size is checked before anything is parsed.
    pub(super) fn parse(what: &'static str, bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        serde_json::from_slice(bytes).map_err(|error| malformed(what, format!("envelope: {error}")))
    }

    pub(super) fn payload(&self, what: &'static str) -> Result<Vec<u8>, RecordError> {
        STANDARD.decode(&self.payload_b64).map_err(|error| malformed(what, format!("payload_b64: {error}")))
    }
}

/// Parses a payload: the protocol before the other fields, which a newer program may have changed.
pub(super) fn payload_of<T: for<'de> Deserialize<'de>>(what: &'static str, json: &[u8]) -> Result<T, RecordError> {
    let unreadable = |error: serde_json::Error| malformed(what, format!("payload: {error}"));
    let Protocol { proto } = serde_json::from_slice(json).map_err(unreadable)?;
    if proto > PROTOCOL_MAX {
        return Err(RecordError::Protocol { found: proto });
    }
    serde_json::from_slice(json).map_err(unreadable)
}

fn malformed(what: &'static str, why: String) -> RecordError {
    RecordError::Malformed { what, why }
}

/// Wraps a payload unsigned, for files of one's own. Floats must be finite: JSON has no others, and [`open`] refuses what stands in their
/// place.
///
/// # Panics
/// Never for the records of this module: they are plain data with string keys.
#[must_use]
pub fn seal<T: Serialize>(payload: &T) -> Vec<u8> {
    let json = serde_json::to_vec(payload).expect("a record is plain data with string keys");
    let envelope = Envelope { payload_b64: STANDARD.encode(json), sigs: Vec::new() };
    serde_json::to_vec(&envelope).expect("an envelope is plain data with string keys")
}

/// Unwraps what [`seal`] has wrapped, whoever wrote it; `what` names it in errors.
///
/// # Errors
/// [`RecordError`].
pub fn open<T: for<'de> Deserialize<'de>>(what: &'static str, bytes: &[u8]) -> Result<T, RecordError> {
    payload_of(what, &Envelope::parse(what, bytes)?.payload(what)?)
}

#[cfg(test)]
mod tests {
    use super::super::{Lease, PROTOCOL, Pin};
    use super::*;
    use crate::domain::Version;

    fn lease() -> Lease {
        Lease { proto: PROTOCOL, model: "ctr".into(), seq: 3, epoch: 2, instance: "host/1".into(), at_ms: 5 }
    }

    #[test]
    fn what_is_sealed_opens() {
        assert_eq!(open::<Lease>("lease", &seal(&lease())), Ok(lease()));
    }

    #[test]
    fn the_size_is_checked_before_parsing() {
        let bytes = vec![b'{'; RECORD_BYTES_MAX + 1];
        assert_eq!(open::<Lease>("lease", &bytes), Err(RecordError::TooLarge(RECORD_BYTES_MAX + 1)));
    }

    #[test]
    fn a_newer_protocol_is_named_even_when_its_shape_is_unknown() {
        let bytes = seal(&serde_json::json!({ "proto": PROTOCOL_MAX + 1, "entirely": "different" }));
        assert_eq!(open::<Lease>("lease", &bytes), Err(RecordError::Protocol { found: PROTOCOL_MAX + 1 }));
    }

    #[test]
    fn another_payload_is_malformed_and_named() {
        let pin = Pin {
            proto: PROTOCOL,
            model: "ctr".into(),
            seq: 1,
            epoch: 1,
            version: Some(Version(1)),
            expires_ms: None,
            actor: "a".into(),
            reason: "r".into(),
            at_ms: 0,
        };
        let error = open::<Lease>("lease", &seal(&pin)).unwrap_err();
        assert!(error.to_string().contains("malformed lease") && error.to_string().contains("instance"), "{error}");
    }

    #[test]
    fn damage_anywhere_is_refused_or_harmless_but_never_a_panic() {
        let good = seal(&lease());
        for index in 0..good.len() {
            let mut bytes = good.clone();
            bytes[index] ^= 0x15;
            let _ = open::<Lease>("lease", &bytes);
            assert!(open::<Lease>("lease", &good[..index]).is_err());
        }
    }
}
