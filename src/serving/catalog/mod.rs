use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use crate::domain::Version;
use crate::stream::LogRecord;
use crate::wire::snapshot::{AuditEntry, Key, Lease, Manifest, Pin, Pointer, RECORD_BYTES_MAX, RecordError, open};

/// Newest audit entries kept in memory: a promotion a minute for a week. The topic keeps them all.
const AUDIT_KEPT: usize = 10_080;

/// Why a record of the topic was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Not readable.
    #[error("offset {offset}: {source}")]
    Record {
        /// Its offset.
        offset: i64,
        /// Why.
        source: RecordError,
    },
    /// Of another model.
    #[error("offset {offset}: record of model `{found}`, expected `{expected}`")]
    OtherModel {
        /// Its offset.
        offset: i64,
        /// Its model.
        found: String,
        /// Ours.
        expected: String,
    },
    /// Older than what its key already holds, or written under a superseded epoch.
    #[error("offset {offset}: {why}")]
    Superseded {
        /// Its offset.
        offset: i64,
        /// Which rule.
        why: String,
    },
}

impl CatalogError {
    /// The label in metrics and status.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            CatalogError::Record { source: RecordError::TooLarge(_), .. } => "record_too_large",
            CatalogError::Record { source: RecordError::Protocol { .. }, .. } => "record_protocol",
            CatalogError::Record { .. } => "record_malformed",
            CatalogError::OtherModel { .. } => "record_other_model",
            CatalogError::Superseded { .. } => "record_superseded",
        }
    }
}

/// How far a topic was read, as its own numbers say. Kept on disk by subscribers, so that an old copy of the topic, or an old record put
/// back after a restart, cannot take them back in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Highest seq.
    pub seq: u64,
    /// Highest epoch.
    pub epoch: u64,
    /// Seq of `current`; 0 without one.
    pub current_seq: u64,
    /// Seq of the pin; 0 without one.
    pub pin_seq: u64,
}

impl Marks {
    /// True where nothing in `self` is older than in `seen`.
    #[must_use]
    pub fn covers(&self, seen: &Marks) -> bool {
        self.seq >= seen.seq && self.epoch >= seen.epoch && self.current_seq >= seen.current_seq && self.pin_seq >= seen.pin_seq
    }
}

/// The fold of a snapshot topic: latest per key, chunk offsets, and what follows from them. No I/O.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    model: String,
    manifests: BTreeMap<Version, Manifest>,
    chunks: BTreeMap<(Version, u32), i64>,
    current: Option<Pointer>,
    pin: Option<Pin>,
    lease: Option<Lease>,
    audit: BTreeMap<u64, AuditEntry>,
    seq: u64,
    epoch: u64,
    highest: Option<Version>,
}

impl Catalog {
    /// Empty, for this model.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Catalog { model: model.to_owned(), ..Catalog::default() }
    }

    /// Takes one record in. Tombstones on `c/` and `m/` mean collected; on other keys they are ignored. Keys of unknown kinds are skipped.
    ///
    /// | record | taken in |
    /// |---|---|
    /// | equal to what its key holds | yes; changes nothing |
    /// | of another model, newer protocol, above the size limit, or not what its key says | no |
    /// | epoch below the highest seen (audit entries have none) | no |
    /// | seq not above what its key holds | no |
    ///
    /// # Errors
    /// [`CatalogError`]: the record is not taken in; everything else stays.
    pub fn apply(&mut self, record: &LogRecord) -> Result<(), CatalogError> {
        let Some(key) = Key::parse(&record.key) else { return Ok(()) };
        let Some(value) = &record.value else {
            self.collect(&key);
            return Ok(());
        };
        let unreadable = |source| CatalogError::Record { offset: record.offset, source };
        match key {
            Key::Chunk(version, index) => {
                if value.len() > RECORD_BYTES_MAX {
                    return Err(unreadable(RecordError::TooLarge(value.len())));
                }
                let held = self.chunks.entry((version, index)).or_insert(record.offset);
                *held = record.offset.max(*held);
                self.saw(version);
                Ok(())
            }
            Key::Manifest(version) => {
                let manifest: Manifest = open("manifest", value).map_err(unreadable)?;
                if manifest.version != version {
                    let why = format!("its key says version {version}, its payload {}", manifest.version);
                    return Err(unreadable(RecordError::Malformed { what: "manifest", why }));
                }
                if self.admits(record.offset, &manifest, self.manifests.get(&version))? {
                    self.took(&manifest);
                    self.saw(version);
                    self.manifests.insert(version, manifest);
                }
                Ok(())
            }
            Key::Current => {
                let pointer: Pointer = open("pointer", value).map_err(unreadable)?;
                if self.admits(record.offset, &pointer, self.current.as_ref())? {
                    self.took(&pointer);
                    self.saw(pointer.version);
                    self.current = Some(pointer);
                }
                Ok(())
            }
            Key::PinAll => {
                let pin: Pin = open("pin", value).map_err(unreadable)?;
                if self.admits(record.offset, &pin, self.pin.as_ref())? {
                    self.took(&pin);
                    pin.version.into_iter().for_each(|version| self.saw(version));
                    self.pin = Some(pin);
                }
                Ok(())
            }
            Key::Lease => {
                let lease: Lease = open("lease", value).map_err(unreadable)?;
                if self.admits(record.offset, &lease, self.lease.as_ref())? {
                    self.took(&lease);
                    self.lease = Some(lease);
                }
                Ok(())
            }
            Key::Audit(seq) => {
                let entry: AuditEntry = open("audit entry", value).map_err(unreadable)?;
                if entry.seq != seq {
                    let why = format!("its key says seq {seq}, its payload {}", entry.seq);
                    return Err(unreadable(RecordError::Malformed { what: "audit entry", why }));
                }
                self.same_model(record.offset, &entry.model)?;
                self.enter(record.offset, entry)
            }
        }
    }

    /// The version that servers should serve: the pin's, else `current`'s.
    #[must_use]
    pub fn target(&self) -> Option<Version> {
        self.pin.as_ref().and_then(|pin| pin.version).or_else(|| self.current.as_ref().map(|pointer| pointer.version))
    }

    /// Manifests by version.
    #[must_use]
    pub fn manifests(&self) -> &BTreeMap<Version, Manifest> {
        &self.manifests
    }

    /// Every chunk held, of versions without a manifest too.
    pub fn chunks(&self) -> impl Iterator<Item = (Version, u32)> {
        self.chunks.keys().copied()
    }

    /// Offsets of a version's chunks in order; `None` unless its manifest and all chunks are there.
    #[must_use]
    pub fn chunk_offsets(&self, version: Version) -> Option<Vec<i64>> {
        let count = u32::try_from(self.manifests.get(&version)?.artifact.chunks.len()).ok()?;
        (0..count).map(|index| self.chunks.get(&(version, index)).copied()).collect()
    }

    /// Pointer `current`.
    #[must_use]
    pub fn current(&self) -> Option<&Pointer> {
        self.current.as_ref()
    }

    /// The pin record; one with version `None` means unpinned.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// The publisher's lease.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Audit entries, oldest first: the newest ten thousand or so.
    pub fn audit(&self) -> impl DoubleEndedIterator<Item = &AuditEntry> {
        self.audit.values()
    }

    /// Highest seq seen; a writer takes the next.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Highest epoch seen.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How far the topic was read, in its own numbers.
    #[must_use]
    pub fn marks(&self) -> Marks {
        Marks {
            seq: self.seq,
            epoch: self.epoch,
            current_seq: self.current.as_ref().map_or(0, |pointer| pointer.seq),
            pin_seq: self.pin.as_ref().map_or(0, |pin| pin.seq),
        }
    }

    /// Highest version seen in any manifest, chunk or pointer, collected ones included.
    #[must_use]
    pub fn highest_version(&self) -> Option<Version> {
        self.highest
    }

    fn collect(&mut self, key: &Key) {
        match *key {
            Key::Chunk(version, index) => {
                self.chunks.remove(&(version, index));
                self.saw(version);
            }
            Key::Manifest(version) => {
                self.manifests.remove(&version);
                self.saw(version);
            }
            // A tombstone bears no signature, so it must not be able to unpin, to take `current` away or to free the lease.
            Key::Current | Key::PinAll | Key::Lease | Key::Audit(_) => {}
        }
    }

    /// `Ok(false)`: the key holds this very record.
    fn admits<T: Signed>(&self, offset: i64, new: &T, held: Option<&T>) -> Result<bool, CatalogError> {
        self.same_model(offset, new.model())?;
        if held == Some(new) {
            return Ok(false);
        }
        let superseded = |why| CatalogError::Superseded { offset, why };
        let (what, seq, epoch) = (T::WHAT, new.seq(), new.epoch());
        if epoch < self.epoch {
            return Err(superseded(format!("{what} of epoch {epoch}, but epoch {} has taken over", self.epoch)));
        }
        match held.map(Signed::seq) {
            Some(held) if seq == held => Err(superseded(format!("another {what} already has seq {seq}"))),
            Some(held) if seq < held => Err(superseded(format!("{what} with seq {seq} is older than the one held, {held}"))),
            _ => Ok(true),
        }
    }

    fn enter(&mut self, offset: i64, entry: AuditEntry) -> Result<(), CatalogError> {
        self.seq = self.seq.max(entry.seq);
        match self.audit.entry(entry.seq) {
            Entry::Occupied(held) if *held.get() != entry => {
                let why = format!("another audit entry already has seq {}", entry.seq);
                return Err(CatalogError::Superseded { offset, why });
            }
            Entry::Occupied(_) => {}
            Entry::Vacant(place) => {
                place.insert(entry);
            }
        }
        while self.audit.len() > AUDIT_KEPT {
            self.audit.pop_first();
        }
        Ok(())
    }

    fn same_model(&self, offset: i64, found: &str) -> Result<(), CatalogError> {
        if found == self.model {
            return Ok(());
        }
        Err(CatalogError::OtherModel { offset, found: found.to_owned(), expected: self.model.clone() })
    }

    fn took(&mut self, record: &impl Signed) {
        self.seq = self.seq.max(record.seq());
        self.epoch = self.epoch.max(record.epoch());
    }

    fn saw(&mut self, version: Version) {
        self.highest = self.highest.max(Some(version));
    }
}

/// What the rules need of the records whose latest wins.
trait Signed: PartialEq {
    const WHAT: &'static str;
    fn model(&self) -> &str;
    fn seq(&self) -> u64;
    fn epoch(&self) -> u64;
}

macro_rules! signed {
    ($($record:ty => $what:literal),*) => {$(
        impl Signed for $record {
            const WHAT: &'static str = $what;
            fn model(&self) -> &str {
                &self.model
            }
            fn seq(&self) -> u64 {
                self.seq
            }
            fn epoch(&self) -> u64 {
                self.epoch
            }
        }
    )*};
}

signed!(Manifest => "manifest", Pointer => "pointer", Pin => "pin", Lease => "lease");

#[cfg(test)]
mod tests;
