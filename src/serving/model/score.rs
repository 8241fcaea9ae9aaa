use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ServedModel;
use crate::domain::EventTime;
use crate::features::{Features, Parts, Side};
use crate::serving::candidates::{Known, Remembered};
use crate::serving::division::{Division, Inputs};
use crate::serving::net::EXAMPLES_PER_BLOCK;
use crate::serving::scratch::Scratch;
use crate::telemetry::names;
use crate::wire::{DecodeError, Object, ObjectColumns};

/// One candidate: the columns that differ from the request's context.
pub type Candidate = Map<String, Value>;

/// A column that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error}")]
pub(crate) struct ScoreError {
    /// Where it stands; `None`: in the context.
    pub(crate) candidate: Option<usize>,
    /// Why.
    pub(crate) error: DecodeError,
}

impl ScoreError {
    fn at_candidate(self) -> (usize, DecodeError) {
        (self.candidate.unwrap_or(0), self.error)
    }
}

/// What scoring a request consists of; they take turns where candidates are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScoreStage {
    /// Columns are read and hashed, or remembered.
    Features,
    /// Embedding rows are looked up and pooled.
    LookUp,
    /// The dense layers.
    Net,
}

/// What a request says beside its candidates.
#[derive(Debug, Clone, Copy)]
struct Request<'a> {
    time: EventTime,
    context: &'a ObjectColumns<'a>,
}

/// Candidates that were not scored before, and their columns.
type Unknown<'a> = Vec<(usize, ObjectColumns<'a>)>;

impl ServedModel {
    /// Probabilities of click `[candidates]`, each between 0 and 1; NaN only where the weights are so large that the logit overflows.
    ///
    /// What a candidate adds to the first layer is remembered, and spares reading, hashing and looking up in later requests, as long as the
    /// contexts of requests bear no column that candidates bear. To the last bits, a score depends on the candidates that it is computed with.
    ///
    /// # Errors
    /// [`DecodeError`] for columns of a wrong type; the index is the candidate's, 0 where the context is wrong.
    pub fn score(&self, time: EventTime, context: &Map<String, Value>, candidates: &[Candidate]) -> Result<Vec<f32>, (usize, DecodeError)> {
        let candidates: Vec<_> = candidates.iter().map(Object::Map).collect();
        self.score_objects(time, Object::Map(context), &candidates).map_err(ScoreError::at_candidate)
    }

    /// Likewise, of columns as JSON has them, an object each. A candidate that was scored before is known by its text, which is not read again.
    ///
    /// # Errors
    /// Also [`DecodeError::NotJson`] and [`DecodeError::DuplicateColumn`].
    pub fn score_json(&self, time: EventTime, context: &str, candidates: &[&str]) -> Result<Vec<f32>, (usize, DecodeError)> {
        let candidates: Vec<_> = candidates.iter().copied().map(Object::Json).collect();
        self.score_objects(time, Object::Json(context), &candidates).map_err(ScoreError::at_candidate)
    }

    /// Likewise, of columns in either form.
    pub(crate) fn score_objects(&self, time: EventTime, context: Object<'_>, candidates: &[Object<'_>]) -> Result<Vec<f32>, ScoreError> {
        self.score_in_stages(time, context, candidates, |_| {})
    }

    /// Likewise, and says when each stage is `done`.
    pub(crate) fn score_in_stages(
        &self,
        time: EventTime,
        context: Object<'_>,
        candidates: &[Object<'_>],
        mut done: impl FnMut(ScoreStage),
    ) -> Result<Vec<f32>, ScoreError> {
        let context = self.decoder.columns(context).map_err(in_context)?;
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        self.scratches.lend(|scratch| {
            let (remembered, unknown) = self.recall(&context, candidates, &mut scratch.known)?;
            let Division { context: shared, candidate: own, joint, .. } = &remembered.division;
            let request = Request { time, context: &context };
            self.share(request, shared, scratch, &mut done).map_err(in_context)?;
            for unknown in unknown.chunks(EXAMPLES_PER_BLOCK) {
                self.make_known(request, own, unknown, scratch, &mut done)?;
            }
            remembered.insert(candidates, unknown.iter().map(|(index, _)| *index), self.net.width(), &scratch.known);
            let mut scores = Vec::with_capacity(candidates.len());
            for start in (0..candidates.len()).step_by(EXAMPLES_PER_BLOCK) {
                let block = start..candidates.len().min(start + EXAMPLES_PER_BLOCK);
                self.begin(request, joint, block, scratch, &mut done).map_err(in_context)?;
                scores.extend(scratch.forward.logits(&self.net).map(sigmoid));
                done(ScoreStage::Net);
            }
            Ok(scores)
        })
    }

    /// Multiplies what all candidates share.
    fn share(
        &self,
        request: Request<'_>,
        inputs: &Inputs,
        scratch: &mut Scratch,
        done: &mut impl FnMut(ScoreStage),
    ) -> Result<(), DecodeError> {
        let Scratch { features, parts, forward, .. } = scratch;
        features.clear();
        parts.truncate(0);
        self.read(&inputs.side, request, None, parts, features)?;
        done(ScoreStage::Features);
        forward.share(&self.net, &inputs.part, features);
        done(ScoreStage::Net);
        Ok(())
    }

    /// Makes candidates known of which nothing is.
    fn make_known(
        &self,
        request: Request<'_>,
        inputs: &Inputs,
        unknown: &[(usize, ObjectColumns<'_>)],
        scratch: &mut Scratch,
        done: &mut impl FnMut(ScoreStage),
    ) -> Result<(), ScoreError> {
        let Scratch { features, parts, forward, known } = scratch;
        let (shared, width) = (parts.len(), self.net.width());
        features.clear();
        for (index, columns) in unknown {
            let read = self.read(&inputs.side, request, Some(columns), parts, features);
            read.map_err(|error| ScoreError { candidate: Some(*index), error })?;
            known.parts[*index] = parts.beyond(shared);
            parts.truncate(shared);
        }
        done(ScoreStage::Features);
        forward.look_up(&self.net, &inputs.part, features, 0..unknown.len());
        done(ScoreStage::LookUp);
        for ((index, _), sums) in unknown.iter().zip(forward.sums(&self.net)) {
            known.sums[index * width..][..width].copy_from_slice(sums);
        }
        done(ScoreStage::Net);
        Ok(())
    }

    /// Brings the known candidates of a block together with what they share, and with the inputs made of both.
    fn begin(
        &self,
        request: Request<'_>,
        joint: &Inputs,
        block: Range<usize>,
        scratch: &mut Scratch,
        done: &mut impl FnMut(ScoreStage),
    ) -> Result<(), DecodeError> {
        let Scratch { features, parts, forward, known } = scratch;
        let width = self.net.width();
        forward.begin(known.sums[block.start * width..block.end * width].chunks_exact(width));
        done(ScoreStage::Net);
        if joint.is_empty() {
            return Ok(());
        }
        let (shared, count) = (parts.len(), block.len());
        features.clear();
        for own in &known.parts[block] {
            parts.extend(own);
            self.read(&joint.side, request, None, parts, features)?;
            parts.truncate(shared);
        }
        done(ScoreStage::Features);
        forward.look_up(&self.net, &joint.part, features, 0..count);
        done(ScoreStage::LookUp);
        forward.add_looked_up(&self.net);
        Ok(())
    }

    /// Makes of the candidates that `before` remembers what it will be asked for: they need not be looked up in the first requests after a
    /// swap. Of those that came as JSON.
    pub(in crate::serving) fn remember_as(&self, before: &ServedModel) {
        let identities: Vec<_> = before.candidates.now().iter().flat_map(|before| before.identities()).collect();
        for identities in identities.chunks(EXAMPLES_PER_BLOCK) {
            let candidates: Vec<_> = identities.iter().filter_map(|identity| Object::of_identity(identity)).collect();
            // What another schema cannot read will be refused when it is asked for.
            if let Err(error) = self.score_objects(EventTime(0), Object::Json("{}"), &candidates) {
                tracing::debug!("a candidate of version {} means nothing to version {}: {error}", before.version(), self.version());
            }
        }
    }

    /// Finds what is `known` of the candidates, and reads the columns of the others. Which columns candidates bear is learnt from them.
    fn recall<'a>(
        &self,
        context: &ObjectColumns<'_>,
        candidates: &[Object<'a>],
        known: &mut Known,
    ) -> Result<(Arc<Remembered>, Unknown<'a>), ScoreError> {
        let width = self.net.width();
        // What depends on the context is not remembered.
        let before = self.candidates.now().filter(|before| !before.division.meets(context));
        if let Some(remembered) = &before {
            remembered.get(candidates, width, known);
            let unknown = self.columns(candidates, |index| !known.is_known[index])?;
            if unknown.iter().all(|(_, columns)| remembered.division.includes(columns)) {
                let count = (candidates.len() - unknown.len()) as u64;
                metrics::counter!(names::SCORE_REMEMBERED, "model" => self.manifest.model.clone()).increment(count);
                return Ok((Arc::clone(remembered), unknown));
            }
        }
        known.clear(candidates.len(), width);
        let unknown = self.columns(candidates, |_| true)?;
        let mut own = before.map_or_else(|| vec![false; self.decoder.column_count()], |before| before.division.own().to_vec());
        for (_, columns) in &unknown {
            own.iter_mut().zip(columns.borne()).for_each(|(own, borne)| *own |= borne);
        }
        let division = Division::new(&self.spec, &self.decoder, &self.net, own);
        let is_apart = !division.meets(context);
        let remembered = if is_apart { self.candidates.divide(division) } else { Arc::new(Remembered::nothing(division)) };
        Ok((remembered, unknown))
    }

    /// Columns of those candidates that are `wanted`.
    fn columns<'a>(&self, candidates: &[Object<'a>], wanted: impl Fn(usize) -> bool) -> Result<Unknown<'a>, ScoreError> {
        let wanted = candidates.iter().enumerate().filter(|(index, _)| wanted(*index));
        wanted
            .map(|(index, candidate)| match self.decoder.columns(*candidate) {
                Ok(columns) => Ok((index, columns)),
                Err(error) => Err(ScoreError { candidate: Some(index), error }),
            })
            .collect()
    }

    /// Appends what a side's features make of a candidate, or of the context alone.
    fn read(
        &self,
        side: &Side,
        Request { time, context }: Request<'_>,
        candidate: Option<&ObjectColumns<'_>>,
        parts: &mut Parts,
        into: &mut Features,
    ) -> Result<(), DecodeError> {
        for feature in &side.features {
            let field = self.decoder.request_field(*feature, context, candidate)?;
            self.spec.append(*feature, time, &field, parts, into);
        }
        self.click_rates.append(&side.click_rates, &into.click_rates, &mut into.numbers);
        into.click_rates.clear();
        Ok(())
    }
}

fn in_context(error: DecodeError) -> ScoreError {
    ScoreError { candidate: None, error }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}
