use std::path::{Path, PathBuf};

use super::Role;

/// What is wrong with a key or its file. No variant holds anything of a private key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file operation failed.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No key can be made.
    #[error("the operating system gives no random bytes: {0}")]
    Random(String),
    /// Others may read a private key.
    #[error("private key {path} has mode {mode:04o}: others may read it; `chmod 600` it, and make a new one if they may have")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not a key file.
    #[error("{path} is no {expected}: {why}; `rocketctl keys generate` makes one")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// The parser's words.
        why: String,
    },
    /// Not a list of trusted keys.
    #[error("trusted keys {path}: {why}; a line is \"PUBLIC KEY\" = \"trainer\" or \"operator\", and `rocketctl keys generate` prints it")]
    TrustFile {
        /// Which file.
        path: PathBuf,
        /// Key or line, and why.
        why: String,
    },
    /// Records are verified, so what is written here has to be signed.
    #[error("{trusted} says whose records count, and there is no key to sign as {role} with: set {setting}")]
    NoSigner {
        /// The list.
        trusted: PathBuf,
        /// Whose key is missing.
        role: Role,
        /// Where it is set.
        setting: &'static str,
    },
    /// The own key is not among the trusted ones.
    #[error("key {id} of {path} is not trusted as {role} in {trusted}, so what it signs would be refused; {found}")]
    NotTrusted {
        /// The own key's name.
        id: String,
        /// Its file.
        path: PathBuf,
        /// What it has to be trusted as.
        role: Role,
        /// The list.
        trusted: PathBuf,
        /// What the list says, and the way out.
        found: String,
    },
}

impl KeyError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> KeyError {
        let path = path.to_owned();
        move |source| KeyError::Io { doing, path, source }
    }
}
