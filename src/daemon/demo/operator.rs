//! The operator's part of the demo: back to an earlier version under load, and forward again.

use std::time::{Duration, Instant};

use super::Stage;
use crate::config::Config;
use crate::daemon::Failure;
use crate::domain::Version;
use crate::keys::{Keyring, Role};
use crate::publish::Operator;
use crate::stream::{KafkaLogReader, KafkaLogWriter};

/// What the rollback showed.
#[derive(Debug, Clone)]
pub(super) struct Drill {
    /// Served before.
    pub(super) from: Version,
    /// Rolled back to.
    pub(super) to: Version,
    /// From the operator's command until the scorer served it.
    pub(super) took: Duration,
    /// Published meanwhile, and not served because of the pin.
    pub(super) held_back: Version,
    /// Served after the pin was lifted.
    pub(super) resumed: Version,
}

/// Rolls back, sees that the scorer follows and that the trainer does not publish over the pin, lifts it, sees that the scorer goes on.
pub(super) fn drill(stage: &Stage) -> Result<Drill, Failure> {
    let from = stage.served().ok_or_else(|| Failure::failed("nothing is served yet"))?;
    let asked = Instant::now();
    let mut operator = open(&stage.config)?;
    let to = earlier(&operator, from)?;
    operator.rollback(to, "the demo goes back", now_ms())?;
    stage.wait("the scorer to follow the rollback", || (stage.served() == Some(to)).then_some(()))?;
    let took = asked.elapsed();

    let published = stage.publish_now()?;
    if published.promoted || stage.served() != Some(to) {
        return Err(Failure::failed(format!("version {} was published over the pin to {to}", published.version)));
    }
    // Opened again: it acts on what it has read, and the trainer has written since.
    open(&stage.config)?.unpin("the demo goes on", now_ms())?;
    let resumed = stage.publish_now()?;
    let resumed_version = resumed.version;
    stage.wait("the scorer to go on after the pin", || stage.served().filter(|&served| served >= resumed_version))?;
    Ok(Drill { from, to, took, held_back: published.version, resumed: resumed_version })
}

fn open(config: &Config) -> Result<Operator, Failure> {
    let topic = config.snapshots_topic();
    let reader = KafkaLogReader::open(&config.kafka, &topic)?;
    let writer = KafkaLogWriter::open(&config.kafka, &topic)?;
    let keys = Keyring::load(&config.keys.trusted, &config.keys.operator, Role::Operator)?;
    Ok(Operator::open(&config.name, "demo", keys, Box::new(reader), Box::new(writer))?)
}

/// The version before `served` that is whole on the topic.
fn earlier(operator: &Operator, served: Version) -> Result<Version, Failure> {
    let catalog = operator.catalog();
    let whole = catalog.manifests().keys().rev().copied().find(|&version| version < served && catalog.chunk_offsets(version).is_some());
    whole.ok_or_else(|| Failure::failed(format!("no version before {served} is whole on the snapshot topic")))
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
