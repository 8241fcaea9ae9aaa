//! Promise: whatever a disk does to the state, what is recovered is right or refused by name; never silently wrong, and never a panic.
//!
//! `cargo test --test disk_faults -- --ignored` flips a bit of every byte of every small file as well: that takes an hour.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rocket_launching::checkpoint::{CheckpointStore, Commit, Loaded};
use rocket_launching::config::{Config, Span};
use rocket_launching::domain::{PartitionPosition, Record, TopicPartition};
use rocket_launching::pipeline::{Control, PipelineError, Running, Status};
use rocket_launching::stream::{MemorySource, Polled, Source, StreamError};
use support::{wait_for, world};
use tempfile::TempDir;

type Stream = (Vec<TopicPartition>, Vec<Record>);

/// A replay ends in the same place: with the last whole batch.
const ROWS: usize = 700;

fn config(dir: &Path) -> Config {
    let mut config = world::config(dir, "labelled", "");
    config.publish.enabled = false;
    // After every commit.
    config.state.export_every = Span::from_millis(1);
    config
}

fn run(config: &Config, stream: &Stream) -> Result<Status, PipelineError> {
    let parts = world::parts(config, stream.clone(), false);
    Ok(Running::start(parts)?.join()?.status)
}

fn end_state(dir: &Path) -> (Commit, Loaded) {
    let store = CheckpointStore::open(dir, 3).expect("the state opens");
    let commit = store.latest().expect("something was committed").clone();
    let loaded = CheckpointStore::load(dir, &commit).expect("the commit is whole");
    (commit, loaded)
}

/// A state directory after a run, and what is in it.
struct Lived {
    dir: TempDir,
    stream: Stream,
    truth: (Commit, Loaded),
}

impl Lived {
    fn new() -> Self {
        let (dir, stream) = (tempfile::tempdir().expect("tempdir"), world::labelled_stream(ROWS));
        // Each run commits at its end, and begins with a full checkpoint: none hangs on one file.
        for rows in [250, 400, 550, ROWS] {
            run(&config(dir.path()), &(stream.0.clone(), stream.1[..rows].to_vec())).expect("a sound disk");
        }
        let truth = end_state(dir.path());
        Lived { dir, stream, truth }
    }

    /// Files below the directory, sorted, without the lock, which is empty.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        list(self.dir.path(), Path::new(""), &mut files);
        files.retain(|file| file != Path::new("lock"));
        files.sort();
        files
    }

    fn copy(&self) -> TempDir {
        let dir = tempfile::tempdir().expect("tempdir");
        copy(self.dir.path(), dir.path());
        dir
    }

    /// Starts on a copy with this fault and reads the same stream to its end again.
    fn suffers(&self, what: &str, fault: impl FnOnce(&Path)) -> Outcome {
        let dir = self.copy();
        fault(dir.path());
        let status = match run(&config(dir.path()), &self.stream) {
            Ok(status) => status,
            Err(error) => {
                assert!(!matches!(error, PipelineError::Panicked(_)), "{what}: {error}");
                let text = error.to_string();
                assert!(text.contains(&*dir.path().to_string_lossy()), "{what}: the error names no file: {text}");
                return Outcome::Refused;
            }
        };
        let ((found, state), (expected, expected_state)) = (end_state(dir.path()), &self.truth);
        assert_eq!((&found.books, &found.positions), (&expected.books, &expected.positions), "{what}");
        assert_eq!(state.learner, expected_state.learner, "{what}");
        assert_eq!((&state.memory, &state.open), (&expected_state.memory, &expected_state.open), "{what}");
        if status.metrics_restarted.is_some() {
            return Outcome::MetricsRestarted;
        }
        assert_eq!(found.evaluation, expected.evaluation, "{what}");
        if status.went_back.is_some() { Outcome::WentBack } else { Outcome::Whole }
    }
}

/// How a start after a fault went, all of it checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything is as it was: the fault hit nothing that counts, or an older checkpoint was gone on from.
    Whole,
    /// The users are those of an export, and everything is as it was.
    WentBack,
    /// Said: metrics count from now; the rest is as it was.
    MetricsRestarted,
    /// An error that names the place.
    Refused,
}

fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root.join(below)).expect("a directory") {
        let path = below.join(entry.expect("an entry").file_name());
        if root.join(&path).is_dir() { list(root, &path, files) } else { files.push(path) }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry");
        if from.is_dir() {
            copy(&from, &to.join(name))
        } else {
            let _bytes = fs::copy(&from, to.join(name)).expect("a copy");
        }
    }
}

fn flip(path: &Path, at: usize, bit: u32) {
    let mut bytes = fs::read(path).expect("the file is there");
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).expect("the file can be written");
}

fn is_sled(file: &Path) -> bool {
    file.starts_with("users.sled")
}

#[test]
fn a_flipped_bit_anywhere_is_found_or_harmless() {
    let (lived, mut rng) = (Lived::new(), ChaCha8Rng::seed_from_u64(11));
    let mut flips = 0;
    for file in lived.files() {
        let length = fs::metadata(lived.dir.path().join(&file)).expect("the file is there").len() as usize;
        // sled's files have no hash of their own over all: they are looked at most closely.
        let tries = if is_sled(&file) { 40 } else { 5 };
        for _ in 0..tries.min(length) {
            let (at, bit) = (rng.random_range(0..length), rng.random_range(0..8));
            let outcome = lived.suffers(&format!("{} byte {at} bit {bit}", file.display()), |dir| flip(&dir.join(&file), at, bit));
            assert!(outcome <= Outcome::WentBack, "{} byte {at} bit {bit}: {outcome:?} though there is an export", file.display());
            flips += 1;
        }
    }
    assert!(flips >= 200, "{flips}");
}

#[test]
#[ignore = "takes an hour: every byte of every small file"]
fn a_flipped_bit_in_any_byte_of_a_small_file_is_found_or_harmless() {
    let (lived, mut rng) = (Lived::new(), ChaCha8Rng::seed_from_u64(12));
    let mut outcomes = std::collections::BTreeMap::<Outcome, usize>::new();
    // sled's files first: what can be wrong with the others is found by one hash.
    let mut files = lived.files();
    files.sort_by_key(|file| !is_sled(file));
    for file in files {
        let length = fs::metadata(lived.dir.path().join(&file)).expect("the file is there").len() as usize;
        let step = if length <= 4096 { 1 } else { length / 1024 };
        for at in (0..length).step_by(step) {
            let bit = rng.random_range(0..8);
            let outcome = lived.suffers(&format!("{} byte {at} bit {bit}", file.display()), |dir| flip(&dir.join(&file), at, bit));
            *outcomes.entry(outcome).or_default() += 1;
        }
        println!("{}: {length} bytes; in all so far {outcomes:?}", file.display());
    }
}

#[test]
fn a_file_that_is_cut_short_empty_gone_or_a_directory_is_found() {
    let lived = Lived::new();
    for file in lived.files() {
        let path = |dir: &Path| dir.join(&file);
        let length = fs::metadata(path(lived.dir.path())).expect("the file is there").len();
        for left in BTreeSet::from([0, length / 2, length.saturating_sub(1)]) {
            let cut =
                |dir: &Path| fs::File::options().write(true).open(path(dir)).and_then(|file| file.set_len(left)).expect("it can be cut");
            let outcome = lived.suffers(&format!("{} cut to {left}", file.display()), cut);
            assert!(outcome <= Outcome::WentBack, "{} cut to {left}: {outcome:?}", file.display());
        }
        let gone = lived.suffers(&format!("{} gone", file.display()), |dir| fs::remove_file(path(dir)).expect("it can be removed"));
        assert!(gone <= Outcome::WentBack, "{} gone: {gone:?}", file.display());
        let directory = lived.suffers(&format!("{} a directory", file.display()), |dir| {
            fs::remove_file(path(dir)).and_then(|()| fs::create_dir(path(dir))).expect("it can be replaced");
        });
        assert!(directory <= Outcome::WentBack, "{} a directory: {directory:?}", file.display());
    }
}

#[test]
fn a_directory_that_is_gone_is_missed() {
    let lived = Lived::new();
    for (name, expected) in [
        ("users.sled", Outcome::WentBack),
        ("exports", Outcome::Whole),
        ("users.sled/blobs", Outcome::Whole),
        ("checkpoints", Outcome::Refused),
        ("commits", Outcome::Refused),
    ] {
        let gone = |dir: &Path| fs::remove_dir_all(dir.join(name)).expect("it can be removed");
        assert_eq!(lived.suffers(name, gone), expected, "{name}");
    }
}

#[test]
fn without_an_export_metrics_start_afresh_and_the_rest_is_kept() {
    let lived = Lived::new();
    let outcome = lived.suffers("both", |dir| {
        fs::write(dir.join("users.sled/conf"), "no configuration").expect("the store can be damaged");
        for entry in fs::read_dir(dir.join("exports")).expect("exports") {
            flip(&entry.expect("an entry").path(), 60, 0);
        }
    });
    assert_eq!(outcome, Outcome::MetricsRestarted);
}

#[test]
fn without_the_newest_exports_an_older_one_is_gone_back_to() {
    let lived = Lived::new();
    let outcome = lived.suffers("the newest two", |dir| {
        fs::remove_dir_all(dir.join("users.sled")).expect("the store can be lost");
        let mut exports: Vec<_> =
            fs::read_dir(dir.join("exports")).expect("exports").map(|entry| entry.expect("an entry").path()).collect();
        exports.sort();
        assert_eq!(exports.len(), 3);
        flip(&exports[2], 60, 0);
        fs::remove_file(&exports[1]).expect("it can be removed");
    });
    assert_eq!(outcome, Outcome::WentBack);
}

/// Delivers no more than it is allowed to; pauses between.
struct Gated {
    source: MemorySource,
    allowed: Arc<AtomicUsize>,
    delivered: usize,
}

impl Source for Gated {
    fn partitions(&self) -> &[TopicPartition] {
        self.source.partitions()
    }

    fn starts(&self) -> &[i64] {
        self.source.starts()
    }

    fn poll(&mut self, into: &mut Vec<Record>, timeout: Duration) -> Result<Polled, StreamError> {
        if self.delivered >= self.allowed.load(Ordering::Acquire) {
            std::thread::sleep(timeout.min(Duration::from_millis(5)));
            return Ok(Polled::Idle);
        }
        let before = into.len();
        let polled = self.source.poll(into, timeout);
        self.delivered += into.len() - before;
        polled
    }

    fn pause(&mut self, paused: bool) -> Result<(), StreamError> {
        self.source.pause(paused)
    }

    fn commit_advisory(&mut self, positions: &[PartitionPosition]) {
        self.source.commit_advisory(positions);
    }
}

/// A pipeline whose input is let through piece by piece.
struct Metered {
    running: Running,
    control: Control,
    allowed: Arc<AtomicUsize>,
}

impl Metered {
    fn start(config: &Config, (partitions, records): Stream) -> Self {
        let allowed = Arc::new(AtomicUsize::new(0));
        let mut parts = world::parts(config, (partitions.clone(), Vec::new()), true);
        let gate = Arc::clone(&allowed);
        parts.source = Box::new(move |positions| {
            let source = MemorySource::new(partitions.clone(), records.clone(), 32, positions);
            Ok(Box::new(Gated { source, allowed: Arc::clone(&gate), delivered: 0 }))
        });
        let running = Running::start(parts).expect("the pipeline starts");
        Metered { control: running.control(), running, allowed }
    }

    /// Lets so many events through in all, and waits.
    fn until(&self, events: usize, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        self.allowed.store(events, Ordering::Release);
        wait_for(what, || Some(self.control.status()).filter(&holds))
    }
}

/// Rows of the streams below.
const LONG: usize = 3000;

/// A checkpoint cannot be written from `fault` to `mended`; training goes on, and nothing is lost.
fn survives(dir: &Path, fault: impl FnOnce(), mended: impl FnOnce()) {
    let stream = world::labelled_stream(LONG);
    let metered = Metered::start(&config(dir), stream.clone());
    metered.until(500, "a first checkpoint", |status| status.checkpoint.is_some());
    fault();
    let failing = metered.until(1000, "a failed checkpoint", |status| status.checkpoint_problem.is_some());
    let later = metered.until(2000, "training beside it", |status| status.books.done() > 1900);
    assert!(later.checkpoint_problem.is_some() && later.checkpoint == failing.checkpoint, "{later:?}");
    mended();
    metered.until(LONG, "a checkpoint again", |status| status.checkpoint > later.checkpoint && status.checkpoint_problem.is_none());
    metered.allowed.store(usize::MAX, Ordering::Release);
    metered.running.join().expect("it ends well");
    is_whole(dir, &stream);
}

fn is_whole(dir: &Path, stream: &Stream) {
    let whole = tempfile::tempdir().expect("tempdir");
    Running::start(world::parts(&config(whole.path()), stream.clone(), true)).expect("it starts").join().expect("it ends well");
    let ((found, state), (expected, expected_state)) = (end_state(dir), end_state(whole.path()));
    assert_eq!((found.books, found.positions, found.evaluation), (expected.books, expected.positions, expected.evaluation));
    assert_eq!(state.learner, expected_state.learner);
}

/// Runs an ignored test of this file in a process of its own, by way of `wrapper` (a shell that ends in `exec "$@"`).
fn in_a_process(name: &str, wrapper: &[&str], dir: &Path) {
    let binary = std::env::current_exe().expect("this test's binary");
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(dir)
        .arg(binary)
        .args(["--ignored", "--exact", name, "--nocapture"])
        .env("ROCKET_TEST_DIR", dir)
        .output()
        .expect("the wrapper runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

/// Mounts a small file system of its own over its first argument, then runs the rest.
const SMALL: [&str; 4] = ["unshare", "-rm", "sh", "-c"];
const MOUNT: &str = "mount -t tmpfs -o size=64m small \"$0\" && exec \"$@\"";

fn can_mount() -> bool {
    let dir = tempfile::tempdir().expect("tempdir");
    let able = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "small"]).arg(dir.path()).output();
    let able = able.is_ok_and(|output| output.status.success());
    if !able {
        eprintln!("SKIPPED: this machine lets nobody mount a file system in a namespace of their own");
    }
    able
}

/// `None`: not run by the test that makes the place.
fn inside() -> Option<PathBuf> {
    std::env::var_os("ROCKET_TEST_DIR").map(PathBuf::from)
}

#[test]
fn a_full_disk_is_said_and_survived() {
    if can_mount() {
        let dir = tempfile::tempdir().expect("tempdir");
        in_a_process("on_a_full_disk", &[&SMALL[..], &[MOUNT]].concat(), dir.path());
    }
}

#[test]
#[ignore = "run by a_full_disk_is_said_and_survived"]
fn on_a_full_disk() {
    let Some(dir) = inside() else { return };
    let filler = dir.join("filler");
    survives(
        &dir.join("state"),
        || {
            // Written until nothing fits any more.
            let mut file = fs::File::create(&filler).expect("there is room for a name");
            let full = std::io::copy(&mut std::io::repeat(1), &mut file).expect_err("the disk ends somewhere");
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        },
        || fs::remove_file(&filler).expect("it can be removed"),
    );
}

#[test]
fn a_disk_that_becomes_read_only_is_said_and_survived() {
    if can_mount() {
        let dir = tempfile::tempdir().expect("tempdir");
        in_a_process("on_a_read_only_disk", &[&SMALL[..], &[MOUNT]].concat(), dir.path());
    }
}

#[test]
#[ignore = "run by a_disk_that_becomes_read_only_is_said_and_survived"]
fn on_a_read_only_disk() {
    let Some(dir) = inside() else { return };
    let state = dir.join("state");
    let mount = |program: &str, arguments: &[&str]| {
        let mounted = Command::new(program).args(arguments).arg(&state).status().expect("mount runs");
        assert!(mounted.success());
    };
    // A second mount over the first, since files that are open for writing keep that one from becoming read-only.
    let read_only = || {
        mount("mount", &["--bind", &state.to_string_lossy()]);
        mount("mount", &["-o", "remount,bind,ro"]);
    };
    survives(&state, read_only, || mount("umount", &["--lazy"]));
}

#[test]
fn files_that_cannot_be_written_are_said_and_survived() {
    let dir = tempfile::tempdir().expect("tempdir");
    let state = dir.path().join("state");
    let blocked = |number: u64| state.join(format!("checkpoints/extra-{number:020}.json.tmp"));
    survives(
        &state,
        || (1..60).for_each(|number| fs::create_dir(blocked(number)).expect("it can be made")),
        || (1..60).for_each(|number| fs::remove_dir(blocked(number)).expect("it can be removed")),
    );
}

/// sled's own file cannot grow any more: it refuses everything from then on, so the daemon ends, and the next start goes on.
#[test]
fn a_write_of_sled_that_fails_ends_the_daemon_and_the_next_start_recovers() {
    let dir = tempfile::tempdir().expect("tempdir");
    let limited = ["sh", "-c", "trap '' XFSZ; shift 0; exec prlimit --fsize=150000 \"$@\""];
    in_a_process("with_files_of_limited_size", &limited, dir.path());
    let state = dir.path().join("state");
    let stream = world::labelled_stream(6 * LONG);
    Running::start(world::parts(&config(&state), stream.clone(), true)).expect("it starts").join().expect("it ends well");
    is_whole(&state, &stream);
}

#[test]
#[ignore = "run by a_write_of_sled_that_fails_ends_the_daemon_and_the_next_start_recovers"]
fn with_files_of_limited_size() {
    let Some(dir) = inside() else { return };
    let state = dir.join("state");
    let error = run(&config(&state), &world::labelled_stream(6 * LONG)).expect_err("sled's log outgrows the limit");
    assert!(matches!(error, PipelineError::Store(_)), "{error}");
    assert!(error.to_string().contains("users.sled"), "{error}");
}
