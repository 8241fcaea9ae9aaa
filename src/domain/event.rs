use super::position::Origin;

/// An id or a value as text. Up to 23 bytes lie in it: ids of most streams need no memory of their own.
pub type Text = smol_str::SmolStr;

/// Event time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

/// A user, as the event names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UserId(pub Text);

/// XXH3-128 of the impression id: what the join and its memory are keyed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ImpressionId(pub u128);

/// What a topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Impressions that already bear their label.
    Labelled,
    /// Impressions whose click comes apart.
    Impression,
    /// Clicks: an impression id and a time.
    Click,
}

/// Clicked or not.
pub type Label = bool;

/// Which of its impression's samples a sample is. Where labels are not waited for, an impression that is clicked has two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// The only one: its label is final.
    #[default]
    Final,
    /// The first: not clicked so far, its window is open.
    Open,
    /// The second: the click of an impression that left as [`Stage::Open`], and where that was read.
    Delayed(Origin),
}

/// One feature's raw value, before hashing and transforms.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// Absent, null or empty.
    Missing,
    /// A categorical value.
    Text(Text),
    /// A number; always finite (decoders refuse the others).
    Number(f64),
    /// A multi-valued feature.
    List(Box<[Text]>),
}

/// A decoded event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where it was read.
    pub origin: Origin,
    /// What its topic carries.
    pub role: Role,
    /// When it happened.
    pub time: EventTime,
    /// Always there on `Impression` and `Click`.
    pub impression: Option<ImpressionId>,
    /// Empty on clicks.
    pub user: UserId,
    /// Only on `Labelled`.
    pub label: Option<Label>,
    /// One per feature of the schema, in its order; empty on clicks.
    pub fields: Box<[Field]>,
}

/// A labelled example, ready for feature work.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Every event it was made from that no sample before it was made from: done when it is trained.
    pub origins: Vec<Origin>,
    /// When the impression happened.
    pub time: EventTime,
    /// For the memory of the join.
    pub impression: Option<ImpressionId>,
    /// Who saw it.
    pub user: UserId,
    /// Clicked or not.
    pub label: Label,
    /// Whether that is final.
    pub stage: Stage,
    /// One per feature of the schema, in its order.
    pub fields: Box<[Field]>,
}
