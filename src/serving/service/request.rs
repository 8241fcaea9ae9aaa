use super::{Reason, Refusal};
use crate::domain::EventTime;
use crate::serving::ServedModel;
use crate::serving::shared::now_ms;
use crate::telemetry::names;
use crate::wire::{DecodeError, Object};

/// Candidates to score.
#[derive(Debug)]
pub(in crate::serving) struct ScoreRequest<'a> {
    /// Columns that all candidates share.
    pub(in crate::serving) context: Object<'a>,
    /// Columns of each, over those of the context.
    pub(in crate::serving) candidates: Vec<Object<'a>>,
    /// Event time; now, unless given.
    pub(in crate::serving) time_ms: Option<i64>,
}

/// Scores of every request, in their order: one per candidate, in theirs. One mistake anywhere refuses all.
///
/// `field` names a request in refusals, as the protocol writes it; empty where there is but one.
pub(in crate::serving) fn score(
    model: &ServedModel,
    requests: &[ScoreRequest<'_>],
    candidates_max: usize,
    field: impl Fn(usize) -> String,
) -> Result<Vec<Vec<f32>>, Refusal> {
    let count: usize = requests.iter().map(|request| request.candidates.len()).sum();
    if count > candidates_max {
        let message = format!("{count} candidates; at most {candidates_max} per request");
        let field = if let [_] = requests { format!("{}candidates", field(0)) } else { "requests".to_owned() };
        return Err(Refusal::new(Reason::Invalid, message).at(field).above(candidates_max));
    }
    let now = now_ms();
    let scores: Result<Vec<_>, _> =
        requests.iter().enumerate().map(|(index, request)| score_one(model, request, now, &field(index))).collect();
    let model_name = model.manifest().model.clone();
    if scores.is_ok() {
        metrics::counter!(names::SCORE_CANDIDATES, "model" => model_name).increment(count as u64);
    }
    scores
}

fn score_one(model: &ServedModel, request: &ScoreRequest<'_>, now: i64, field: &str) -> Result<Vec<f32>, Refusal> {
    let time = EventTime(request.time_ms.unwrap_or(now));
    let scores = model.score_objects(time, request.context, &request.candidates).map_err(|wrong| {
        let column = match &wrong.error {
            DecodeError::WrongType { column, .. } | DecodeError::DuplicateColumn(column) => format!(".{column}"),
            _ => String::new(),
        };
        let (place, name) = match wrong.candidate {
            Some(index) => (format!("candidates[{index}]"), format!("candidate {index}, with the context's columns")),
            None => ("context".to_owned(), "context".to_owned()),
        };
        Refusal::new(Reason::Invalid, format!("{name}: {wrong}")).at(format!("{field}{place}{column}"))
    })?;
    match scores.iter().position(|score| !score.is_finite()) {
        None => Ok(scores),
        Some(index) => {
            let message = format!("candidate {index} has no finite score: its numbers overflow the net");
            Err(Refusal::new(Reason::Invalid, message).at(format!("{field}candidates[{index}]")))
        }
    }
}
