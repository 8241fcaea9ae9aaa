//! What lies where in a state directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{CheckpointError, Commit, FileEntry, files};
use crate::failpoint;

/// Directory of weights, rows and the rest.
const FILES_DIR: &str = "checkpoints";
/// Directory of commit records.
const COMMITS_DIR: &str = "commits";

/// Where the files of checkpoints are.
pub(super) fn files_dir(dir: &Path) -> PathBuf {
    dir.join(FILES_DIR)
}

/// Where commit records are.
pub(super) fn commits_dir(dir: &Path) -> PathBuf {
    dir.join(COMMITS_DIR)
}

/// The file name of a commit record.
pub(super) fn commit_name(number: u64) -> String {
    files::name("commit", number, "json")
}

/// Makes the directories, so that a power cut does not take them away again.
pub(super) fn create(dir: &Path) -> Result<(), CheckpointError> {
    let mut is_new = false;
    for made in [dir.to_owned(), files_dir(dir), commits_dir(dir)] {
        is_new |= !made.exists();
        fs::create_dir_all(&made).map_err(CheckpointError::io("creating directory", &made))?;
    }
    if is_new {
        files::sync_dir(dir)?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files::sync_dir(parent)?;
    }
    Ok(())
}

/// Numbers of the commit records, rising. What a killed writer left is none.
pub(super) fn commit_numbers(dir: &Path) -> Result<Vec<u64>, CheckpointError> {
    let names = names_in(&commits_dir(dir))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name).filter(|number| *name == commit_name(*number))).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The highest number that any file bears, whole or not, committed or not.
pub(super) fn highest_number(dir: &Path) -> Result<u64, CheckpointError> {
    let names = [names_in(&files_dir(dir))?, names_in(&commits_dir(dir))?].concat();
    Ok(names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0))
}

/// The number in `kind-<number>.extension`.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.split_once('-')?.1.split_once('.')?.0.parse().ok()
}

pub(super) fn names_in(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let entries = fs::read_dir(dir).map_err(CheckpointError::io("listing", dir))?;
    entries.map(|entry| Ok(entry.map_err(CheckpointError::io("listing", dir))?.file_name().to_string_lossy().into_owned())).collect()
}

pub(super) fn read_commit(dir: &Path, number: u64) -> Result<Commit, CheckpointError> {
    let path = commits_dir(dir).join(commit_name(number));
    let bytes = fs::read(&path).map_err(CheckpointError::io("reading", &path))?;
    Commit::decode(&path, &bytes)
}

/// Checks the hash of every file that a commit needs.
pub(super) fn check_files(dir: &Path, commit: &Commit) -> Result<(), CheckpointError> {
    let files_dir = files_dir(dir);
    commit.files().try_for_each(|entry| files::read_verified(&files_dir, entry).map(drop))
}

/// Whether a file is there and as long as it should be.
pub(super) fn holds(dir: &Path, entry: &FileEntry) -> bool {
    fs::metadata(files_dir(dir).join(&entry.name)).is_ok_and(|found| found.len() == entry.bytes)
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), CheckpointError> {
    match failpoint::reach(format_args!("retention.remove")).and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(CheckpointError::io("removing", path)(error)),
        _ => Ok(()),
    }
}
