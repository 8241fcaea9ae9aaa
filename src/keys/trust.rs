use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};

use super::{KeyError, Role, id_of};

/// Thousands of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A key to verify with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    id: String,
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        PublicKey { id: id_of(&key), key }
    }
}

impl PublicKey {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As trust files have it: base64 of the SPKI.
    ///
    /// # Panics
    /// Never: 32 bytes under a fixed header encode.
    #[must_use]
    pub fn text(&self) -> String {
        STANDARD.encode(self.key.to_public_key_der().expect("32 bytes under a fixed header encode").as_bytes())
    }

    /// Its line of a trust file.
    #[must_use]
    pub fn trusted_as(&self, role: Role) -> String {
        format!("\"{}\" = \"{role}\"", self.text())
    }

    /// The inverse of [`PublicKey::text`].
    ///
    /// # Errors
    /// Why not, for people.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let der = STANDARD.decode(text).map_err(|error| error.to_string())?;
        PublicKey::checked(VerifyingKey::from_public_key_der(&der).map_err(|error| error.to_string())?)
    }

    /// Reads the public key out of a PEM file: what `openssl pkey -pubout` writes, or a private key.
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::Unreadable`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let mut pem = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut pem))
            .map_err(KeyError::io("reading the key", path))?;
        let key = match SigningKey::from_pkcs8_pem(&pem) {
            Ok(private) => Ok(private.verifying_key()),
            Err(_) => VerifyingKey::from_public_key_pem(&pem).map_err(|error| error.to_string()),
        };
        key.and_then(PublicKey::checked).map_err(|why| KeyError::Unreadable { path: path.to_owned(), expected: "ed25519 key (PEM)", why })
    }

    /// Under a key of small order one signature fits many messages.
    fn checked(key: VerifyingKey) -> Result<Self, String> {
        if key.is_weak() { Err("a point of small order, which anybody can sign for".to_owned()) } else { Ok(key.into()) }
    }
}

/// Why no signature of a record counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// By nobody on the list.
    #[error("signed with key {id}, which is not trusted here")]
    UnknownKey {
        /// The name it gives.
        id: String,
    },
    /// Altered, or signed with another key than it says.
    #[error("the signature of key {id} does not fit")]
    BadSignature {
        /// The key's name.
        id: String,
    },
}

/// The public keys whose records count, each with its role. Empty: nothing is verified.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: BTreeMap<String, (PublicKey, Role)>,
}

impl Trust {
    /// These.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (PublicKey, Role)>) -> Self {
        Trust { keys: keys.into_iter().map(|(key, role)| (key.id.clone(), (key, role))).collect() }
    }

    /// Reads a list; one that trusts nobody is an error, since it would refuse every record.
    ///
    /// # Errors
    /// [`KeyError::Io`], [`KeyError::TrustFile`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
            .map_err(KeyError::io("reading the trusted keys", path))?;
        Trust::parse(&text).map_err(|why| KeyError::TrustFile { path: path.to_owned(), why })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines: BTreeMap<String, Role> = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let keys = lines.into_iter().map(|(key, role)| match PublicKey::from_text(&key) {
            Ok(key) => Ok((key, role)),
            Err(why) => Err(format!("\"{key}\" is no public key: {why}")),
        });
        let trust = Trust::new(keys.collect::<Result<Vec<_>, String>>()?);
        if trust.is_empty() { Err("no key in it: every record would be refused".to_owned()) } else { Ok(trust) }
    }

    /// Nothing is verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The role of the key of this name.
    #[must_use]
    pub fn role(&self, id: &str) -> Option<Role> {
        self.keys.get(id).map(|(_, role)| *role)
    }

    /// How many keys have this role.
    #[must_use]
    pub fn count(&self, role: Role) -> usize {
        self.keys.values().filter(|(_, held)| *held == role).count()
    }

    /// Checks one signature; the role of its key.
    ///
    /// # Errors
    /// [`Unverified`].
    pub fn verify(&self, id: &str, message: &[u8], signature: &[u8]) -> Result<Role, Unverified> {
        let (key, role) = self.keys.get(id).ok_or_else(|| Unverified::UnknownKey { id: id.to_owned() })?;
        let signature = Signature::from_slice(signature);
        match signature.and_then(|signature| key.key.verify_strict(message, &signature)) {
            Ok(()) => Ok(*role),
            Err(_) => Err(Unverified::BadSignature { id: id.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Signer;
    use super::*;

    fn line(seed: u8, role: &str) -> String {
        format!("\"{}\" = \"{role}\"\n", Signer::from_seed(&[seed; 32]).public().text())
    }

    #[test]
    fn several_keys_per_role_are_trusted_at_once() {
        let text = format!("# ours\n{}{}{}", line(1, "trainer"), line(2, "trainer"), line(3, "operator"));
        let trust = Trust::parse(&text).unwrap();
        assert_eq!((trust.count(Role::Trainer), trust.count(Role::Operator)), (2, 1));
        for (seed, role) in [(1, Role::Trainer), (2, Role::Trainer), (3, Role::Operator)] {
            let signer = Signer::from_seed(&[seed; 32]);
            assert_eq!(trust.verify(signer.id(), b"m", &signer.sign(b"m")), Ok(role));
            assert_eq!(trust.role(signer.id()), Some(role));
        }
    }

    #[test]
    fn another_key_another_message_and_another_length_do_not_verify() {
        let (known, stranger) = (Signer::from_seed(&[1; 32]), Signer::from_seed(&[9; 32]));
        let trust = Trust::parse(&line(1, "trainer")).unwrap();
        let bad = Err(Unverified::BadSignature { id: known.id().to_owned() });
        assert_eq!(trust.verify(known.id(), b"m", &stranger.sign(b"m")), bad);
        assert_eq!(trust.verify(known.id(), b"other", &known.sign(b"m")), bad);
        assert_eq!(trust.verify(known.id(), b"m", &known.sign(b"m")[..63]), bad);
        assert!(matches!(trust.verify(stranger.id(), b"m", &stranger.sign(b"m")), Err(Unverified::UnknownKey { .. })));
        assert!(Trust::default().verify(known.id(), b"m", &known.sign(b"m")).is_err(), "an empty list trusts nobody");
    }

    #[test]
    fn a_list_that_cannot_be_says_where_and_how_a_line_looks() {
        let one = line(1, "trainer");
        for (text, named) in [
            (String::new(), "no key in it"),
            (line(1, "boss"), "boss"),
            (one.replace("MCow", "MCox"), "MCox"),
            (format!("{one}{one}"), "duplicate key"),
            // The neutral point, under the header of an ed25519 key.
            ("\"MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\" = \"trainer\"".to_owned(), "small order"),
        ] {
            let why = Trust::parse(&text).unwrap_err();
            assert!(why.contains(named), "{text}: {why}");
        }
        let missing = Trust::load(Path::new("/nowhere/trusted.toml")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/trusted.toml"), "{missing}");
    }

    #[test]
    fn the_example_of_this_rooms_page_is_a_list() {
        let page = include_str!("mod.rs");
        let lines: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("//! \"")).collect();
        let text: String = lines.iter().map(|line| format!("\"{line}\n")).collect();
        assert_eq!(Trust::parse(&text).unwrap().count(Role::Operator), 1);
    }
}
