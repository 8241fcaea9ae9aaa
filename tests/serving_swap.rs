//! Promise: versions are promoted and rolled back under load without one failed request, and every answer's scores are those of the version
//! it names.

mod serving_support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::json;
use serving_support::{Server, Snapshot, TIME, Topic, candidates, context, follow, scores, until_serves};

const VERSIONS: u64 = 12;
const CLIENTS: usize = 4;
const CANDIDATES: usize = 300;

#[derive(Deserialize)]
struct Answer {
    version: u64,
    scores: Vec<f32>,
}

#[test]
fn forty_swaps_under_load_fail_no_request() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    let snapshots: Vec<Snapshot> = (1..=VERSIONS).map(Snapshot::new).collect();
    let expected: BTreeMap<u64, Vec<f32>> = (1..).zip(&snapshots).map(|(version, s)| (version, scores(&s.open(), CANDIDATES))).collect();
    topic.send(&snapshots[0]);
    topic.promote(1);
    let subscriber = Arc::new(follow(dir.path(), &topic));
    until_serves(&subscriber, 1);
    let server = Server::start(&subscriber, rocket_launching::serving::http::Limits::default());

    let stop = AtomicBool::new(false);
    let request = json!({ "context": context(), "candidates": candidates(CANDIDATES), "time_ms": TIME.0 });
    let (mut seen, mut requests) = (BTreeSet::new(), 0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let agent = ureq::Agent::new_with_defaults();
                    let mut seen = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let mut response = agent.post(server.url("/v1/score")).send_json(&request).expect("no request fails");
                        let header = response.headers()["x-model-version"].to_str().expect("text").to_owned();
                        let answer: Answer = response.body_mut().read_json().expect("scores");
                        assert_eq!(header, answer.version.to_string());
                        assert_eq!(answer.scores, expected[&answer.version], "scores of version {}", answer.version);
                        seen.push(answer.version);
                    }
                    seen
                })
            })
            .collect();

        // Forward through all versions; back by pins, forward again past them, twice over.
        for (version, snapshot) in (2..).zip(&snapshots[1..]) {
            topic.send(snapshot);
            topic.promote(version);
            until_serves(&subscriber, version);
        }
        for round in 0..7 {
            for version in [VERSIONS - 1 - round, 1 + round] {
                topic.pin(Some(version));
                until_serves(&subscriber, version);
            }
            topic.pin(None);
            topic.promote(VERSIONS - round);
            until_serves(&subscriber, VERSIONS - round);
            topic.promote(VERSIONS);
            until_serves(&subscriber, VERSIONS);
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let versions = client.join().expect("a client met a failure");
            assert!(!versions.is_empty(), "every client got answers");
            requests += versions.len();
            seen.extend(versions);
        }
    });

    let status = subscriber.status();
    assert!(status.swaps >= 37, "{status:?}");
    assert!(status.rejected.is_empty(), "{status:?}");
    assert!(seen.len() > 3, "{requests} requests saw the versions {seen:?}");
    drop(server);
    Arc::into_inner(subscriber).expect("the server is gone").stop().expect("no panic");
}
