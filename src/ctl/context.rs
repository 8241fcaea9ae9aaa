//! What every command works with: configuration, output format, who acts, and the ways to daemon and topic.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::arguments::GlobalArgs;
use super::output::Format;
use crate::config::{self, Config, LogConfig};
use crate::daemon::Failure;
use crate::keys::{Keyring, Role, Trust};
use crate::publish::{Operator, ReportTopic};
use crate::serving::Objects;
use crate::stream::{KafkaLogReader, KafkaLogWriter};
use crate::telemetry::admin::{self, Answer, Request};
use crate::telemetry::init_logs;

/// What the rooms below have to say to an operator. Not the Kafka client: what matters of it is in the errors.
const LOG_FILTER: &str = "warn,librdkafka=off,rdkafka=off";
/// Where Linux says what the host is called.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// What every command works with.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) format: Format,
    pub(super) actor: String,
    objects: Objects,
}

impl Context {
    /// Loads the configuration and starts logging.
    pub(super) fn new(global: GlobalArgs, environment: Vec<(String, String)>) -> Result<Self, Failure> {
        let path = global.config.ok_or_else(|| {
            Failure::usage("no configuration; name the daemon's file with --config FILE or in the environment variable ROCKET_CONFIG")
        })?;
        let actor = global.actor.unwrap_or_else(|| default_actor(&environment));
        let objects = environment.clone();
        let config = config::load(&path, environment.into_iter())?;
        let objects = Objects::open(&config.publish.claim_check, objects)?;
        init_logs(&LogConfig { filter: LOG_FILTER.to_owned(), format: config.log.format })?;
        Ok(Context { config, format: global.output, actor, objects })
    }

    /// Connects to the snapshot topic and reads it to its end, to look only.
    pub(super) fn reader(&self) -> Result<Operator, Failure> {
        self.connect(Keyring { signer: None, trust: self.trust()? })
    }

    /// As [`Context::reader`], to write: with the operator's key, `given` or the configuration's.
    pub(super) fn operator(&self, given: Option<PathBuf>) -> Result<Operator, Failure> {
        let trusted = &self.config.keys.trusted;
        let private = given.unwrap_or_else(|| self.config.keys.operator.clone());
        let keys = Keyring::load(trusted, &private, Role::Operator)?;
        keys.can_write(trusted, Role::Operator, "--key, ROCKET_KEY or keys.operator to its file")?;
        self.connect(keys)
    }

    /// The configuration's trusted keys.
    pub(super) fn trust(&self) -> Result<Trust, Failure> {
        Ok(Keyring::load(&self.config.keys.trusted, Path::new(""), Role::Operator)?.trust)
    }

    fn connect(&self, keys: Keyring) -> Result<Operator, Failure> {
        let topic = self.config.snapshots_topic();
        let reader = KafkaLogReader::open(&self.config.kafka, &topic)?;
        let writer = KafkaLogWriter::open(&self.config.kafka, &topic)?;
        let operator = Operator::open(&self.config.name, &self.actor, keys, Box::new(reader), Box::new(writer))?;
        Ok(operator.fetching_objects(self.objects.clone()))
    }

    /// Connects to the acknowledgement topic.
    pub(super) fn reports(&self) -> Result<ReportTopic, Failure> {
        let reader = KafkaLogReader::open(&self.config.kafka, &self.config.acks_topic())?;
        Ok(ReportTopic::new(&self.config.name, Box::new(reader)))
    }

    /// Asks the running daemon.
    pub(super) fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failure> {
        match admin::ask(&self.config.admin_socket(), request)? {
            Answer::Ok(value) => serde_json::from_value(value).map_err(|error| {
                Failure::failed(format!("the daemon's answer is not understood ({error}); is it of another version than this program?"))
            }),
            Answer::Error(why) => Err(Failure::failed(format!("the daemon refused: {why}"))),
        }
    }
}

/// Now, milliseconds since the epoch.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn default_actor(environment: &[(String, String)]) -> String {
    let user = environment.iter().find(|(name, _)| name == "USER").map_or("unknown", |(_, user)| user);
    let host = std::fs::read_to_string(HOST_NAME_FILE).unwrap_or_default();
    match host.trim() {
        "" => user.to_owned(),
        host => format!("{user}@{host}"),
    }
}
