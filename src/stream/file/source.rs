use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{FileRows, split_row};
use crate::config::{SchemaConfig, StreamMode};
use crate::domain::{Origin, PartitionIndex, PartitionPosition, Record, Role, TopicPartition};
use crate::stream::{Polled, Source, StreamError};

/// Rows handed over per poll.
const CHUNK_ROWS: usize = 1024;
/// Where impressions (or labelled events) stand in the table of partitions.
const EVENTS: u32 = 0;
/// Where clicks stand.
const CLICKS: u32 = 1;

/// A file as a finite source: `Labelled` delivers its rows as labelled events (topic `<file>`); `Joined` splits each row into an impression
/// and, where the label says so, a click with the same time right behind it (topics `<file>#impressions`, `<file>#clicks`), the way `replay`
/// sends them. Offsets count from 0 in each; a row without impression id is named by its number, from 0.
pub struct FileSource {
    rows: FileRows,
    schema: SchemaConfig,
    mode: StreamMode,
    partitions: Vec<TopicPartition>,
    starts: Vec<i64>,
    events: i64,
    clicks: i64,
    paused: bool,
}

impl FileSource {
    /// Opens.
    ///
    /// # Errors
    /// [`StreamError::File`].
    pub fn open(path: &Path, schema: &SchemaConfig, mode: StreamMode) -> Result<Self, StreamError> {
        let rows = FileRows::open(path)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let topics: Vec<Arc<str>> = match mode {
            StreamMode::Labelled => vec![name.into()],
            StreamMode::Joined => vec![format!("{name}#impressions").into(), format!("{name}#clicks").into()],
        };
        let partitions: Vec<_> = topics.into_iter().map(|topic| TopicPartition { topic, partition: 0 }).collect();
        Ok(FileSource {
            rows,
            schema: schema.clone(),
            mode,
            starts: vec![0; partitions.len()],
            partitions,
            events: 0,
            clicks: 0,
            paused: false,
        })
    }

    fn deliver(&mut self, row: Map<String, Value>, into: &mut Vec<Record>) -> Result<(), StreamError> {
        let number = u64::try_from(self.events).unwrap_or(0);
        let split = split_row(&self.schema, self.mode, row, number, 0)
            .map_err(|error| StreamError::File { path: self.rows.place(), why: error.to_string() })?;
        let role = if self.mode == StreamMode::Labelled { Role::Labelled } else { Role::Impression };
        into.push(record(EVENTS, self.events, role, &split.key, split.event));
        self.events += 1;
        if let Some(click) = split.click {
            into.push(record(CLICKS, self.clicks, Role::Click, &split.key, click));
            self.clicks += 1;
        }
        Ok(())
    }
}

fn record(partition: u32, offset: i64, role: Role, key: &str, object: Map<String, Value>) -> Record {
    Record {
        origin: Origin { partition: PartitionIndex(partition), offset },
        role,
        key: (!key.is_empty()).then(|| key.as_bytes().to_vec()),
        payload: Some(Value::Object(object).to_string().into_bytes()),
        timestamp_ms: None,
    }
}

impl Source for FileSource {
    fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    fn starts(&self) -> &[i64] {
        &self.starts
    }

    fn poll(&mut self, into: &mut Vec<Record>, timeout: Duration) -> Result<Polled, StreamError> {
        if self.paused {
            std::thread::sleep(timeout);
            return Ok(Polled::Idle);
        }
        let before = into.len();
        for _ in 0..CHUNK_ROWS {
            match self.rows.next() {
                Some(row) => self.deliver(row?, into)?,
                None if into.len() == before => return Ok(Polled::End),
                None => break,
            }
        }
        Ok(Polled::Records)
    }

    fn pause(&mut self, paused: bool) -> Result<(), StreamError> {
        self.paused = paused;
        Ok(())
    }

    fn commit_advisory(&mut self, _positions: &[PartitionPosition]) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TimeUnit;

    fn schema() -> SchemaConfig {
        SchemaConfig {
            time: "t".into(),
            time_unit: TimeUnit::Ms,
            user: "u".into(),
            item: "i".into(),
            label: "y".into(),
            impression: Some("id".into()),
            features: Vec::new(),
        }
    }

    fn read(content: &str, mode: StreamMode) -> Result<(Vec<TopicPartition>, Vec<Record>), StreamError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tsv");
        std::fs::write(&path, content).unwrap();
        let mut source = FileSource::open(&path, &schema(), mode)?;
        let mut records = Vec::new();
        while source.poll(&mut records, Duration::ZERO)? != Polled::End {}
        Ok((source.partitions().to_vec(), records))
    }

    fn shape(records: &[Record]) -> Vec<(u32, i64, Role, &str)> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        records.iter().map(|r| (r.origin.partition.0, r.origin.offset, r.role, text(r.payload.as_deref().unwrap()))).collect()
    }

    #[test]
    fn labelled_rows_come_as_they_are() {
        let (partitions, records) = read("t\tu\ty\n5\ta\t1\n6\tb\t0\n", StreamMode::Labelled).unwrap();
        assert_eq!(partitions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x.tsv[0]"]);
        assert_eq!(
            shape(&records),
            [(0, 0, Role::Labelled, r#"{"t":"5","u":"a","y":"1"}"#), (0, 1, Role::Labelled, r#"{"t":"6","u":"b","y":"0"}"#)]
        );
    }

    #[test]
    fn joined_rows_come_apart_with_the_click_behind_its_impression() {
        let (partitions, records) = read("t\tu\ty\n5\ta\t0\n6\tb\t1\n7\tb\t1\n", StreamMode::Joined).unwrap();
        assert_eq!(partitions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x.tsv#impressions[0]", "x.tsv#clicks[0]"]);
        assert_eq!(
            shape(&records),
            [
                (0, 0, Role::Impression, r#"{"id":"0","t":"5","u":"a"}"#),
                (0, 1, Role::Impression, r#"{"id":"1","t":"6","u":"b"}"#),
                (1, 0, Role::Click, r#"{"id":"1","t":"6"}"#),
                (0, 2, Role::Impression, r#"{"id":"2","t":"7","u":"b"}"#),
                (1, 1, Role::Click, r#"{"id":"2","t":"7"}"#),
            ]
        );
    }

    #[test]
    fn a_row_whose_label_is_none_ends_the_source_with_its_line() {
        let error = read("t\tu\ty\n5\ta\t0\n6\tb\tmaybe\n", StreamMode::Joined).unwrap_err().to_string();
        assert!(error.contains("x.tsv:3") && error.contains("`y`") && error.contains("maybe"), "{error}");
    }
}
