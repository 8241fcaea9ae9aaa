//! Promise: state that an earlier program wrote is read as it was meant; state of a later one is refused and left alone.
//!
//! `tests/fixtures/state/` holds one directory per layout, each written by the last program of that layout; they are never written anew.
//! When a layout changes, run before the change
//! `ROCKET_FIXTURE=tests/fixtures/state/NAME cargo test --test old_state writes_a_fixture -- --ignored`.

mod support;

use std::path::Path;

use rocket_launching::pipeline::State;
use support::world;

/// Events that the fixtures were trained on.
const ROWS: usize = 700;

#[test]
#[ignore = "writes a new fixture: see above"]
fn writes_a_fixture() {
    let dir = std::env::var("ROCKET_FIXTURE").expect("ROCKET_FIXTURE names the directory to write");
    let dir = Path::new(&dir);
    let mut config = world::config(dir, "labelled", "");
    config.model.embedding.expiry.rows_max = 200;
    world::run(&config, State::Durable, world::labelled_stream(ROWS), None, true);
}
