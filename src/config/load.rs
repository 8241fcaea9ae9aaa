use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserializer;

use super::place::position;
use super::validate::validate;
use super::{Config, ENVIRONMENT_PREFIX, may_be_secret};

/// Stands between the section and the key in a variable's name.
const SEPARATOR: &str = "__";
/// Its keys are librdkafka's: values are text as they are, and `_` in a variable's name stands for their `.`.
const PROPERTIES: [&str; 2] = ["kafka", "properties"];

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
    #[error("config {at}: `{key}` = {value}: {allowed}")]
    Invalid {
        /// The file with line and column where the key stands in it, or the environment variable that set it.
        at: String,
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
/// `ROCKET__TRAIN__BATCH_ROWS=512` sets `train.batch_rows`. A value is read as TOML where it can be, else as text: `512`, `true`,
/// `[64, 32]`, `10s`. Under `kafka.properties` it is always text, and `_` stands for `.`: `ROCKET__KAFKA__PROPERTIES__SASL_PASSWORD`.
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
    let mut config = read(text).map_err(|message| ConfigError::Parse { path: name.to_owned(), message })?;
    // Sorted, so that which of two errors is reported does not depend on the order of the environment.
    let variables: BTreeMap<String, String> = environment.filter(|(variable, _)| variable.starts_with(ENVIRONMENT_PREFIX)).collect();
    if !variables.is_empty() {
        let mut table: toml::Table =
            toml::from_str(text).map_err(|e| ConfigError::Parse { path: name.to_owned(), message: e.to_string() })?;
        for (variable, value) in &variables {
            config = lay_over(&mut table, &keys_of(variable), value)
                .map_err(|message| ConfigError::Parse { path: format!("environment variable {variable}"), message })?;
        }
    }
    validate(&config).map_err(|fault| {
        let from_environment = variables
            .keys()
            .find(|variable| fault.key == keys_of(variable).join("."))
            .map(|variable| format!("environment variable {variable}"));
        let at = from_environment.unwrap_or_else(|| match position(text, &fault.key) {
            Some((line, column)) => format!("{name} line {line}, column {column}"),
            None => name.to_owned(),
        });
        ConfigError::Invalid { at, key: fault.key, value: fault.value, allowed: fault.allowed }
    })?;
    Ok(config)
}

/// The file alone. The message has line and column.
fn read(text: &str) -> Result<Config, String> {
    let deserializer = toml::Deserializer::parse(text).map_err(|e| shown(text, &e))?;
    typed(deserializer).map_err(|(key, error)| {
        let feature = feature_name(text, &key).map(|feature| format!(" (feature `{feature}`)")).unwrap_or_default();
        // The parser places an error about a whole feature at the first one's header; its name is nearer.
        match position(text, &format!("{key}.name")) {
            Some((line, column)) if key.ends_with(']') => format!("line {line}, column {column}, key `{key}`: {}", error.message()),
            _ if key == "." => shown(text, &error),
            _ => format!("key `{key}`{feature}: {}", shown(text, &error)),
        }
    })
}

/// The parser's words, with the line it points at, unless that may hold a secret.
fn shown(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    if may_be_secret(line) {
        let (number, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        return format!("line {number}, column {column}: expected `\"name\" = \"text\"`; the line may hold a secret and is not shown");
    }
    error.to_string().trim_end().to_owned()
}

fn typed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Config, (String, D::Error)> {
    serde_path_to_error::deserialize(deserializer).map_err(|error| (error.path().to_string(), error.into_inner()))
}

/// The name of the feature that a key like `schema.features[3].std` belongs to.
fn feature_name(text: &str, key: &str) -> Option<String> {
    let (index, _) = key.strip_prefix("schema.features[")?.split_once(']')?;
    let table: toml::Table = toml::from_str(text).ok()?;
    let feature = table.get("schema")?.get("features")?.get(index.parse::<usize>().ok()?)?;
    Some(feature.get("name")?.as_str()?.to_owned())
}

fn keys_of(variable: &str) -> Vec<String> {
    let path = variable.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(variable).to_lowercase();
    let keys: Vec<String> = path.split(SEPARATOR).map(str::to_owned).collect();
    match keys.as_slice() {
        [kafka, properties, property] if [kafka.as_str(), properties.as_str()] == PROPERTIES => {
            vec![kafka.clone(), properties.clone(), property.replace('_', ".")]
        }
        _ => keys,
    }
}

/// Sets one key of `table` from the environment. Text that reads as another TOML value, like a password of digits, is taken as text where
/// only text fits.
fn lay_over(table: &mut toml::Table, keys: &[String], value: &str) -> Result<Config, String> {
    let text = toml::Value::String(value.to_owned());
    let raw = keys.len() > PROPERTIES.len() && keys.iter().zip(PROPERTIES).all(|(key, property)| key == property);
    let parsed = if raw { None } else { value.parse::<toml::Value>().ok() };
    let mut first_error = None;
    for candidate in parsed.into_iter().chain([text]) {
        let mut attempt = table.clone();
        set(&mut attempt, keys, candidate)?;
        match typed(toml::Value::Table(attempt.clone())) {
            Ok(config) => {
                *table = attempt;
                return Ok(config);
            }
            Err((key, _)) if may_be_secret(&key) => {
                first_error.get_or_insert_with(|| format!("key `{key}`: expected text; the value may be a secret and is not shown"));
            }
            Err((key, error)) => {
                first_error.get_or_insert_with(|| format!("key `{key}`: {}", error.message()));
            }
        }
    }
    Err(first_error.unwrap_or_default())
}

fn set(table: &mut toml::Table, keys: &[String], value: toml::Value) -> Result<(), String> {
    match keys {
        [] => Ok(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [section, rest @ ..] => match table.entry(section.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new())) {
            toml::Value::Table(inner) => set(inner, rest, value),
            _ => Err(format!("`{section}` is a key, not a section; nothing can be set below it")),
        },
    }
}
