//! The thread that polls the source. It never stops polling while it lives, even when everything behind it is full.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};

use super::PipelineError;
use super::shared::Shared;
use crate::domain::{Mark, PartitionIndex, Record, TopicPartition};
use crate::stream::{Loss, Polled, Source, StreamError};

/// How long a poll waits for the first record: the delay of a stop.
const POLL: Duration = Duration::from_millis(50);
/// How long a full channel is waited for before the source is paused.
const PATIENCE: Duration = Duration::from_millis(20);

/// What the reader hands on.
pub(super) enum Chunk {
    /// Records in the order they were read, and the partitions that have appeared since the chunk before, each with its first offset.
    Records {
        /// Next in the table of partitions, in this order.
        appeared: Vec<(TopicPartition, i64)>,
        /// Of partitions known by now.
        records: Vec<Record>,
    },
    /// Other records stand where these were read; nothing follows.
    Contradicted(Vec<(PartitionIndex, Mark)>),
    /// The source has ended for good.
    End,
}

/// Reads until the source ends, the pipeline stops, or nobody listens any more.
pub(super) fn read(mut source: Box<dyn Source>, out: &Sender<Chunk>, shared: &Arc<Shared>) -> Result<(), PipelineError> {
    let mut known = source.partitions().len();
    while !shared.stopping() {
        let mut records = Vec::new();
        let polled = match source.poll(&mut records, POLL) {
            Ok(polled) => polled,
            Err(error) => {
                let contradicted = contradicted(source.as_ref(), &error);
                if !contradicted.is_empty() {
                    hand_on(source.as_mut(), out, Chunk::Contradicted(contradicted), &mut known, shared)?;
                }
                return Err(error.into());
            }
        };
        let appeared = appeared(source.as_ref(), &mut known);
        let nothing = records.is_empty() && appeared.is_empty();
        if !nothing && !hand_on(source.as_mut(), out, Chunk::Records { appeared, records }, &mut known, shared)? {
            return Ok(());
        }
        if polled == Polled::End {
            hand_on(source.as_mut(), out, Chunk::End, &mut known, shared)?;
            break;
        }
        if let Some(positions) = shared.take_advice() {
            source.commit_advisory(&positions);
        }
    }
    Ok(())
}

/// What the error says of records that were read before. It has to get into the last checkpoint: its position may well be one of the other
/// log already, and look right at the next start.
fn contradicted(source: &dyn Source, error: &StreamError) -> Vec<(PartitionIndex, Mark)> {
    let StreamError::PositionsLost { lost } = error else { return Vec::new() };
    let contradicted = lost.iter().filter_map(|lost| {
        let Loss::OtherRecord(mark) = lost.loss else { return None };
        let place = source.partitions().iter().position(|partition| *partition == lost.partition)?;
        Some((PartitionIndex(u32::try_from(place).ok()?), mark))
    });
    contradicted.collect()
}

/// The partitions beyond the `known` first ones, which are then known too.
fn appeared(source: &dyn Source, known: &mut usize) -> Vec<(TopicPartition, i64)> {
    let appeared: Vec<_> = source.partitions().iter().cloned().zip(source.starts().iter().copied()).skip(*known).collect();
    *known += appeared.len();
    appeared
}

/// Sends `chunk`; while the channel is full, pauses the source and keeps polling it. False: nobody listens, or we are to stop.
fn hand_on(
    source: &mut dyn Source,
    out: &Sender<Chunk>,
    mut chunk: Chunk,
    known: &mut usize,
    shared: &Arc<Shared>,
) -> Result<bool, PipelineError> {
    let mut paused = false;
    let sent = loop {
        match out.send_timeout(chunk, PATIENCE) {
            Ok(()) => break true,
            Err(SendTimeoutError::Disconnected(_)) => break false,
            Err(SendTimeoutError::Timeout(_)) if shared.stopping() => break false,
            Err(SendTimeoutError::Timeout(back)) => {
                chunk = back;
                if !paused {
                    source.pause(true)?;
                    paused = true;
                }
                if let Chunk::Records { appeared: news, records } = &mut chunk {
                    source.poll(records, Duration::ZERO)?;
                    news.extend(appeared(source, known));
                }
            }
        }
    };
    if paused {
        source.pause(false)?;
    }
    Ok(sent)
}
