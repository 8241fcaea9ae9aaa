//! Reading as the plainest consumer does: what the daemon's own reading is measured beside.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, Verdict, judge};
use super::holdings::survey;
use super::settings::{self, Reading};
use super::source::client_error;
use crate::config::Config;
use crate::stream::StreamError;

/// One wait for a record.
const POLL: Duration = Duration::from_millis(50);

/// Reads all that the topics of events hold, by the settings of [`super::KafkaSource`], and looks at none of it. Gives how many events there
/// were, and how long they took.
///
/// # Errors
/// [`StreamError`]; also where no event comes for as long as `kafka.timeout` before the end.
pub fn read_bare(config: &Config) -> Result<(u64, Duration), StreamError> {
    let consumer: BaseConsumer<Context> = settings::consumer(&config.kafka, Reading::Events)?;
    let (mut assignment, mut held) = (TopicPartitionList::new(), 0);
    for holding in survey(&consumer, config, &[])? {
        let (topic, partition) = (&holding.partition.topic, holding.partition.partition);
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(holding.low))
            .map_err(|error| client_error("assigning partitions", &error))?;
        held += u64::try_from(holding.high - holding.low).unwrap_or(0);
    }
    consumer.assign(&assignment).map_err(|error| client_error("assigning partitions", &error))?;
    let begun = Instant::now();
    let (mut read, mut quiet) = (0, None);
    while read < held {
        match consumer.poll(POLL) {
            Some(Ok(_)) => (read, quiet) = (read + 1, None),
            Some(Err(error)) if judge(&error) != Verdict::Passing => return Err(client_error("reading events", &error)),
            Some(Err(_)) | None => {
                let since = quiet.get_or_insert_with(Instant::now);
                if since.elapsed() >= config.kafka.timeout.0 {
                    let why = format!("{read} of {held} events came, and no more for {} s", since.elapsed().as_secs());
                    return Err(StreamError::Unreachable { brokers: config.kafka.brokers.clone(), why });
                }
            }
        }
    }
    Ok((read, begun.elapsed()))
}
