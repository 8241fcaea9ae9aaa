//! sled itself, beneath the store.

use std::path::Path;
use std::time::{Duration, Instant};

/// sled's page cache.
pub const CACHE_BYTES: u64 = 1 << 20;

/// The database of a store that is closed. Its workers hold the lock for some moments after a store is dropped.
pub fn raw(dir: &Path) -> sled::Db {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("lock") && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result.expect("sled opens"),
        }
    }
}
