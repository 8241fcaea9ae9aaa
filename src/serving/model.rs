mod score;

use std::sync::Arc;

use serde_json::Value;

use super::artifact::{HEADER_BYTES_MAX, listing, parse};
use super::candidates::CandidateCache;
use super::click_rates::ClickRates;
use super::net::LightNet;
use super::scratch::Scratches;
use crate::config::SchemaConfig;
use crate::domain::{EventTime, Field, Version};
use crate::features::{CLICK_RATE_INPUTS, FeatureSpec, Features};
use crate::wire::EventDecoder;
use crate::wire::snapshot::{Manifest, field_from_json, schema_hash};

pub use score::Candidate;
#[cfg(feature = "trainer")]
pub(crate) use score::ScoreStage;

/// Why a snapshot cannot be served. Each variant is a value of `snapshot_rejected_total{reason}`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Bytes differ from what the manifest says.
    #[error("version {version}: {what} does not hash to what its manifest says")]
    Hash {
        /// Version.
        version: Version,
        /// `chunk 3` or `artifact`.
        what: String,
    },
    /// The artifact breaks a cap, or holds other tensors than the manifest and architecture say.
    #[error("version {version}: {why}")]
    Artifact {
        /// Version.
        version: Version,
        /// Why.
        why: String,
    },
    /// Fewer bytes than the manifest says.
    #[error("version {version}: {what} is cut short: {found} bytes of {expected}")]
    Truncated {
        /// Version.
        version: Version,
        /// `chunk 3`, `artifact` or `delta`.
        what: String,
        /// Bytes found.
        found: u64,
        /// Bytes that the manifest says.
        expected: u64,
    },
    /// A header that is longer than any light net's.
    #[error("version {version}: header of {bytes} bytes; at most {HEADER_BYTES_MAX} are read")]
    HeaderBomb {
        /// Version.
        version: Version,
        /// Its length.
        bytes: u64,
    },
    /// What decodes to more than the manifest says; nothing beyond that was decoded.
    #[error("version {version}: {what} decodes to more than the {bytes} bytes that its manifest says")]
    DecompressionBomb {
        /// Version.
        version: Version,
        /// `artifact` or `delta`.
        what: &'static str,
        /// Bytes that the manifest says.
        bytes: u64,
    },
    /// A delta from what cannot be its base.
    #[error("version {version}: {why}")]
    WrongBase {
        /// Version.
        version: Version,
        /// Why.
        why: String,
    },
    /// The schema is not the one that was hashed, cannot be, or does not fit the architecture or the probes.
    #[error("version {version}: {why}")]
    Schema {
        /// Version.
        version: Version,
        /// Why.
        why: String,
    },
    /// A weight is NaN or infinite.
    #[error("version {version}: tensor {tensor} holds a weight that is not finite")]
    NotFinite {
        /// Version.
        version: Version,
        /// Tensor name.
        tensor: String,
    },
    /// A probe came out wrong.
    #[error("version {version}: probe {index} gives {found}, expected {expected} ± {tolerance}")]
    Probe {
        /// Version.
        version: Version,
        /// Which.
        index: usize,
        /// Our logit.
        found: f32,
        /// The trainer's.
        expected: f32,
        /// Allowed distance.
        tolerance: f32,
    },
}

impl ModelError {
    /// The label in metrics and status.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            ModelError::Hash { .. } => "hash",
            ModelError::Artifact { .. } => "artifact",
            ModelError::Truncated { .. } => "truncated",
            ModelError::HeaderBomb { .. } => "header_bomb",
            ModelError::DecompressionBomb { .. } => "decompression_bomb",
            ModelError::WrongBase { .. } => "wrong_base",
            ModelError::Schema { .. } => "schema",
            ModelError::NotFinite { .. } => "not_finite",
            ModelError::Probe { .. } => "probe",
        }
    }
}

/// What a model remembers of candidates that it has scored takes no more than this, unless it is told otherwise: some 15,000 candidates.
pub const CANDIDATE_CACHE_BYTES: usize = 16 << 20;
/// Widest tolerance a probe may ask for, in logits up to 1, and in proportion above: a wider one would test nothing.
const TOLERANCE_MAX: f32 = 0.01;

/// A verified model with all it needs to score raw columns.
#[derive(Debug, Clone)]
pub struct ServedModel {
    manifest: Manifest,
    artifact: Arc<Vec<u8>>,
    decoder: EventDecoder,
    spec: FeatureSpec,
    click_rates: ClickRates,
    /// Every click rate of the schema.
    all_rates: Vec<usize>,
    net: LightNet,
    eight_bits_error: Option<f32>,
    candidates: CandidateCache,
    scratches: Scratches,
}

impl ServedModel {
    /// Verifies everything, cheapest first: format and length, hash, schema, tensors, finiteness, and the probes through the very code that
    /// will score, which warms it up as well.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open(manifest: Manifest, artifact: &[u8]) -> Result<Self, ModelError> {
        ServedModel::open_shared(manifest, Arc::new(artifact.to_vec()))
    }

    /// As [`ServedModel::open`], without a copy: embedding rows are read from the artifact for as long as the model lives.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open_shared(manifest: Manifest, artifact: Arc<Vec<u8>>) -> Result<Self, ModelError> {
        let model = ServedModel::open_unprobed(manifest, artifact)?;
        model.probe()?;
        Ok(model)
    }

    /// As [`ServedModel::open`], the probes not compared: for the publisher, who is about to say what they come out as.
    ///
    /// # Errors
    /// [`ModelError`].
    pub(crate) fn open_unprobed(manifest: Manifest, artifact: Arc<Vec<u8>>) -> Result<Self, ModelError> {
        let version = manifest.version;
        let refuse = |why: String| ModelError::Artifact { version, why };
        let said = &manifest.artifact;
        if said.format != "safetensors" {
            return Err(refuse(format!("artifact is {}; this reader knows safetensors", said.format)));
        }
        if said.bytes > artifact.len() as u64 {
            let (found, expected) = (artifact.len() as u64, said.bytes);
            return Err(ModelError::Truncated { version, what: "artifact".to_owned(), found, expected });
        }
        if said.bytes != artifact.len() as u64 {
            return Err(refuse(format!("artifact has {} bytes, its manifest says {}", artifact.len(), said.bytes)));
        }
        if blake3::hash(&artifact).to_hex().as_str() != said.blake3 {
            return Err(ModelError::Hash { version, what: "artifact".to_owned() });
        }
        let spec = open_schema(&manifest)?;
        let net = LightNet::from_artifact(version, &manifest.architecture, spec.slots(), &artifact)?;
        let click_rates = ClickRates::from_artifact(version, &spec, &artifact)?;
        let mut tensors = said.tensors.clone();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        if tensors != listing(&parse(version, &artifact)?) {
            return Err(refuse("the manifest lists other tensors than the artifact holds".to_owned()));
        }
        Ok(ServedModel {
            decoder: EventDecoder::new(&manifest.schema),
            manifest,
            artifact,
            all_rates: (0..spec.click_rates().len()).collect(),
            spec,
            click_rates,
            net,
            eight_bits_error: None,
            candidates: CandidateCache::new(CANDIDATE_CACHE_BYTES),
            scratches: Scratches::default(),
        })
    }

    /// Likewise, with a cache of candidates of so many bytes instead of [`CANDIDATE_CACHE_BYTES`]; of none, nothing of a request is remembered.
    #[must_use]
    pub fn with_candidate_cache(self, bytes_max: usize) -> Self {
        ServedModel { candidates: CandidateCache::new(bytes_max), ..self }
    }

    /// Likewise, with the layers between the first and the last in 8 bits, if that moves no probe's logit by more than `error_max`; without a
    /// probe nothing is known, and it stays as it is. That takes AVX2 to be faster.
    #[must_use]
    pub fn in_eight_bits(mut self, error_max: f32) -> Self {
        let version = self.version().0;
        let Ok(exact) = self.probed() else { return self };
        if exact.is_empty() || !self.net.set_eight_bits(true) {
            tracing::info!(version, "scored in floats: there is no probe, or no layer between the first and the last");
            return self;
        }
        let distances = self.probed().unwrap_or_default().into_iter().zip(exact).map(|(rough, exact)| (rough - exact).abs());
        // A NaN counts as far off.
        let error = distances.fold(0.0, |max: f32, distance| if distance <= max || max.is_nan() { max } else { distance });
        if error <= error_max {
            self.eight_bits_error = Some(error);
        } else {
            self.net.set_eight_bits(false);
            tracing::warn!(version, error, error_max, "scored in floats: in 8 bits a probe's logit would move by more than is allowed");
        }
        self
    }

    /// The farthest that 8 bits move a probe's logit; `None`: it scores in floats.
    #[must_use]
    pub fn eight_bits_error(&self) -> Option<f32> {
        self.eight_bits_error
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it was opened from.
    pub(super) fn artifact(&self) -> &[u8] {
        &self.artifact
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.manifest.version
    }

    /// Logits of samples as manifests bear them: fields in the order of `columns`' features, found by their names; what `columns` does not
    /// have is missing. An error says what of a sample cannot be.
    pub(crate) fn logits<'a>(
        &self,
        columns: &SchemaConfig,
        samples: impl Iterator<Item = (i64, &'a [Value])>,
    ) -> impl Iterator<Item = Result<f32, String>> {
        let place = |name: &str| columns.features.iter().position(|column| column.name == name);
        let places: Vec<Option<usize>> = self.manifest.schema.features.iter().map(|feature| place(&feature.name)).collect();
        let mut examples = Vec::new();
        let read: Vec<Result<(), String>> = samples
            .map(|(time_ms, fields)| {
                if fields.len() != columns.features.len() {
                    return Err(format!("{} fields, the schema has {}", fields.len(), columns.features.len()));
                }
                let field = |place: &Option<usize>| match place.and_then(|place| fields.get(place)) {
                    Some(value) => field_from_json(value).ok_or_else(|| format!("{value} is no field")),
                    None => Ok(Field::Missing),
                };
                let fields = places.iter().map(field).collect::<Result<Vec<_>, _>>()?;
                let mut features = Features::default();
                self.extract(EventTime(time_ms), &fields, &mut features);
                examples.push(features);
                Ok(())
            })
            .collect();
        let mut logits = self.net.logits(&examples).into_iter();
        read.into_iter().map(move |read| read.map(|()| logits.next().unwrap_or(f32::NAN)))
    }

    /// What the manifest's probes come out as: logits, through the very code that scores.
    ///
    /// # Errors
    /// [`ModelError::Schema`] where one does not fit the schema.
    pub(crate) fn probed(&self) -> Result<Vec<f32>, ModelError> {
        let version = self.version();
        let Manifest { schema, probes, .. } = &self.manifest;
        let logits = self.logits(schema, probes.iter().map(|probe| (probe.time_ms, probe.fields.as_slice())));
        let unfit = |(index, logit): (usize, Result<f32, String>)| {
            logit.map_err(|why| ModelError::Schema { version, why: format!("probe {index}: {why}") })
        };
        logits.enumerate().map(unfit).collect()
    }

    fn probe(&self) -> Result<(), ModelError> {
        let version = self.version();
        for (index, (probe, found)) in self.manifest.probes.iter().zip(self.probed()?).enumerate() {
            let (expected, tolerance) = (probe.logit, probe.tolerance);
            // Written so that a NaN on either side fails.
            if !(tolerance <= TOLERANCE_MAX * expected.abs().max(1.0) && (found - expected).abs() <= tolerance) {
                return Err(ModelError::Probe { version, index, found, expected, tolerance });
            }
        }
        Ok(())
    }

    /// What the net takes: ids by slot, and the numbers with the click rates behind them.
    fn extract(&self, time: EventTime, fields: &[Field], into: &mut Features) {
        self.spec.extract(time, fields, into);
        self.click_rates.append(&self.all_rates, &into.click_rates, &mut into.numbers);
    }
}

fn open_schema(manifest: &Manifest) -> Result<FeatureSpec, ModelError> {
    let refuse = |why: String| ModelError::Schema { version: manifest.version, why };
    if schema_hash(&manifest.schema) != manifest.schema_hash {
        return Err(refuse("the schema does not hash to what its manifest says".to_owned()));
    }
    let spec = FeatureSpec::new(&manifest.schema).map_err(|error| refuse(error.to_string()))?;
    let (dim, inputs) = (manifest.architecture.embedding_dim, manifest.architecture.inputs);
    // Checked here as well, since the sum comes from outside.
    let numbers = spec.numbers().len() + spec.click_rates().len() * CLICK_RATE_INPUTS;
    let dims: Vec<usize> = spec.slots().iter().map(|slot| slot.dim(dim)).collect();
    if dims.iter().try_fold(numbers, |sum, dim| sum.checked_add(*dim)) != Some(inputs) {
        return Err(refuse(format!("slots of {dims:?} floats and {numbers} numbers do not make {inputs} inputs")));
    }
    Ok(spec.for_serving())
}
