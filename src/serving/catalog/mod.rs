mod error;
mod marks;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Deserialize;

pub use self::error::CatalogError;
pub use self::marks::Marks;
use crate::domain::Version;
use crate::keys::{Role, Trust};
use crate::stream::LogRecord;
use crate::wire::snapshot::{
    AuditEntry, Canary, Group, Key, Lease, Manifest, NUMBER_MAX, Pin, Pointer, RECORD_BYTES_MAX, RecordError, WHOLE_PPM, open_as,
};

/// Newest audit entries kept in memory: a promotion a minute for a week. The topic keeps them all.
const AUDIT_KEPT: usize = 10_080;
/// Groups whose pins are kept in memory: more than anybody tells apart, and a bound where nothing is verified.
const GROUPS_MAX: usize = 256;

/// The fold of a snapshot topic: latest per key, chunk offsets, and what follows from them. No I/O.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    model: String,
    trust: Trust,
    manifests: BTreeMap<Version, Manifest>,
    chunks: BTreeMap<(Version, u32), i64>,
    current: Option<Pointer>,
    canary: Option<Canary>,
    pin: Option<Pin>,
    group_pins: BTreeMap<Group, Pin>,
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
    /// | a pin that had expired when it was written | no |
    /// | a trainer's pointer to a version not above the highest that `current` has named | no |
    /// | a trainer's canary likewise, unless it names the version of `current`: taken back | no |
    ///
    /// The last two: an honest trainer promotes only what is newer than all before. The highest and not the one served now, since after a
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
            Key::Canary => {
                let (canary, signer) = self.open::<Canary>("canary", &key, offset, value)?;
                self.give_to_some(offset, canary, signer)
            }
            Key::PinAll => {
                let (pin, _) = self.open::<Pin>("pin", &key, offset, value)?;
                let held = self.pin.clone();
                if self.holds(offset, &pin, held.as_ref())? {
                    self.pin = Some(pin);
                }
                Ok(())
            }
            Key::PinGroup(ref group) => {
                let (pin, _) = self.open::<Pin>("pin", &key, offset, value)?;
                let held = self.group_pins.get(group).cloned();
                if held.is_none() && self.group_pins.len() == GROUPS_MAX {
                    return Err(mislabelled(offset, "pin", format!("there are pins of {GROUPS_MAX} groups already")));
                }
                if self.holds(offset, &pin, held.as_ref())? {
                    self.group_pins.insert(group.clone(), pin);
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

    /// The version that a server should serve which is in no group and not in the canary's share: that of the pin of all, by a clock, else
    /// `current`'s.
    #[must_use]
    pub fn target(&self, now_ms: i64) -> Option<Version> {
        self.target_of("", None, now_ms)
    }

    /// The version that this server should serve, by a clock: that of its group's pin, else of the pin of all, else the canary's where the
    /// server is in its share, else `current`'s.
    #[must_use]
    pub fn target_of(&self, host: &str, group: Option<&Group>, now_ms: i64) -> Option<Version> {
        let own = group.and_then(|group| self.group_pins.get(group)).and_then(|pin| pin.holds(now_ms));
        let pinned = || self.pin.as_ref().and_then(|pin| pin.holds(now_ms));
        let canary = || self.canary().filter(|canary| canary.takes(host)).map(|canary| canary.version);
        own.or_else(pinned).or_else(canary).or_else(|| self.current.as_ref().map(|pointer| pointer.version))
    }

    /// What the servers of a group, or those of none, would serve without their own pin; the canary left out.
    #[must_use]
    pub fn target_without(&self, group: Option<&Group>, now_ms: i64) -> Option<Version> {
        let pinned = group.and_then(|_| self.pinned(now_ms)).map(|(_, version)| version);
        pinned.or_else(|| self.current.as_ref().map(|pointer| pointer.version))
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

    /// The canary, while a share of the servers serves another version than `current`'s. Whoever moves `current` ends it: a canary written
    /// before that is over.
    #[must_use]
    pub fn canary(&self) -> Option<&Canary> {
        let current = self.current.as_ref()?;
        self.canary.as_ref().filter(|canary| canary.seq > current.seq && canary.version != current.version)
    }

    /// The pin record of all servers; one with version `None` means unpinned.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// The pin record of a group, or of all servers.
    #[must_use]
    pub fn pin_of(&self, group: Option<&Group>) -> Option<&Pin> {
        group.map_or(self.pin.as_ref(), |group| self.group_pins.get(group))
    }

    /// The pin records of groups; one with version `None` means unpinned.
    pub fn group_pins(&self) -> impl Iterator<Item = (&Group, &Pin)> {
        self.group_pins.iter()
    }

    /// The pin of all servers and its version, while it holds.
    #[must_use]
    pub fn pinned(&self, now_ms: i64) -> Option<(&Pin, Version)> {
        let pin = self.pin.as_ref()?;
        Some((pin, pin.holds(now_ms)?))
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
            canary_seq: self.canary.as_ref().map_or(0, |canary| canary.seq),
            group_pin_seqs: self.group_pins.iter().map(|(group, pin)| (group.clone(), pin.seq)).collect(),
        }
    }

    /// Highest version seen in any manifest, pin, pointer or canary; where nothing is verified, also in any chunk or tombstone. Those are not signed,
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

    fn give_to_some(&mut self, offset: i64, canary: Canary, signer: Option<Role>) -> Result<(), CatalogError> {
        let version = canary.version;
        counts(offset, "canary", version.0)?;
        if canary.share_ppm > WHOLE_PPM {
            return Err(mislabelled(offset, "canary", format!("share_ppm {} is above {WHOLE_PPM}, which is all", canary.share_ppm)));
        }
        if !self.admits(offset, &canary, self.canary.as_ref())? {
            return Ok(());
        }
        let taken_back = self.current.as_ref().is_some_and(|pointer| pointer.version == version);
        match self.highest_current {
            Some(highest) if signer == Some(Role::Trainer) && version <= highest && !taken_back => {
                return Err(CatalogError::Backward { offset, version, highest });
            }
            _ => {}
        }
        self.took(&canary);
        self.saw(version);
        self.canary = Some(canary);
        Ok(())
    }

    /// Whether a pin takes the place of the one held.
    fn holds(&mut self, offset: i64, pin: &Pin, held: Option<&Pin>) -> Result<bool, CatalogError> {
        counts(offset, "pin", pin.version.map_or(0, |version| version.0))?;
        if let Some(expires_ms) = pin.expires_ms.filter(|expires_ms| *expires_ms <= pin.at_ms) {
            return Err(CatalogError::Expired { offset, at_ms: pin.at_ms, expires_ms });
        }
        let admitted = self.admits(offset, pin, held)?;
        if admitted {
            self.took(pin);
            pin.version.into_iter().for_each(|version| self.saw(version));
        }
        Ok(admitted)
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
            Key::Current | Key::Canary | Key::PinAll | Key::PinGroup(_) | Key::Lease | Key::Audit(_) => {}
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

signed!(Manifest => "manifest", Pointer => "pointer", Canary => "canary", Pin => "pin", Lease => "lease");

#[cfg(test)]
mod tests;
