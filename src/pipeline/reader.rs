//! The thread that polls the source. It never stops polling while it lives, even when everything behind it is full.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};

use super::PipelineError;
use super::shared::Shared;
use crate::domain::Record;
use crate::stream::{Polled, Source};

/// How long a poll waits for the first record: the delay of a stop.
const POLL: Duration = Duration::from_millis(50);
/// How long a full channel is waited for before the source is paused.
const PATIENCE: Duration = Duration::from_millis(20);

/// What the reader hands on.
pub(super) enum Chunk {
    /// Records in the order they were read.
    Records(Vec<Record>),
    /// The source has ended for good.
    End,
}

/// Reads until the source ends, the pipeline stops, or nobody listens any more.
pub(super) fn read(mut source: Box<dyn Source>, out: &Sender<Chunk>, shared: &Arc<Shared>) -> Result<(), PipelineError> {
    while !shared.stopping() {
        let mut records = Vec::new();
        let polled = source.poll(&mut records, POLL)?;
        if !records.is_empty() && !hand_on(source.as_mut(), out, Chunk::Records(records), shared)? {
            return Ok(());
        }
        if polled == Polled::End {
            hand_on(source.as_mut(), out, Chunk::End, shared)?;
            break;
        }
        if let Some(positions) = shared.take_advice() {
            source.commit_advisory(&positions);
        }
    }
    Ok(())
}

/// Sends `chunk`; while the channel is full, pauses the source and keeps polling it. False: nobody listens, or we are to stop.
fn hand_on(source: &mut dyn Source, out: &Sender<Chunk>, mut chunk: Chunk, shared: &Arc<Shared>) -> Result<bool, PipelineError> {
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
                if let Chunk::Records(records) = &mut chunk {
                    source.poll(records, Duration::ZERO)?;
                }
            }
        }
    };
    if paused {
        source.pause(false)?;
    }
    Ok(sent)
}
