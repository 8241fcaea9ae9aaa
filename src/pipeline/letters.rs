//! Where both the thread that decodes and the one that trains send what they cannot use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::shared::Shared;
use crate::failpoint;
use crate::stream::{DeadLetter, DeadLetterSink, StreamError};

/// First and longest pause before dead letters are sent again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The one way to the dead-letter topic.
#[derive(Clone)]
pub(super) struct Letters {
    sink: Arc<Mutex<Box<dyn DeadLetterSink>>>,
    shared: Arc<Shared>,
}

/// A stop came before letters were acknowledged: their events are to be read again.
pub(super) struct Unsent;

impl Letters {
    pub(super) fn new(sink: Box<dyn DeadLetterSink>, shared: Arc<Shared>) -> Self {
        Letters { sink: Arc::new(Mutex::new(sink)), shared }
    }

    /// Sends them until they are acknowledged.
    pub(super) fn bury(&self, letters: &[DeadLetter]) -> Result<(), Unsent> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut pause = RETRY.0;
        loop {
            let Err(error) = self.send(letters) else { return Ok(()) };
            tracing::warn!(%error, letters = letters.len(), "dead letters were not acknowledged; trying again");
            if self.shared.stopping() {
                return Err(Unsent);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY.1);
        }
    }

    fn send(&self, letters: &[DeadLetter]) -> Result<(), StreamError> {
        let at = |stage: &str| {
            let failed = |error: std::io::Error| StreamError::Client { doing: "sending dead letters", why: error.to_string() };
            failpoint::reach(format_args!("letters.{stage}")).map_err(failed)
        };
        at("send")?;
        // A thread that panicked while it sent has ended the pipeline.
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).send(letters)?;
        at("acknowledged")
    }
}
