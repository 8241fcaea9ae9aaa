//! Who may sign what on the snapshot topic: ed25519 keys, the files they lie in, and the list of those that are trusted.
//!
//! A private key is a PKCS#8 PEM file that only its owner may read, as `openssl genpkey -algorithm ed25519` makes it. The trusted public
//! keys are a TOML file that trainer, scorers and `rocketctl` share, one line per key and any number of keys per role, so that a new key is
//! trusted before the old one goes:
//!
//! ```toml
//! # Public key (base64 of the SPKI: the middle line of what `openssl pkey -pubout` prints) = who signs with it.
//! "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" = "trainer"
//! "MCowBQYDK2VwAyEAPUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=" = "operator"
//! ```

mod error;
mod keyring;
mod role;
mod signer;
mod trust;

pub use error::KeyError;
pub use keyring::Keyring;
pub use role::Role;
pub use signer::Signer;
pub use trust::{PublicKey, Trust, Unverified};

/// Bytes of blake3 of a public key that name it: enough to tell a company's keys apart; a signature is checked with the whole key.
const ID_BYTES: usize = 8;

/// The name of a public key: the first bytes of its blake3, hex.
fn id_of(key: &ed25519_dalek::VerifyingKey) -> String {
    let hash = blake3::hash(key.as_bytes()).to_hex();
    hash[..2 * ID_BYTES].to_owned()
}
