//! `rocketctl snapshot ls`, `show`, `verify` and `now`; `export` has a file of its own.

use serde::Serialize;

use super::context::{Context, now_ms};
use super::export::{self, ExportArgs};
use super::output::{self, View, figure, length, maybe, pairs, table, time};
use crate::daemon::Failure;
use crate::domain::{Head, Version};
use crate::publish::{OperatorError, Published};
use crate::serving::Catalog;
use crate::telemetry::admin::Request;
use crate::wire::snapshot::{Canary, Group, Lease, Manifest, Pin, Quality, WHOLE_PPM};

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
    /// The pin of every server, if there is one.
    pin: Option<PinLine>,
    /// Pins of groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    group_pins: Vec<PinLine>,
    /// What a share of the servers serves ahead of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<CanaryLine>,
    /// The trainer that publishes.
    publisher: Option<PublisherLine>,
    /// Oldest first.
    versions: Vec<VersionLine>,
}

/// A version that a share of the servers serves.
#[derive(Debug, Serialize)]
pub(super) struct CanaryLine {
    /// Version.
    version: Version,
    /// Share of the servers, 0 to 1.
    share: f64,
    /// Since when, milliseconds.
    at_ms: i64,
}

/// A pin that holds.
#[derive(Debug, Serialize)]
struct PinLine {
    /// Whose; absent: every server's.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Group>,
    /// Until then, milliseconds; absent: until it is lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
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
    given
        .or_else(|| catalog.target(now_ms()))
        .ok_or_else(|| Failure::failed("no version is served yet; name one, see `rocketctl snapshot ls`"))
}

fn unknown(version: Version, catalog: &Catalog) -> OperatorError {
    OperatorError::UnknownVersion { version, held: crate::publish::held_versions(catalog) }
}

impl Listing {
    fn new(model: &str, catalog: &Catalog) -> Self {
        Listing {
            model: model.to_owned(),
            served: catalog.target(now_ms()),
            current: catalog.current().map(|pointer| pointer.version),
            pin: catalog.pin().and_then(|pin| PinLine::new(None, pin)),
            group_pins: catalog.group_pins().filter_map(|(group, pin)| PinLine::new(Some(group), pin)).collect(),
            canary: catalog.canary().map(CanaryLine::new),
            publisher: catalog.lease().map(PublisherLine::new),
            versions: catalog.manifests().values().map(|manifest| VersionLine::new(manifest, catalog)).collect(),
        }
    }
}

impl CanaryLine {
    pub(super) fn new(canary: &Canary) -> Self {
        CanaryLine { version: canary.version, share: f64::from(canary.share_ppm) / f64::from(WHOLE_PPM), at_ms: canary.at_ms }
    }

    pub(super) fn text(&self) -> String {
        format!("version {} is served by a share of {} since {}", self.version, self.share, time(self.at_ms))
    }
}

impl PinLine {
    fn new(group: Option<&Group>, pin: &Pin) -> Option<Self> {
        Some(PinLine {
            group: group.cloned(),
            expires_ms: pin.expires_ms,
            version: pin.holds(now_ms())?,
            actor: pin.actor.clone(),
            reason: pin.reason.clone(),
            at_ms: pin.at_ms,
        })
    }

    fn text(&self) -> String {
        let PinLine { group, expires_ms, version, actor, reason, at_ms } = self;
        let group = group.as_ref().map_or_else(String::new, |group| format!(" for group {group}"));
        let until = expires_ms.map_or_else(String::new, |ms| format!(" until {}", time(ms)));
        format!("version {version} is pinned{group}{until} by {actor} since {}: {reason}", time(*at_ms))
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
            chunks: manifest.chunks().count(),
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
            served: catalog.target(now_ms()) == Some(version),
            current: catalog.current().is_some_and(|pointer| pointer.version == version),
            pinned: catalog.pinned(now_ms()).is_some_and(|(_, pinned)| pinned == version),
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
            chunks: manifest.chunks().count(),
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
        let pins = self.pin.iter().chain(&self.group_pins).map(PinLine::text);
        let more: Vec<String> = pins.chain(self.canary.iter().map(CanaryLine::text)).collect();
        if more.is_empty() { versions } else { format!("{versions}\n\n{}", more.join("\n")) }
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
                format!("{} in {} chunks, {}", length(manifest.artifact.bytes), manifest.chunks().count(), manifest.artifact.format),
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
            None if self.tried.is_some() => format!("not current yet: {}", maybe(self.tried.as_ref())),
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
