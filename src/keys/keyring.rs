use std::path::Path;

use super::{KeyError, Role, Signer, Trust};

/// The own key and the trusted ones, as one program has them.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    /// Signs what is written; none: it goes out unsigned.
    pub signer: Option<Signer>,
    /// Whose records count; empty: everybody's.
    pub trust: Trust,
}

impl Keyring {
    /// Reads both files; an empty path stands for none. A key of its own without a list is right too: records are signed before readers begin
    /// to ask for it.
    ///
    /// # Errors
    /// [`KeyError`], also where the list is there and the own key is not on it as `role`.
    pub fn load(trusted: &Path, private: &Path, role: Role) -> Result<Self, KeyError> {
        let keyring = Keyring {
            signer: if is_given(private) { Some(Signer::load(private)?) } else { None },
            trust: if is_given(trusted) { Trust::load(trusted)? } else { Trust::default() },
        };
        if let Some(signer) = keyring.signer.as_ref().filter(|_| !keyring.trust.is_empty()) {
            let held = keyring.trust.role(signer.id());
            if held != Some(role) {
                let found = match held {
                    Some(other) => format!("it is trusted as {other}"),
                    None => format!("add the line {}", signer.public().trusted_as(role)),
                };
                let (path, trusted) = (private.to_owned(), trusted.to_owned());
                return Err(KeyError::NotTrusted { id: signer.id().to_owned(), path, role, trusted, found });
            }
        }
        Ok(keyring)
    }

    /// What a writer needs: where records are verified, its own have to be signed.
    ///
    /// # Errors
    /// [`KeyError::NoSigner`]; `setting` says where the key is set.
    pub fn can_write(&self, trusted: &Path, role: Role, setting: &'static str) -> Result<(), KeyError> {
        if self.signer.is_none() && !self.trust.is_empty() {
            return Err(KeyError::NoSigner { trusted: trusted.to_owned(), role, setting });
        }
        Ok(())
    }
}

fn is_given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_key_has_to_be_trusted_in_its_role() {
        let dir = tempfile::tempdir().unwrap();
        let (private, trusted) = (dir.path().join("k.pem"), dir.path().join("trusted.toml"));
        let signer = Signer::from_seed(&[1; 32]);
        signer.save(&private).unwrap();
        let trust = |signer: &Signer, role: Role| std::fs::write(&trusted, signer.public().trusted_as(role)).unwrap();
        let none = Path::new("");

        trust(&signer, Role::Trainer);
        let keyring = Keyring::load(&trusted, &private, Role::Trainer).unwrap();
        assert!(keyring.can_write(&trusted, Role::Trainer, "keys.trainer").is_ok());
        let error = Keyring::load(&trusted, &private, Role::Operator).unwrap_err().to_string();
        assert!(error.contains("not trusted as operator") && error.contains("trusted as trainer"), "{error}");

        trust(&Signer::from_seed(&[2; 32]), Role::Trainer);
        let error = Keyring::load(&trusted, &private, Role::Trainer).unwrap_err().to_string();
        assert!(error.contains("add the line") && error.contains(&signer.public().text()), "{error}");

        let reader = Keyring::load(&trusted, none, Role::Trainer).unwrap();
        let error = reader.can_write(&trusted, Role::Trainer, "keys.trainer").unwrap_err().to_string();
        assert!(error.contains("keys.trainer"), "{error}");
        for unverified in [Keyring::load(none, &private, Role::Trainer).unwrap(), Keyring::load(none, none, Role::Trainer).unwrap()] {
            assert!(unverified.trust.is_empty() && unverified.can_write(none, Role::Trainer, "keys.trainer").is_ok());
        }
    }
}
