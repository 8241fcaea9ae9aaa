use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::context::{Context, request_error};
use super::metadata::Topics;
use super::settings;
use super::topics::{configured, snapshot_message_bytes};
use crate::config::{Config, KafkaConfig};
use crate::stream::StreamError;

/// How often to look whether a new topic can be seen.
const SEEN_EVERY: Duration = Duration::from_millis(50);
/// From this many replicas on, an acknowledgement waits for two.
const REPLICAS_FOR_TWO: i32 = 3;
/// Segments roll hourly, so that compaction gets at snapshots of the last hours.
const SNAPSHOT_SEGMENT_MS: &str = "3600000";
/// A server that reads from the beginning sees at least the last ten minutes whole.
const SNAPSHOT_COMPACTION_LAG_MS: &str = "600000";
/// A server that was away for a day still learns what was collected.
const SNAPSHOT_TOMBSTONES_MS: &str = "86400000";
/// Operators get a month to look at a dead letter.
const DEAD_LETTER_RETENTION_MS: &str = "2592000000";
/// An event at Kafka's default limit of 1 MiB, with the error headers.
const DEAD_LETTER_BYTES: &str = "2097152";

/// Creates what is missing (`partitions` for event topics; one for snapshots, reports and dead letters), leaves the rest alone; returns what was
/// created, once every broker asked can see it.
///
/// # Errors
/// [`StreamError::Unreachable`], [`StreamError::Setting`], [`StreamError::Client`] with the broker's reason.
pub fn create_topics(config: &Config, partitions: i32, replication: i32) -> Result<Vec<String>, StreamError> {
    let kafka = &config.kafka;
    let admin: AdminClient<Context> = settings::admin(kafka)?;
    let known = Topics::fetch(admin.inner(), kafka)?;
    let missing: Vec<_> = configured(config).into_iter().filter(|(topic, _)| known.get(topic).is_none()).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let message_bytes = snapshot_message_bytes(config).to_string();
    let insync = if replication >= REPLICAS_FOR_TWO { "2" } else { "1" };
    let wanted: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|(topic, role)| {
            let new =
                |partitions| NewTopic::new(topic, partitions, TopicReplication::Fixed(replication)).set("min.insync.replicas", insync);
            match *role {
                "snapshots" => new(1)
                    .set("cleanup.policy", "compact")
                    .set("max.message.bytes", &message_bytes)
                    .set("segment.ms", SNAPSHOT_SEGMENT_MS)
                    .set("min.compaction.lag.ms", SNAPSHOT_COMPACTION_LAG_MS)
                    .set("delete.retention.ms", SNAPSHOT_TOMBSTONES_MS),
                "acks" => new(1).set("cleanup.policy", "compact").set("segment.ms", SNAPSHOT_SEGMENT_MS),
                "dead_letters" => new(1)
                    .set("cleanup.policy", "delete")
                    .set("retention.ms", DEAD_LETTER_RETENTION_MS)
                    .set("max.message.bytes", DEAD_LETTER_BYTES),
                // Retention goes by the record's time: by arrival, a replayed file of last year is not deleted as it comes in. The event's own
                // time is in its payload.
                _ => new(partitions).set("cleanup.policy", "delete").set("message.timestamp.type", "LogAppendTime"),
            }
        })
        .collect();

    let results =
        block_on(admin.create_topics(&wanted, &options(kafka))).map_err(|error| request_error(kafka, "creating topics", &error))?;
    let mut created = Vec::new();
    for result in results {
        match result {
            Ok(topic) => created.push(topic),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(StreamError::Client { doing: "creating topics", why: format!("{topic}: {code}") }),
        }
    }
    wait_until_seen(&admin, config, &created)?;
    Ok(created)
}

/// Deletes topics with all they hold.
///
/// # Errors
/// [`StreamError::Unreachable`], [`StreamError::Setting`], [`StreamError::Client`] with the broker's reason.
pub fn delete_topics(kafka: &KafkaConfig, topics: &[String]) -> Result<(), StreamError> {
    let admin: AdminClient<Context> = settings::admin(kafka)?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let results =
        block_on(admin.delete_topics(&names, &options(kafka))).map_err(|error| request_error(kafka, "deleting topics", &error))?;
    let refused = results.into_iter().find_map(Result::err);
    refused.map_or(Ok(()), |(topic, code)| Err(StreamError::Client { doing: "deleting topics", why: format!("{topic}: {code}") }))
}

fn options(kafka: &KafkaConfig) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(kafka.timeout.0)).operation_timeout(Some(kafka.timeout.0))
}

/// A broker answers before its peers have heard: whoever opens the topic next must not be told that it is missing.
fn wait_until_seen(admin: &AdminClient<Context>, config: &Config, created: &[String]) -> Result<(), StreamError> {
    let deadline = Instant::now() + config.kafka.timeout.0;
    loop {
        let known = Topics::fetch(admin.inner(), &config.kafka)?;
        match created.iter().try_for_each(|topic| known.require(topic).map(drop)) {
            Ok(()) => return Ok(()),
            Err(missing) if Instant::now() >= deadline => return Err(missing),
            Err(_) => std::thread::sleep(SEEN_EVERY),
        }
    }
}

/// Waits for an admin request on the caller's thread: a runtime's own `block_on` would panic when called from inside one.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut task = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut task) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
