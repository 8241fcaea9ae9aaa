//! A checkpoint that was written under another schema.

use serde_json::Value;

use super::PipelineError;
use crate::checkpoint::Evidence;
use crate::config::{Config, FeatureConfig, Mismatch, SchemaConfig};
use crate::features::FeatureSpec;
use crate::train::{Learner, LearnerState};

/// Gives the learner the state of a checkpoint of schema `saved`, by `checkpoint.mismatch`. Returns what could not be taken over.
pub(super) fn restore(
    config: &Config,
    learner: &mut Learner,
    state: LearnerState,
    saved: Option<&SchemaConfig>,
) -> Result<Vec<String>, PipelineError> {
    let dim = state.rows.first().map_or(config.model.embedding.dim, |rows| rows.dim);
    let columns = match saved {
        Some(schema) => Some(FeatureSpec::new(schema)?.columns(dim)),
        None => None,
    };
    match config.checkpoint.mismatch {
        Mismatch::Refuse => {
            if let Some(columns) = &columns {
                learner.check_columns(columns)?;
            }
            learner.restore(state)?;
            Ok(Vec::new())
        }
        Mismatch::WarmStart => {
            let lines = learner.warm_start(state, columns.as_deref())?;
            lines.iter().for_each(|line| tracing::warn!("warm start: {line}"));
            Ok(lines)
        }
    }
}

/// Moves raw fields from the order of one schema's features into that of another's.
pub(super) struct FieldsMoved {
    /// One per feature; `None` for one that was not there, or was something else.
    places: Vec<Option<usize>>,
    before: usize,
}

impl FieldsMoved {
    /// From `saved`, which is as `now` where it is not known, to `now`.
    pub(super) fn new(saved: Option<&SchemaConfig>, now: &SchemaConfig) -> Self {
        let saved = saved.unwrap_or(now);
        let same = |a: &FeatureConfig, b: &FeatureConfig| a.name == b.name && a.column == b.column && a.kind == b.kind;
        let place = |feature| saved.features.iter().position(|before| same(before, feature));
        FieldsMoved { places: now.features.iter().map(place).collect(), before: saved.features.len() }
    }

    /// `None` for fields that are not of the saved schema.
    pub(super) fn moved(&self, fields: &[Value]) -> Option<Vec<Value>> {
        let field = |place: &Option<usize>| place.and_then(|place| fields.get(place)).cloned().unwrap_or(Value::Null);
        (fields.len() == self.before).then(|| self.places.iter().map(field).collect())
    }

    pub(super) fn evidence(&self, mut evidence: Evidence) -> Evidence {
        for samples in [&mut evidence.window, &mut evidence.vouched] {
            samples.retain_mut(|sample| match self.moved(&sample.fields) {
                Some(fields) => {
                    sample.fields = fields;
                    true
                }
                None => false,
            });
        }
        evidence
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::FeatureKind;

    fn schema(names: &[&str]) -> SchemaConfig {
        SchemaConfig::labelled(names.iter().map(|name| FeatureConfig::new(name, FeatureKind::Categorical)).collect())
    }

    #[test]
    fn fields_follow_their_features() {
        let moved = FieldsMoved::new(Some(&schema(&["a", "b", "c"])), &schema(&["c", "new", "a"]));
        assert_eq!(moved.moved(&[json!(1), json!(2), json!(3)]), Some(vec![json!(3), Value::Null, json!(1)]));
        assert_eq!(moved.moved(&[json!(1)]), None);
        let same = FieldsMoved::new(None, &schema(&["a", "b"]));
        assert_eq!(same.moved(&[json!(1), json!(2)]), Some(vec![json!(1), json!(2)]));
    }

    #[test]
    fn a_feature_that_became_something_else_is_another_one() {
        let mut now = schema(&["a", "b"]);
        now.features[0].kind = FeatureKind::Log1p;
        let moved = FieldsMoved::new(Some(&schema(&["a", "b"])), &now);
        assert_eq!(moved.moved(&[json!("x"), json!("y")]), Some(vec![Value::Null, json!("y")]));
    }
}
