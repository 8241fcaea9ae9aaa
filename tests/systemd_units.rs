//! The units in ops/systemd start programs that this crate builds, the way those programs expect it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const BINARIES: [&str; 3] = ["rocketd", "rocketctl", "rocket-scorer"];

fn units() -> Vec<(PathBuf, BTreeMap<String, String>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/systemd");
    let mut units: Vec<_> = std::fs::read_dir(&dir)
        .expect("ops/systemd is there")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "service"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a unit is text");
            let keys = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
            (path, keys.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
        })
        .collect();
    units.sort();
    units
}

/// Seconds, as the units write them: `60`, `15min`.
fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    number.parse::<u64>().expect("a number")
        * match unit {
            "" | "s" => 1,
            "min" => 60,
            other => panic!("{text}: unit {other} is new here"),
        }
}

#[test]
fn they_start_our_programs_and_know_their_exit_codes() {
    let units = units();
    assert_eq!(units.len(), 3, "{units:?}");
    for (path, keys) in &units {
        let path = path.display();
        let mut words = keys["ExecStart"].split_whitespace();
        let program = words.next().and_then(|program| program.strip_prefix("/usr/local/bin/")).expect("an installed program");
        assert!(BINARIES.contains(&program), "{path}: {program}");
        assert_eq!(keys["RestartPreventExitStatus"], "64 78", "{path}: usage and configuration do not go away by trying again");
        assert_eq!(keys["StartLimitIntervalSec"], "0", "{path}: failing often must not end in a unit that stays down");
        if program == "rocketd" {
            assert_eq!(keys["Restart"], "always", "{path}: a trainer that left by itself is started again");
            assert_eq!(words.next(), Some("run"), "{path}");
            assert_eq!(keys["Type"], "notify", "{path}: rocketd says when it is ready");
            let admin = rocket_launching::config::AdminConfig::default();
            assert!(seconds(&keys["WatchdogSec"]) > admin.stall.0.as_secs(), "{path}: the watchdog must outlast admin.stall");
            assert!(seconds(&keys["TimeoutStopSec"]) > admin.shutdown_deadline.0.as_secs(), "{path}: the drain must have its time");
        }
    }
}

/// What `systemd-analyze` says of keys and values; that programs and files are not installed here is no fault of a unit.
#[test]
fn systemd_understands_every_line() {
    for (path, _) in units() {
        let output = match Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path).output() {
            Ok(output) => output,
            Err(e) => {
                println!("skipped: systemd-analyze: {e}");
                return;
            }
        };
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        if words.contains("Failed to initialize manager") || words.contains("unrecognized option") {
            println!("skipped: systemd-analyze cannot work here: {words}");
            return;
        }
        let faults: Vec<&str> = words
            .lines()
            .filter(|line| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| line.contains(name)))
            .filter(|line| !line.contains("is not executable") && !line.contains("No such file or directory"))
            .collect();
        assert!(faults.is_empty(), "{}: {faults:#?}", path.display());
    }
}
