use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use crate::domain::Version;
use crate::keys::{Role, Trust, Unverified};
use crate::stream::LogRecord;
use crate::wire::snapshot::{AuditEntry, Key, Lease, Manifest, NUMBER_MAX, Pin, Pointer, RECORD_BYTES_MAX, RecordError, open_as};

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
    /// Written under a superseded epoch.
    #[error("offset {offset}: {what} of epoch {epoch}, but epoch {current} has taken over")]
    Superseded {
        /// Its offset.
        offset: i64,
        /// Kind of record.
        what: &'static str,
        /// Its epoch.
        epoch: u64,
        /// The epoch that counts.
        current: u64,
    },
    /// Not newer than what its key already holds.
    #[error("offset {offset}: {why}")]
    Replayed {
        /// Its offset.
        offset: i64,
        /// Which rule.
        why: String,
    },
    /// A trainer points back.
    #[error(
        "offset {offset}: trainer's pointer to version {version}, but `current` has named version {highest}: only an operator goes back"
    )]
    Backward {
        /// Its offset.
        offset: i64,
        /// Its target.
        version: Version,
        /// The highest that `current` has named.
        highest: Version,
    },
}

impl CatalogError {
    /// The label in metrics and status.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            CatalogError::Record { source: RecordError::TooLarge(_), .. } => "record_too_large",
            CatalogError::Record { source: RecordError::Protocol { .. }, .. } => "record_protocol",
            CatalogError::Record { source: RecordError::Unsigned { .. }, .. } => "record_unsigned",
            CatalogError::Record { source: RecordError::Signature { why: Unverified::UnknownKey { .. }, .. }, .. } => "record_unknown_key",
            CatalogError::Record { source: RecordError::Signature { .. }, .. } => "record_signature",
            CatalogError::Record { source: RecordError::Role { .. }, .. } => "record_role",
            CatalogError::Record { .. } => "record_malformed",
            CatalogError::OtherModel { .. } => "record_other_model",
            CatalogError::Superseded { .. } => "record_superseded",
            CatalogError::Replayed { .. } => "record_replayed",
            CatalogError::Backward { .. } => "record_backward",
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
    trust: Trust,
    manifests: BTreeMap<Version, Manifest>,
    chunks: BTreeMap<(Version, u32), i64>,
    current: Option<Pointer>,
    pin: Option<Pin>,
    lease: Option<Lease>,
    audit: BTreeMap<u64, AuditEntry>,
    seq: u64,
    epoch: u64,
    highest: Option<Version>,
    highest_current: Option<Version>,
}

impl Catalog {
    /// Empty, for this model; whoever writes is believed.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Catalog::trusting(model, Trust::default())
    }

    /// Empty, for this model; only what these keys sign is taken in, each in its role. With no key, as [`Catalog::new`].
    #[must_use]
    pub fn trusting(model: &str, trust: Trust) -> Self {
        Catalog { model: model.to_owned(), trust, ..Catalog::default() }
    }

    /// Takes one record in. Tombstones on `c/` and `m/` mean collected; on other keys they are ignored. Keys of unknown kinds are skipped.
    ///
    /// | record | taken in |
    /// |---|---|
    /// | equal to what its key holds | yes; changes nothing |
    /// | not signed by a trusted key in its role (where any is trusted) | no |
    /// | of another model, newer protocol, above the size limit, or not what its key says | no |
    /// | epoch below the highest seen (audit entries have none) | no |
    /// | seq not above what its key holds | no |
    /// | a trainer's pointer to a version not above the highest that `current` has named | no |
    ///
    /// The last: an honest trainer promotes only what is newer than all before. The highest and not the one served now, since after a
    /// rollback from 9 to 7 a stolen trainer's key, or a trainer that repeats its last publication, must not bring back 8 or 9.
    ///
    /// # Errors
    /// [`CatalogError`]: the record is not taken in; everything else stays.
    pub fn apply(&mut self, record: &LogRecord) -> Result<(), CatalogError> {
        let Some(key) = Key::parse(&record.key) else { return Ok(()) };
        let Some(value) = &record.value else {
            self.collect(&key);
            return Ok(());
        };
        let offset = record.offset;
        match key {
            Key::Chunk(version, index) => {
                if value.len() > RECORD_BYTES_MAX {
                    return Err(CatalogError::Record { offset, source: RecordError::TooLarge(value.len()) });
                }
                counts(offset, "chunk", version.0)?;
                let held = self.chunks.entry((version, index)).or_insert(offset);
                *held = offset.max(*held);
                self.saw_unsigned(version);
                Ok(())
            }
            Key::Manifest(version) => {
                let (manifest, _) = self.open::<Manifest>("manifest", &key, offset, value)?;
                counts(offset, "manifest", manifest.version.0)?;
                if manifest.version != version {
                    return Err(mislabelled(
                        offset,
                        "manifest",
                        format!("its key says version {version}, its payload {}", manifest.version),
                    ));
                }
                if self.admits(offset, &manifest, self.manifests.get(&version))? {
                    self.took(&manifest);
                    self.saw(version);
                    self.manifests.insert(version, manifest);
                }
                Ok(())
            }
            Key::Current => {
                let (pointer, signer) = self.open::<Pointer>("pointer", &key, offset, value)?;
                self.point(offset, pointer, signer)
            }
            Key::PinAll => {
                let (pin, _) = self.open::<Pin>("pin", &key, offset, value)?;
                counts(offset, "pin", pin.version.map_or(0, |version| version.0))?;
                if self.admits(offset, &pin, self.pin.as_ref())? {
                    self.took(&pin);
                    pin.version.into_iter().for_each(|version| self.saw(version));
                    self.pin = Some(pin);
                }
                Ok(())
            }
            Key::Lease => {
                let (lease, _) = self.open::<Lease>("lease", &key, offset, value)?;
                if self.admits(offset, &lease, self.lease.as_ref())? {
                    self.took(&lease);
                    self.lease = Some(lease);
                }
                Ok(())
            }
            Key::Audit(seq) => {
                let (entry, signer) = self.open::<AuditEntry>("audit entry", &key, offset, value)?;
                counts(offset, "audit entry", entry.seq)?;
                if entry.seq != seq {
                    return Err(mislabelled(offset, "audit entry", format!("its key says seq {seq}, its payload {}", entry.seq)));
                }
                if let Some(role) = signer.filter(|role| !entry.act.signers().contains(role)) {
                    return Err(CatalogError::Record { offset, source: RecordError::Role { what: "audit entry", role } });
                }
                self.same_model(offset, &entry.model)?;
                self.enter(offset, entry)
            }
        }
    }

    fn open<T: for<'de> Deserialize<'de>>(
        &self,
        what: &'static str,
        key: &Key,
        offset: i64,
        value: &[u8],
    ) -> Result<(T, Option<Role>), CatalogError> {
        open_as(what, key, value, &self.trust).map_err(|source| CatalogError::Record { offset, source })
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
        let count = u32::try_from(self.manifests.get(&version)?.chunks().count()).ok()?;
        (0..count).map(|index| self.chunk_offset(version, index)).collect()
    }

    /// Offset of a chunk.
    #[must_use]
    pub fn chunk_offset(&self, version: Version, index: u32) -> Option<i64> {
        self.chunks.get(&(version, index)).copied()
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

    /// Highest version seen in any manifest, pin or pointer; where nothing is verified, also in any chunk or tombstone. Those are not signed,
    /// so that where something is, they must not be able to use up numbers.
    #[must_use]
    pub fn highest_version(&self) -> Option<Version> {
        self.highest
    }

    /// Highest version that `current` has ever named.
    #[must_use]
    pub fn highest_current(&self) -> Option<Version> {
        self.highest_current
    }

    fn point(&mut self, offset: i64, pointer: Pointer, signer: Option<Role>) -> Result<(), CatalogError> {
        let version = pointer.version;
        // An operator's pointer says how far those before it went; a trainer's own number is higher than that.
        let named = if signer == Some(Role::Trainer) { version } else { pointer.highest.unwrap_or(version).max(version) };
        counts(offset, "pointer", named.0)?;
        if !self.admits(offset, &pointer, self.current.as_ref())? {
            return Ok(());
        }
        match self.highest_current {
            Some(highest) if signer == Some(Role::Trainer) && version <= highest => {
                return Err(CatalogError::Backward { offset, version, highest });
            }
            _ => {}
        }
        self.took(&pointer);
        self.saw(named);
        self.highest_current = self.highest_current.max(Some(named));
        self.current = Some(pointer);
        Ok(())
    }

    fn collect(&mut self, key: &Key) {
        match *key {
            Key::Chunk(version, index) => {
                self.chunks.remove(&(version, index));
                self.saw_unsigned(version);
            }
            Key::Manifest(version) => {
                self.manifests.remove(&version);
                self.saw_unsigned(version);
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
        let (what, seq, epoch) = (T::WHAT, new.seq(), new.epoch());
        counts(offset, what, seq.max(epoch))?;
        if epoch < self.epoch {
            return Err(CatalogError::Superseded { offset, what, epoch, current: self.epoch });
        }
        let replayed = |why| CatalogError::Replayed { offset, why };
        match held.map(Signed::seq) {
            Some(held) if seq == held => Err(replayed(format!("another {what} already has seq {seq}"))),
            Some(held) if seq < held => Err(replayed(format!("{what} with seq {seq} is older than the one held, {held}"))),
            _ => Ok(true),
        }
    }

    fn enter(&mut self, offset: i64, entry: AuditEntry) -> Result<(), CatalogError> {
        self.seq = self.seq.max(entry.seq);
        match self.audit.entry(entry.seq) {
            Entry::Occupied(held) if *held.get() != entry => {
                let why = format!("another audit entry already has seq {}", entry.seq);
                return Err(CatalogError::Replayed { offset, why });
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

    fn saw_unsigned(&mut self, version: Version) {
        if self.trust.is_empty() && version.0 <= NUMBER_MAX {
            self.saw(version);
        }
    }
}

/// Refuses numbers from which nobody could count on.
fn counts(offset: i64, what: &'static str, number: u64) -> Result<(), CatalogError> {
    if number <= NUMBER_MAX {
        return Ok(());
    }
    Err(mislabelled(offset, what, format!("number {number} is above {NUMBER_MAX}, which no writer reaches")))
}

fn mislabelled(offset: i64, what: &'static str, why: String) -> CatalogError {
    CatalogError::Record { offset, source: RecordError::Malformed { what, why } }
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
