use super::{ImpressionId, ScoredSample};

/// An impression that was trained while its window is open: its label is not final yet.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OpenImpression {
    /// Where in its partition it was read.
    pub offset: i64,
    /// Its id, for the memory of the join.
    pub impression: Option<ImpressionId>,
    /// The scores it got then, and the label it has so far.
    pub sample: ScoredSample,
}
