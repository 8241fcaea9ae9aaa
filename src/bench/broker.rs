use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{BenchError, Quantiles, Workload};
use crate::config::{Config, EventFormat};
use crate::pipeline::Intake;
use crate::stream::{KafkaProducer, KafkaSource, MemoryDeadLetters, create_topics, delete_topics, read_bare};
use crate::wire::encode;

/// What a real broker brings, read by the daemon's own threads up to batches (source, decoding, validation, join, hashing), beside a bare
/// consumer that looks at none of it. Both read the same events, in turns; medians count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerBench {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// The stream.
    pub workload: Workload,
    /// What events are written in.
    pub format: EventFormat,
    /// Rows of a batch.
    pub batch: usize,
    /// Events measured at least: the last batch is full.
    pub events: usize,
    /// Partitions of the topic.
    pub partitions: i32,
    /// How often each reads.
    pub rounds: usize,
}

/// What [`BrokerBench::run`] measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BrokerFigures {
    /// What events are written in.
    pub format: EventFormat,
    /// Events measured.
    pub events: usize,
    /// Bytes of an event, on average.
    pub event_bytes: f64,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Rows of a batch.
    pub batch: usize,
    /// How often each has read.
    pub rounds: usize,
    /// Events per second from the broker to batches.
    pub events_per_s: f64,
    /// Likewise of the bare consumer.
    pub bare_events_per_s: f64,
    /// The former over the latter.
    pub ratio: f64,
}

impl BrokerBench {
    /// Measures on topics of its own, which are gone afterwards.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn run(&self) -> Result<BrokerFigures, BenchError> {
        let config = self.config();
        let topics = create_topics(&config, self.partitions, 1)?;
        let measured = self.measure(&config);
        let deleted = delete_topics(&config.kafka, &topics);
        let figures = measured?;
        deleted?;
        Ok(figures)
    }

    /// Under a name that nobody else has.
    fn config(&self) -> Config {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("rocket-bench-{}-{}", since.as_millis(), std::process::id());
        let mut config = Config::new(&name, self.workload.schema());
        config.kafka.brokers.clone_from(&self.brokers);
        config.topics.format = self.format;
        config.train.batch_rows = self.batch;
        config
    }

    fn measure(&self, config: &Config) -> Result<BrokerFigures, BenchError> {
        let events = self.events.max(1).next_multiple_of(self.batch);
        let bytes = self.produce(config, events)?;
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for round in 0..self.rounds.max(1) {
            // Who reads first finds the broker colder.
            if round % 2 == 0 {
                bare.push(read_bare(config)?.1);
            }
            ours.push(take_in(config, events)?);
            if round % 2 == 1 {
                bare.push(read_bare(config)?.1);
            }
        }
        let rate = |spent: Vec<Duration>| events as f64 * 1e3 / Quantiles::of_ms(spent).p50;
        let (events_per_s, bare_events_per_s) = (rate(ours), rate(bare));
        Ok(BrokerFigures {
            format: self.format,
            events,
            event_bytes: bytes as f64 / events as f64,
            partitions: self.partitions,
            batch: self.batch,
            rounds: self.rounds.max(1),
            events_per_s,
            bare_events_per_s,
            ratio: events_per_s / bare_events_per_s,
        })
    }

    /// Sends the events, each user's to one partition; gives how many bytes they are.
    fn produce(&self, config: &Config, events: usize) -> Result<usize, BenchError> {
        let (producer, topic) = (KafkaProducer::open(&config.kafka)?, config.events_topic());
        let mut bytes = 0;
        for event in self.workload.events().take(events) {
            let payload = encode(self.format, &event);
            let user = event.get(&config.schema.user).and_then(serde_json::Value::as_str).map(str::as_bytes);
            producer.send(&topic, None, user, Some(&payload), None)?;
            bytes += payload.len();
        }
        producer.flush()?;
        Ok(bytes)
    }
}

/// How long the daemon's threads take from the broker to as many rows in batches.
fn take_in(config: &Config, events: usize) -> Result<Duration, BenchError> {
    let source = KafkaSource::open(config, &[])?;
    let begun = Instant::now();
    let intake = Intake::start(config, Box::new(source), Box::new(MemoryDeadLetters::default()))?;
    let mut rows = 0;
    while rows < events {
        let Some(batch) = intake.next(config.kafka.timeout.0) else { break };
        rows += batch.rows();
    }
    let spent = begun.elapsed();
    intake.stop()?;
    if rows < events {
        return Err(BenchError::Silent {
            brokers: config.kafka.brokers.clone(),
            read: rows,
            sent: events,
            waited_s: config.kafka.timeout.0.as_secs(),
        });
    }
    Ok(spent)
}
