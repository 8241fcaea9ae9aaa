//! Commit, checkpoint and artifact → manifest.

use super::artifact::LightArtifact;
use crate::checkpoint::{Commit, ProbeSample};
use crate::config::{PublishConfig, SchemaConfig};
use crate::domain::{PartitionPosition, Version};
use crate::evaluate::Report;
use crate::wire::snapshot::{Artifact, HeadQuality, Manifest, PROTOCOL, Probe, Provenance, Quality, schema_hash};

/// How far a server's logit may be from the trainer's, times max(1, |logit|). The two forward passes add the same products in different
/// orders, which differs by up to 1e-5; ten times that passes every honest server and catches every wrong weight that could turn a
/// ranking.
const PROBE_TOLERANCE: f32 = 1e-4;

/// Builds the manifest, `seq` and `epoch` left 0 for the sender. Two manifests of one commit differ in those alone: the time is the commit's.
pub(super) fn build(
    model: &str,
    schema: &SchemaConfig,
    config: &PublishConfig,
    commit: &Commit,
    probes: &[ProbeSample],
    artifact: &LightArtifact,
    chunks: &[&[u8]],
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
            chunks: chunks.iter().map(|chunk| hex(chunk)).collect(),
            tensors: artifact.tensors.clone(),
        },
        architecture: artifact.architecture.clone(),
        schema: schema.clone(),
        schema_hash: schema_hash(schema),
        provenance: provenance(commit),
        quality: quality(&commit.report),
        probes: probes.iter().take(config.probes).map(probe).collect(),
    }
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
    Probe {
        time_ms: sample.time_ms,
        fields: sample.fields.clone(),
        logit: sample.logit,
        tolerance: PROBE_TOLERANCE * sample.logit.abs().max(1.0),
    }
}
