use super::{EventTime, Head, Label, UserId};

/// A sample whose label is final, with the scores it got before anything was learnt from it: what metrics are made of.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScoredSample {
    /// Who saw it.
    pub user: UserId,
    /// When the impression happened.
    pub time: EventTime,
    /// Clicked or not.
    pub label: Label,
    /// In the order of [`Head::ALL`]; `None` where there is no such head.
    pub logits: [Option<f32>; Head::ALL.len()],
    /// Share of the light head's gradient norm that the hint supplied in the step that it was scored in.
    pub hint_share: Option<f64>,
}
