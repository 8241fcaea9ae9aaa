//! `rocketctl snapshot export`: a version as a file for other programs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::context::Context;
use super::output::{self, View, length, pairs};
use crate::daemon::Failure;
use crate::domain::Version;
use crate::interchange::{to_onnx, to_safetensors};
use crate::wire::snapshot::Manifest;

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Version, verified before it is written [default: the one being served].
    pub(super) version: Option<Version>,
    /// What to write.
    #[arg(long, value_enum)]
    format: FileFormat,
    /// Where to; an existing file is replaced once the new one is whole.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What other programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
enum FileFormat {
    /// The dense layers: inputs to logit and probability.
    Onnx,
    /// Every tensor, with the manifest as metadata.
    Safetensors,
}

/// JSON of `snapshot export`.
#[derive(Debug, Serialize)]
struct Exported {
    /// File.
    file: String,
    /// Its format.
    format: FileFormat,
    /// Version.
    version: Version,
    /// Its length.
    bytes: u64,
}

/// Writes what was fetched.
pub(super) fn run(
    context: &Context,
    ExportArgs { format, out, .. }: &ExportArgs,
    manifest: &Manifest,
    artifact: &[u8],
) -> Result<(), Failure> {
    let bytes = match format {
        FileFormat::Onnx => to_onnx(manifest, artifact),
        FileFormat::Safetensors => to_safetensors(manifest, artifact),
    };
    let bytes = bytes.map_err(|error| Failure::Failed(error.into()))?;
    replace(out, &bytes).with_context(|| format!("writing {}", out.display())).map_err(Failure::Failed)?;
    let exported = Exported { file: out.display().to_string(), format: *format, version: manifest.version, bytes: bytes.len() as u64 };
    output::print(context.format, &exported)
}

/// Writes beside the file, then over it.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

impl View for Exported {
    fn text(&self) -> String {
        pairs([("file", self.file.clone()), ("version", self.version.to_string()), ("size", length(self.bytes))])
    }
}
