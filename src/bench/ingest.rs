use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Workload;
use super::feed::{Stages, records, sample};
use crate::batch::{BatchBuilder, Pace};
use crate::config::EventFormat;
use crate::domain::Record;
use crate::features::FeatureSpec;
use crate::join::JoinOutput;
use crate::wire::encode;

/// Of so many events one is timed by stage: the clock takes some 25 ns to read.
const TIMED: usize = 16;

/// From the bytes of labelled events to batches, on one thread: decoding and validation, joining, hashing. Records lie in memory before the
/// clock starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngestBench {
    /// The stream.
    pub workload: Workload,
    /// What events are written in.
    pub format: EventFormat,
    /// Rows of a batch.
    pub batch: usize,
    /// Events measured.
    pub events: usize,
}

/// What [`IngestBench::run`] measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IngestFigures {
    /// What events are written in.
    pub format: EventFormat,
    /// Events measured.
    pub events: usize,
    /// Bytes of an event, on average.
    pub event_bytes: f64,
    /// Features of an event.
    pub features: usize,
    /// Rows of a batch.
    pub batch: usize,
    /// Events per second on one core, everything included.
    pub events_per_s: f64,
    /// Seconds of all that was measured.
    pub seconds: f64,
    /// Nanoseconds per event: decoding and validation ...
    pub decode_ns: f64,
    /// ... joining ...
    pub join_ns: f64,
    /// ... hashing and batches.
    pub hash_ns: f64,
}

impl IngestBench {
    /// Measures.
    #[must_use]
    pub fn run(&self) -> IngestFigures {
        let schema = self.workload.schema();
        let spec = FeatureSpec::new(&schema).expect("the workload's schema is a good one");
        let mut line = Line {
            stages: Stages::new(&schema, self.format),
            builder: BatchBuilder::new(spec, Pace { rows: self.batch, linger_ms: i64::MAX }, 0),
            joined: Vec::new(),
            spent: [Duration::ZERO; 3],
        };
        let mut payloads = self.workload.events().map(|event| encode(self.format, &event));
        // Code and columns are warm before the clock starts.
        let warm: Vec<Vec<u8>> = payloads.by_ref().take(self.batch).collect();
        records(warm).for_each(|record| line.take(&record, None));
        let payloads: Vec<Vec<u8>> = payloads.take(self.events.max(1)).collect();
        let (events, bytes) = (payloads.len(), payloads.iter().map(Vec::len).sum::<usize>());
        let begun = Instant::now();
        for (number, record) in records(payloads).enumerate() {
            line.take(&record, number.is_multiple_of(TIMED).then(Instant::now));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let timed = events.div_ceil(TIMED);
        let [decode_ns, join_ns, hash_ns] = line.spent.map(|spent| spent.as_secs_f64() * 1e9 / timed as f64);
        IngestFigures {
            format: self.format,
            events,
            event_bytes: bytes as f64 / events as f64,
            features: schema.features.len(),
            batch: self.batch,
            events_per_s: events as f64 / seconds,
            seconds,
            decode_ns,
            join_ns,
            hash_ns,
        }
    }
}

/// The stages as the daemon has them on the thread that ingests: one event after the other.
struct Line {
    stages: Stages,
    builder: BatchBuilder,
    /// Reused between events.
    joined: Vec<JoinOutput>,
    /// Decoding, joining, hashing: of the events that were timed.
    spent: [Duration; 3],
}

impl Line {
    /// Brings one event to where batches are trained; times it from `begun` on.
    fn take(&mut self, record: &Record, begun: Option<Instant>) {
        let event = self.stages.decode(record);
        let decoded = begun.map(|_| Instant::now());
        self.stages.join(event, &mut self.joined);
        let joined = begun.map(|_| Instant::now());
        for sample in self.joined.drain(..).filter_map(sample) {
            drop(self.builder.push(sample, 0));
        }
        if let (Some(begun), Some(decoded), Some(joined)) = (begun, decoded, joined) {
            self.spent[0] += decoded - begun;
            self.spent[1] += joined - decoded;
            self.spent[2] += joined.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_300_bytes_goes_through_every_stage() {
        for (format, bytes) in [(EventFormat::Json, 290.0..310.0), (EventFormat::Protobuf, 345.0..370.0)] {
            let figures = IngestBench { workload: Workload::compact(), format, batch: 64, events: 1500 }.run();
            assert_eq!((figures.events, figures.features), (1500, 21));
            assert!(bytes.contains(&figures.event_bytes), "{} bytes", figures.event_bytes);
            assert!(figures.events_per_s > 0.0 && figures.decode_ns > 0.0 && figures.join_ns > 0.0 && figures.hash_ns > 0.0);
        }
    }
}
