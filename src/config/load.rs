use std::path::{Path, PathBuf};

use super::Config;

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config {path}: {source}; give an existing file with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key or a wrong type. The text names key, line and column.
    #[error("config {path}: {message}")]
    Parse {
        /// The file, or the environment variable.
        path: String,
        /// Line, column, key, what is allowed.
        message: String,
    },
    /// A value that cannot be, or values that contradict each other.
    #[error("config key `{key}` = {value}: {allowed}")]
    Invalid {
        /// Full key.
        key: String,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// Reads `path`, lays `ROCKET__…` environment variables over it, validates.
///
/// # Errors
/// [`ConfigError`] names the key, the value, what is allowed, and for the file line and column.
pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, &path.display().to_string(), environment)
}

/// [`load`] from text; `name` stands for the file in errors.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &str, environment: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let _ = (text, name, environment);
    todo!()
}
