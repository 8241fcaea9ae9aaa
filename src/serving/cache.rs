use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Marks, ModelError, ServedModel};
use crate::domain::Version;
use crate::failpoint;
use crate::wire::snapshot::{Manifest, PROTOCOL, RECORD_BYTES_MAX, RecordError, open, seal};

const SEEN: &str = "seen.json";
/// A file that is being written; whole once it is renamed.
const UNFINISHED: &str = "tmp";
/// A file that failed its checks, kept for a look.
const BAD: &str = "bad";
const MANIFEST: &str = "manifest";
const ARTIFACT: &str = "safetensors";
/// A line end and a hash in hex.
const HASH_LINE: usize = 1 + 2 * blake3::OUT_LEN;

/// What is wrong with the directory or a file in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A file operation failed.
    #[error("{doing} {path}: {source}; the directory must exist or be creatable, be writable, and have room for a few snapshots")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{path}: {why}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The directory holds another model's snapshots.
    #[error("{path} holds snapshots of model `{found}`, not `{expected}`: give each model a directory of its own")]
    OtherModel {
        /// Which file says so.
        path: PathBuf,
        /// Whose they are.
        found: String,
        /// Ours.
        expected: String,
    },
    /// A snapshot no longer passes its checks.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What outlives a restart besides snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Version of this file's format.
    pub proto: u32,
    /// Whose marks these are.
    pub model: String,
    /// How far the topic was read.
    pub marks: Marks,
    /// What it said to serve then.
    pub target: Option<Version>,
}

/// What was found at boot.
#[derive(Debug, Default)]
pub struct Boot {
    /// The snapshot to serve until the topic says otherwise.
    pub model: Option<ServedModel>,
    /// What could not be used, each moved aside as `.bad` if its content is at fault.
    pub faults: Vec<CacheError>,
}

/// Verified snapshots on disk, so that a server boots without Kafka. One process at a time.
///
/// Per version two files, named from its number alone: `<version:020>.safetensors`, then `<version:020>.manifest`; a version without the
/// second does not exist. Files appear whole (temporary name, fsync, rename, fsync of the directory) and are verified again at every load:
/// the artifact by its manifest, a record by the hash in its last line.
#[derive(Debug)]
pub struct SnapshotCache {
    dir: PathBuf,
    model: String,
    keep: usize,
}

impl SnapshotCache {
    /// Opens or makes the directory, and removes what an interrupted run left unfinished. `keep` is at least 1.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn open(dir: &Path, model: &str, keep: usize) -> Result<Self, CacheError> {
        fs::create_dir_all(dir).map_err(io_error("creating", dir))?;
        let cache = SnapshotCache { dir: dir.to_owned(), model: model.to_owned(), keep: keep.max(1) };
        let versions = cache.versions()?;
        for (path, version, extension) in cache.files()? {
            let orphan = extension == ARTIFACT && version.is_some_and(|version| !versions.contains(&version));
            if orphan || extension == UNFINISHED {
                fs::remove_file(&path).map_err(io_error("removing", &path))?;
            }
        }
        // Found out now that nothing can be written, not at the first swap.
        let probe = dir.join("writable").with_extension(UNFINISHED);
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(io_error("writing", &probe))?;
        Ok(cache)
    }

    /// The snapshot to serve first: the recorded target, else the newest good one below it, else the nearest above it, as a server that
    /// could not fetch its target would still be serving. Without a target: the newest.
    pub fn boot(&self, target: Option<Version>) -> Boot {
        let mut boot = Boot::default();
        let mut versions = match self.versions() {
            Ok(versions) => versions,
            Err(error) => return Boot { faults: vec![error], ..boot },
        };
        let newer = target.map_or(Vec::new(), |target| versions.split_off(versions.partition_point(|version| *version <= target)));
        for version in versions.into_iter().rev().chain(newer) {
            match self.open_model(version) {
                Ok(model) => return Boot { model: Some(model), ..boot },
                Err(error) => {
                    // Only where the content is at fault: a full table of open files, or a wrong directory, must cost no snapshot.
                    let at_fault = matches!(error, CacheError::Corrupt { .. } | CacheError::Model(_));
                    boot.faults.push(error);
                    boot.faults.extend(at_fault.then(|| self.quarantine(version).err()).flatten());
                }
            }
        }
        boot
    }

    fn open_model(&self, version: Version) -> Result<ServedModel, CacheError> {
        match self.load(version)? {
            Some((manifest, artifact)) => Ok(ServedModel::open_shared(manifest, Arc::new(artifact))?),
            None => Err(CacheError::Corrupt { path: self.path(version, MANIFEST), why: "vanished while it was being read".to_owned() }),
        }
    }

    /// A version's manifest and artifact; `None` where it is not here. The artifact is checked by whoever opens it as a model.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn load(&self, version: Version) -> Result<Option<(Manifest, Vec<u8>)>, CacheError> {
        let Some(manifest) = self.manifest(version)? else { return Ok(None) };
        let path = self.path(version, ARTIFACT);
        let Some(artifact) = read(&path, manifest.artifact.bytes)? else {
            let why = "is missing, though its manifest is there".to_owned();
            return Err(CacheError::Corrupt { path, why });
        };
        Ok(Some((manifest, artifact)))
    }

    /// A version's manifest; `None` where the version is not here.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn manifest(&self, version: Version) -> Result<Option<Manifest>, CacheError> {
        let path = self.path(version, MANIFEST);
        let Some(bytes) = read_hashed(&path)? else { return Ok(None) };
        let corrupt = |path: &Path, why: String| CacheError::Corrupt { path: path.to_owned(), why };
        let manifest: Manifest = open("manifest", &bytes).map_err(|error| corrupt(&path, error.to_string()))?;
        if manifest.model != self.model {
            return Err(CacheError::OtherModel { path, found: manifest.model, expected: self.model.clone() });
        }
        if manifest.version != version {
            return Err(corrupt(&path, format!("holds the manifest of version {}", manifest.version)));
        }
        Ok(Some(manifest))
    }

    /// Writes a version durably, then removes the oldest beyond `keep`, never this one.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn save(&self, manifest: &Manifest, artifact: &[u8]) -> Result<(), CacheError> {
        self.write(&self.path(manifest.version, ARTIFACT), artifact)?;
        self.write(&self.path(manifest.version, MANIFEST), &hashed(seal(manifest)))?;
        let mut others = self.versions()?;
        others.retain(|version| *version != manifest.version);
        let surplus = (others.len() + 1).saturating_sub(self.keep);
        for version in &others[..surplus] {
            // The manifest first: without it the version does not exist.
            for extension in [MANIFEST, ARTIFACT] {
                let path = self.path(*version, extension);
                failpoint::reach(format_args!("cache.remove"))
                    .and_then(|()| fs::remove_file(&path))
                    .map_err(io_error("removing", &path))?;
            }
        }
        // What was moved aside is looked at soon or never.
        for (path, version, extension) in self.files()? {
            if extension == BAD && version.is_some_and(|version| others.get(surplus).is_some_and(|oldest| version < *oldest)) {
                fs::remove_file(&path).map_err(io_error("removing", &path))?;
            }
        }
        Ok(())
    }

    /// Moves a version's files aside as `.bad`: kept for a look, never loaded.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn quarantine(&self, version: Version) -> Result<(), CacheError> {
        for extension in [MANIFEST, ARTIFACT] {
            set_aside(&self.path(version, extension))?;
        }
        self.sync_dir()
    }

    /// Marks and target of the last run; `None` for the first run.
    ///
    /// # Errors
    /// [`CacheError::OtherModel`]; [`CacheError::Corrupt`]: the file is moved aside, the next call finds none.
    pub fn seen(&self) -> Result<Option<Seen>, CacheError> {
        let path = self.dir.join(SEEN);
        let bytes = match read_hashed(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(CacheError::Corrupt { why, .. }) => return Err(self.unseen(path, why)?),
            Err(error) => return Err(error),
        };
        match open::<Seen>(SEEN, &bytes) {
            Ok(seen) if seen.model != self.model => Err(CacheError::OtherModel { path, found: seen.model, expected: self.model.clone() }),
            Ok(seen) => Ok(Some(seen)),
            Err(error @ RecordError::Protocol { .. }) => Err(CacheError::Corrupt { path, why: error.to_string() }),
            Err(error) => Err(self.unseen(path, error.to_string())?),
        }
    }

    /// Moves the damaged marks aside.
    fn unseen(&self, path: PathBuf, why: String) -> Result<CacheError, CacheError> {
        set_aside(&path)?;
        self.sync_dir()?;
        let why = format!("{why}; moved aside as .{BAD}: until the topic was read, an old copy of it would go unnoticed");
        Ok(CacheError::Corrupt { path, why })
    }

    /// Writes marks and target durably.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn remember(&self, marks: Marks, target: Option<Version>) -> Result<(), CacheError> {
        self.write(&self.dir.join(SEEN), &hashed(seal(&Seen { proto: PROTOCOL, model: self.model.clone(), marks, target })))
    }

    /// Versions on disk, oldest first.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn versions(&self) -> Result<Vec<Version>, CacheError> {
        let mut versions: Vec<Version> =
            self.files()?.into_iter().filter(|(_, _, extension)| extension == MANIFEST).filter_map(|(_, version, _)| version).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    fn path(&self, version: Version, extension: &str) -> PathBuf {
        self.dir.join(format!("{:020}.{extension}", version.0))
    }

    /// Path, version where the name bears one, and last extension of every file.
    fn files(&self) -> Result<Vec<(PathBuf, Option<Version>, String)>, CacheError> {
        let entries = fs::read_dir(&self.dir).map_err(io_error("listing", &self.dir))?;
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_error("listing", &self.dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let version = name.split_once('.').filter(|(digits, _)| digits.len() == 20).and_then(|(digits, _)| digits.parse().ok());
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_owned();
            files.push((path, version, extension));
        }
        Ok(files)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), CacheError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{UNFINISHED}"));
        let unfinished = PathBuf::from(unfinished);
        let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let at = |stage: &str| failpoint::reach(format_args!("cache.{kind}.{stage}"));
        let write = || {
            at("create")?;
            let mut file = File::create(&unfinished)?;
            at("write")?;
            file.write_all(bytes)?;
            at("sync")?;
            file.sync_all()?;
            at("rename")?;
            fs::rename(&unfinished, path)?;
            at("sync_dir")
        };
        write().map_err(io_error("writing", path))?;
        self.sync_dir()?;
        at("durable").map_err(io_error("writing", path))
    }

    fn sync_dir(&self) -> Result<(), CacheError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io_error("syncing", &self.dir))
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { doing, path, source }
}

/// A whole file of at most `limit` bytes; `None` where there is none.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, CacheError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("opening", path)(error)),
    };
    let length = file.metadata().map_err(io_error("reading", path))?.len();
    if length > limit {
        return Err(CacheError::Corrupt { path: path.to_owned(), why: format!("has {length} bytes; at most {limit} were expected") });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(limit).read_to_end(&mut bytes).map_err(io_error("reading", path))?;
    Ok(Some(bytes))
}

/// The record, and its hash as a last line: a flipped bit can make other JSON of JSON.
fn hashed(mut record: Vec<u8>) -> Vec<u8> {
    let hash = blake3::hash(&record).to_hex();
    record.push(b'\n');
    record.extend_from_slice(hash.as_bytes());
    record
}

/// The record of a file that [`hashed`] made. Earlier versions wrote no hash: a record is one line of JSON, so it is told by that.
fn read_hashed(path: &Path) -> Result<Option<Vec<u8>>, CacheError> {
    let Some(mut bytes) = read(path, (RECORD_BYTES_MAX + HASH_LINE) as u64)? else { return Ok(None) };
    if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let hash = bytes.split_off(end);
        if blake3::hash(&bytes).to_hex().as_bytes() != &hash[1..] {
            let why = "its hash differs from what its last line says".to_owned();
            return Err(CacheError::Corrupt { path: path.to_owned(), why });
        }
    }
    Ok(Some(bytes))
}

fn set_aside(path: &Path) -> Result<(), CacheError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{BAD}"));
    match fs::rename(path, aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("moving aside", path)(error)),
        _ => Ok(()),
    }
}
