use std::time::Duration;

use crate::serving::{Reports, worth_a_line};
use crate::stream::{LogReader, StreamError};

/// One wait for the next report.
const POLL: Duration = Duration::from_millis(100);
/// Waits without a report before what is there has to do: they are repeated anyway.
const IDLE_POLLS_MAX: usize = 20;

/// The acknowledgement topic, for reading.
pub struct ReportTopic {
    reports: Reports,
    reader: Box<dyn LogReader>,
    /// Records that were none.
    refused: u64,
}

impl ReportTopic {
    /// Of this model; nothing is read yet.
    #[must_use]
    pub fn new(model: &str, reader: Box<dyn LogReader>) -> Self {
        ReportTopic { reports: Reports::new(model), reader, refused: 0 }
    }

    /// Reads on to what is the end now, and gives all that is known.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn refresh(&mut self) -> Result<&Reports, StreamError> {
        let end = self.reader.end()?;
        let mut idle = 0;
        while self.reader.position() < end && idle < IDLE_POLLS_MAX {
            let Some(record) = self.reader.next(POLL)? else {
                idle += 1;
                continue;
            };
            if let Err(error) = self.reports.apply(&record) {
                self.refused += 1;
                if worth_a_line(self.refused) {
                    tracing::warn!(%error, offset = record.offset, count = self.refused, "record of the acknowledgement topic left out");
                }
            }
        }
        Ok(&self.reports)
    }
}
