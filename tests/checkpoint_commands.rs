//! Promise: `rocketctl checkpoint` says what was committed, beside a running daemon too, finds damage, and takes the daemon back to an
//! earlier checkpoint through one more commit.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rocket_launching::checkpoint::CheckpointStore;
use rocket_launching::config::Config;
use rocket_launching::pipeline::State;
use serde_json::Value;
use support::{daemon, world};
use tempfile::TempDir;

struct Desk {
    dir: TempDir,
    config: Config,
    file: PathBuf,
}

impl Desk {
    /// A state directory in which 700 events made checkpoints 1 (full), 2, 3 (increments) and perhaps more.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = world::config(&dir.path().join("state"), "labelled", "");
        config.checkpoint.keep = 8;
        let (partitions, records) = world::labelled_stream(1000);
        // Stops between them, so that each run commits at its end.
        for events in [200, 450, 700] {
            world::run(&config, State::Durable, (partitions.clone(), records[..events].to_vec()), None, false);
        }
        let file = daemon::write_config(&config);
        Desk { dir, config, file }
    }

    fn state(&self) -> &Path {
        &self.config.state.dir
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rocketctl"));
        command.arg("checkpoint").args(arguments).arg("--config").arg(&self.file).current_dir(self.dir.path());
        let output = command.env_remove("RUST_LOG").env_remove("ROCKET_CONFIG").stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = self.run(&[arguments, &["-o", "json"]].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    }

    fn listed(&self) -> Vec<Value> {
        self.json(&["ls"])["checkpoints"].as_array().unwrap().clone()
    }
}

fn number(line: &Value) -> u64 {
    line["number"].as_u64().unwrap()
}

#[test]
fn what_was_committed_is_shown_beside_a_running_daemon() {
    let desk = Desk::new();
    let daemon = CheckpointStore::open(desk.state(), 8).unwrap();
    let latest = daemon.latest().unwrap();
    let listed = desk.listed();
    assert_eq!(number(listed.last().unwrap()), latest.number);
    for line in &listed {
        assert_eq!((line["whole"].as_bool(), line["published"].as_bool(), line["problem"].as_str()), (Some(true), Some(false), None));
    }
    assert_eq!(listed.last().unwrap()["samples"], latest.books.samples);
    let fulls = listed.iter().filter(|line| line["full"] == true).count();
    assert!(fulls >= 3 && fulls < listed.len(), "the first of each run is full, and there are increments: {listed:?}");

    let shown = desk.json(&["show", &latest.number.to_string()]);
    assert_eq!(shown["commit"]["books"], serde_json::to_value(&latest.books).unwrap());
    assert_eq!(shown["commit"]["positions"], serde_json::to_value(&latest.positions).unwrap());
    let verified = desk.json(&["verify"]);
    assert_eq!((number(&verified), verified["ok"].as_bool()), (latest.number, Some(true)));

    for arguments in [&["ls"][..], &["show", "1"], &["verify", "1"]] {
        let (code, out, err) = desk.run(arguments);
        assert!(code == 0 && !out.trim().is_empty(), "{arguments:?}: {err}");
    }
    let (code, _, err) = desk.run(&["show", "77"]);
    assert!(code == 1 && err.contains("no checkpoint 77") && err.contains("kept are 1, 2"), "{err}");
    let (code, _, err) = desk.run(&["restore", "1", "--yes"]);
    assert!(code == 1 && err.contains("in use by another process"), "{err}");
}

#[test]
fn damage_is_found_and_named() {
    let desk = Desk::new();
    let newest = number(desk.listed().last().unwrap());
    let path = desk.state().join(format!("checkpoints/dense-{newest:020}.safetensors"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (code, _, err) = desk.run(&["verify"]);
    assert!(code == 1 && err.contains(&format!("dense-{newest:020}")) && err.contains("hash differs"), "{err}");
    let (code, _, err) = desk.run(&["restore", &newest.to_string(), "--yes"]);
    assert!(code == 1 && err.contains("is damaged"), "{err}");

    std::fs::remove_file(path).unwrap();
    assert_eq!(desk.listed().last().unwrap()["whole"], false);
    std::fs::write(desk.state().join(format!("commits/commit-{newest:020}.json")), "oops").unwrap();
    let listed = desk.listed();
    assert!(listed.last().unwrap()["problem"].as_str().unwrap().contains("no header line"));
    assert!(desk.run(&["ls"]).1.contains("no header line"));
}

#[test]
fn going_back_is_one_more_commit_and_training_goes_on_from_it_as_it_did_then() {
    let desk = Desk::new();
    let listed = desk.listed();
    let (first, newest) = (number(&listed[0]), number(listed.last().unwrap()));
    let argument = first.to_string();
    let (code, _, err) = desk.run(&["restore", &argument]);
    assert!(code == 64 && err.contains("--yes") && err.contains("GAUC"), "{err}");
    let tried = desk.json(&["restore", &argument, "--dry-run"]);
    assert_eq!((tried["dry_run"].as_bool(), tried["written"].as_bool(), tried["before"].as_u64()), (Some(true), Some(false), Some(newest)));
    assert_eq!(desk.listed(), listed, "nothing was changed");

    let done = desk.json(&["restore", &argument, "--yes"]);
    assert_eq!((done["written"].as_bool(), number(&done)), (Some(true), newest + 1));
    let after = desk.listed();
    assert_eq!((&after[..listed.len()], after.len()), (listed.as_slice(), listed.len() + 1), "nothing was removed");
    assert_eq!((after[listed.len()]["restores"].as_u64(), &after[listed.len()]["samples"]), (Some(first), &listed[0]["samples"]));
    let (code, _, err) = desk.run(&["restore", &argument, "--yes"]);
    assert!(code == 1 && err.contains("already"), "{err}");

    let (summary, _) = world::run(&desk.config, State::Durable, world::labelled_stream(1000), None, true);
    assert!(summary.status.metrics_restarted.is_none(), "there was an export of it");
    assert_eq!(summary.status.books.done(), 1000, "what came after it is read again and counted once");
    let whole = tempfile::tempdir().unwrap();
    let mut config = desk.config.clone();
    config.state.dir = whole.path().to_owned();
    world::run(&config, State::Durable, world::labelled_stream(1000), None, true);
    let end = |dir: &Path| {
        let store = CheckpointStore::open(dir, 8).unwrap();
        let commit = store.latest().unwrap().clone();
        (CheckpointStore::load(dir, &commit).unwrap().learner, commit.books, commit.positions, commit.report)
    };
    assert!(end(desk.state()) == end(whole.path()), "bit-equal to a run that never went back");
}
