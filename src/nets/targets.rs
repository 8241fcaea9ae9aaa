use crate::domain::{Label, Stage};

/// What the logits of a batch are held against.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// Labels `[rows]`.
    pub labels: &'a [Label],
    /// Whether they are final, `[rows]`; empty where all are.
    pub stages: &'a [Stage],
    /// Logits of the frozen teacher `[rows]`, where there is one.
    pub teacher: Option<&'a [f32]>,
}

impl Targets<'_> {
    /// Whether the label of this row is final.
    pub(super) fn stage(&self, row: usize) -> Stage {
        self.stages.get(row).copied().unwrap_or_default()
    }
}

/// Labels that are final, without a teacher.
impl<'a, L: AsRef<[Label]> + ?Sized> From<&'a L> for Targets<'a> {
    fn from(labels: &'a L) -> Self {
        Targets { labels: labels.as_ref(), stages: &[], teacher: None }
    }
}
