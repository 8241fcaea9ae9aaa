//! Why a command did not do what was asked, and the exit code that says so.

use std::fmt;

use crate::config::ConfigError;

/// Exit code of a failure.
const FAILED: u8 = 1;
/// Exit code of a command line that cannot be (`EX_USAGE`).
pub(super) const USAGE: u8 = 64;
/// Exit code of a configuration that cannot be (`EX_CONFIG`).
const CONFIG: u8 = 78;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line.
    Usage(String),
    /// The configuration.
    Config(ConfigError),
    /// Everything else.
    Failed(anyhow::Error),
}

impl Failure {
    /// A failure in words.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Failure::Failed(anyhow::Error::msg(message.into()))
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::Config(_) => CONFIG,
            Failure::Failed(_) => FAILED,
        }
    }
}

/// One line: the error and its causes.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(message) => f.write_str(message),
            Failure::Config(error) => error.fmt(f),
            Failure::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

/// Typed errors of the rooms below, erased: from here on they are only printed.
impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(anyhow::Error::new(error))
    }
}
