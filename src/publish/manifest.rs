//! Commit, checkpoint and artifact → manifest.

use std::sync::Arc;

use super::artifact::LightArtifact;
use crate::checkpoint::{Commit, ProbeSample};
use crate::config::{PublishConfig, SchemaConfig};
use crate::domain::{PartitionPosition, Version};
use crate::evaluate::Report;
use crate::serving::{ModelError, ServedModel};
use crate::wire::snapshot::{Artifact, HeadQuality, Manifest, PROTOCOL, Probe, Provenance, Quality, schema_hash};

/// How far a server's logit may be from the trainer's, times max(1, |logit|). The two forward passes add the same products in different
/// orders, which differs by up to 1e-5; ten times that passes every honest server and catches every wrong weight that could turn a
/// ranking.
const PROBE_TOLERANCE: f32 = 1e-4;

/// Farthest that rows of 16-bit floats may move a probe's logit from the trainer's, times max(1, |logit|): ten times what is seen.
const F16_CHANGE_MAX: f32 = 0.01;
/// As for 16-bit floats, of bytes. It would move a click's chance by a tenth of itself at most.
const I8_CHANGE_MAX: f32 = 0.1;

/// Builds the manifest, `seq` and `epoch` left 0 for the sender, and how it is sent to [`super::package::Package`]. Two manifests of one
/// commit differ in those alone: the time is the commit's.
pub(super) fn build(
    model: &str,
    schema: &SchemaConfig,
    config: &PublishConfig,
    commit: &Commit,
    probes: &[ProbeSample],
    artifact: &LightArtifact,
) -> Manifest {
    Manifest {
        proto: PROTOCOL,
        model: model.to_owned(),
        version: Version(commit.number),
        seq: 0,
        epoch: 0,
        created_ms: commit.created_ms,
        expires_ms: commit.created_ms.saturating_add(config.expires.as_millis()),
        artifact: Artifact {
            format: "safetensors".to_owned(),
            codec: "none".to_owned(),
            bytes: artifact.bytes.len() as u64,
            blake3: hex(&artifact.bytes),
            tensors: artifact.tensors.clone(),
            ..Artifact::default()
        },
        delta: None,
        rows_loss: artifact.rows_loss.clone(),
        architecture: artifact.architecture.clone(),
        schema: schema.clone(),
        schema_hash: schema_hash(schema),
        provenance: provenance(commit),
        quality: quality(&commit.report),
        probes: probes.iter().take(config.probes).map(probe).collect(),
    }
}

/// Opens the snapshot as a server will, probes included. Where rows have lost something, the probes are first made to say what servers make
/// of what is left, as long as that is near enough to the trainer's own.
///
/// # Errors
/// What a server would refuse it for, or which probe has moved too far.
pub(super) fn prove(manifest: &mut Manifest, artifact: &[u8]) -> Result<ServedModel, String> {
    let refused = |error: ModelError| error.to_string();
    if manifest.rows_loss.is_none() {
        return ServedModel::open(manifest.clone(), artifact).map_err(refused);
    }
    let model = ServedModel::open_unprobed(manifest.clone(), Arc::new(artifact.to_vec())).map_err(refused)?;
    let found = model.probed().map_err(refused)?;
    let Some(loss) = &mut manifest.rows_loss else { return Ok(model) };
    let bound = if loss.dtype == "F16" { F16_CHANGE_MAX } else { I8_CHANGE_MAX };
    for (index, (probe, logit)) in manifest.probes.iter_mut().zip(found).enumerate() {
        let change = (logit - probe.logit).abs();
        // Not so where either side is not a number.
        let near = change <= bound * probe.logit.abs().max(1.0);
        if !near {
            let (dtype, own) = (&loss.dtype, probe.logit);
            return Err(format!(
                "probe {index}: with rows of {dtype} it gives {logit}, with the trainer's own {own}: more than {bound} apart"
            ));
        }
        loss.probe_change_max = loss.probe_change_max.max(change);
        (probe.logit, probe.tolerance) = (logit, tolerance(logit));
    }
    Ok(model)
}

fn tolerance(logit: f32) -> f32 {
    PROBE_TOLERANCE * logit.abs().max(1.0)
}

/// blake3, hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Offsets done beyond the low watermark stay in the checkpoint: a join's window holds so many that they would not fit into a record.
fn provenance(commit: &Commit) -> Provenance {
    Provenance {
        positions: commit.positions.iter().map(|position| PartitionPosition { done: Vec::new(), ..position.clone() }).collect(),
        samples: commit.books.samples,
        config_hash: commit.config_hash.clone(),
        code: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn quality(report: &Report) -> Quality {
    let heads = report.heads.iter().map(|(name, head)| {
        (name.clone(), HeadQuality { auc: head.auc, gauc: head.gauc, logloss: head.logloss, calibration: head.calibration })
    });
    Quality { heads: heads.collect(), ..Quality::default() }
}

fn probe(sample: &ProbeSample) -> Probe {
    Probe { time_ms: sample.time_ms, fields: sample.fields.clone(), logit: sample.logit, tolerance: tolerance(sample.logit) }
}
