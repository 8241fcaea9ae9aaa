//! Promise: after a rollback every server serves the old version, within seconds; the trainer does not promote over the pin, not even after
//! a restart of everything, and an unpin resumes. Real daemon, real operator's tool, real broker.

mod support;

use std::time::{Duration, Instant};

use rocket_launching::serving::Subscriber;
use support::operator::{Site, wait_until_served};

const SERVERS: usize = 10;
/// What a busy machine may take at most; the figure is printed.
const GENEROUS: Duration = Duration::from_secs(45);

#[test]
fn servers_go_back_and_stay_back_until_unpinned() {
    let dir = tempfile::tempdir().expect("tempdir");
    let site = Site::new(dir.path(), 2000, |_| {});
    let start_servers =
        || -> Vec<Subscriber> { (0..SERVERS).map(|number| site.server(dir.path(), &format!("ad-{number}"), None)).collect() };

    let servers = start_servers();
    let daemon = support::daemon::Daemon::start(&site.config);
    site.feed(0..500);
    let (first, promoted) = site.publish(&daemon, 500);
    assert!(promoted);
    wait_until_served(&servers, first);
    site.feed(500..1000);
    let (second, _) = site.publish(&daemon, 1000);
    assert!(second > first);
    wait_until_served(&servers, second);

    let (code, words) = site.operator.refused(&["rollback", "--to", "999999", "--reason", "typo", "--yes"]);
    assert_eq!(code, Some(1));
    assert!(words.contains("999999") && words.contains(&first.to_string()), "{words}");

    let started = Instant::now();
    site.operator.json(&["rollback", "--to", &first.to_string(), "--reason", "clicks fell", "--yes"]);
    let told = started.elapsed();
    wait_until_served(&servers, first);
    let took = started.elapsed();
    println!(
        "rollback: {SERVERS} of {SERVERS} servers {:.0} ms after the command was started, which itself took {:.0} ms",
        millis(took),
        millis(told)
    );
    assert!(took < GENEROUS);

    site.feed(1000..1500);
    let (third, promoted) = site.publish(&daemon, 1500);
    assert!(third > second && !promoted, "the pin holds");
    wait_until_served(&servers, first);

    // Everything restarts; the pin is on the topic.
    assert!(daemon.terminate().success());
    for server in servers {
        server.stop().expect("the subscriber stops");
    }
    let daemon = support::daemon::Daemon::start(&site.config);
    let servers = start_servers();
    wait_until_served(&servers, first);
    let (before_new_events, _) = site.publish(&daemon, 1500);
    let probes = site.operator.json(&["snapshot", "verify", &before_new_events.to_string()])["probes"].as_u64();
    assert_eq!(probes, Some(site.config.publish.probes as u64), "a restart keeps the self-test");
    site.feed(1500..2000);
    let (fourth, promoted) = site.publish(&daemon, 2000);
    assert!(!promoted);
    wait_until_served(&servers, first);

    site.operator.json(&["unpin", "--reason", "understood", "--yes"]);
    let (fifth, promoted) = site.publish(&daemon, 2000);
    assert!(promoted && fifth > fourth && fourth > before_new_events);
    wait_until_served(&servers, fifth);

    let history = site.operator.json(&["history"]).to_string();
    for word in ["rollback", "clicks fell", "unpin", "understood", "promote"] {
        assert!(history.contains(word), "{word} in {history}");
    }
    assert!(daemon.terminate().success());
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
