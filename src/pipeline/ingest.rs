//! The thread that decodes, joins and batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::keeper;
use super::letters::Letters;
use super::reader::Chunk;
use super::seen::{Read, Seen};
use super::shared::Shared;
use crate::batch::{Batch, BatchBuilder, Ended, NegativeSampling, News, Produced};
use crate::domain::{DropReason, Mark, Origin, PartitionPosition, Quarantine, Record, TopicPartition};
use crate::join::{JoinOutput, Joiner};
use crate::stream::DeadLetter;
use crate::wire::{Decoded, EventDecoder};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

/// How often idle partitions and lingering batches are looked at.
const TICK: Duration = Duration::from_millis(20);

/// Nobody takes batches any more.
struct Closed;

/// Everything between records and batches.
pub(super) struct Ingest {
    pub(super) partitions: Vec<TopicPartition>,
    /// By partition.
    pub(super) seen: Vec<Seen>,
    pub(super) decoder: EventDecoder,
    /// Skipped for good.
    pub(super) quarantine: Quarantine,
    pub(super) joiner: Joiner,
    pub(super) negatives: NegativeSampling,
    pub(super) builder: BatchBuilder,
    pub(super) letters: Letters,
    pub(super) batches: Sender<Batch>,
    pub(super) shared: Arc<Shared>,
    pub(super) finish_at_end: bool,
    pub(super) started: Instant,
    /// Reused between chunks.
    pub(super) joined: Vec<JoinOutput>,
    /// When the samples of the open batch were complete.
    pub(super) produced: Produced,
}

impl Ingest {
    /// Runs until the reader is gone. A stop leaves what is not yet in a closed batch to be read again after the next start; the end of
    /// a finite source closes every window and batch.
    pub(super) fn run(mut self, chunks: &Receiver<Chunk>) {
        let _closed = self.take(chunks);
    }

    fn take(&mut self, chunks: &Receiver<Chunk>) -> Result<(), Closed> {
        loop {
            match chunks.recv_timeout(TICK) {
                Ok(Chunk::Records { appeared, records }) => {
                    for (partition, start) in appeared {
                        self.appear(partition, start);
                    }
                    self.records(records)?;
                }
                Ok(Chunk::Contradicted(marks)) => {
                    let now_ms = self.now_ms();
                    for (partition, mark) in marks {
                        self.builder.note(News::Contradicted(partition, mark), now_ms);
                    }
                }
                Ok(Chunk::End) if self.finish_at_end => {
                    self.joiner.finish(&mut self.joined);
                    self.hand_on_joined(None)?;
                    return self.flush(true);
                }
                Ok(Chunk::End) | Err(RecvTimeoutError::Disconnected) => return self.flush(false),
                // A linger passes only while nothing comes: on a backlog, batches close by rows alone and so do not depend on the clock.
                Err(RecvTimeoutError::Timeout) => {
                    let now_ms = self.now_ms();
                    self.joiner.tick(now_ms, &mut self.joined);
                    // What leaves here leaves by the clock.
                    self.hand_on_joined(Some(keeper::now_ms()))?;
                    let batch = self.builder.tick(now_ms);
                    self.send(batch)?;
                }
            }
        }
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn appear(&mut self, partition: TopicPartition, start: i64) {
        tracing::info!(%partition, start, "a partition was added; it is read from its beginning");
        self.seen.push(Seen::new(&PartitionPosition::new(partition.clone(), start), []));
        self.joiner.add_partition();
        self.partitions.push(partition.clone());
        let now_ms = self.now_ms();
        self.builder.note(News::Appeared(partition, start), now_ms);
    }

    fn records(&mut self, records: Vec<Record>) -> Result<(), Closed> {
        let now_ms = self.now_ms();
        let (mut letters, mut ended) = (Vec::new(), Vec::new());
        let last_ms = records.last().and_then(|record| record.timestamp_ms);
        for record in records {
            match self.look(&record, now_ms) {
                Read::New => {}
                Read::Old => {
                    self.joiner.saw(record.origin.partition, now_ms);
                    continue;
                }
                Read::Open => {
                    self.reopen(&record, now_ms);
                    self.hand_on_joined(record.timestamp_ms)?;
                    continue;
                }
            }
            self.shared.count_read();
            match self.decoder.decode(&record) {
                Ok(Decoded::Event(event)) if self.quarantine.holds(event.time) => {
                    self.joiner.saw(record.origin.partition, now_ms);
                    self.builder.end(Ended::Dropped(record.origin, DropReason::Quarantined), now_ms);
                }
                Ok(Decoded::Event(event)) => {
                    self.joiner.push(event, now_ms, &mut self.joined);
                    self.hand_on_joined(record.timestamp_ms)?;
                }
                Ok(Decoded::Tombstone) => {
                    self.joiner.saw(record.origin.partition, now_ms);
                    self.builder.end(Ended::Dropped(record.origin, DropReason::Tombstone), now_ms);
                }
                Err(error) => {
                    self.joiner.saw(record.origin.partition, now_ms);
                    let partition = self.partitions[record.origin.partition.0 as usize].clone();
                    let Record { origin, key, payload, .. } = record;
                    letters.push(DeadLetter {
                        partition,
                        offset: origin.offset,
                        key,
                        payload,
                        stage: "decode",
                        class: error.class().to_owned(),
                        message: error.to_string(),
                    });
                    ended.push(Ended::DeadLettered(origin));
                }
            }
        }
        self.joiner.tick(now_ms, &mut self.joined);
        self.hand_on_joined(last_ms)?;
        // A stop in between leaves them to be read again.
        self.letters.bury(&letters).map_err(|_unsent| Closed)?;
        for ended in ended {
            self.builder.end(ended, now_ms);
        }
        Ok(())
    }

    /// What the offset read is; offsets before it that do not exist are booked as missing.
    fn look(&mut self, record: &Record, now_ms: i64) -> Read {
        let partition = record.origin.partition;
        let seen = &mut self.seen[partition.0 as usize];
        if seen.is_marked(record.origin.offset) {
            self.builder.note(News::Read(partition, Mark::of(record)), now_ms);
        }
        let mut missing = Vec::new();
        let read = seen.take(record.origin.offset, &mut missing);
        while let Some(offset) = seen.lost() {
            self.builder.close(Origin { partition, offset }, now_ms);
        }
        for (from, to) in missing {
            self.builder.end(Ended::Missing { partition, from, to }, now_ms);
        }
        read
    }

    /// Gives the join an impression that was trained before this start and whose window is open. One that cannot be read any more, by
    /// another schema, gets no click.
    fn reopen(&mut self, record: &Record, now_ms: i64) {
        if let Ok(Decoded::Event(event)) = self.decoder.decode(record) {
            self.joiner.reopen(event, now_ms, &mut self.joined);
        } else {
            self.joiner.saw(record.origin.partition, now_ms);
            self.builder.close(record.origin, now_ms);
        }
    }

    /// `complete_ms`: when the record was produced that made these samples leave the join; none where records bear no time.
    fn hand_on_joined(&mut self, complete_ms: Option<i64>) -> Result<(), Closed> {
        let now_ms = self.now_ms();
        let mut joined = std::mem::take(&mut self.joined);
        for output in joined.drain(..) {
            match output {
                JoinOutput::Sample(sample) if !self.negatives.keeps(&sample) => {
                    for origin in sample.origins {
                        self.builder.end(Ended::NotSampled(origin, sample.time, sample.impression), now_ms);
                    }
                }
                JoinOutput::Sample(sample) => {
                    if let Some(complete_ms) = complete_ms {
                        self.produced.add(complete_ms);
                    }
                    let batch = self.builder.push(sample, now_ms);
                    self.send(batch)?;
                }
                JoinOutput::Closed(origin) => self.builder.close(origin, now_ms),
                JoinOutput::Dropped(origin, reason) => self.builder.end(Ended::Dropped(origin, reason), now_ms),
            }
        }
        self.joined = joined;
        Ok(())
    }

    /// What is left: all of it, or only the events that have already ended. Windows closed since the last batch close once more after the
    /// next start, in their place among the samples.
    fn flush(&mut self, samples_too: bool) -> Result<(), Closed> {
        let left = self
            .builder
            .flush()
            .map(|batch| if samples_too { batch } else { Batch { news: batch.news, ended: batch.ended, ..Batch::default() } });
        self.send(left.filter(|batch| !batch.is_empty()))
    }

    fn send(&mut self, batch: Option<Batch>) -> Result<(), Closed> {
        let Some(batch) = batch else { return Ok(()) };
        let produced = std::mem::take(&mut self.produced);
        self.batches.send(Batch { produced, ..batch }).map_err(|_| Closed)
    }
}
