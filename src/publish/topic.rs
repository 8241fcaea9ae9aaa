//! Both ends of the snapshot topic and the fold between them.

use std::time::Duration;

use serde::Serialize;

use super::manifest::hex;
use crate::domain::Version;
use crate::failpoint;
use crate::keys::{Keyring, Signer};
use crate::serving::{Catalog, CatalogError, ServedModel, worth_a_line};
use crate::stream::{LogReader, LogWriter, StreamError};
use crate::telemetry::names;
use crate::wire::snapshot::{Key, Manifest, NUMBER_MAX, seal_as};

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

/// The topic's numbers cannot go on: somebody wrote one that no honest writer reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the snapshot topic is at {what} {held}, and {NUMBER_MAX} is the last one readers take: somebody who may write to it has used the numbers \
     up; make the topic anew, and let only what is signed count (keys.trusted)"
)]
pub struct Exhausted {
    /// `seq` or `epoch`.
    pub what: &'static str,
    /// Where it stands.
    pub held: u64,
}

/// The snapshot topic of one model.
pub(super) struct Topic {
    model: String,
    catalog: Catalog,
    signer: Option<Signer>,
    /// Records not taken in, but for old ones.
    left_out: u64,
    reader: Box<dyn LogReader>,
    writer: Box<dyn LogWriter>,
}

impl Topic {
    /// Reads to the end.
    pub(super) fn open(model: &str, keys: Keyring, reader: Box<dyn LogReader>, writer: Box<dyn LogWriter>) -> Result<Self, StreamError> {
        let mut topic = Topic {
            model: model.to_owned(),
            catalog: Catalog::trusting(model, keys.trust),
            signer: keys.signer,
            left_out: 0,
            reader,
            writer,
        };
        topic.refresh()?;
        Ok(topic)
    }

    /// The topic as read so far.
    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The next `count` seqs: the first of them.
    pub(super) fn next_seq(&self, count: u64) -> Result<u64, Exhausted> {
        next("seq", self.catalog.seq(), count)
    }

    /// The next epoch.
    pub(super) fn next_epoch(&self) -> Result<u64, Exhausted> {
        next("epoch", self.catalog.epoch(), 1)
    }

    /// A record under this key, signed if there is a key to sign with.
    pub(super) fn sealed(&self, key: &Key, payload: &impl Serialize) -> Entry {
        entry(key, Some(seal_as(key, payload, self.signer.as_ref())))
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
            let Err(error) = self.catalog.apply(&record) else { continue };
            metrics::counter!(names::SNAPSHOT_REJECTED, "model" => self.model.clone(), "reason" => error.reason()).increment(1);
            match error {
                CatalogError::Superseded { .. } | CatalogError::Replayed { .. } => {
                    tracing::debug!(%error, "record of the snapshot topic left out");
                }
                error => {
                    self.left_out += 1;
                    if worth_a_line(self.left_out) {
                        tracing::warn!(%error, count = self.left_out, "record of the snapshot topic left out");
                    }
                }
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
    pub(super) fn fetch(&mut self, version: Version) -> Result<(Manifest, Vec<u8>), FetchError> {
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
        Ok((manifest, artifact))
    }
}

fn next(what: &'static str, held: u64, count: u64) -> Result<u64, Exhausted> {
    if held.saturating_add(count) > NUMBER_MAX { Err(Exhausted { what, held }) } else { Ok(held + 1) }
}

/// An entry with this key.
pub(super) fn entry(key: &Key, value: Option<Vec<u8>>) -> Entry {
    (key.encode().into_bytes(), value)
}
