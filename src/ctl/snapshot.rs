//! `rocketctl snapshot ls`, `show`, `verify` and `now`; `export` has a file of its own.

use serde::Serialize;

use super::context::Context;
use super::export::{self, ExportArgs};
use super::output::{self, View, figure, length, maybe, pairs, table, time};
use crate::daemon::Failure;
use crate::domain::{Head, Version};
use crate::publish::{OperatorError, Published};
use crate::serving::Catalog;
use crate::telemetry::admin::Request;
use crate::wire::snapshot::{Lease, Manifest, Pin, Quality};

#[derive(Debug, clap::Subcommand)]
pub(super) enum SnapshotCommand {
    /// Versions on the topic, and which of them is served.
    Ls,
    /// The manifest of a version.
    Show(VersionArgs),
    /// Fetch a version and check hashes, tensors and probes as a server does.
    Verify(VersionArgs),
    /// Write a version to a file that other programs read: ONNX, or safetensors with the manifest inside.
    Export(ExportArgs),
    /// Let the daemon commit a checkpoint and publish it now.
    Now,
}

#[derive(Debug, clap::Args)]
pub(super) struct VersionArgs {
    /// Version [default: the one being served].
    version: Option<Version>,
}

/// JSON of `snapshot ls`.
#[derive(Debug, Serialize)]
struct Listing {
    /// Model name.
    model: String,
    /// What servers serve: the pin's version, else `current`.
    served: Option<Version>,
    /// Pointer `current`.
    current: Option<Version>,
    /// The pin, if there is one.
    pin: Option<PinLine>,
    /// The trainer that publishes.
    publisher: Option<PublisherLine>,
    /// Oldest first.
    versions: Vec<VersionLine>,
}

/// The pin.
#[derive(Debug, Serialize)]
struct PinLine {
    /// Version.
    version: Version,
    /// Who.
    actor: String,
    /// Why.
    reason: String,
    /// When, milliseconds.
    at_ms: i64,
}

/// The trainer that holds the lease.
#[derive(Debug, Serialize)]
struct PublisherLine {
    /// Epoch.
    epoch: u64,
    /// Host, process and start time.
    instance: String,
    /// Since when, milliseconds.
    at_ms: i64,
}

/// One version.
#[derive(Debug, Serialize)]
struct VersionLine {
    /// Version.
    version: Version,
    /// Milliseconds.
    created_ms: i64,
    /// Milliseconds.
    expires_ms: i64,
    /// Artifact length.
    bytes: u64,
    /// Chunks.
    chunks: usize,
    /// Every chunk is on the topic.
    whole: bool,
    /// Samples trained.
    samples: u64,
    /// Publisher's epoch.
    epoch: u64,
    /// Servers serve it.
    served: bool,
    /// `current` points at it.
    current: bool,
    /// It is pinned.
    pinned: bool,
    /// Prequential figures.
    quality: Quality,
}

/// JSON of `snapshot show`.
#[derive(Debug, Serialize)]
struct Shown {
    /// Servers serve it.
    served: bool,
    /// `current` points at it.
    current: bool,
    /// It is pinned.
    pinned: bool,
    /// Every chunk is on the topic.
    whole: bool,
    /// The manifest as it stands on the topic.
    manifest: Manifest,
}

/// JSON of `snapshot verify`; a version that fails is an error instead.
#[derive(Debug, Serialize)]
struct Verified {
    /// Version.
    version: Version,
    /// Always true.
    ok: bool,
    /// Bytes hashed.
    bytes: u64,
    /// Chunks hashed.
    chunks: usize,
    /// Tensors checked.
    tensors: usize,
    /// Probes reproduced.
    probes: usize,
}

pub(super) fn run(context: &Context, command: SnapshotCommand) -> Result<(), Failure> {
    match command {
        SnapshotCommand::Ls => {
            let operator = context.reader()?;
            output::print(context.format, &Listing::new(&context.config.name, operator.catalog()))
        }
        SnapshotCommand::Show(arguments) => {
            let operator = context.reader()?;
            let catalog = operator.catalog();
            let version = given_or_served(arguments.version, catalog)?;
            let manifest = catalog.manifests().get(&version).ok_or_else(|| unknown(version, catalog))?;
            output::print(context.format, &Shown::new(manifest, catalog))
        }
        SnapshotCommand::Verify(arguments) => {
            let mut operator = context.reader()?;
            let version = given_or_served(arguments.version, operator.catalog())?;
            let manifest = operator.verify(version)?;
            output::print(context.format, &Verified::new(&manifest))
        }
        SnapshotCommand::Export(arguments) => {
            let mut operator = context.reader()?;
            let version = given_or_served(arguments.version, operator.catalog())?;
            let (manifest, artifact) = operator.fetch(version)?;
            export::run(context, &arguments, &manifest, &artifact)
        }
        SnapshotCommand::Now => output::print(context.format, &context.ask::<Published>(&Request::SnapshotNow)?),
    }
}

fn given_or_served(given: Option<Version>, catalog: &Catalog) -> Result<Version, Failure> {
    given.or_else(|| catalog.target()).ok_or_else(|| Failure::failed("no version is served yet; name one, see `rocketctl snapshot ls`"))
}

fn unknown(version: Version, catalog: &Catalog) -> OperatorError {
    OperatorError::UnknownVersion { version, held: crate::publish::held_versions(catalog) }
}

fn pin(catalog: &Catalog) -> Option<(&Pin, Version)> {
    let pin = catalog.pin()?;
    Some((pin, pin.version?))
}

impl Listing {
    fn new(model: &str, catalog: &Catalog) -> Self {
        Listing {
            model: model.to_owned(),
            served: catalog.target(),
            current: catalog.current().map(|pointer| pointer.version),
            pin: pin(catalog).map(|(pin, version)| PinLine {
                version,
                actor: pin.actor.clone(),
                reason: pin.reason.clone(),
                at_ms: pin.at_ms,
            }),
            publisher: catalog.lease().map(PublisherLine::new),
            versions: catalog.manifests().values().map(|manifest| VersionLine::new(manifest, catalog)).collect(),
        }
    }
}

impl PublisherLine {
    fn new(lease: &Lease) -> Self {
        PublisherLine { epoch: lease.epoch, instance: lease.instance.clone(), at_ms: lease.at_ms }
    }
}

impl VersionLine {
    fn new(manifest: &Manifest, catalog: &Catalog) -> Self {
        let shown = Shown::new(manifest, catalog);
        VersionLine {
            version: manifest.version,
            created_ms: manifest.created_ms,
            expires_ms: manifest.expires_ms,
            bytes: manifest.artifact.bytes,
            chunks: manifest.artifact.chunks.len(),
            whole: shown.whole,
            samples: manifest.provenance.samples,
            epoch: manifest.epoch,
            served: shown.served,
            current: shown.current,
            pinned: shown.pinned,
            quality: manifest.quality.clone(),
        }
    }

    fn marks(&self) -> String {
        let marks = [(self.served, "served"), (self.current, "current"), (self.pinned, "pinned"), (!self.whole, "incomplete")];
        marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| *mark).collect::<Vec<_>>().join(" ")
    }
}

impl Shown {
    fn new(manifest: &Manifest, catalog: &Catalog) -> Self {
        let version = manifest.version;
        Shown {
            served: catalog.target() == Some(version),
            current: catalog.current().is_some_and(|pointer| pointer.version == version),
            pinned: pin(catalog).is_some_and(|(_, pinned)| pinned == version),
            whole: catalog.chunk_offsets(version).is_some(),
            manifest: manifest.clone(),
        }
    }
}

impl Verified {
    fn new(manifest: &Manifest) -> Self {
        Verified {
            version: manifest.version,
            ok: true,
            bytes: manifest.artifact.bytes,
            chunks: manifest.artifact.chunks.len(),
            tensors: manifest.artifact.tensors.len(),
            probes: manifest.probes.len(),
        }
    }
}

impl View for Listing {
    fn text(&self) -> String {
        let rows = self.versions.iter().map(|line| {
            let light = line.quality.heads.get(Head::Light.name()).cloned().unwrap_or_default();
            [
                line.version.to_string(),
                time(line.created_ms),
                length(line.bytes),
                line.chunks.to_string(),
                line.samples.to_string(),
                figure(light.auc),
                figure(light.gauc),
                figure(light.logloss),
                line.marks(),
            ]
        });
        let versions = table(["version", "created", "size", "chunks", "samples", "auc", "gauc", "logloss", ""], rows);
        match &self.pin {
            Some(pin) => {
                format!("{versions}\n\nversion {} is pinned by {} since {}: {}", pin.version, pin.actor, time(pin.at_ms), pin.reason)
            }
            None => versions,
        }
    }
}

impl View for Shown {
    fn text(&self) -> String {
        let manifest = &self.manifest;
        let tensors =
            manifest.artifact.tensors.iter().map(|tensor| [tensor.name.clone(), tensor.dtype.clone(), format!("{:?}", tensor.shape)]);
        let heads = manifest
            .quality
            .heads
            .iter()
            .map(|(name, head)| [name.clone(), figure(head.auc), figure(head.gauc), figure(head.logloss), figure(head.calibration)]);
        let positions = manifest.provenance.positions.iter().map(|position| [position.partition.to_string(), position.low.to_string()]);
        let facts = pairs([
            ("version", manifest.version.to_string()),
            ("model", manifest.model.clone()),
            ("created", time(manifest.created_ms)),
            ("expires", time(manifest.expires_ms)),
            ("epoch, seq", format!("{}, {}", manifest.epoch, manifest.seq)),
            (
                "artifact",
                format!("{} in {} chunks, {}", length(manifest.artifact.bytes), manifest.artifact.chunks.len(), manifest.artifact.format),
            ),
            ("blake3", manifest.artifact.blake3.clone()),
            ("whole", self.whole.to_string()),
            ("served", self.served.to_string()),
            ("current", self.current.to_string()),
            ("pinned", self.pinned.to_string()),
            ("samples", manifest.provenance.samples.to_string()),
            ("config hash", manifest.provenance.config_hash.clone()),
            ("schema hash", manifest.schema_hash.clone()),
            ("code", manifest.provenance.code.clone()),
            ("probes", manifest.probes.len().to_string()),
        ]);
        [
            facts,
            table(["head", "auc", "gauc", "logloss", "calibration"], heads),
            table(["tensor", "type", "shape"], tensors),
            table(["partition", "done below"], positions),
        ]
        .join("\n\n")
    }
}

impl View for Verified {
    fn text(&self) -> String {
        format!(
            "version {}: {} in {} chunks hash right, {} tensors fit, {} probes come out right",
            self.version,
            length(self.bytes),
            self.chunks,
            self.tensors,
            self.probes
        )
    }
}

impl View for Published {
    fn text(&self) -> String {
        let promoted = match &self.held_by {
            _ if self.promoted => "current".to_owned(),
            Some(why) => format!("not current: {why}"),
            None => "not current".to_owned(),
        };
        pairs([
            ("version", self.version.to_string()),
            ("size", length(self.bytes)),
            ("chunks", self.chunks.to_string()),
            ("state", maybe(Some(promoted))),
        ])
    }
}
