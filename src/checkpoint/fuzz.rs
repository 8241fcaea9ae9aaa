//! For the fuzzer.

use std::path::Path;

use super::chain::Keyed;
use super::{Commit, files};
use crate::train::{CountsState, RowsState};

/// A file of a checkpoint; the first byte says of which kind. Hashes are left out: they would keep everything else from being read.
pub fn fuzz_file(bytes: &[u8]) {
    let (path, Some((kind, bytes))) = (Path::new("fuzz"), bytes.split_first()) else { return };
    match kind % 5 {
        0 => drop(files::decode_dense(path, bytes)),
        1 => drop(RowsState::decode(path, bytes)),
        2 => drop(CountsState::decode(path, bytes)),
        3 => drop(serde_json::from_slice::<files::Extra>(bytes)),
        _ => drop(Commit::decode(path, bytes)),
    }
}
