//! sled: keyspaces, record codec, migrations.
//!
//! One tree. Keys that start with 0xFF, which no UTF-8 text does, are ours; every other key is a user id.
//!
//! | key | value |
//! |---|---|
//! | user id, up to 200 bytes | record (`record.rs`) |
//! | 0xFF `h`, blake3 of a longer user id | record, which then holds the id |
//! | 0xFF `format` | u32: layout of this store |
//! | 0xFF `written` | u64: highest checkpoint that wrote users |
//! | 0xFF `seals` | what there must be (`seal.rs`) |
//! | 0xFF `cursor` | where an unfinished migration goes on |
//!
//! Numbers are little-endian.
//!
//! architecture invariant: the only room that knows sled.

mod disk;
mod error;
mod export;
mod keys;
mod migrate;
mod rebuild;
mod record;
mod seal;
mod users;

pub use error::StoreError;
pub use export::{Export, Exports};
pub use migrate::pending_migrations;
pub use rebuild::set_aside;
#[cfg(feature = "fuzzing")]
pub use record::fuzz_record;
pub use users::{SledUsers, SledWriter};
