//! Promise: backtest and daemon share one pipeline. The same rows give the same figures, labelled in a file, or replayed through a real
//! broker as impressions and clicks that the daemon joins.

mod support;

use std::fmt::Write as _;
use std::process::Command;

use rocket_launching::config::{Config, StreamMode};
use support::broker::RealBroker;
use support::daemon::{Daemon, write_config};
use support::world;

fn rocketctl(arguments: &[&std::ffi::OsStr]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_rocketctl")).args(arguments).output().expect("rocketctl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The labelled stream as a TSV file, broken events left out, cut to whole batches.
fn rows(config: &Config) -> (String, usize) {
    let (_, records) = world::labelled_stream(3000);
    let mut text = String::from("ts_ms\timpression_id\tuser_id\titem_id\ttags\tprice\tlabel\n");
    let events: Vec<serde_json::Value> =
        records.iter().filter_map(|record| serde_json::from_slice(record.payload.as_deref().expect("set")).ok()).collect();
    let count = events.len() / config.train.batch_rows * config.train.batch_rows;
    for event in &events[..count] {
        let tags: Vec<&str> = event["tags"].as_array().expect("a list").iter().filter_map(serde_json::Value::as_str).collect();
        let text_of = |name: &str| event[name].as_str().expect("text").to_owned();
        let label = u8::from(event["label"].as_bool().expect("a label"));
        let (time, impression, user, tags) = (&event["ts_ms"], text_of("impression_id"), text_of("user_id"), tags.join(","));
        writeln!(text, "{time}\t{impression}\t{user}\t{}\t{tags}\t{}\t{label}", event["item_id"], event["price"]).expect("a string");
    }
    (text, count)
}

#[test]
fn the_same_rows_give_the_same_figures() {
    let dir = tempfile::tempdir().expect("tempdir");
    let broker = RealBroker::start();
    let more = format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", broker.bootstrap());
    let labelled = world::config(&dir.path().join("labelled"), "labelled", &more);
    let mut joined = world::config(&dir.path().join("joined"), "joined", &more);
    joined.join.idle = rocket_launching::config::Span::from_millis(500);
    joined.publish.enabled = false;
    assert_eq!(joined.topics.mode, StreamMode::Joined);
    let (text, count) = rows(&labelled);
    let data = dir.path().join("rows.tsv");
    std::fs::write(&data, text).expect("the file is written");

    let file = write_config(&labelled);
    let backtest =
        rocketctl(&["backtest".as_ref(), data.as_os_str(), "--config".as_ref(), file.as_os_str(), "-o".as_ref(), "json".as_ref()]);
    let backtest: serde_json::Value = serde_json::from_slice(&backtest).expect("JSON");

    let file = write_config(&joined);
    rocketctl(&["topics".as_ref(), "create".as_ref(), "--partitions".as_ref(), "1".as_ref(), "--config".as_ref(), file.as_os_str()]);
    rocketctl(&["replay".as_ref(), data.as_os_str(), "--config".as_ref(), file.as_os_str()]);
    let daemon = Daemon::start(&joined);
    daemon.wait_until("all samples trained and measured", |status| {
        status.books.samples == count as u64 && status.pending == 0 && status.report.rows == count as u64
    });
    let status = daemon.status().expect("it answers");
    assert!(daemon.terminate().success());

    assert_eq!(status.books.trained, status.books.samples + status.report.clicks, "every click met its impression");
    let heads = serde_json::to_value(&status.report.heads).expect("JSON");
    for head in ["light", "booster", "control"] {
        for figure in ["auc", "gauc", "gauc_users", "gauc_stderr", "logloss", "calibration"] {
            assert_eq!(heads[head][figure], backtest["heads"][head][figure], "{head} {figure}");
        }
    }
    assert!(backtest["heads"]["light"]["gauc"].is_number(), "defined figures were compared");
}
