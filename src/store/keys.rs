//! Keys, and the numbers kept under our own ones.

use std::path::Path;

use super::StoreError;
use super::disk;
use crate::domain::UserId;

/// First byte of keys that are no user id; UTF-8 text never contains it.
pub(super) const RESERVED: u8 = 0xFF;
/// Layout of the store.
pub(super) const FORMAT: &[u8] = b"\xFFformat";
/// Highest checkpoint that wrote users.
pub(super) const WRITTEN: &[u8] = b"\xFFwritten";
/// What the store holds (`seal.rs`).
pub(super) const SEALS: &[u8] = b"\xFFseals";
/// Where an unfinished migration goes on.
pub(super) const CURSOR: &[u8] = b"\xFFcursor";
/// Start of the keys of long user ids.
const HASHED: &[u8] = b"\xFFh";
/// Ids up to this many bytes are their own key: keys lie in index pages, several of which are in memory at once.
const PLAIN_BYTES_MAX: usize = 200;

/// A user's key, and whether the record must hold the id because the key does not.
pub(super) fn user_key(user: &UserId) -> (Vec<u8>, bool) {
    let id = user.0.as_bytes();
    if id.len() <= PLAIN_BYTES_MAX { (id.to_vec(), false) } else { ([HASHED, blake3::hash(id).as_bytes()].concat(), true) }
}

/// The entries of users, without our own.
pub(super) fn users(db: &sled::Db) -> impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>> {
    db.range(..&[RESERVED][..]).chain(db.scan_prefix(HASHED))
}

/// A key as people can read it.
pub(super) fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// The number under one of our keys.
pub(super) fn number<const N: usize>(db: &sled::Db, path: &Path, key: &[u8]) -> Result<Option<[u8; N]>, StoreError> {
    let Some(value) = db.get(key).map_err(|e| disk::failed(path, &e))? else { return Ok(None) };
    let bytes = <[u8; N]>::try_from(&*value).map_err(|_| StoreError::Corrupt {
        path: path.to_owned(),
        key: printable(key),
        why: format!("{} bytes instead of {N}", value.len()),
    })?;
    Ok(Some(bytes))
}
