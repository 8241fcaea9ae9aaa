//! Promise: an operator can put the users of the state into a file and back, and the daemon goes on from the checkpoint they belong to.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rocket_launching::checkpoint::{CheckpointStore, Commit, Loaded};
use rocket_launching::config::Config;
use rocket_launching::pipeline::State;
use serde_json::Value;
use support::{daemon, world};
use tempfile::TempDir;

/// A state directory beside its configuration, after three runs over the first 900 of 1500 events.
struct Site {
    dir: TempDir,
    config: Config,
    file: PathBuf,
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let mut config = world::config(&dir.path().join("state"), "labelled", "");
    config.publish.enabled = false;
    let (partitions, records) = world::labelled_stream(1500);
    for rows in [300, 600, 900] {
        world::run(&config, State::Durable, (partitions.clone(), records[..rows].to_vec()), None, false);
    }
    let file = daemon::write_config(&config);
    Site { dir, config, file }
}

impl Site {
    /// Exit code, standard output and standard error of the real binary.
    fn rocketctl(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rocketctl"));
        let output = command.args(arguments).arg("--config").arg(&self.file).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.rocketctl(&[arguments, &["-o", "json"]].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

fn end_state(dir: &Path) -> (Commit, Loaded) {
    let store = CheckpointStore::open(dir, 3).unwrap();
    let commit = store.latest().unwrap().clone();
    let loaded = CheckpointStore::load(dir, &commit).unwrap();
    (commit, loaded)
}

#[test]
fn an_export_of_an_earlier_checkpoint_is_imported_and_gone_on_from() {
    let site = site();
    let (newest, out) = (end_state(&site.config.state.dir).0, site.path("users.export"));
    let exported = site.json(&["store", "export", "--out", &out]);
    let keys: Vec<&String> = exported.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["bytes", "checkpoint", "file", "users"]);
    assert_eq!((exported["checkpoint"].as_u64(), exported["users"].as_u64()), (Some(newest.number), Some(newest.report.users)));

    // The daemon made one by itself after the first commit.
    let mut own: Vec<PathBuf> = std::fs::read_dir(site.path("state/exports")).unwrap().map(|entry| entry.unwrap().path()).collect();
    own.sort();
    let earlier = own[0].display().to_string();
    let (code, _, err) = site.rocketctl(&["store", "import", &earlier]);
    assert!(code == 64 && err.contains("--yes"), "{err}");
    let looked = site.json(&["store", "import", &earlier, "--dry-run"]);
    assert_eq!((looked["dry_run"].as_bool(), looked["newest"].as_u64(), looked["aside"].as_str()), (Some(true), Some(newest.number), None));
    let imported = site.json(&["store", "import", &earlier, "--yes"]);
    assert!(imported["checkpoint"].as_u64().unwrap() < newest.number);
    assert!(Path::new(imported["aside"].as_str().unwrap()).is_dir(), "the old store is kept");

    let (summary, _) = world::run(&site.config, State::Durable, world::labelled_stream(1500), None, true);
    assert!(summary.status.went_back.is_some() && summary.status.metrics_restarted.is_none());
    let whole = tempfile::tempdir().unwrap();
    let mut config = site.config.clone();
    config.state.dir = whole.path().to_owned();
    world::run(&config, State::Durable, world::labelled_stream(1500), None, true);
    let ((found, state), (expected, expected_state)) = (end_state(&site.config.state.dir), end_state(whole.path()));
    assert_eq!((found.books, found.positions, found.evaluation), (expected.books, expected.positions, expected.evaluation));
    assert_eq!(state.learner, expected_state.learner);
}

#[test]
fn what_cannot_be_imported_is_refused_and_nothing_changes() {
    let site = site();
    let out = site.path("users.export");
    site.json(&["store", "export", "--out", &out]);
    let refused = |file: &str, why: &str| {
        let (code, _, err) = site.rocketctl(&["store", "import", file, "--yes"]);
        assert!(code == 1 && err.contains(why) && err.lines().count() == 1, "{code}: {err}");
    };
    let mut bytes = std::fs::read(&out).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = site.path("damaged.export");
    std::fs::write(&damaged, &bytes).unwrap();
    refused(&damaged, &damaged);
    refused(&site.path("absent.export"), "absent.export");

    let newest = end_state(&site.config.state.dir).0;
    std::fs::remove_file(site.config.state.dir.join(format!("commits/commit-{:020}.json", newest.number))).unwrap();
    refused(&out, "not part of the state any more");

    let _running = CheckpointStore::open(&site.config.state.dir, 3).unwrap();
    refused(&out, "in use by another process");
    let (code, _, err) = site.rocketctl(&["store", "export", "--out", &site.path("second.export")]);
    assert!(code == 1 && err.contains("in use by another process"), "{err}");
    assert!(site.config.state.dir.join("users.sled").is_dir(), "the store is where it was");
}
