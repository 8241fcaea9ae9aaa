use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{SECRET_KEY_LENGTH, Signer as _, SigningKey};

use super::{KeyError, PublicKey, id_of};

/// Far above any ed25519 key in PEM.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Permissions of everybody but the owner.
const OTHERS: u32 = 0o077;

/// A private key that signs. Its memory is zeroed when it is dropped.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
    id: String,
}

impl Signer {
    /// The key of these random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; SECRET_KEY_LENGTH]) -> Self {
        Signer::new(SigningKey::from_bytes(seed))
    }

    /// A new key, from the operating system's random bytes.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    #[cfg(feature = "trainer")]
    pub fn generate() -> Result<Self, KeyError> {
        use rand::TryRngCore as _;
        let mut seed = [0; SECRET_KEY_LENGTH];
        rand::rngs::OsRng.try_fill_bytes(&mut seed).map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(Signer::from_seed(&seed))
    }

    fn new(key: SigningKey) -> Self {
        let id = id_of(&key.verifying_key());
        Signer { key, id }
    }

    /// Reads a PKCS#8 PEM file that nobody but its owner may read.
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::Exposed`], [`KeyError::Unreadable`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = File::open(path).map_err(KeyError::io("opening the private key", path))?;
        let metadata = file.metadata().map_err(KeyError::io("reading the private key", path))?;
        // Of the open file, so that it cannot be another one by the time it is read.
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut pem = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut pem).map_err(KeyError::io("reading the private key", path))?;
        let key = SigningKey::from_pkcs8_pem(&pem).map_err(|error| KeyError::Unreadable {
            path: path.to_owned(),
            expected: "ed25519 private key (PKCS#8 PEM)",
            why: error.to_string(),
        })?;
        Ok(Signer::new(key))
    }

    /// Writes a PKCS#8 PEM file, mode 0600, durably. Never over a file that is there.
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        let pem = self.key.to_pkcs8_pem(LineEnding::LF).map_err(|error| KeyError::Unreadable {
            path: path.to_owned(),
            expected: "key that can be encoded",
            why: error.to_string(),
        })?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(KeyError::io("writing the private key", path))
    }

    /// The name of the public key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What others verify with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::from(self.key.verifying_key())
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; ed25519_dalek::SIGNATURE_LENGTH] {
        self.key.sign(message).to_bytes()
    }
}

/// Only the name: this ends up in logs.
impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_written_is_read_back_and_nobody_else_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trainer.pem");
        let signer = Signer::from_seed(&[7; 32]);
        signer.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Signer::load(&path).unwrap();
        assert_eq!((read.id(), read.sign(b"m")), (signer.id(), signer.sign(b"m")));

        let again = Signer::from_seed(&[8; 32]).save(&path).unwrap_err().to_string();
        assert!(again.contains("trainer.pem"), "{again}");
        assert_eq!(Signer::load(&path).unwrap().id(), signer.id(), "what is there is never overwritten");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trainer.pem");
        Signer::from_seed(&[7; 32]).save(&path).unwrap();
        for mode in [0o640, 0o604, 0o601, 0o660] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Signer::load(&path).unwrap_err();
            assert!(matches!(error, KeyError::Exposed { .. }) && error.to_string().contains("chmod 600"), "{mode:o}: {error}");
        }
    }

    #[test]
    fn what_is_no_private_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.pem");
        assert!(Signer::load(&path).unwrap_err().to_string().contains("k.pem"));
        std::fs::write(&path, "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Signer::load(&path).unwrap_err().to_string().contains("PKCS#8 PEM"));
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let signer = Signer::from_seed(&[7; 32]);
        let shown = format!("{signer:?}");
        assert!(shown.contains(signer.id()) && !shown.contains("7, 7") && !shown.contains("0707"), "{shown}");
    }
}
