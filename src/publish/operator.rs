use super::topic::{Entry, Exhausted, FetchError, Topic};
use crate::domain::Version;
use crate::keys::Keyring;
use crate::serving::{Catalog, Objects};
use crate::stream::{LogReader, LogWriter, StreamError};
use crate::wire::snapshot::{Act, AuditEntry, Group, Key, Manifest, PROTOCOL, Pin, Pointer};

/// Why an act was refused. Nothing was written, but for [`OperatorError::Contended`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The topic.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// No such version.
    #[error("version {version} is not on the snapshot topic; it holds {held}")]
    UnknownVersion {
        /// Asked for.
        version: Version,
        /// What there is, or `none`.
        held: String,
    },
    /// There, but not whole.
    #[error("version {version}: {why}")]
    Damaged {
        /// Version.
        version: Version,
        /// Which chunk or check.
        why: String,
    },
    /// The topic's numbers are used up.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// Nothing is pinned.
    #[error("{} is pinned", group.as_ref().map_or_else(|| "nothing".to_owned(), |group| format!("no version for group `{group}`")))]
    NotPinned {
        /// Which servers; none: all.
        group: Option<Group>,
    },
    /// A pin holds every server at another version.
    #[error(
        "version {version} would not be served: version {pinned} is pinned by {actor}: {reason}; lift that with `rocketctl unpin` first"
    )]
    Pinned {
        /// Asked for.
        version: Version,
        /// Pinned.
        pinned: Version,
        /// By whom.
        actor: String,
        /// Why.
        reason: String,
    },
    /// Not later than what is current.
    #[error("version {version} is not later than {current}, which is current; to go back is `rocketctl rollback`")]
    NotForward {
        /// Asked for.
        version: Version,
        /// Where `current` points.
        current: Version,
    },
    /// Somebody else's act, or a trainer's restart, came in between; what was written does not count.
    #[error("{other} came in between, and this act does not count; look at `rocketctl history` and run it again")]
    Contended {
        /// What came in between.
        other: String,
    },
}

/// An operator at the snapshot topic.
pub struct Operator {
    topic: Topic,
    model: String,
    actor: String,
}

impl Operator {
    /// Reads the topic to its end. What is not signed by whom `keys` trusts does not count; acts are signed with its own key.
    ///
    /// # Errors
    /// [`OperatorError::Stream`].
    pub fn open(
        model: &str,
        actor: &str,
        keys: Keyring,
        reader: Box<dyn LogReader>,
        writer: Box<dyn LogWriter>,
    ) -> Result<Self, OperatorError> {
        Ok(Operator { topic: Topic::open(model, keys, reader, writer)?, model: model.to_owned(), actor: actor.to_owned() })
    }

    /// Says where artifacts lie that are too large for the topic.
    #[must_use]
    pub fn fetching_objects(mut self, objects: Objects) -> Self {
        self.topic.fetch_objects(objects);
        self
    }

    /// The topic as read.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        self.topic.catalog()
    }

    /// Reads on to what is the end now.
    ///
    /// # Errors
    /// [`OperatorError::Stream`].
    pub fn refresh(&mut self) -> Result<&Catalog, OperatorError> {
        self.topic.refresh()?;
        Ok(self.topic.catalog())
    }

    /// Fetches a version and verifies all of it as a subscriber would (hashes, tensors, probes).
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn verify(&mut self, version: Version) -> Result<Manifest, OperatorError> {
        let opened = self.topic.open_version(version).map(|model| model.manifest().clone());
        opened.map_err(|error| self.unfetched(version, error))
    }

    /// A version's manifest and its artifact, safetensors, whichever way it was sent: hashed, not opened.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn fetch(&mut self, version: Version) -> Result<(Manifest, Vec<u8>), OperatorError> {
        self.topic.fetch(version).map_err(|error| self.unfetched(version, error))
    }

    fn unfetched(&self, version: Version, error: FetchError) -> OperatorError {
        match error {
            FetchError::Stream(error) => OperatorError::Stream(error),
            FetchError::Unknown => OperatorError::UnknownVersion { version, held: held_versions(self.catalog()) },
            FetchError::Damaged(why) => OperatorError::Damaged { version, why },
        }
    }

    /// Verifies `to`, then writes `a/current`, `p/all` and the audit entry.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn rollback(&mut self, to: Version, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        self.topic.refresh()?;
        self.verify(to)?;
        // Of the pointer, the pin and the audit entry.
        let pointer = self.pointer(self.topic.next_seq(3)?, to, reason, now_ms);
        let pin = self.pin_record(pointer.seq + 1, Some(to), None, reason, now_ms);
        let audit = self.audit(pin.seq + 1, Act::Rollback, Some(to), reason, now_ms);
        self.write(vec![Written::Pointer(pointer), Written::Pin(None, pin)], &audit)
    }

    /// Verifies a version later than the one of `current`, and moves `current` to it: one that a gate has held back, or that a canary is
    /// still tried with.
    ///
    /// # Errors
    /// [`OperatorError`]; [`OperatorError::Pinned`] and [`OperatorError::NotForward`] among them.
    pub fn promote(&mut self, version: Version, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        self.topic.refresh()?;
        self.may_promote(version, now_ms)?;
        self.verify(version)?;
        // Of the pointer and the audit entry.
        let pointer = self.pointer(self.topic.next_seq(2)?, version, reason, now_ms);
        let audit = self.audit(pointer.seq + 1, Act::Promote, Some(version), reason, now_ms);
        self.write(vec![Written::Pointer(pointer)], &audit)
    }

    /// Whether [`Operator::promote`] would be refused for where the topic stands.
    ///
    /// # Errors
    /// [`OperatorError::Pinned`], [`OperatorError::NotForward`].
    pub fn may_promote(&self, version: Version, now_ms: i64) -> Result<(), OperatorError> {
        let catalog = self.catalog();
        if let Some((pin, pinned)) = catalog.pinned(now_ms).filter(|(_, pinned)| *pinned != version) {
            return Err(OperatorError::Pinned { version, pinned, actor: pin.actor.clone(), reason: pin.reason.clone() });
        }
        match catalog.current().map(|pointer| pointer.version) {
            Some(current) if version <= current => Err(OperatorError::NotForward { version, current }),
            _ => Ok(()),
        }
    }

    /// Verifies and pins every server.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn pin(&mut self, version: Version, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        self.pin_for(version, None, None, reason, now_ms)
    }

    /// Verifies and pins the servers of a group, or every server, until a time or for good.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn pin_for(
        &mut self,
        version: Version,
        group: Option<Group>,
        expires_ms: Option<i64>,
        reason: &str,
        now_ms: i64,
    ) -> Result<(), OperatorError> {
        self.topic.refresh()?;
        self.verify(version)?;
        let pin = self.pin_record(self.topic.next_seq(2)?, Some(version), expires_ms, reason, now_ms);
        let from = self.catalog().target_of("", group.as_ref(), now_ms);
        let audit =
            AuditEntry { from, group: group.clone(), expires_ms, ..self.audit(pin.seq + 1, Act::Pin, Some(version), reason, now_ms) };
        self.write(vec![Written::Pin(group, pin)], &audit)
    }

    /// Lifts the pin of every server.
    ///
    /// # Errors
    /// [`OperatorError::NotPinned`].
    pub fn unpin(&mut self, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        self.unpin_from(None, reason, now_ms)
    }

    /// Lifts the pin of a group, or of every server.
    ///
    /// # Errors
    /// [`OperatorError::NotPinned`].
    pub fn unpin_from(&mut self, group: Option<Group>, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        self.topic.refresh()?;
        let catalog = self.catalog();
        let held = catalog.pin_of(group.as_ref()).and_then(|pin| pin.holds(now_ms));
        let from = held.ok_or_else(|| OperatorError::NotPinned { group: group.clone() })?;
        let to = catalog.target_without(group.as_ref(), now_ms);
        let pin = self.pin_record(self.topic.next_seq(2)?, None, None, reason, now_ms);
        let audit = AuditEntry { from: Some(from), group: group.clone(), ..self.audit(pin.seq + 1, Act::Unpin, to, reason, now_ms) };
        self.write(vec![Written::Pin(group, pin)], &audit)
    }

    fn pointer(&self, seq: u64, version: Version, reason: &str, now_ms: i64) -> Pointer {
        Pointer {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            epoch: self.catalog().epoch(),
            version,
            highest: self.catalog().highest_current().max(Some(version)),
            actor: self.actor.clone(),
            reason: reason.to_owned(),
            at_ms: now_ms,
        }
    }

    fn pin_record(&self, seq: u64, version: Option<Version>, expires_ms: Option<i64>, reason: &str, now_ms: i64) -> Pin {
        Pin {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            epoch: self.catalog().epoch(),
            version,
            expires_ms,
            actor: self.actor.clone(),
            reason: reason.to_owned(),
            at_ms: now_ms,
        }
    }

    fn audit(&self, seq: u64, act: Act, to: Option<Version>, reason: &str, now_ms: i64) -> AuditEntry {
        AuditEntry {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            act,
            from: self.catalog().target(now_ms),
            to,
            group: None,
            expires_ms: None,
            actor: self.actor.clone(),
            reason: reason.to_owned(),
            at_ms: now_ms,
        }
    }

    /// Appends all and the audit entry as one, then reads back: readers take the first of two records with one `seq`, so an act counts only
    /// if the topic's fold shows it.
    fn write(&mut self, all: Vec<Written>, audit: &AuditEntry) -> Result<(), OperatorError> {
        let mut entries: Vec<Entry> = all
            .iter()
            .map(|written| match written {
                Written::Pointer(pointer) => self.topic.sealed(&Key::Current, pointer),
                Written::Pin(None, pin) => self.topic.sealed(&Key::PinAll, pin),
                Written::Pin(Some(group), pin) => self.topic.sealed(&Key::PinGroup(group.clone()), pin),
            })
            .collect();
        entries.push(self.topic.sealed(&Key::Audit(audit.seq), audit));
        self.topic.append(&entries)?;
        self.topic.refresh()?;
        all.iter().try_for_each(|written| written.counts(self.catalog()))
    }
}

/// A record that an act stands or falls with.
enum Written {
    Pointer(Pointer),
    Pin(Option<Group>, Pin),
}

impl Written {
    fn counts(&self, catalog: &Catalog) -> Result<(), OperatorError> {
        let (seq, held) = match self {
            Written::Pointer(pointer) if catalog.current() == Some(pointer) => return Ok(()),
            Written::Pointer(pointer) => (pointer.seq, catalog.current().map(|held| (held.seq, &held.actor, &held.reason))),
            Written::Pin(group, pin) if catalog.pin_of(group.as_ref()) == Some(pin) => return Ok(()),
            Written::Pin(group, pin) => (pin.seq, catalog.pin_of(group.as_ref()).map(|held| (held.seq, &held.actor, &held.reason))),
        };
        let other = match held.filter(|(held, ..)| *held >= seq) {
            Some((_, actor, reason)) => format!("an act of {actor} ({reason})"),
            None => "a start of the trainer".to_owned(),
        };
        Err(OperatorError::Contended { other })
    }
}

/// The versions on the topic, for errors: `1, 2, 5` or `none`.
#[must_use]
pub fn held_versions(catalog: &Catalog) -> String {
    let versions: Vec<String> = catalog.manifests().keys().map(Version::to_string).collect();
    if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
}
