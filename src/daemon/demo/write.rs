//! `rocketd demo --write`: the generated world as a file, for passes without a broker.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::generator::World;
use crate::config::Config;
use crate::daemon::Failure;

/// Writes `rows` impressions as JSON lines, each with its label: what the topics carry, joined, and nothing of it broken.
pub(super) fn labelled(path: &Path, config: &Config, seed: u64, rows: u64) -> Result<(), Failure> {
    let mut world = World::new(seed, config.join.window.as_millis());
    let failed = |e: std::io::Error| Failure::failed(format!("--write {}: {e}", path.display()));
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    for _ in 0..rows {
        let impression = world.draw();
        let mut event = impression.event();
        event.insert(config.schema.label.clone(), impression.click_after_ms.is_some().into());
        serde_json::to_writer(&mut file, &event)?;
        file.write_all(b"\n").map_err(failed)?;
    }
    file.flush().map_err(failed)
}
