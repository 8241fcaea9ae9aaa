use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::bases::Bases;
use super::package::{Limits, Package};
use super::retention::Collected;
use super::rollout::Promotion;
use super::topic::{Entry, Exhausted, FetchError, Topic, entry};
use super::{ReportTopic, artifact, gates, manifest, retention};
use crate::checkpoint::{Commit, Evidence, Loaded};
use crate::config::{Config, KeysConfig, PublishConfig, SchemaConfig};
use crate::domain::Version;
use crate::keys::{KeyError, Keyring, Role};
use crate::serving::{ObjectError, Objects, ServedModel};
use crate::stream::{LogReader, LogWriter, StreamError};
use crate::telemetry::names;
use crate::wire::snapshot::{Act, Key, Lease, Manifest, NUMBER_MAX, PROTOCOL, Quality, RECORD_BYTES_MAX, Verdict};

/// Chunks in flight at once: bounds the copies that a send holds beside the artifact.
const CHUNKS_PER_SEND: usize = 8;
/// How long the object store may take over one artifact.
const OBJECT_TIMEOUT: Duration = Duration::from_secs(120);

/// Checkpoints that a publisher makes between two that it publishes: those of a day of one a minute, and more.
const LEFTOVER_VERSIONS_MAX: u64 = 2048;

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The configuration's keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The object store.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The topic's numbers are used up.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// Another publisher took over.
    #[error("epoch {ours} is superseded by epoch {theirs} of {instance}: this trainer no longer publishes")]
    Superseded {
        /// Our epoch.
        ours: u64,
        /// Theirs.
        theirs: u64,
        /// Who.
        instance: String,
    },
    /// The snapshot failed its own gate (finite weights, probes through the subscriber's code).
    #[error("version {version} held back: {why}")]
    Gate {
        /// Version.
        version: Version,
        /// Which gate, and why.
        why: String,
    },
}

/// A snapshot on the topic.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Published {
    /// Version.
    pub version: Version,
    /// Artifact length.
    pub bytes: u64,
    /// Bytes that were sent for it: of the whole, of the delta, or of both.
    pub sent_bytes: u64,
    /// The version that its delta is from; absent where it has none.
    pub base: Option<Version>,
    /// Chunks.
    pub chunks: usize,
    /// `current` was moved to it.
    pub promoted: bool,
    /// Why not, if not (a pin holds another version, or a gate this one).
    pub held_by: Option<String>,
    /// How it comes to be served, where a share of the servers tries versions first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
    /// What the gates found that hold it back.
    #[serde(default)]
    pub failed: Vec<Verdict>,
}

/// Publishes snapshots under a lease. Used by one thread.
pub struct Publisher {
    pub(super) topic: Topic,
    pub(super) model: String,
    /// Of checkpoints that do not say theirs.
    schema: SchemaConfig,
    pub(super) config: PublishConfig,
    instance: String,
    pub(super) epoch: u64,
    bases: Option<Bases>,
    /// What servers report.
    pub(super) reports: Option<ReportTopic>,
    /// Could be served, and waits for the one that is tried.
    pub(super) next: Option<Version>,
    /// The version that servers serve, once something was compared with it.
    served: Option<ServedModel>,
}

impl Publisher {
    /// Reads the topic to its end, takes the lease with the next epoch, reads again to see that it is ours. Keys are the configuration's.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn open(config: &Config, instance: &str, reader: Box<dyn LogReader>, writer: Box<dyn LogWriter>) -> Result<Self, PublishError> {
        let topic = Topic::open(&config.name, trainer_keys(&config.keys)?, reader, writer)?;
        let epoch = topic.next_epoch()?;
        let lease = Lease {
            proto: PROTOCOL,
            model: config.name.clone(),
            seq: topic.next_seq(1)?,
            epoch,
            instance: instance.to_owned(),
            at_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
        };
        topic.append(&[topic.sealed(&Key::Lease, &lease)])?;
        let mut publisher = Publisher {
            topic,
            model: config.name.clone(),
            schema: config.schema.clone(),
            config: config.publish.clone(),
            instance: instance.to_owned(),
            epoch,
            bases: None,
            reports: None,
            next: None,
            served: None,
        };
        publisher.check_lease()?;
        Ok(publisher)
    }

    /// Keeps in this directory what deltas are made from; without one, every version is sent whole.
    #[must_use]
    pub fn keeping_bases(mut self, dir: &Path) -> Self {
        self.bases = Some(Bases::new(dir));
        self
    }

    /// Stores in an object store what is too large for the topic.
    #[must_use]
    pub fn storing_objects(mut self, objects: Objects) -> Self {
        self.topic.fetch_objects(objects);
        self
    }

    /// The version that servers should serve.
    #[must_use]
    pub fn target(&self, now_ms: i64) -> Option<Version> {
        self.topic.catalog().target(now_ms)
    }

    /// Versions that somebody may want to go back to, trainer and all: those pointed at or pinned, and the last few promoted.
    #[must_use]
    pub fn held(&self, now_ms: i64) -> BTreeSet<Version> {
        retention::pointed(self.topic.catalog(), now_ms)
    }

    /// Highest version the topic has ever shown us: checkpoint numbers must stay above it. Chunks count where they can be what a publisher
    /// before us left half sent, so that it does not send the rest over ours; they are not signed, and one far off is nobody's.
    #[must_use]
    pub fn highest_version(&self) -> Option<Version> {
        let catalog = self.topic.catalog();
        let highest = catalog.highest_version();
        let plausible = highest.map_or(0, |version| version.0).saturating_add(LEFTOVER_VERSIONS_MAX);
        let leftovers = catalog.chunks().map(|(version, _)| version).filter(|version| version.0 <= plausible);
        highest.max(leftovers.max())
    }

    /// Chunks, acknowledgements, manifest, acknowledgement, then `current` (or first `canary`) unless a gate or a pin forbids; then collects
    /// old versions. Repeating it for the same commit sends the same artifact under the same version.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish(&mut self, commit: &Commit, loaded: &Loaded, now_ms: i64) -> Result<Published, PublishError> {
        let version = Version(commit.number);
        self.check_lease()?;
        self.check_number(version)?;
        let refuse = |why| PublishError::Gate { version, why };
        let artifact = artifact::encode(&loaded.learner, self.config.rows).map_err(|error| refuse(error.to_string()))?;
        // The checkpoint's own: one that was due before a change of the schema is published after it.
        let schema = loaded.schema.as_ref().unwrap_or(&self.schema);
        let mut manifest = manifest::build(&self.model, schema, &self.config, commit, &loaded.probes, &artifact);
        let candidate = manifest::prove(&mut manifest, &artifact.bytes).map_err(refuse)?;
        let failed = self.judge(&candidate, &loaded.evidence, &mut manifest.quality, now_ms)?;
        let manifest = match self.on_topic(&manifest)? {
            Some(held) => held,
            None => self.send(manifest, &artifact.bytes)?,
        };

        let mut published = Published {
            version,
            bytes: manifest.artifact.bytes,
            sent_bytes: manifest.sent_bytes(),
            base: manifest.delta.as_ref().map(|delta| delta.base),
            chunks: manifest.chunks().count(),
            promoted: false,
            held_by: None,
            tried: None,
            failed,
        };
        let promotion = if published.failed.is_empty() {
            self.promote(version, now_ms)?
        } else {
            Promotion::Held(self.hold_back(version, &published.failed, now_ms)?)
        };
        match promotion {
            Promotion::Done => {
                published.promoted = true;
                self.served = Some(candidate);
            }
            Promotion::Held(why) => published.held_by = Some(why),
            Promotion::Tried(how) => published.tried = Some(how),
        }
        if let Err(error) = self.collect(version, now_ms) {
            tracing::warn!(%error, "old snapshots were not collected; the next publish tries again");
        }
        Ok(published)
    }

    /// Compares a version with the one that is served, and says in `quality` what came out. Returns what holds it back: nothing where
    /// nothing is served yet, or what is served cannot be had.
    fn judge(
        &mut self,
        candidate: &ServedModel,
        evidence: &Evidence,
        quality: &mut Quality,
        now_ms: i64,
    ) -> Result<Vec<Verdict>, PublishError> {
        let target = self.target(now_ms).filter(|target| self.config.gates.enabled && *target != candidate.version());
        let Some(target) = target else { return Ok(Vec::new()) };
        if self.served.as_ref().is_none_or(|served| served.version() != target) {
            self.served = match self.topic.open_version(target) {
                Ok(model) => Some(model),
                Err(FetchError::Stream(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(version = target.0, %error, "what is served cannot be had: nothing is compared with it");
                    None
                }
            };
        }
        let Some(served) = &self.served else { return Ok(Vec::new()) };
        quality.compared_with = Some(target);
        quality.gates = gates::judge(&self.config.gates, candidate, served, evidence);
        Ok(quality.gates.iter().filter(|verdict| !verdict.passed).cloned().collect())
    }

    /// Says so in the audit log, once until the next promotion. Returns the reason.
    fn hold_back(&mut self, version: Version, failed: &[Verdict], now_ms: i64) -> Result<String, PublishError> {
        let failed: Vec<String> = failed.iter().map(Verdict::to_string).collect();
        let reason = format!("held back by {}", failed.join("; "));
        if self.topic.catalog().audit().next_back().is_none_or(|last| last.act != Act::HoldBack) {
            let audit = self.audit(self.topic.next_seq(1)?, Act::HoldBack, Some(version), reason.clone(), now_ms);
            self.topic.append(&[self.topic.sealed(&Key::Audit(audit.seq), &audit)])?;
        }
        Ok(reason)
    }

    /// Reads to the end; the last valid lease has to be ours.
    pub(super) fn check_lease(&mut self) -> Result<(), PublishError> {
        self.topic.refresh()?;
        match self.topic.catalog().lease() {
            Some(lease) if lease.epoch == self.epoch && lease.instance == self.instance => Ok(()),
            Some(lease) => Err(PublishError::Superseded { ours: self.epoch, theirs: lease.epoch, instance: lease.instance.clone() }),
            None => {
                Err(StreamError::NotAcknowledged { topic: Key::Lease.encode(), why: "the lease just written did not come back".to_owned() }
                    .into())
            }
        }
    }

    /// A number below what the topic has shown may have been another snapshot's.
    fn check_number(&self, version: Version) -> Result<(), PublishError> {
        if version.0 > NUMBER_MAX {
            let why = format!("no reader takes versions above {NUMBER_MAX}: the topic's numbers are used up, make it anew");
            return Err(PublishError::Gate { version, why });
        }
        match self.topic.catalog().highest_version() {
            Some(highest) if version < highest && !self.topic.catalog().manifests().contains_key(&version) => Err(PublishError::Gate {
                version,
                why: format!(
                    "the snapshot topic has already shown version {highest}, and versions are never reused; checkpoint numbers must go on above it"
                ),
            }),
            _ => Ok(()),
        }
    }

    fn chunk_bytes(&self, version: Version) -> Result<usize, PublishError> {
        match usize::try_from(self.config.chunk.0) {
            Ok(bytes @ 1..=RECORD_BYTES_MAX) => Ok(bytes),
            _ => Err(PublishError::Gate {
                version,
                why: format!("publish.chunk = {} bytes; a record holds 1 to {RECORD_BYTES_MAX}", self.config.chunk.0),
            }),
        }
    }

    /// This very snapshot as the topic has it, if it has all of it.
    fn on_topic(&self, manifest: &Manifest) -> Result<Option<Manifest>, PublishError> {
        let catalog = self.topic.catalog();
        match catalog.manifests().get(&manifest.version) {
            None => Ok(None),
            Some(held) if held.artifact.blake3 == manifest.artifact.blake3 => {
                Ok(catalog.chunk_offsets(manifest.version).is_some().then(|| held.clone()))
            }
            Some(held) => Err(PublishError::Gate {
                version: manifest.version,
                why: format!(
                    "the snapshot topic holds other bytes under this number ({}…, written by epoch {}); is another trainer using the name `{}`?",
                    held.artifact.blake3.get(..12).unwrap_or_default(),
                    held.epoch,
                    self.model
                ),
            }),
        }
    }

    /// The artifact's file first, then objects and chunks; the manifest only after every chunk is acknowledged and the lease is seen to be ours still.
    fn send(&mut self, mut manifest: Manifest, artifact: &[u8]) -> Result<Manifest, PublishError> {
        let version = manifest.version;
        let gate = |why| PublishError::Gate { version, why };
        let object_above = self.topic.objects().is_some().then_some(self.config.claim_check_above.0);
        let limits = Limits { chunk_bytes: self.chunk_bytes(version)?, object_above };
        let package = Package::new(self.topic.catalog(), &self.config, self.bases.as_ref(), limits, &mut manifest, artifact)
            .map_err(|error| gate(format!("{} cannot encode it: {error}", self.config.codec.name())))?;
        manifest.epoch = self.epoch;
        manifest.seq = self.topic.next_seq(1)?;
        let (_, record) = self.topic.sealed(&Key::Manifest(version), &manifest);
        let bytes = record.map_or(0, |record| record.len());
        if bytes > RECORD_BYTES_MAX {
            return Err(gate(format!(
                "its manifest takes {bytes} bytes, a record {RECORD_BYTES_MAX}; lower publish.probes or raise publish.chunk"
            )));
        }
        self.keep_base(&manifest, artifact);
        for (kind, bytes) in package.objects() {
            self.topic.objects().put(version, kind, bytes.to_vec(), OBJECT_TIMEOUT)?;
        }
        let entries = (0u32..).zip(package.chunks()).map(|(index, chunk)| entry(&Key::Chunk(version, index), Some(chunk.to_vec())));
        let mut entries = entries.peekable();
        while entries.peek().is_some() {
            let group: Vec<Entry> = entries.by_ref().take(CHUNKS_PER_SEND).collect();
            self.topic.append(&group)?;
            // After each group: one who was paused meanwhile must not go on to send over what its successor sends.
            self.check_lease()?;
        }
        manifest.seq = self.topic.next_seq(1)?;
        self.topic.append(&[self.topic.sealed(&Key::Manifest(version), &manifest)])?;
        self.check_lease()?;
        for (kind, bytes) in package.parts() {
            metrics::counter!(names::PUBLISHED_BYTES, "kind" => kind).increment(bytes.len() as u64);
        }
        Ok(manifest)
    }

    /// Keeps what the next delta is made from, beside what this one was: a publisher that ends before the manifest is sent makes the same
    /// delta again. Without it the next version is sent whole.
    fn keep_base(&self, manifest: &Manifest, artifact: &[u8]) {
        let Some(bases) = self.bases.as_ref().filter(|_| self.config.full_every > 1) else { return };
        let base = manifest.delta.as_ref().map(|delta| delta.base);
        bases.keep_only(&base.into_iter().chain([manifest.version]).collect::<Vec<_>>());
        if let Err(error) = bases.keep(manifest.version, artifact) {
            tracing::warn!(%error, "the next version will be sent whole");
        }
    }

    fn collect(&mut self, newest: Version, now_ms: i64) -> Result<(), StreamError> {
        let Collected { manifests, chunks, objects } = retention::collected(self.topic.catalog(), self.config.keep, newest, now_ms);
        for entries in [manifests, chunks].iter().filter(|entries| !entries.is_empty()) {
            self.topic.append(entries)?;
        }
        for (version, kind) in objects {
            if let Err(error) = self.topic.objects().remove(version, kind, OBJECT_TIMEOUT) {
                tracing::warn!(%error, "an old object was not removed, and is not tried again");
            }
        }
        Ok(())
    }
}

/// The keys that a trainer works with: its own has to be trusted where any is.
///
/// # Errors
/// [`KeyError`].
pub fn trainer_keys(config: &KeysConfig) -> Result<Keyring, KeyError> {
    let keys = Keyring::load(&config.trusted, &config.trainer, Role::Trainer)?;
    keys.can_write(&config.trusted, Role::Trainer, "keys.trainer to its file")?;
    Ok(keys)
}
