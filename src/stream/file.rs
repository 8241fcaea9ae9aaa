use std::path::Path;
use std::time::Duration;

use super::{Polled, Source, StreamError};
use crate::config::{SchemaConfig, StreamMode};
use crate::domain::{PartitionPosition, Record, TopicPartition};

/// Rows of a TSV, CSV or JSONL file (`.gz` too) as JSON objects.
pub struct FileRows {}

impl FileRows {
    /// Opens; the format is told by the name.
    ///
    /// # Errors
    /// [`StreamError::File`].
    pub fn open(path: &Path) -> Result<Self, StreamError> {
        let _ = path;
        todo!()
    }
}

impl Iterator for FileRows {
    type Item = Result<serde_json::Map<String, serde_json::Value>, StreamError>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// A file as a finite source: `Labelled` delivers its rows as labelled events; `Joined` splits each row into an impression and, where the
/// label says so, a click with the same time (topics `<file>#impressions`, `<file>#clicks`), the way `replay` sends them.
pub struct FileSource {}

impl FileSource {
    /// Opens.
    ///
    /// # Errors
    /// [`StreamError::File`].
    pub fn open(path: &Path, schema: &SchemaConfig, mode: StreamMode) -> Result<Self, StreamError> {
        let _ = (path, schema, mode);
        todo!()
    }
}

impl Source for FileSource {
    fn partitions(&self) -> &[TopicPartition] {
        todo!()
    }
    fn starts(&self) -> &[i64] {
        todo!()
    }
    fn poll(&mut self, _into: &mut Vec<Record>, _timeout: Duration) -> Result<Polled, StreamError> {
        todo!()
    }
    fn pause(&mut self, _paused: bool) -> Result<(), StreamError> {
        todo!()
    }
    fn commit_advisory(&mut self, _positions: &[PartitionPosition]) {}
}
