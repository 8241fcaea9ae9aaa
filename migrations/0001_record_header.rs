//! Layout 0 → 1: bare records get a header.
//!
//! Layout 0 held a user's bytes under the user id and nothing else. Layout 1 puts before them
//! `u8 1 · u32 crc32(key, u8 1, rest) · u64 tag · u8 flags · u32 length`, with tag 0: part of every commit.
//!
//! A bare record cannot be told from one with a header by its bytes, so each batch moves a cursor in the same breath.

use super::Migration;

/// Keys from here on are no user ids.
const RESERVED: &[u8] = b"\xFF";
/// Last key that has its header.
const CURSOR: &[u8] = b"\xFFcursor";
/// Format of layout 1's records.
const RECORD_FORMAT: u8 = 1;
/// Records per batch: bounds memory.
const BATCH_RECORDS: usize = 256;

/// The step.
pub(super) const MIGRATION: Migration = Migration { from: 0, to: 1, name: "0001_record_header", run };

fn run(db: &sled::Db) -> sled::Result<()> {
    loop {
        let mut bare = match db.get(CURSOR)? {
            Some(done) => db.range::<&[u8], _>((std::ops::Bound::Excluded(&*done), std::ops::Bound::Excluded(RESERVED))),
            None => db.range(..RESERVED),
        };
        let mut batch = sled::Batch::default();
        let mut last = None;
        for entry in bare.by_ref().take(BATCH_RECORDS) {
            let (key, value) = entry?;
            batch.insert(key.clone(), with_header(&key, &value));
            last = Some(key);
        }
        let Some(last) = last else { return Ok(()) };
        batch.insert(CURSOR, last);
        db.apply_batch(batch)?;
    }
}

fn with_header(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(13 + value.len());
    body.extend(0_u64.to_le_bytes());
    body.push(0);
    body.extend((value.len() as u32).to_le_bytes());
    body.extend(value);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[RECORD_FORMAT]);
    hasher.update(&body);
    [&[RECORD_FORMAT][..], &hasher.finalize().to_le_bytes(), &body].concat()
}
