//! The one place for client settings: what this program relies on is fixed, the rest is a default that `kafka.properties` may override.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::context::Context;
use crate::config::{KafkaConfig, OWNED_KAFKA_PROPERTIES, may_be_secret};
use crate::stream::StreamError;

/// Waiting for a fetch to fill up costs freshness: at the client's default of 500 ms the median from sending to reading was above 100 ms.
const EVENTS_FETCH_WAIT_MS: &str = "10";
/// How long fetching rests once the queue below was full. At the client's default of a second, a fast reader would starve.
const EVENTS_QUEUE_REST_MS: &str = "20";
/// Snapshots come once a minute and there are many servers: ten requests a second each leave the broker alone.
const LOG_FETCH_WAIT_MS: &str = "100";
/// Fetched but not yet polled events, KiB. Bounds memory while the trainer is behind; a second's worth at 100,000 events of 300 bytes.
const EVENTS_QUEUED_KBYTES: &str = "32768";
/// Fetched but not yet polled log records, KiB: a few chunks.
const LOG_QUEUED_KBYTES: &str = "4096";
/// Bytes asked of a log's partition at once: one record of the largest size, so that a re-read of one chunk does not fetch its neighbours.
const LOG_FETCH_BYTES: &str = "1048576";
/// Sent but not yet acknowledged records, KiB; a full queue makes the sender wait.
const PRODUCER_QUEUED_KBYTES: &str = "65536";
/// Largest record the client lets through. Far above any topic's own limit, which is the one that decides.
const PRODUCER_RECORD_BYTES: &str = "16777216";
/// A failed send is retried while this many requests could have timed out.
const DELIVERY_ATTEMPTS: u32 = 3;
/// Longest wait before a client connects again: at its default of ten seconds, that is how long a broker may be back unnoticed.
const RECONNECT_MS: &str = "2000";
/// Below this librdkafka takes slow answers for lost ones.
const SOCKET_TIMEOUT_MIN: Duration = Duration::from_secs(2);

/// What a consumer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Many small records, as soon as they are there.
    Events,
    /// A log from end to end; its end is told.
    Log,
}

/// A consumer that commits nothing by itself, stops at a lost position, checks CRCs and sees committed records only.
///
/// `group.id` is never joined: partitions are assigned by us, and the group only names advisory commits.
///
/// # Errors
/// [`StreamError::Setting`] for a refused or unknown property, [`StreamError::Client`].
pub(super) fn consumer<T: FromClientConfigAndContext<Context>>(kafka: &KafkaConfig, reading: Reading) -> Result<T, StreamError> {
    let mut config = common(kafka);
    match reading {
        Reading::Events => {
            config
                .set("fetch.wait.max.ms", EVENTS_FETCH_WAIT_MS)
                .set("fetch.queue.backoff.ms", EVENTS_QUEUE_REST_MS)
                .set("queued.max.messages.kbytes", EVENTS_QUEUED_KBYTES);
        }
        Reading::Log => {
            config
                .set("fetch.wait.max.ms", LOG_FETCH_WAIT_MS)
                .set("queued.max.messages.kbytes", LOG_QUEUED_KBYTES)
                .set("fetch.message.max.bytes", LOG_FETCH_BYTES);
        }
    }
    overlay(&mut config, kafka)?;
    config
        .set("group.id", &kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("isolation.level", "read_committed")
        .set("allow.auto.create.topics", "false")
        .set("enable.partition.eof", if reading == Reading::Log { "true" } else { "false" });
    create(&config, Context::default())
}

/// A producer whose records are acknowledged by all in-sync replicas, in order and once.
///
/// # Errors
/// As [`consumer`].
pub(super) fn producer<C: rdkafka::ClientContext, T: FromClientConfigAndContext<C>>(
    kafka: &KafkaConfig,
    context: C,
) -> Result<T, StreamError> {
    let mut config = common(kafka);
    config.set("message.max.bytes", PRODUCER_RECORD_BYTES).set("queue.buffering.max.kbytes", PRODUCER_QUEUED_KBYTES);
    overlay(&mut config, kafka)?;
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("request.timeout.ms", millis(kafka.timeout.0))
        .set("message.timeout.ms", millis(delivery_timeout(kafka)));
    create(&config, context)
}

/// A client for topic administration.
///
/// # Errors
/// As [`consumer`].
pub(super) fn admin<T: FromClientConfigAndContext<Context>>(kafka: &KafkaConfig) -> Result<T, StreamError> {
    let mut config = common(kafka);
    overlay(&mut config, kafka)?;
    create(&config, Context::default())
}

/// Until a sent record is acknowledged or has failed.
pub(super) fn delivery_timeout(kafka: &KafkaConfig) -> Duration {
    kafka.timeout.0.max(Duration::from_millis(1)) * DELIVERY_ATTEMPTS
}

fn common(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = ClientConfig::new();
    let level = if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info };
    config
        .set_log_level(level)
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "rocket-launching")
        .set("reconnect.backoff.max.ms", RECONNECT_MS)
        .set("socket.timeout.ms", millis(kafka.timeout.0.max(SOCKET_TIMEOUT_MIN)));
    config
}

fn overlay(config: &mut ClientConfig, kafka: &KafkaConfig) -> Result<(), StreamError> {
    for (key, value) in &kafka.properties {
        if let Some((_, why)) = OWNED_KAFKA_PROPERTIES.iter().find(|(refused, _)| refused == key) {
            return Err(StreamError::Setting { key: key.clone(), why: (*why).to_owned() });
        }
        config.set(key, value);
    }
    Ok(())
}

fn create<C: rdkafka::ClientContext, T: FromClientConfigAndContext<C>>(config: &ClientConfig, context: C) -> Result<T, StreamError> {
    config.create_with_context(context).map_err(|error| match error {
        // librdkafka's words may hold the value too.
        KafkaError::ClientConfig(_, _, key, _) if may_be_secret(&key) => {
            StreamError::Setting { key, why: "not a setting of this build of librdkafka, or not a value it takes (not shown)".to_owned() }
        }
        KafkaError::ClientConfig(_, why, key, value) => StreamError::Setting { key, why: format!("{why} (value `{value}`)") },
        other => StreamError::Client { doing: "creating the client", why: other.to_string() },
    })
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use super::*;

    fn with(key: &str, value: &str) -> KafkaConfig {
        KafkaConfig { properties: [(key.to_owned(), value.to_owned())].into(), ..KafkaConfig::default() }
    }

    fn open(kafka: &KafkaConfig) -> Result<BaseConsumer<Context>, StreamError> {
        consumer(kafka, Reading::Events)
    }

    #[test]
    fn a_setting_we_rely_on_is_refused_with_its_reason() {
        for (refused, reason) in OWNED_KAFKA_PROPERTIES {
            match open(&with(refused, "1")) {
                Err(StreamError::Setting { key, why }) => assert_eq!((key.as_str(), why.as_str()), (*refused, *reason)),
                _ => panic!("{refused} was accepted"),
            }
        }
    }

    #[test]
    fn an_unknown_setting_and_a_wrong_value_name_their_key() {
        for (key, value) in [("no.such.setting", "1"), ("fetch.wait.max.ms", "soon")] {
            match open(&with(key, value)) {
                Err(StreamError::Setting { key: named, .. }) => assert_eq!(named, key),
                _ => panic!("{key} = {value} was accepted"),
            }
        }
    }

    #[test]
    fn a_secret_is_not_in_the_error_about_it() {
        for key in ["no.such.password", "ssl.key.pem"] {
            let shown = open(&with(key, "hunter2")).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let refused = open(&with("no.such.password", "hunter2")).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|refused| refused.contains("no.such.password")));
    }

    #[test]
    fn a_default_can_be_overridden() {
        assert!(open(&with("fetch.wait.max.ms", "250")).is_ok());
        assert!(open(&with("debug", "cgrp")).is_ok());
    }
}
