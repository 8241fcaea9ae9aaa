use super::topic::{Entry, Exhausted, FetchError, Topic};
use crate::domain::Version;
use crate::keys::Keyring;
use crate::serving::Catalog;
use crate::stream::{LogReader, LogWriter, StreamError};
use crate::wire::snapshot::{Act, AuditEntry, Key, Manifest, PROTOCOL, Pin, Pointer};

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
    #[error("nothing is pinned")]
    NotPinned,
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

    /// The topic as read.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        self.topic.catalog()
    }

    /// Fetches a version and verifies all of it as a subscriber would (hashes, tensors, probes).
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn verify(&mut self, version: Version) -> Result<Manifest, OperatorError> {
        self.fetch(version).map(|(manifest, _)| manifest)
    }

    /// As [`Operator::verify`], with the artifact's bytes.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn fetch(&mut self, version: Version) -> Result<(Manifest, Vec<u8>), OperatorError> {
        self.topic.fetch(version).map_err(|error| match error {
            FetchError::Stream(error) => OperatorError::Stream(error),
            FetchError::Unknown => OperatorError::UnknownVersion { version, held: held_versions(self.catalog()) },
            FetchError::Damaged(why) => OperatorError::Damaged { version, why },
        })
    }

    /// Verifies `to`, then writes `a/current`, `p/all` and the audit entry.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn rollback(&mut self, to: Version, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        self.topic.refresh()?;
        self.verify(to)?;
        let from = self.catalog().target();
        let pointer = Pointer {
            proto: PROTOCOL,
            model: self.model.clone(),
            // Of the pointer, the pin and the audit entry.
            seq: self.topic.next_seq(3)?,
            epoch: self.catalog().epoch(),
            version: to,
            highest: self.catalog().highest_current().max(Some(to)),
            actor: self.actor.clone(),
            reason: reason.to_owned(),
            at_ms: now_ms,
        };
        let pin = self.pin_record(pointer.seq + 1, Some(to), reason, now_ms);
        let moved = self.topic.sealed(&Key::Current, &pointer);
        self.write(vec![moved], pin, Act::Rollback, from, Some(to))
    }

    /// Verifies and pins.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn pin(&mut self, version: Version, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        self.topic.refresh()?;
        self.verify(version)?;
        let from = self.catalog().target();
        let pin = self.pin_record(self.topic.next_seq(2)?, Some(version), reason, now_ms);
        self.write(Vec::new(), pin, Act::Pin, from, Some(version))
    }

    /// Lifts the pin.
    ///
    /// # Errors
    /// [`OperatorError::NotPinned`].
    pub fn unpin(&mut self, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        self.topic.refresh()?;
        let pinned = self.catalog().pin().and_then(|pin| pin.version).ok_or(OperatorError::NotPinned)?;
        let to = self.catalog().current().map(|pointer| pointer.version);
        let pin = self.pin_record(self.topic.next_seq(2)?, None, reason, now_ms);
        self.write(Vec::new(), pin, Act::Unpin, Some(pinned), to)
    }

    fn pin_record(&self, seq: u64, version: Option<Version>, reason: &str, now_ms: i64) -> Pin {
        Pin {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq,
            epoch: self.catalog().epoch(),
            version,
            actor: self.actor.clone(),
            reason: reason.to_owned(),
            at_ms: now_ms,
        }
    }

    /// Appends `entries`, the pin and the audit entry as one, then reads back: readers take the first of two records with one `seq`, so an
    /// act counts only if the topic's fold shows it.
    fn write(
        &mut self,
        mut entries: Vec<Entry>,
        pin: Pin,
        act: Act,
        from: Option<Version>,
        to: Option<Version>,
    ) -> Result<(), OperatorError> {
        let audit = AuditEntry {
            proto: PROTOCOL,
            model: self.model.clone(),
            seq: pin.seq + 1,
            act,
            from,
            to,
            actor: self.actor.clone(),
            reason: pin.reason.clone(),
            at_ms: pin.at_ms,
        };
        entries.push(self.topic.sealed(&Key::PinAll, &pin));
        entries.push(self.topic.sealed(&Key::Audit(audit.seq), &audit));
        self.topic.append(&entries)?;
        self.topic.refresh()?;
        match self.catalog().pin() {
            Some(held) if *held == pin => Ok(()),
            Some(held) if held.seq >= pin.seq => {
                Err(OperatorError::Contended { other: format!("an act of {} ({})", held.actor, held.reason) })
            }
            _ => Err(OperatorError::Contended { other: "a start of the trainer".to_owned() }),
        }
    }
}

/// The versions on the topic, for errors: `1, 2, 5` or `none`.
#[must_use]
pub fn held_versions(catalog: &Catalog) -> String {
    let versions: Vec<String> = catalog.manifests().keys().map(Version::to_string).collect();
    if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
}
