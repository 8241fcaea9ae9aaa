//! Promise: a hundred swaps under load lose no request, and leave memory where it was.

mod serving_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serving_support::{Snapshot, TIME, Topic, candidates, context, follow, until_serves};

const SWAPS: u64 = 100;
/// Swaps before memory is looked at: the allocator has by then what it keeps.
const WARM: u64 = 20;
/// Half a megabyte: what is kept of a model shows.
const ROWS: usize = 20_000;
/// Resident memory may grow by so many artifacts: the allocator moves by some, and what a swap leaves behind would be eighty.
const GROWTH_MAX: f64 = 8.0;

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).expect("a number") * 1024.0
}

#[test]
fn a_hundred_swaps_lose_no_request_and_leave_memory_flat() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    for version in 1..=2 {
        topic.send(&Snapshot::of_rows(version, ROWS));
    }
    topic.promote(1);
    let subscriber = Arc::new(follow(dir.path(), &topic));
    until_serves(&subscriber, 1);

    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut before, mut after) = (0.0, 0.0);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let model = subscriber.model().expect("a model is always served");
                let scores = model.score(TIME, &context(), &candidates(100)).expect("no request fails");
                assert!(scores.len() == 100 && scores.iter().all(|score| score.is_finite()));
                answered.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        for swap in 1..=SWAPS {
            let version = 1 + swap % 2;
            topic.promote(version);
            until_serves(&subscriber, version);
            if swap == WARM {
                before = resident_bytes();
            }
        }
        after = resident_bytes();
        stop.store(true, Ordering::Relaxed);
        load.join().expect("a request failed");
    });

    let status = subscriber.status();
    assert!(status.swaps >= SWAPS && status.rejected.is_empty(), "{status:?}");
    assert!(answered.load(Ordering::Relaxed) > 0);
    let artifact = Snapshot::of_rows(1, ROWS).manifest.artifact.bytes as f64;
    assert!(after - before < GROWTH_MAX * artifact, "resident: {before} bytes after {WARM} swaps, {after} after {SWAPS}");
}
