//! Layout 1 → 2: a seal says how many users there are, and a digest of them.
//!
//! A store of layout 1 has none, and which commit it is as of is not written in it: an empty seal stands for "not sealed yet" until it is
//! opened with a commit.

use super::Migration;

/// Key of the seals.
const SEALS: &[u8] = b"\xFFseals";

/// The step.
pub(super) const MIGRATION: Migration = Migration { from: 1, to: 2, name: "0002_seals", run };

fn run(db: &sled::Db) -> sled::Result<()> {
    db.insert(SEALS, &[]).map(drop)
}
