use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Key;
use super::envelope::{Envelope, RecordError, Signature, payload_of};
use crate::keys::{Role, Signer, Trust, Unverified};

/// What every signature begins with, so that none made for another purpose, or by a later rule of what is signed, counts here.
const DOMAIN: &str = "rocket-launching/snapshot-record/v1";
/// The only algorithm.
const ALGORITHM: &str = "ed25519";
/// Signatures looked at per record: that of the old and the new key while keys change, twice over.
const SIGNATURES_MAX: usize = 4;

/// The bytes that are signed: domain, record key and payload, each but the first behind its length, as in DSSE's pre-authentication
/// encoding: `rocket-launching/snapshot-record/v1 9 a/current 183 {…}`. No two records share them, so a signature fits no other key of
/// the log and no other payload.
fn signed_bytes(key: &Key, payload: &[u8]) -> Vec<u8> {
    let key = key.encode();
    let mut bytes = format!("{DOMAIN} {} {key} {} ", key.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Wraps a payload for this record key, signed if there is somebody to sign. Floats must be finite: JSON has no others.
///
/// # Panics
/// Never for the records of this module: they are plain data with string keys.
#[must_use]
pub fn seal_as<T: Serialize>(key: &Key, payload: &T, signer: Option<&Signer>) -> Vec<u8> {
    let json = serde_json::to_vec(payload).expect("a record is plain data with string keys");
    let sign = |signer: &Signer| Signature {
        keyid: signer.id().to_owned(),
        alg: ALGORITHM.to_owned(),
        sig: STANDARD.encode(signer.sign(&signed_bytes(key, &json))),
    };
    let sigs = signer.map(sign).into_iter().collect();
    let envelope = Envelope { payload_b64: STANDARD.encode(&json), sigs };
    serde_json::to_vec(&envelope).expect("an envelope is plain data with string keys")
}

/// Unwraps a record of the topic: size, signature, the signer's role, and only then the payload. Gives the role it was signed in; `None`
/// where nobody is trusted, and so nothing verified.
///
/// # Errors
/// [`RecordError`].
pub fn open_as<T: for<'de> serde::Deserialize<'de>>(
    what: &'static str,
    key: &Key,
    bytes: &[u8],
    trust: &Trust,
) -> Result<(T, Option<Role>), RecordError> {
    let envelope = Envelope::parse(what, bytes)?;
    let json = envelope.payload(what)?;
    let role = if trust.is_empty() { None } else { Some(verify(what, key, &json, &envelope.sigs, trust)?) };
    Ok((payload_of(what, &json)?, role))
}

/// The role of the first signature that counts; if none does, why the first one does not.
fn verify(what: &'static str, key: &Key, payload: &[u8], sigs: &[Signature], trust: &Trust) -> Result<Role, RecordError> {
    let message = signed_bytes(key, payload);
    let mut refusal = RecordError::Unsigned { what };
    // From the last to the first: what is said in the end is about the first.
    for signature in sigs.iter().take(SIGNATURES_MAX).rev() {
        refusal = match check(&message, signature, trust) {
            Ok(role) if key.signers().contains(&role) => return Ok(role),
            Ok(role) => RecordError::Role { what, role },
            Err(why) => RecordError::Signature { what, why },
        };
    }
    Err(refusal)
}

fn check(message: &[u8], signature: &Signature, trust: &Trust) -> Result<Role, Unverified> {
    let bad = || Unverified::BadSignature { id: signature.keyid.clone() };
    if signature.alg != ALGORITHM {
        return Err(bad());
    }
    trust.verify(&signature.keyid, message, &STANDARD.decode(&signature.sig).map_err(|_| bad())?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::Version;
    use crate::wire::snapshot::PROTOCOL;

    fn signer(seed: u8) -> Signer {
        Signer::from_seed(&[seed; 32])
    }

    fn trust() -> Trust {
        Trust::new([(signer(1).public(), Role::Trainer), (signer(2).public(), Role::Operator)])
    }

    fn payload() -> Value {
        json!({ "proto": PROTOCOL, "seq": 3 })
    }

    fn opened(key: &Key, bytes: &[u8]) -> Result<(Value, Option<Role>), RecordError> {
        open_as("record", key, bytes, &trust())
    }

    #[test]
    fn what_a_trusted_key_of_the_role_signs_opens() {
        for (key, seed, role) in [
            (Key::Lease, 1, Role::Trainer),
            (Key::Manifest(Version(3)), 1, Role::Trainer),
            (Key::Current, 1, Role::Trainer),
            (Key::Current, 2, Role::Operator),
            (Key::PinAll, 2, Role::Operator),
        ] {
            assert_eq!(opened(&key, &seal_as(&key, &payload(), Some(&signer(seed)))), Ok((payload(), Some(role))), "{key:?}");
        }
    }

    #[test]
    fn a_role_signs_only_what_is_its_own() {
        for (key, seed, role) in
            [(Key::PinAll, 1, Role::Trainer), (Key::Lease, 2, Role::Operator), (Key::Manifest(Version(1)), 2, Role::Operator)]
        {
            let refused = opened(&key, &seal_as(&key, &payload(), Some(&signer(seed))));
            assert_eq!(refused, Err(RecordError::Role { what: "record", role }), "{key:?}");
        }
    }

    #[test]
    fn unsigned_strange_altered_and_moved_records_are_told_apart() {
        let key = Key::Current;
        let good = seal_as(&key, &payload(), Some(&signer(1)));
        assert_eq!(opened(&key, &seal_as(&key, &payload(), None)), Err(RecordError::Unsigned { what: "record" }));
        let strange = opened(&key, &seal_as(&key, &payload(), Some(&signer(9)))).unwrap_err();
        assert!(matches!(strange, RecordError::Signature { why: Unverified::UnknownKey { .. }, .. }), "{strange}");

        let mut envelope: Envelope = serde_json::from_slice(&good).unwrap();
        envelope.payload_b64 = STANDARD.encode(json!({ "proto": PROTOCOL, "seq": 4 }).to_string());
        let altered = opened(&key, &serde_json::to_vec(&envelope).unwrap()).unwrap_err();
        let moved = opened(&Key::Lease, &good).unwrap_err();
        for refused in [altered, moved] {
            assert!(matches!(refused, RecordError::Signature { why: Unverified::BadSignature { .. }, .. }), "{refused}");
        }
    }

    #[test]
    fn the_signature_is_checked_before_the_payload_is_parsed() {
        let envelope = Envelope { payload_b64: STANDARD.encode("{ no JSON"), sigs: Vec::new() };
        let bytes = serde_json::to_vec(&envelope).unwrap();
        assert_eq!(opened(&Key::Lease, &bytes), Err(RecordError::Unsigned { what: "record" }));
        assert!(matches!(open_as::<Value>("record", &Key::Lease, &bytes, &Trust::default()), Err(RecordError::Malformed { .. })));
    }

    #[test]
    fn while_keys_change_one_good_signature_of_two_is_enough() {
        let key = Key::Current;
        let sigs = |seed| serde_json::from_slice::<Envelope>(&seal_as(&key, &payload(), Some(&signer(seed)))).unwrap();
        let (old, mut both) = (sigs(9), sigs(1));
        both.sigs.splice(0..0, old.sigs.iter().cloned());
        assert!(opened(&key, &serde_json::to_vec(&both).unwrap()).is_ok());
        both.sigs.splice(0..0, std::iter::repeat_n(old.sigs[0].clone(), SIGNATURES_MAX));
        assert!(opened(&key, &serde_json::to_vec(&both).unwrap()).is_err(), "no more than {SIGNATURES_MAX} are looked at");
    }

    proptest! {
        #[test]
        fn no_two_records_share_what_is_signed(a in any::<u64>(), b in any::<u64>(), one in ".{0,20}", other in ".{0,20}") {
            let (left, right) = (Key::Audit(a), Key::Manifest(Version(b)));
            prop_assert_ne!(signed_bytes(&left, one.as_bytes()), signed_bytes(&right, other.as_bytes()));
            if one != other {
                prop_assert_ne!(signed_bytes(&left, one.as_bytes()), signed_bytes(&left, other.as_bytes()));
            }
        }

        #[test]
        fn a_record_with_any_byte_changed_opens_as_it_was_or_not_at_all(at in any::<prop::sample::Index>(), mask in 1u8..) {
            let key = Key::Lease;
            let mut bytes = seal_as(&key, &payload(), Some(&signer(1)));
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
            if let Ok(found) = opened(&key, &bytes) {
                prop_assert_eq!(found, (payload(), Some(Role::Trainer)));
            }
        }
    }
}
