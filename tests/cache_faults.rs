//! Promise: whatever a disk does to a subscriber's cache, it serves a version that was published, as it was published, or none and says so.

mod serving_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rocket_launching::domain::Version;
use rocket_launching::serving::{Seen, SnapshotCache, SubscriberStatus};
use serving_support::{MODEL, Topic, follow, scores, until, until_serves};
use tempfile::TempDir;

const CANDIDATES: usize = 7;
const VERSIONS: u64 = 3;

/// A cache in which every version was served, with the scores of each.
struct Lived {
    dir: TempDir,
    scores: BTreeMap<u64, Vec<f32>>,
    seen: Option<Seen>,
}

impl Lived {
    fn new() -> Self {
        let (dir, mut topic, mut truth) = (tempfile::tempdir().expect("tempdir"), Topic::new(), BTreeMap::new());
        let subscriber = follow(dir.path(), &topic);
        for version in 1..=VERSIONS {
            topic.publish(version);
            until_serves(&subscriber, version);
            truth.insert(version, scores(&subscriber.model().expect("it serves"), CANDIDATES));
        }
        subscriber.stop().expect("no panic");
        let seen = SnapshotCache::open(dir.path(), MODEL, 8).and_then(|cache| cache.seen()).expect("a sound disk");
        Lived { dir, scores: truth, seen }
    }

    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).expect("a directory");
        let mut names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Boots from a copy with this fault.
    fn suffers(&self, name: &str, what: &str, fault: impl FnOnce(&Path)) {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in self.files() {
            fs::copy(self.dir.path().join(&name), dir.path().join(&name)).expect("a copy");
        }
        fault(&dir.path().join(name));
        let cache = SnapshotCache::open(dir.path(), MODEL, 8).expect("the directory is usable");
        match cache.seen() {
            Ok(seen) => assert!(seen == self.seen || (seen.is_none() && name == "seen.json"), "{what}: {seen:?}"),
            Err(error) => assert!(name == "seen.json" && error.to_string().contains(name), "{what}: {error}"),
        }
        let boot = cache.boot(Some(Version(VERSIONS)));
        let model = boot.model.unwrap_or_else(|| panic!("{what}: nothing is served, though older versions are good"));
        let version = model.version().0;
        assert_eq!(scores(&model, CANDIDATES), self.scores[&version], "{what}: version {version} scores otherwise");
        let newest = name.starts_with(&format!("{VERSIONS:020}"));
        assert!(version == VERSIONS || newest, "{what}: version {version} is served");
        assert!(version == VERSIONS || !boot.faults.is_empty() || name.ends_with("manifest"), "{what}: nothing is said");
    }
}

#[test]
fn a_flipped_bit_anywhere_leaves_a_version_as_it_was_published() {
    let (lived, mut rng) = (Lived::new(), ChaCha8Rng::seed_from_u64(5));
    let mut flips = 0;
    for name in lived.files() {
        let length = fs::metadata(lived.dir.path().join(&name)).expect("the file is there").len() as usize;
        for _ in 0..30 {
            let (at, bit) = (rng.random_range(0..length), rng.random_range(0..8));
            lived.suffers(&name, &format!("{name} byte {at} bit {bit}"), |path| {
                let mut bytes = fs::read(path).expect("the file is there");
                bytes[at] ^= 1 << bit;
                fs::write(path, bytes).expect("the file can be written");
            });
            flips += 1;
        }
    }
    assert!(flips >= 200, "{flips}");
}

#[test]
fn a_file_that_is_cut_short_empty_gone_or_a_directory_leaves_an_older_version() {
    let lived = Lived::new();
    for name in lived.files() {
        let length = fs::metadata(lived.dir.path().join(&name)).expect("the file is there").len();
        for left in [0, length / 2, length - 1] {
            lived.suffers(&name, &format!("{name} cut to {left}"), |path| {
                fs::File::options().write(true).open(path).and_then(|file| file.set_len(left)).expect("it can be cut");
            });
        }
        lived.suffers(&name, &format!("{name} gone"), |path| fs::remove_file(path).expect("it can be removed"));
        lived.suffers(&name, &format!("{name} a directory"), |path| {
            fs::remove_file(path).and_then(|()| fs::create_dir(path)).expect("it can be replaced");
        });
    }
}

#[test]
fn a_full_or_read_only_disk_leaves_it_serving_from_memory_and_the_older_version_on_disk() {
    let mount = |dir: &Path| Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "small"]).arg(dir).output();
    let dir = tempfile::tempdir().expect("tempdir");
    if !mount(dir.path()).is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this machine lets nobody mount a file system in a namespace of their own");
        return;
    }
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs -o size=1m small \"$0\" && mount --bind \"$0\" \"$0\" && exec \"$@\""])
        .arg(dir.path())
        .arg(std::env::current_exe().expect("this test's binary"))
        .args(["--ignored", "--exact", "on_a_small_disk", "--nocapture"])
        .env("ROCKET_TEST_DIR", dir.path())
        .output()
        .expect("unshare runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success() && text(&output.stdout).contains("1 passed"), "{}\n{}", text(&output.stdout), text(&output.stderr));
}

#[test]
#[ignore = "run by a_full_or_read_only_disk_leaves_it_serving_from_memory_and_the_older_version_on_disk"]
fn on_a_small_disk() {
    // Else it was not run by the test that makes the place.
    let Some(root) = std::env::var_os("ROCKET_TEST_DIR").map(PathBuf::from) else { return };
    let (dir, filler) = (root.join("cache"), root.join("filler"));
    let mut topic = Topic::new();
    let subscriber = follow(&dir, &topic);
    topic.publish(1);
    until_serves(&subscriber, 1);
    let remount = |how: &str| {
        let mounted = Command::new("mount").args(["-o", &format!("remount,bind,{how}")]).arg(&root).status().expect("mount runs");
        assert!(mounted.success());
    };
    let refused = |status: &SubscriberStatus| status.rejected.get("cache").copied().unwrap_or(0);

    let mut file = fs::File::create(&filler).expect("there is room for a name");
    std::io::copy(&mut std::io::repeat(1), &mut file).expect_err("the disk ends somewhere");
    topic.publish(2);
    until_serves(&subscriber, 2);
    let full = until(&subscriber, "the full disk is said", |status| refused(status) > 0);
    drop(file);
    fs::remove_file(&filler).expect("it can be removed");
    topic.publish(3);
    until_serves(&subscriber, 3);
    until(&subscriber, "version 3 is on disk", |_| dir.join(format!("{:020}.manifest", 3)).exists());
    remount("ro");
    topic.publish(4);
    until_serves(&subscriber, 4);
    until(&subscriber, "the read-only disk is said", |status| refused(status) > refused(&full));
    remount("rw");
    subscriber.stop().expect("no panic");
    let boot = SnapshotCache::open(&dir, MODEL, 8).expect("the directory is usable").boot(None);
    assert_eq!((boot.model.map(|model| model.version().0), boot.faults.len()), (Some(3), 0));
}
