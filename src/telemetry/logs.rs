use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// The environment variable that wins over `log.filter`.
const FILTER_VARIABLE: &str = "RUST_LOG";

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
#[error("log.filter = \"{filter}\": {why}")]
pub struct LogError {
    /// As configured.
    pub filter: String,
    /// Why.
    pub why: String,
}

/// Starts tracing-subscriber on standard error; `RUST_LOG` wins over the configured filter. Panics of any thread are logged as errors.
///
/// # Errors
/// [`LogError`] for a filter that does not parse.
pub fn init_logs(config: &LogConfig) -> Result<(), LogError> {
    let from_environment = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let text = from_environment.as_deref().unwrap_or(&config.filter);
    let filter = parse_filter(text)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(coloured());
    let started = match config.format {
        LogFormat::Human => tracing_subscriber::registry().with(filter).with(lines).try_init(),
        LogFormat::Json => tracing_subscriber::registry().with(filter).with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|e| LogError { filter: text.to_owned(), why: e.to_string() })?;
    log_panics();
    Ok(())
}

/// Colours are for a terminal, and for nobody who has set `NO_COLOR` (<https://no-color.org>).
fn coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn parse_filter(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(text).map_err(|e| LogError {
        filter: text.to_owned(),
        why: format!("{e}; write it like \"info\" or \"info,rocket_launching::stream=debug\""),
    })
}

/// A panic reaches the log like any other error, with its thread and place, instead of a bare line that JSON readers cannot parse.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let message = info.payload_as_str().unwrap_or("(no text)");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(thread = thread.name(), place, %backtrace, "panicked: {message}");
        } else {
            tracing::error!(thread = thread.name(), place, "panicked: {message}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_names_the_key_and_the_way_out() {
        let error = parse_filter("info,,=loud=").expect_err("no filter").to_string();
        assert!(error.contains("log.filter"), "{error}");
        assert!(error.contains("write it like"), "{error}");
    }

    #[test]
    fn usual_filters_parse() {
        for text in ["info", "warn,rocket_launching::stream=debug", "off"] {
            assert!(parse_filter(text).is_ok(), "{text}");
        }
    }
}
