//! Both ends of the snapshot topic and the fold between them.

use std::time::Duration;

use super::manifest::hex;
use crate::domain::Version;
use crate::failpoint;
use crate::serving::{Catalog, CatalogError, ServedModel};
use crate::stream::{LogReader, LogWriter, StreamError};
use crate::wire::snapshot::{Key, Manifest};

/// One wait for the next record.
const POLL: Duration = Duration::from_millis(500);
/// Waits without a record before a topic that has more counts as stuck: ten seconds, what a broker needs to elect a new leader.
const IDLE_POLLS_MAX: usize = 20;
/// How long the chunks of one version may take to arrive.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// A key and a value; no value is a tombstone.
pub(super) type Entry = (Vec<u8>, Option<Vec<u8>>);

/// Why a version could not be fetched whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The topic.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// No manifest.
    #[error("not on the snapshot topic")]
    Unknown,
    /// A chunk is missing or altered, or the model does not pass its own checks.
    #[error("{0}")]
    Damaged(String),
}

/// The snapshot topic of one model.
pub(super) struct Topic {
    catalog: Catalog,
    reader: Box<dyn LogReader>,
    writer: Box<dyn LogWriter>,
}

impl Topic {
    /// Reads to the end.
    pub(super) fn open(model: &str, reader: Box<dyn LogReader>, writer: Box<dyn LogWriter>) -> Result<Self, StreamError> {
        let mut topic = Topic { catalog: Catalog::new(model), reader, writer };
        topic.refresh()?;
        Ok(topic)
    }

    /// The topic as read so far.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Reads on to what is the end now.
    pub(super) fn refresh(&mut self) -> Result<(), StreamError> {
        let end = self.reader.end()?;
        let mut idle = 0;
        while self.reader.position() < end {
            let Some(record) = self.reader.next(POLL)? else {
                idle += 1;
                if idle == IDLE_POLLS_MAX {
                    let why = format!("nothing came for {:?} at offset {} of {end}", POLL * idle as u32, self.reader.position());
                    return Err(StreamError::Client { doing: "reading the snapshot topic", why });
                }
                continue;
            };
            idle = 0;
            match self.catalog.apply(&record) {
                Ok(()) => {}
                Err(error @ CatalogError::Superseded { .. }) => tracing::debug!(%error, "record of the snapshot topic left out"),
                Err(error) => tracing::warn!(%error, "record of the snapshot topic left out"),
            }
        }
        Ok(())
    }

    /// Appends in order; everything is acknowledged when this returns.
    pub(super) fn append(&self, entries: &[Entry]) -> Result<(), StreamError> {
        let first = entries.first().map_or("", |(key, _)| str::from_utf8(key).unwrap_or_default());
        let kind = first.split('/').next().unwrap_or_default();
        let at = |stage: &str| {
            let failed = |error: std::io::Error| StreamError::Client { doing: "appending to the snapshot topic", why: error.to_string() };
            failpoint::reach(format_args!("topic.{kind}.{stage}")).map_err(failed)
        };
        at("send")?;
        self.writer.append(entries)?;
        at("acknowledged")
    }

    /// Fetches a version and opens it as a subscriber would.
    pub(super) fn fetch(&mut self, version: Version) -> Result<Manifest, FetchError> {
        let manifest = self.catalog.manifests().get(&version).cloned().ok_or(FetchError::Unknown)?;
        let offsets =
            self.catalog.chunk_offsets(version).ok_or_else(|| FetchError::Damaged("chunks are missing on the topic".to_owned()))?;
        let records = self.reader.read_at(&offsets, FETCH_TIMEOUT)?;
        let mut artifact = Vec::new();
        for (index, hash) in (0u32..).zip(&manifest.artifact.chunks) {
            let key = Key::Chunk(version, index).encode();
            let chunk =
                records.get(index as usize).filter(|record| record.key == key.as_bytes()).and_then(|record| record.value.as_deref());
            let chunk = chunk.ok_or_else(|| FetchError::Damaged(format!("chunk {index} is missing on the topic")))?;
            if hex(chunk) != *hash {
                return Err(FetchError::Damaged(format!("chunk {index} does not hash to what the manifest says")));
            }
            artifact.extend_from_slice(chunk);
        }
        ServedModel::open(manifest.clone(), &artifact).map_err(|error| FetchError::Damaged(error.to_string()))?;
        Ok(manifest)
    }
}

/// An entry with this key.
pub(super) fn entry(key: &Key, value: Option<Vec<u8>>) -> Entry {
    (key.encode().into_bytes(), value)
}
