//! Promise: garbage of many kinds, duplicates, events out of order, clocks that are wrong: each ends as what it is, counted exactly; nothing
//! stalls, nothing panics, and memory stays bounded.

mod support;

use std::collections::BTreeMap;

use rocket_launching::config::Span;
use rocket_launching::domain::{DropReason, Origin, PartitionIndex, Record, Role, TopicPartition};
use rocket_launching::pipeline::State;
use serde_json::json;
use support::world::{self, STEP_MS};

const ROWS: usize = 20_000;
const START_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;
/// Of these rows one in a hundred is garbage, of a kind after the other; and so on for the others.
const HUNDRED: usize = 100;
/// What the whole process may take: the stream itself, with a megabyte of garbage a hundred times over, is most of it.
const MEMORY_MB: u64 = 1024;

/// An impression's columns.
fn event(number: usize) -> serde_json::Value {
    json!({
        "ts_ms": START_MS + number as i64 * STEP_MS,
        "impression_id": format!("i{number}"),
        "user_id": format!("u{}", number % 40),
        "item_id": number % 25,
        "tags": ["a", "b"],
        "price": 9.5,
        "position": number % 4,
    })
}

/// The event with one column replaced, and the class it is refused for.
type Garbage = (&'static str, fn(usize) -> Vec<u8>);

fn with(number: usize, column: &str, value: serde_json::Value) -> Vec<u8> {
    let mut event = event(number);
    event[column] = value;
    event.to_string().into_bytes()
}

/// The event's text with `from` replaced.
fn with_text(number: usize, from: &str, to: &str) -> Vec<u8> {
    let text = event(number).to_string();
    assert!(text.contains(from), "{text} has no {from}");
    text.replacen(from, to, 1).into_bytes()
}

const GARBAGE: &[Garbage] = &[
    ("DecodeError::NotJson", |_| Vec::new()),
    ("DecodeError::NotJson", |_| b"\xFF\xFE\x00".to_vec()),
    ("DecodeError::NotJson", |_| b"[]".to_vec()),
    ("DecodeError::NotJson", |_| b"null".to_vec()),
    ("DecodeError::NotJson", |number| {
        let text = event(number).to_string();
        text.as_bytes()[..text.len() / 2].to_vec()
    }),
    ("DecodeError::NotJson", |number| [event(number).to_string(), "}".to_owned()].concat().into_bytes()),
    ("DecodeError::NotJson", |_| "[".repeat(100_000).into_bytes()),
    ("DecodeError::NotJson", |_| "{\"a\":".repeat(100_000).into_bytes()),
    ("DecodeError::NotJson", |number| with_text(number, "9.5", "NaN")),
    ("DecodeError::NotJson", |number| with_text(number, "9.5", "Infinity")),
    ("DecodeError::NotJson", |number| with_text(number, "9.5", "1e999")),
    ("DecodeError::NotJson", |number| [&b"{\"user_id\":\"\xC3\x28\","[..], &event(number).to_string().as_bytes()[1..]].concat()),
    ("DecodeError::WrongType", |number| with(number, "price", json!("NaN"))),
    ("DecodeError::WrongType", |number| with(number, "price", json!("inf"))),
    ("DecodeError::WrongType", |number| with(number, "price", json!([1]))),
    ("DecodeError::WrongType", |number| with(number, "ts_ms", json!(-1))),
    ("DecodeError::WrongType", |number| with(number, "ts_ms", json!(1e30))),
    ("DecodeError::WrongType", |number| with(number, "ts_ms", json!("yesterday"))),
    ("DecodeError::WrongType", |number| with(number, "ts_ms", json!(i64::MAX))),
    ("DecodeError::WrongType", |number| with(number, "user_id", json!({ "id": 1 }))),
    ("DecodeError::WrongType", |number| with(number, "user_id", json!("u".repeat(1_000_000)))),
    ("DecodeError::WrongType", |number| with(number, "impression_id", json!("i".repeat(1_000_000)))),
    ("DecodeError::WrongType", |number| with(number, "tags", json!("a,".repeat(500_000)))),
    ("DecodeError::WrongType", |number| with(number, "tags", json!(vec![1; 400_000]))),
    ("DecodeError::TooLong", |number| with(number, "tags", json!(vec![1; 1_000_000]))),
    ("DecodeError::MissingColumn", |number| with(number, "user_id", json!(null))),
    ("DecodeError::MissingColumn", |number| with(number, "impression_id", json!(""))),
    ("DecodeError::DuplicateColumn", |number| with_text(number, "{", "{\"price\":1,")),
    ("DecodeError::Ahead", |number| with(number, "ts_ms", json!(START_MS + number as i64 * STEP_MS + HOUR_MS))),
];

/// Odd, but no garbage: trained like any other.
const ODD: &[fn(usize) -> Vec<u8>] = &[
    |number| with(number, "price", json!(1e38)),
    |number| with(number, "price", json!(-1e308)),
    |number| with(number, "price", json!("5e-324")),
    |number| with(number, "user_id", json!("\u{0}\u{FFFF}'; DROP TABLE users; --")),
    |number| with(number, "user_id", json!("u".repeat(4096))),
    |number| with(number, "tags", json!(vec!["a"; 1024])),
    |number| with(number, "unknown", json!("x".repeat(100_000))),
];

#[derive(Default)]
struct Expected {
    classes: BTreeMap<String, u64>,
    dropped: BTreeMap<DropReason, u64>,
    samples: u64,
    clicks: u64,
}

struct Sender {
    records: [Vec<Record>; 2],
    expected: Expected,
}

impl Sender {
    /// `written_ms`: when the broker took it.
    fn send(&mut self, role: Role, payload: Option<Vec<u8>>, written_ms: i64) {
        let partition = usize::from(role == Role::Click);
        let origin = Origin { partition: PartitionIndex(partition as u32), offset: self.records[partition].len() as i64 };
        self.records[partition].push(Record { origin, role, key: None, payload, timestamp_ms: Some(written_ms) });
    }

    fn click(&mut self, number: usize, time_ms: i64, written_ms: i64) {
        let click = json!({ "ts_ms": time_ms, "impression_id": format!("i{number}") });
        self.send(Role::Click, Some(click.to_string().into_bytes()), written_ms);
    }

    fn drop_for(&mut self, reason: DropReason) {
        *self.expected.dropped.entry(reason).or_default() += 1;
    }
}

/// Impressions 100 ms apart, and clicks on every third, which come a second later; what is wrong is known by the number.
fn stream() -> Sender {
    let mut sender = Sender { records: Default::default(), expected: Expected::default() };
    for number in 0..ROWS {
        let (time, kind, nth) = (START_MS + number as i64 * STEP_MS, number % HUNDRED, number / HUNDRED);
        let is_clicked = number % 3 == 0;
        match kind {
            13 => {
                let (class, garbage) = GARBAGE[nth % GARBAGE.len()];
                sender.send(Role::Impression, Some(garbage(number)), time);
                *sender.expected.classes.entry(class.to_owned()).or_default() += 1;
                continue;
            }
            14 => {
                sender.send(Role::Impression, None, time);
                sender.drop_for(DropReason::Tombstone);
                continue;
            }
            15 => {
                // Its clock is an hour behind: its window is over when it comes, and its click, by a clock that is right, is late.
                let mut late = event(number);
                late["ts_ms"] = json!(time - HOUR_MS);
                sender.send(Role::Impression, Some(late.to_string().into_bytes()), time);
                sender.expected.samples += 1;
                sender.click(number, time + 1000, time + 1000);
                sender.drop_for(DropReason::LateClick);
                continue;
            }
            16 => sender.send(Role::Impression, Some(ODD[nth % ODD.len()](number)), time),
            _ => sender.send(Role::Impression, Some(event(number).to_string().into_bytes()), time),
        }
        sender.expected.samples += 1;
        if kind % 20 == 7 {
            sender.send(Role::Impression, Some(event(number).to_string().into_bytes()), time);
            sender.drop_for(DropReason::DuplicateImpression);
        }
        if is_clicked {
            sender.expected.clicks += 1;
            sender.click(number, time + 1000, time + 1000);
            if kind % 20 == 0 {
                sender.click(number, time + 1001, time + 1001);
                sender.drop_for(DropReason::DuplicateClick);
            }
        }
        if kind == 50 {
            sender.click(ROWS + number, time + 1000, time + 1000);
            sender.drop_for(DropReason::ClickWithoutImpression);
        }
    }
    sender
}

/// Swaps neighbours, well within the grace: offsets stay where they are, what lies at them changes places.
fn reorder(records: &mut [Record]) {
    for pair in records.chunks_exact_mut(7) {
        let [first, .., last] = pair else { continue };
        std::mem::swap(&mut first.payload, &mut last.payload);
        std::mem::swap(&mut first.timestamp_ms, &mut last.timestamp_ms);
    }
}

fn peak_memory_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("KiB") / 1024
}

#[test]
fn everything_ends_as_what_it_is() {
    let dir = tempfile::tempdir().expect("tempdir");
    let Sender { mut records, expected } = stream();
    records.iter_mut().for_each(|records| reorder(records));
    let [impressions, clicks] = records;
    let events = (impressions.len() + clicks.len()) as u64;
    let mut config = world::config(dir.path(), "joined", "");
    config.topics.ahead = Span::from_secs(60);
    config.join.memory = Span::from_secs(2 * 3600);
    let partitions = ["world.impressions", "world.clicks"].map(|topic| TopicPartition { topic: topic.into(), partition: 0 });
    let (summary, letters) = world::run(&config, State::Memory, (partitions.to_vec(), interleave(impressions, clicks)), None, true);

    let status = summary.status;
    let mut classes: BTreeMap<String, u64> = BTreeMap::new();
    for letter in letters.letters() {
        assert!(letter.message.len() < 4096, "{}: it quotes its input at length", letter.class);
        *classes.entry(letter.class).or_default() += 1;
    }
    assert_eq!(classes, expected.classes);
    assert_eq!(status.books.dropped, expected.dropped);
    assert_eq!((status.books.samples, status.report.clicks), (expected.samples, expected.clicks));
    assert_eq!((status.books.done(), status.read, status.pending), (events, events, 0));
    assert!(status.report.heads["light"].logloss.is_some_and(f64::is_finite), "nothing odd has got into the weights");
    assert!(peak_memory_mb() < MEMORY_MB, "{} MB", peak_memory_mb());
}

/// Records of two partitions, read side by side as they were written.
fn interleave(left: Vec<Record>, right: Vec<Record>) -> Vec<Record> {
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    let mut merged = Vec::new();
    while let Some(next) = match (left.peek(), right.peek()) {
        (Some(l), Some(r)) if r.timestamp_ms < l.timestamp_ms => right.next(),
        (None, _) => right.next(),
        _ => left.next(),
    } {
        merged.push(next);
    }
    merged
}
