//! What a workload's stream looks like to the thread that ingests.

use crate::config::{EventFormat, JoinConfig, SchemaConfig, StreamMode};
use crate::domain::{Event, Origin, PartitionIndex, Record, Role, Sample};
use crate::join::{JoinOutput, Joiner};
use crate::wire::{Decoded, EventDecoder};

/// Labelled events as they are read, one after the other from one partition.
pub(super) fn records(payloads: impl IntoIterator<Item = Vec<u8>>) -> impl Iterator<Item = Record> {
    (0..).zip(payloads).map(|(offset, payload)| Record {
        origin: Origin { partition: PartitionIndex(0), offset },
        role: Role::Labelled,
        key: None,
        payload: Some(payload),
        timestamp_ms: None,
    })
}

/// Decodes and joins labelled events.
pub(super) struct Stages {
    decoder: EventDecoder,
    joiner: Joiner,
}

impl Stages {
    pub(super) fn new(schema: &SchemaConfig, format: EventFormat) -> Self {
        let joiner = Joiner::new(StreamMode::Labelled, &JoinConfig::default(), 1, []);
        Stages { decoder: EventDecoder::new(schema).reading(format), joiner }
    }

    pub(super) fn decode(&self, record: &Record) -> Event {
        match self.decoder.decode(record) {
            Ok(Decoded::Event(event)) => event,
            other => unreachable!("the workload's events are good ones: {other:?}"),
        }
    }

    pub(super) fn join(&mut self, event: Event, joined: &mut Vec<JoinOutput>) {
        self.joiner.push(event, 0, joined);
    }

    /// The samples that these are made to.
    pub(super) fn samples(mut self, records: impl Iterator<Item = Record>) -> impl Iterator<Item = Sample> {
        let mut joined = Vec::new();
        records.flat_map(move |record| {
            let event = self.decode(&record);
            self.join(event, &mut joined);
            // A labelled event is one sample, at once.
            joined.pop().and_then(sample)
        })
    }
}

/// `None` for what ended in the join.
pub(super) fn sample(output: JoinOutput) -> Option<Sample> {
    if let JoinOutput::Sample(sample) = output { Some(sample) } else { None }
}
