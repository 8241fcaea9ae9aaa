use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::domain::{Books, PartitionPosition, Quarantine, Version};
use crate::evaluate::{AggregateState, Report};

/// First line of every commit record.
const MAGIC: &str = "rocket-launching commit";
/// Format of the record after the first line.
const FORMAT: u32 = 1;

/// A file that belongs to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name inside the checkpoint directory; made from numbers alone.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// blake3, hex.
    pub blake3: String,
}

/// What the snapshot topic last got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPublished {
    /// Version.
    pub version: Version,
    /// It was made current then.
    pub promoted: bool,
}

/// Where the schedule of publishing counts from. Part of the commit, so that a daemon that never lives long comes to publish all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishMark {
    /// The last checkpoint that was to be published; its own number, where this one is. None before the first.
    pub number: Option<u64>,
    /// Samples trained then.
    pub samples: u64,
    /// When, milliseconds.
    pub at_ms: i64,
}

/// The commit record: the one point at which everything becomes true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Checkpoint number; also the version of a snapshot published from it.
    pub number: u64,
    /// When, milliseconds.
    pub created_ms: i64,
    /// Dense parameters and Adam's state.
    pub dense: FileEntry,
    /// Embedding rows of the first table: a full file, then those touched since, oldest first.
    pub rows: Vec<FileEntry>,
    /// Likewise of the further tables, by dim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub further_rows: BTreeMap<usize, Vec<FileEntry>>,
    /// Rows of light alone where it shares nothing, likewise; else none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub light_rows: Vec<FileEntry>,
    /// Likewise of the further tables, by dim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub further_light_rows: BTreeMap<usize, Vec<FileEntry>>,
    /// Click counts, likewise; none where the schema has no click rates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub click_counts: Vec<FileEntry>,
    /// Course of training, join memory and probe samples.
    pub extra: FileEntry,
    /// What is done of the input.
    pub positions: Vec<PartitionPosition>,
    /// Conservation.
    pub books: Books,
    /// GAUC's aggregates.
    pub evaluation: AggregateState,
    /// Metrics at this point, for people and manifests.
    pub report: Report,
    /// blake3 of the config's JSON, hex.
    pub config_hash: String,
    /// What was last published when this was taken. None in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<LastPublished>,
    /// The schedule of publishing. Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_mark: Option<PublishMark>,
    /// Input that is skipped for good.
    #[serde(default, skip_serializing_if = "Quarantine::is_empty")]
    pub quarantine: Quarantine,
    /// Earlier checkpoint whose content this has; its users were written under that number. None where this is a checkpoint of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
}

/// The first line: what follows, and its hash.
#[derive(Serialize, Deserialize)]
struct Header {
    magic: String,
    format: u32,
    blake3: String,
}

impl Commit {
    /// Every file it needs.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let further = self.further_rows.values().chain(self.further_light_rows.values()).flatten();
        let rows = self.rows.iter().chain(&self.light_rows).chain(further);
        rows.chain(&self.click_counts).chain([&self.dense, &self.extra])
    }

    /// The checkpoint that was to be published, unless it is known to have been.
    #[must_use]
    pub fn unpublished(&self) -> Option<u64> {
        let number = self.publish_mark?.number?;
        self.published.is_none_or(|published| published.version.0 < number).then_some(number)
    }

    /// Checkpoint that the per-user store must be as of.
    #[must_use]
    pub fn users_of(&self) -> u64 {
        self.restores.unwrap_or(self.number)
    }

    /// A line that names format and hash, then the record as JSON.
    pub(super) fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_string(self).expect("plain structs serialise");
        let header = Header { magic: MAGIC.to_owned(), format: FORMAT, blake3: blake3::hash(body.as_bytes()).to_hex().to_string() };
        let header = serde_json::to_string(&header).expect("plain structs serialise");
        format!("{header}\n{body}").into_bytes()
    }

    /// The record in these bytes. Fields that came later have a default, which says what was true before there were any; a change that a
    /// default cannot express takes the next format, and here a step that makes the older format's JSON the newer one's before it is read.
    /// There has been none yet.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let corrupt = |why: &dyn std::fmt::Display| CheckpointError::corrupt(path, why);
        let text = std::str::from_utf8(bytes).map_err(|e| corrupt(&e))?;
        let (header, body) = text.split_once('\n').ok_or_else(|| corrupt(&"no header line"))?;
        let header: Header = serde_json::from_str(header).map_err(|e| corrupt(&e))?;
        if header.magic != MAGIC {
            return Err(corrupt(&format_args!("starts with `{}`, not `{MAGIC}`", header.magic)));
        }
        if header.format > FORMAT {
            return Err(CheckpointError::Newer { path: path.to_owned(), found: header.format, known: FORMAT });
        }
        if header.format < FORMAT {
            return Err(corrupt(&format_args!("format {}, and the first there was is {FORMAT}", header.format)));
        }
        if blake3::hash(body.as_bytes()).to_hex().as_str() != header.blake3 {
            return Err(corrupt(&"its hash differs from what its first line says"));
        }
        serde_json::from_str(body).map_err(|e| corrupt(&e))
    }
}
