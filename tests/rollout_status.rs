//! Promise: `rocketctl rollout status` says where every server stands, by its own report, and with `--watch` waits until all are there. Real
//! daemon that lets a share of the servers try each version, real servers, real broker.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rocket_launching::config::Span;
use rocket_launching::serving::Subscriber;
use rocket_launching::wire::snapshot::canary_place;
use serde_json::Value;
use support::daemon::Daemon;
use support::operator::{Site, wait_until_served};

fn hosts(model: &str, holds: impl Fn(u32) -> bool) -> Vec<String> {
    (0..).map(|number| format!("ad-{number}")).filter(|host| holds(canary_place(model, host))).take(2).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The real sidecar, which reports.
fn scorer(site: &Site, dir: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocket-scorer"));
    command.args(["--model", &site.config.name, "--brokers", &site.config.kafka.brokers, "--listen", "127.0.0.1:0"]);
    command.args(["--host", "sidecar", "--group", "eu", "--report", "--cache"]).arg(dir.join("sidecar"));
    command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("rocket-scorer starts")
}

#[test]
fn a_version_goes_from_its_share_to_all_and_the_operator_watches() {
    let dir = tempfile::tempdir().expect("tempdir");
    let site = Site::new(dir.path(), 1000, |config| {
        config.publish.canary.share = 0.5;
        config.publish.canary.delay = Span::from_secs(2);
        config.publish.canary.reports = 2;
    });
    let checked = site.operator.json(&["topics", "check"]);
    assert!(
        checked["topics"].as_array().expect("a list").iter().any(|topic| topic["role"] == "acks" && topic["partitions"] == 1),
        "{checked}"
    );
    let (code, words) = site.operator.refused(&["rollout", "status", "--watch", "--timeout", "1s"]);
    assert!(code == Some(1) && words.contains("no server reports after 1s"), "{words}");

    let model = site.config.name.as_str();
    let start = |hosts: &[String]| -> Vec<Subscriber> { hosts.iter().map(|host| site.server(dir.path(), host, Some("eu"))).collect() };
    let (inside, outside) = (hosts(model, |place| place < 500_000), hosts(model, |place| place >= 500_000));
    let (first_ones, others) = (start(&inside), start(&outside));
    let daemon = Daemon::start(&site.config);
    site.feed(0..400);
    let (first, promoted) = site.publish(&daemon, 400);
    assert!(promoted, "where nothing is current there is nothing else to serve");
    wait_until_served(&first_ones, first);
    wait_until_served(&others, first);

    site.feed(400..800);
    let (second, promoted) = site.publish(&daemon, 800);
    assert!(!promoted);
    wait_until_served(&first_ones, second);
    wait_until_served(&others, second);
    let watched = site.operator.json(&["rollout", "status", "--watch", "--timeout", "60s"]);
    assert_eq!(keys(&watched), ["canary", "model", "on_target", "reporting", "servers", "target"]);
    assert_eq!((&watched["target"], &watched["on_target"], &watched["reporting"]), (&second.0.into(), &4.into(), &4.into()), "{watched}");
    let server = &watched["servers"][0];
    let fields = ["age_s", "at_ms", "canary", "group", "host", "on_target", "reason", "state", "target", "version"];
    assert_eq!((keys(server), &server["group"], &server["state"]), (fields.to_vec(), &"eu".into(), &"serving".into()), "{server}");
    let table = site.operator.run(&["rollout", "status"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("4 of 4 servers serve their target"), "{table:?}");

    let mut scorer = scorer(&site, dir.path());
    let sidecar = support::wait_for("the sidecar's report", || {
        let status = site.operator.json(&["rollout", "status"]);
        let servers = status["servers"].as_array().expect("a list").clone();
        servers.into_iter().find(|server| server["host"] == "sidecar" && server["on_target"] == true)
    });
    assert_eq!((&sidecar["group"], &sidecar["version"]), (&"eu".into(), &second.0.into()), "{sidecar}");
    scorer.kill().and_then(|()| scorer.wait()).expect("the scorer is ours");

    let history = site.operator.json(&["history"]);
    let acts: Vec<&str> = history["entries"].as_array().expect("a list").iter().filter_map(|entry| entry["act"].as_str()).collect();
    assert_eq!(acts, ["promote", "canary", "promote"]);
    let status = daemon.wait_until("the trial is over", |status| status.rollout.trial.is_none());
    assert!(status.promoted && status.publish_problem.is_none(), "{status:?}");
    assert!(daemon.terminate().success());
    for server in first_ones.into_iter().chain(others) {
        server.stop().expect("the subscriber stops");
    }
}
