//! Promise: an operator's pin holds the servers it names, for as long as it says and whatever is restarted meanwhile; nobody else's does.

mod serving_support;
mod support;

use std::time::{Duration, Instant};

use rocket_launching::domain::Version;
use rocket_launching::keys::Signer;
use rocket_launching::serving::{Subscriber, SubscriberConfig};
use rocket_launching::stream::LogReader;
use rocket_launching::wire::snapshot::{Group, Key, Pin};
use serving_support::{Topic, config_of, follow, operator, trainer, until, until_serves};
use support::daemon::Daemon;
use support::operator::{Site, wait_until_served};

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the end of time")
}

fn group(name: &str) -> Group {
    name.parse().expect("a group's name")
}

/// A server of this group.
fn follow_in(dir: &std::path::Path, topic: &Topic, name: &str) -> Subscriber {
    let log = topic.log.clone();
    let config = SubscriberConfig { group: Some(group(name)), ..config_of(dir, topic) };
    Subscriber::start(config, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).expect("the cache is usable")
}

#[test]
fn a_group_is_held_apart_from_the_others_and_before_the_pin_of_all() {
    let dirs = [tempfile::tempdir().expect("tempdir"), tempfile::tempdir().expect("tempdir")];
    let mut topic = Topic::signed();
    (1..=3).for_each(|version| drop(topic.publish(version)));
    let (europe, elsewhere) = (follow_in(dirs[0].path(), &topic, "eu"), follow(dirs[1].path(), &topic));
    let serve = |versions: [u64; 2]| {
        until_serves(&europe, versions[0]);
        until_serves(&elsewhere, versions[1]);
    };
    serve([3, 3]);
    let pin = topic.pin_record(Some(1));
    topic.record(&Key::PinGroup(group("eu")), &pin);
    serve([1, 3]);
    topic.pin(Some(2));
    serve([1, 2]);
    let lifted = topic.pin_record(None);
    topic.record(&Key::PinGroup(group("eu")), &lifted);
    serve([2, 2]);
    topic.pin(None);
    serve([3, 3]);
    for server in [europe, elsewhere] {
        assert!(server.status().rejected.is_empty(), "{:?}", server.status());
        server.stop().expect("no panic");
    }
}

#[test]
fn an_expired_pin_lets_go_by_itself() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::signed();
    (1..=2).for_each(|version| drop(topic.publish(version)));
    let pin = Pin { expires_ms: Some(now_ms() + 1500), ..topic.pin_record(Some(1)) };
    topic.record(&Key::PinAll, &pin);
    let subscriber = follow(dir.path(), &topic);
    until(&subscriber, "the pin's end", |status| status.target == Some(Version(2)));
    until_serves(&subscriber, 2);
    assert!(now_ms() >= pin.expires_ms.expect("set above"), "it held until then");
    subscriber.stop().expect("no panic");

    let subscriber = follow(dir.path(), &topic);
    until_serves(&subscriber, 2);
    assert!(subscriber.status().rejected.is_empty(), "one that was good once is no fault at a restart: {:?}", subscriber.status());
    subscriber.stop().expect("no panic");
}

/// Versions 1 to 3 are on the topic and 3 is served; what is written then is refused for `reason`, once, and changes nothing.
fn refused(reason: &str, write: impl Fn(&mut Topic)) {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::signed();
    (1..=3).for_each(|version| drop(topic.publish(version)));
    let held = topic.pin_record(Some(2));
    topic.record(&Key::PinGroup(group("eu")), &held);
    let lifted = topic.pin_record(None);
    topic.record(&Key::PinGroup(group("eu")), &lifted);
    let subscriber = follow_in(dir.path(), &topic, "eu");
    until_serves(&subscriber, 3);
    write(&mut topic);
    let status = until(&subscriber, reason, |status| !status.rejected.is_empty());
    assert_eq!(status.rejected.iter().collect::<Vec<_>>(), [(&reason.to_owned(), &1)], "{status:?}");
    assert_eq!((status.version, status.target), (Some(Version(3)), Some(Version(3))));
    topic.publish(4);
    until_serves(&subscriber, 4);
    subscriber.stop().expect("no panic");
}

#[test]
fn hostile_pins_of_a_group_are_refused_each_for_its_reason() {
    let key = Key::PinGroup(group("eu"));
    let signed_by = |signer: Option<Signer>| {
        let key = key.clone();
        move |topic: &mut Topic| {
            let pin = topic.pin_record(Some(1));
            topic.record_as(&key, &pin, signer.as_ref());
        }
    };
    refused("record_unsigned", signed_by(None));
    refused("record_unknown_key", signed_by(Some(Signer::from_seed(&[66; 32]))));
    refused("record_role", signed_by(Some(trainer())));
    refused("record_signature", |topic| {
        let pin = topic.pin_record(Some(1));
        let of_another = rocket_launching::wire::snapshot::seal_as(&Key::PinGroup(group("us")), &pin, Some(&operator()));
        topic.put(&key, Some(of_another));
    });
    refused("record_expired", |topic| {
        let pin = topic.pin_record(Some(1));
        topic.record(&key, &Pin { at_ms: 50, expires_ms: Some(50), ..pin });
    });
    refused("record_expired", |topic| {
        let pin = topic.pin_record(Some(1));
        topic.record(&key, &Pin { expires_ms: Some(now_ms() - 1), ..pin });
    });
    refused("record_replayed", |topic| {
        let old = topic.pin_record(Some(1));
        topic.record(&key, &Pin { seq: old.seq - 2, ..old });
    });
    refused("record_replayed", |topic| {
        let held = Pin { reason: "another content under a seq that is taken".to_owned(), ..topic.pin_record(Some(1)) };
        topic.record(&key, &Pin { seq: held.seq - 1, ..held });
    });
}

#[test]
fn an_old_pin_of_a_group_put_back_while_its_server_is_down_holds_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::signed();
    (1..=2).for_each(|version| drop(topic.publish(version)));
    let key = Key::PinGroup(group("eu"));
    let old = topic.pin_record(Some(1));
    topic.record(&key, &old);
    let lifted = topic.pin_record(None);
    topic.record(&key, &lifted);
    topic.publish(3);
    let subscriber = follow_in(dir.path(), &topic, "eu");
    until_serves(&subscriber, 3);
    subscriber.stop().expect("no panic");
    topic.record(&key, &old);
    topic.log.compact(false);
    let subscriber = follow_in(dir.path(), &topic, "eu");
    let status = until(&subscriber, "a refusal", |status| status.rejected.contains_key("topic_older"));
    assert_eq!(status.version, Some(Version(3)), "{status:?}");
    subscriber.stop().expect("no panic");
}

#[test]
fn pins_survive_restarts_of_daemon_servers_and_broker() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut site = Site::new(dir.path(), 1500, |_| {});
    let daemon = Daemon::start(&site.config);
    let mut versions = Vec::new();
    for part in 1..=3u64 {
        let done = part as usize * 300;
        site.feed(done - 300..done);
        versions.push(site.publish(&daemon, part * 300).0);
    }
    let [first, second, third] = versions[..] else { unreachable!("three were published") };
    let start = |site: &Site| (vec![site.server(dir.path(), "eu-1", Some("eu"))], vec![site.server(dir.path(), "us-1", Some("us"))]);
    let (europe, elsewhere) = start(&site);
    wait_until_served(&europe, third);
    let pinned = site.operator.json(&["pin", &first.to_string(), "--group", "eu", "--for", "2h", "--reason", "compare", "--yes"]);
    assert_eq!((&pinned["group"], &pinned["pinned"]), (&"eu".into(), &first.0.into()));
    assert!(pinned["expires_ms"].as_i64().expect("it ends") > now_ms() + 7_000_000, "{pinned}");
    site.operator.json(&["pin", &second.to_string(), "--reason", "hold", "--yes"]);
    wait_until_served(&europe, first);
    wait_until_served(&elsewhere, second);

    assert!(daemon.terminate().success());
    for server in europe.into_iter().chain(elsewhere) {
        server.stop().expect("the subscriber stops");
    }
    site.broker.kill_9();
    site.broker.restart();
    let daemon = Daemon::start(&site.config);
    let (europe, elsewhere) = start(&site);
    site.feed(900..1200);
    let (_, promoted) = site.publish(&daemon, 1200);
    assert!(!promoted, "the pin of all holds");
    let settled = Instant::now();
    while [&europe[0], &elsewhere[0]].iter().any(|server| server.status().behind != Some(0)) {
        assert!(settled.elapsed() < Duration::from_secs(120), "the servers read the topic again");
        std::thread::sleep(Duration::from_millis(10));
    }
    wait_until_served(&europe, first);
    wait_until_served(&elsewhere, second);

    let listing = site.operator.json(&["snapshot", "ls"]);
    assert_eq!((&listing["pin"]["version"], &listing["group_pins"][0]["group"]), (&second.0.into(), &"eu".into()), "{listing}");
    let (code, words) = site.operator.refused(&["promote", "999999", "--reason", "typo", "--yes"]);
    assert!(code == Some(1) && words.contains("is pinned by"), "{words}");
    site.operator.json(&["unpin", "--group", "eu", "--reason", "compared", "--yes"]);
    wait_until_served(&europe, second);
    site.operator.json(&["unpin", "--reason", "on", "--yes"]);
    wait_until_served(&europe, third);
    let (code, words) = site.operator.refused(&["unpin", "--group", "eu", "--reason", "again", "--yes"]);
    assert!(code == Some(1) && words.contains("no version for group `eu` is pinned"), "{words}");
    assert!(daemon.terminate().success());
}
