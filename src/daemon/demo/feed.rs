//! The producer, paced by what the pipeline has read, and the end of a stream that has none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::file_traffic::FileTraffic;
use super::ranking::Scored;
use super::traffic::{Message, Offer, Synthetic};
use crate::config::Config;
use crate::daemon::Failure;
use crate::domain::{Books, PartitionPosition, Record, Role, TopicPartition};
use crate::pipeline::Control;
use crate::stream::{KafkaProducer, Polled, Source, StreamError};

/// Events sent but not read: an event has about 250 bytes, and the embedded broker keeps 5 MiB of a partition.
const AHEAD_MAX: u64 = 8_000;
/// A pause of the producer: well below the time in which [`AHEAD_MAX`] events are read.
const PAUSE: Duration = Duration::from_millis(5);

/// Where events come from.
pub(super) enum Traffic {
    /// Generated; the truth is known.
    Synthetic(Box<Synthetic>),
    /// Read from a file.
    File(Box<FileTraffic>),
}

impl Traffic {
    /// Where every event must end, where that is known.
    pub(super) fn expected(&self) -> Option<&Books> {
        match self {
            Traffic::Synthetic(traffic) => Some(traffic.expected()),
            Traffic::File(_) => None,
        }
    }

    /// True probabilities and labels, where they are known.
    pub(super) fn truth(&self) -> &[Scored] {
        match self {
            Traffic::Synthetic(traffic) => traffic.truth(),
            Traffic::File(_) => &[],
        }
    }
}

impl Iterator for Traffic {
    type Item = Result<Message, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Traffic::Synthetic(traffic) => traffic.next().map(Ok),
            Traffic::File(traffic) => traffic.next(),
        }
    }
}

/// How far the producer is, and how far it may be.
#[derive(Debug)]
pub(super) struct FeedProgress {
    events: AtomicU64,
    rows: AtomicU64,
    rate: f64,
    started: Instant,
}

impl FeedProgress {
    /// From now on, `rate` impressions a second.
    pub(super) fn at_most(rate: u64) -> Self {
        FeedProgress { events: AtomicU64::new(0), rows: AtomicU64::new(0), rate: rate as f64, started: Instant::now() }
    }

    /// The next impression's time has come.
    fn is_due(&self) -> bool {
        self.rows() as f64 <= self.rate * self.started.elapsed().as_secs_f64()
    }

    /// Events sent.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Impressions among them, faults left out.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// Sends `traffic` on its own thread, which gives the traffic back when everything is acknowledged. A copy of each impression goes to
/// `offers` as long as somebody has time for it.
pub(super) fn start(
    config: &Config,
    traffic: Traffic,
    control: Control,
    progress: Arc<FeedProgress>,
    offers: Sender<Offer>,
) -> Result<JoinHandle<Result<Traffic, Failure>>, Failure> {
    let producer = KafkaProducer::open(&config.kafka)?;
    let config = config.clone();
    let work = move || feed(&producer, &config, traffic, &control, &progress, &offers);
    std::thread::Builder::new().name("demo-feed".to_owned()).spawn(work).map_err(|e| Failure::failed(format!("starting the producer: {e}")))
}

fn feed(
    producer: &KafkaProducer,
    config: &Config,
    mut traffic: Traffic,
    control: &Control,
    progress: &FeedProgress,
    offers: &Sender<Offer>,
) -> Result<Traffic, Failure> {
    let (events, impressions, clicks) = (config.events_topic(), config.impressions_topic(), config.clicks_topic());
    let mut read = 0;
    for message in &mut traffic {
        let Message { role, key, payload, offer } = message?;
        while progress.events() - read >= AHEAD_MAX {
            read = control.status().read;
            std::thread::sleep(PAUSE);
        }
        let topic = match role {
            Role::Labelled => &events,
            Role::Impression => &impressions,
            Role::Click => &clicks,
        };
        if let Some(offer) = offer {
            while !progress.is_due() {
                std::thread::sleep(PAUSE);
            }
            progress.rows.fetch_add(1, Ordering::Relaxed);
            // Scored before it is sent, so before anything can have learnt from it; dropped when every client is busy.
            let _busy = offers.try_send(offer);
        }
        producer.send(topic, None, Some(key.as_bytes()), payload.as_deref(), None)?;
        progress.events.fetch_add(1, Ordering::Relaxed);
    }
    producer.flush()?;
    Ok(traffic)
}

/// A stream that ends: once the number of records that were sent is known and all of them have been delivered. Lets the pipeline close
/// its windows at once, as at the end of a file, instead of waiting for event time to pass.
pub(super) struct Ending {
    inner: Box<dyn Source>,
    delivered: u64,
    total: Arc<OnceLock<u64>>,
}

impl Ending {
    pub(super) fn new(inner: Box<dyn Source>, total: Arc<OnceLock<u64>>) -> Self {
        Ending { inner, delivered: 0, total }
    }
}

impl Source for Ending {
    fn partitions(&self) -> &[TopicPartition] {
        self.inner.partitions()
    }

    fn starts(&self) -> &[i64] {
        self.inner.starts()
    }

    fn poll(&mut self, into: &mut Vec<Record>, timeout: Duration) -> Result<Polled, StreamError> {
        if self.total.get().is_some_and(|&total| self.delivered >= total) {
            return Ok(Polled::End);
        }
        let before = into.len();
        let polled = self.inner.poll(into, timeout)?;
        self.delivered += (into.len() - before) as u64;
        Ok(polled)
    }

    fn pause(&mut self, paused: bool) -> Result<(), StreamError> {
        self.inner.pause(paused)
    }

    fn commit_advisory(&mut self, positions: &[PartitionPosition]) {
        self.inner.commit_advisory(positions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Origin, PartitionIndex};
    use crate::stream::MemorySource;

    #[test]
    fn a_stream_ends_when_all_that_was_sent_has_come() {
        let partition = TopicPartition { topic: "t".into(), partition: 0 };
        let records = (0..3)
            .map(|offset| Record {
                origin: Origin { partition: PartitionIndex(0), offset },
                role: Role::Labelled,
                key: None,
                payload: None,
                timestamp_ms: None,
            })
            .collect();
        let total = Arc::new(OnceLock::new());
        let mut source = Ending::new(Box::new(MemorySource::new(vec![partition], records, 2, &[])), Arc::clone(&total));
        let mut got = Vec::new();
        assert_eq!(source.poll(&mut got, Duration::ZERO).expect("polls"), Polled::Records);
        total.set(3).expect("set once");
        assert_eq!(source.poll(&mut got, Duration::ZERO).expect("polls"), Polled::Records, "one is still to come");
        assert_eq!(source.poll(&mut got, Duration::ZERO).expect("polls"), Polled::End);
        assert_eq!(got.len(), 3);
    }
}
