use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::{CheckpointError, FileEntry, read_verified, write_durable};
use crate::domain::Version;
use crate::wire::snapshot::Manifest;

/// Artifacts of the versions last sent, as files: what the next delta is made from. A file counts only if it hashes to what the manifest on
/// the topic says.
#[derive(Debug)]
pub(super) struct Bases {
    dir: PathBuf,
}

impl Bases {
    /// In this directory, which is made when it is first needed.
    pub(super) fn new(dir: &Path) -> Self {
        Bases { dir: dir.to_owned() }
    }

    /// The artifact of this manifest; `None` where it is not here, or not as it was.
    pub(super) fn load(&self, manifest: &Manifest) -> Option<Vec<u8>> {
        let name = name(manifest.version);
        if !self.dir.join(&name).exists() {
            return None;
        }
        let entry = FileEntry { name, bytes: manifest.artifact.bytes, blake3: manifest.artifact.blake3.clone() };
        read_verified(&self.dir, &entry)
            .inspect_err(|error| tracing::warn!(%error, "no delta is made from it, the version is sent whole"))
            .ok()
    }

    /// Writes a version's artifact durably.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub(super) fn keep(&self, version: Version, artifact: &[u8]) -> Result<(), CheckpointError> {
        fs::create_dir_all(&self.dir).map_err(|source| CheckpointError::Io {
            doing: "creating directory",
            path: self.dir.clone(),
            source,
        })?;
        write_durable(&self.dir, &name(version), artifact).map(drop)
    }

    /// Removes every file but these versions'; what cannot be removed costs its room until the next time.
    pub(super) fn keep_only(&self, versions: &[Version]) {
        let kept: Vec<String> = versions.iter().map(|version| name(*version)).collect();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if kept.iter().all(|kept| entry.file_name() != kept.as_str())
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "an old artifact was not removed");
            }
        }
    }
}

fn name(version: Version) -> String {
    format!("snapshot-{:020}.safetensors", version.0)
}
