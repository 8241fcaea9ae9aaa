mod load;
mod model;
mod requests;
mod service;
mod shape;
mod site;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::BenchError;
use super::quantiles::Quantiles;
use crate::domain::EventTime;
use crate::interchange::{to_onnx, to_safetensors};
use crate::serving::{ScoreStage, ServedModel};
use model::Published;
use requests::{Requests, objects};

pub use service::{Phase, ServiceBench, ServiceFigures, SwapFigures};
pub use shape::Shape;

/// Requests before the clock starts.
const WARM: usize = 200;
const TIME: EventTime = EventTime(1_767_600_000_000);

/// Scoring through the library, one user and many candidates a request, one request after the other on one thread.
///
/// Requests are JSON, as over HTTP; the figures begin with their bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreBench {
    /// The net and its features.
    pub shape: Shape,
    /// Embedding rows, evenly divided among the slots.
    pub rows: usize,
    /// Candidates of a request.
    pub candidates: usize,
    /// Requests measured.
    pub requests: usize,
    /// Candidates that there are, of which each request has some; none: nobody has asked for any of them before.
    pub catalogue: Option<usize>,
    /// In 8 bits, if no probe's logit moves by more than this.
    pub eight_bits: Option<f32>,
}

/// What [`ScoreBench::run`] measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreFigures {
    /// Name of the shape.
    pub shape: String,
    /// Floats of the input vector.
    pub inputs: usize,
    /// Embedding rows.
    pub rows: usize,
    /// Candidates of a request.
    pub candidates: usize,
    /// Requests measured.
    pub requests: usize,
    /// Candidates that there are.
    pub catalogue: Option<usize>,
    /// The farthest that 8 bits move a probe's logit; none: scored in floats.
    pub eight_bits_error: Option<f32>,
    /// A request through the library, from its bytes to probabilities.
    pub request_ms: Quantiles,
    /// ... of which reading columns and hashing, or finding what is remembered,
    pub features_ms: Quantiles,
    /// looking rows up and pooling them,
    pub look_up_ms: Quantiles,
    /// and the dense layers.
    pub net_ms: Quantiles,
}

impl ScoreBench {
    /// Measures.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn run(&self) -> Result<ScoreFigures, BenchError> {
        let Published { manifest, artifact } = self.model(1);
        let mut model = ServedModel::open_shared(manifest, Arc::new(artifact))?;
        if let Some(error_max) = self.eight_bits {
            model = model.in_eight_bits(error_max);
        }
        let mut spent: [Vec<Duration>; 4] = Default::default();
        for body in self.bodies().take(WARM + self.requests) {
            let (begun, mut lap, mut stages) = (Instant::now(), Instant::now(), [Duration::ZERO; 3]);
            let (context, candidates) = objects(&body);
            let scores = model.score_in_stages(TIME, context, &candidates, |stage: ScoreStage| {
                let now = Instant::now();
                stages[stage as usize] += now - lap;
                lap = now;
            });
            let whole = begun.elapsed();
            scores.map_err(|wrong| wrong.error)?;
            spent.iter_mut().zip([whole].into_iter().chain(stages)).for_each(|(all, one)| all.push(one));
        }
        let [request_ms, features_ms, look_up_ms, net_ms] = spent.map(|all| Quantiles::of_ms(all.into_iter().skip(WARM)));
        Ok(ScoreFigures {
            shape: self.shape.name.to_owned(),
            inputs: self.shape.inputs(),
            rows: self.ids() * self.shape.slots,
            candidates: self.candidates,
            requests: self.requests,
            catalogue: self.catalogue,
            eight_bits_error: model.eight_bits_error(),
            request_ms,
            features_ms,
            look_up_ms,
            net_ms,
        })
    }

    /// Writes what other programs need to do the same into a directory: `model.onnx`, `model.safetensors`, one `request.json` and our
    /// `answer.json` to it.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn export(&self, dir: &Path) -> Result<(), BenchError> {
        let Published { manifest, artifact } = self.model(1);
        let body = self.bodies().next().unwrap_or_default();
        let (context, candidates) = objects(&body);
        std::fs::write(dir.join("model.onnx"), to_onnx(&manifest, &artifact)?)?;
        std::fs::write(dir.join("model.safetensors"), to_safetensors(&manifest, &artifact)?)?;
        let model = ServedModel::open_shared(manifest, Arc::new(artifact))?;
        let scores = model.score_objects(TIME, context, &candidates).map_err(|wrong| wrong.error)?;
        std::fs::write(dir.join("request.json"), &body)?;
        let answer = serde_json::json!({ "version": model.version(), "scores": scores });
        Ok(std::fs::write(dir.join("answer.json"), answer.to_string())?)
    }

    fn ids(&self) -> usize {
        self.rows / self.shape.slots
    }

    fn model(&self, version: u64) -> Published {
        Published::random(&self.shape, self.ids(), version)
    }

    fn bodies(&self) -> impl Iterator<Item = Vec<u8>> {
        let Self { shape, candidates, catalogue, .. } = self;
        Requests { shape, ids: self.ids(), candidates: *candidates, catalogue: *catalogue }.bodies(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_scored_stage_by_stage() {
        for (shape, catalogue) in Shape::ALL.into_iter().zip([None, Some(20)]) {
            let eight_bits = catalogue.map(|_| 0.1);
            let figures = ScoreBench { shape, rows: 720, candidates: 5, requests: 3, catalogue, eight_bits }.run().expect("a good shape");
            assert_eq!((figures.requests, figures.rows, figures.catalogue), (3, 720, catalogue));
            assert_eq!(figures.eight_bits_error.is_some(), eight_bits.is_some());
            let [features, look_up, net] = [&figures.features_ms, &figures.look_up_ms, &figures.net_ms];
            assert!([features, net].iter().all(|stage| stage.p50 > 0.0 && stage.p50 <= stage.max && stage.max < figures.request_ms.max));
            // All twenty are known by then, and nothing is looked up.
            assert_eq!(look_up.max > 0.0, catalogue.is_none());
        }
    }
}
