use crate::config::LogConfig;

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
#[error("log.filter = \"{filter}\": {why}")]
pub struct LogError {
    /// As configured.
    pub filter: String,
    /// Why.
    pub why: String,
}

/// Starts tracing-subscriber on standard error; `RUST_LOG` wins over the configured filter.
///
/// # Errors
/// [`LogError`] for a filter that does not parse.
pub fn init_logs(config: &LogConfig) -> Result<(), LogError> {
    let _ = config;
    todo!()
}
