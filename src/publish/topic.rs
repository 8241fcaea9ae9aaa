//! Both ends of the snapshot topic and the fold between them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::domain::Version;
use crate::failpoint;
use crate::keys::{Keyring, Signer};
use crate::serving::{Catalog, CatalogError, Fetch, FetchLimits, Objects, ServedModel, Unobtained, worth_a_line};
use crate::stream::{LogReader, LogWriter, StreamError};
use crate::telemetry::names;
use crate::wire::snapshot::{Key, Manifest, NUMBER_MAX, seal_as};

/// One wait for the next record.
const POLL: Duration = Duration::from_millis(500);
/// Waits without a record before a topic that has more counts as stuck: ten seconds, what a broker needs to elect a new leader.
const IDLE_POLLS_MAX: usize = 20;
/// How long a handful of chunks may take to arrive.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Times that a topic which is compacted under its reader is read again.
const READS_AGAIN_MAX: usize = 3;

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
    objects: Objects,
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
            objects: Objects::default(),
        };
        topic.refresh()?;
        Ok(topic)
    }

    /// Where artifacts lie that are too large for the topic.
    pub(super) fn fetch_objects(&mut self, objects: Objects) {
        self.objects = objects;
    }

    /// As told by [`Topic::fetch_objects`].
    pub(super) fn objects(&self) -> &Objects {
        &self.objects
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

    /// The artifact of a version, hashed all the way; what opens it as a subscriber would is the caller.
    pub(super) fn fetch(&mut self, version: Version) -> Result<(Manifest, Vec<u8>), FetchError> {
        let mut again = 0;
        loop {
            let manifest = self.catalog.manifests().get(&version).cloned().ok_or(FetchError::Unknown)?;
            let mut fetch = Fetch {
                catalog: &self.catalog,
                reader: self.reader.as_mut(),
                served: None,
                cache: None,
                objects: &self.objects,
                limits: FetchLimits { bytes_max: u64::MAX, timeout: FETCH_TIMEOUT },
                stopping: &|| false,
                noted: &mut |error| tracing::warn!(%error, "another way was found around it"),
            };
            match fetch.artifact(&manifest) {
                Ok(artifact) => return Ok((manifest, artifact)),
                // Sent again since the topic was read, and compacted away where it was: it stands further on.
                Err(Unobtained::Stream(StreamError::Gone { .. })) if again < READS_AGAIN_MAX => {
                    again += 1;
                    self.refresh()?;
                }
                Err(Unobtained::Stream(error)) => return Err(error.into()),
                Err(Unobtained::Model(error)) => return Err(FetchError::damaged(version, &error.to_string())),
                Err(Unobtained::Waiting(why)) => return Err(FetchError::damaged(version, &why)),
                Err(Unobtained::Stopping) => return Err(FetchError::damaged(version, "interrupted")),
            }
        }
    }

    /// Fetches a version and opens it as a subscriber would.
    pub(super) fn open_version(&mut self, version: Version) -> Result<ServedModel, FetchError> {
        let (manifest, artifact) = self.fetch(version)?;
        ServedModel::open_shared(manifest, Arc::new(artifact)).map_err(|error| FetchError::damaged(version, &error.to_string()))
    }
}

impl FetchError {
    /// The version is named by whoever says it.
    fn damaged(version: Version, why: &str) -> Self {
        FetchError::Damaged(why.strip_prefix(&format!("version {version}: ")).unwrap_or(why).to_owned())
    }
}

fn next(what: &'static str, held: u64, count: u64) -> Result<u64, Exhausted> {
    if held.saturating_add(count) > NUMBER_MAX { Err(Exhausted { what, held }) } else { Ok(held + 1) }
}

/// An entry with this key.
pub(super) fn entry(key: &Key, value: Option<Vec<u8>>) -> Entry {
    (key.encode().into_bytes(), value)
}
