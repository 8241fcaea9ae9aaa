//! The words everybody uses: times, positions, events, samples, versions. No I/O, no clock, no other room.

mod books;
mod event;
mod open;
mod position;
mod quarantine;
mod scored;
mod version;

pub use books::Books;
pub use event::{Event, EventTime, Field, ImpressionId, Label, Role, Sample, Stage, Text, UserId};
pub use open::OpenImpression;
pub use position::{Mark, Origin, PartitionIndex, PartitionPosition, Record, TopicPartition};
pub use quarantine::Quarantine;
pub use scored::ScoredSample;
pub use version::Version;

/// The heads whose scores are kept apart in every metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// The small net that is served.
    Light,
    /// The big net that teaches it.
    Booster,
    /// A net of light's shape trained on labels alone: its distance to light is what the hint is worth.
    Control,
}

impl Head {
    /// Every head, in the order of [`Head::index`].
    pub const ALL: [Head; 3] = [Head::Light, Head::Booster, Head::Control];

    /// Position in arrays that hold one value per head.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in metrics, JSON and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Head::Light => "light",
            Head::Booster => "booster",
            Head::Control => "control",
        }
    }
}

/// Why an event left the pipeline without being trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// A record without a value on an event topic.
    Tombstone,
    /// The impression id was already pending or recently closed.
    DuplicateImpression,
    /// The impression already has its click.
    DuplicateClick,
    /// The click came after its impression's window, or after its sample was emitted.
    LateClick,
    /// No impression with this id came within window and grace.
    ClickWithoutImpression,
    /// An unclicked impression that `train.negatives.keep` left out.
    NotSampled,
    /// The offset does not exist on the broker (compacted away, or a control record).
    MissingOffset,
    /// Passed over unread by `rocketctl offsets reset`.
    SkippedByOperator,
    /// Its time lies in a range that an operator has put into quarantine (`rocketctl rollback --rewind-trainer --quarantine`).
    Quarantined,
}

impl DropReason {
    /// Every reason, for exhaustive counters.
    pub const ALL: [DropReason; 9] = [
        DropReason::Tombstone,
        DropReason::DuplicateImpression,
        DropReason::DuplicateClick,
        DropReason::LateClick,
        DropReason::ClickWithoutImpression,
        DropReason::NotSampled,
        DropReason::MissingOffset,
        DropReason::SkippedByOperator,
        DropReason::Quarantined,
    ];

    /// The label in metrics, JSON and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::Tombstone => "tombstone",
            DropReason::DuplicateImpression => "duplicate_impression",
            DropReason::DuplicateClick => "duplicate_click",
            DropReason::LateClick => "late_click",
            DropReason::ClickWithoutImpression => "click_without_impression",
            DropReason::NotSampled => "not_sampled",
            DropReason::MissingOffset => "missing_offset",
            DropReason::SkippedByOperator => "skipped_by_operator",
            DropReason::Quarantined => "quarantined",
        }
    }
}
