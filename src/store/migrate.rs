//! Bringing a store of an older layout up to date, one step after the other.

use std::path::Path;

use super::{StoreError, disk, keys};

#[path = "../../migrations/0001_record_header.rs"]
mod record_header;
#[path = "../../migrations/0002_seals.rs"]
mod seals;

/// Layout that this program reads and writes.
pub(super) const FORMAT: u32 = 2;
/// sled's cache while pending steps are only listed.
const LISTING_CACHE_BYTES: u64 = 1 << 20;
/// Steps, each from where the one before ends.
const STEPS: &[Migration] = &[record_header::MIGRATION, seals::MIGRATION];

/// A step from one layout to the next. Its `run` works on raw keys, with code of its own: the codecs of this program move on, a step
/// does not. It may be interrupted anywhere and run again.
pub(super) struct Migration {
    from: u32,
    to: u32,
    name: &'static str,
    run: fn(&sled::Db) -> sled::Result<()>,
}

/// The names of the steps that opening the store in `dir` would run, in their order; nothing is changed. The store must not be open
/// elsewhere. None for a directory that does not exist.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Sled`], [`StoreError::Corrupt`].
pub fn pending_migrations(dir: &Path) -> Result<Vec<String>, StoreError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let db = disk::open(dir, LISTING_CACHE_BYTES)?;
    let format = format(&db, dir)?;
    Ok(pending(format).map(|step| step.name.to_owned()).collect())
}

/// Runs the pending steps, each durable before the next.
pub(super) fn migrate(db: &sled::Db, path: &Path, durability: &mut disk::Durability) -> Result<(), StoreError> {
    let failed = |e| disk::failed(path, &e);
    for step in pending(format(db, path)?) {
        (step.run)(db).map_err(failed)?;
        let mut done = sled::Batch::default();
        done.insert(keys::FORMAT, &step.to.to_le_bytes());
        done.remove(keys::CURSOR);
        db.apply_batch(done).map_err(failed)?;
        durability.flush(db)?;
    }
    if db.get(keys::FORMAT).map_err(failed)?.is_none() {
        db.insert(keys::FORMAT, &FORMAT.to_le_bytes()).map_err(failed)?;
        durability.flush(db)?;
    }
    Ok(())
}

/// Layout of an open store: an empty one is as good as ours, one without a mark is from before there were any.
fn format(db: &sled::Db, path: &Path) -> Result<u32, StoreError> {
    let format = match keys::number(db, path, keys::FORMAT)? {
        Some(bytes) => u32::from_le_bytes(bytes),
        None if db.is_empty() => FORMAT,
        None => 0,
    };
    if format > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), found: format, known: FORMAT });
    }
    Ok(format)
}

fn pending(format: u32) -> impl Iterator<Item = &'static Migration> {
    STEPS.iter().filter(move |step| step.from >= format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_lead_from_the_first_layout_to_ours() {
        let ends: Vec<_> = STEPS.iter().map(|step| (step.from, step.to)).collect();
        let expected: Vec<_> = (0..FORMAT).map(|from| (from, from + 1)).collect();
        assert_eq!(ends, expected);
    }
}
