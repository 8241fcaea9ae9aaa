//! `rocketctl replay`: a file into the event topics, labelled or as separate impressions and clicks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::context::Context;
use super::output::{self, View};
use super::progress::Progress;
use crate::config::{Config, EventFormat, StreamMode};
use crate::daemon::Failure;
use crate::domain::{Origin, PartitionIndex, Record, Role};
use crate::stream::{FileRows, KafkaProducer, RowError, SplitRow, StreamError, split_row};
use crate::wire::{Decoded, EventDecoder, encode};

/// Rows between two looks at progress: seldom enough to cost nothing.
const LOOK_EVERY: u64 = 256;

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// TSV, CSV or JSONL; .gz too.
    file: PathBuf,
    /// At most this many rows a second, e.g. 5000/s [default: as fast as the broker takes them].
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<f64>,
    /// As labelled events, or as impressions and clicks [default: the configuration's topics.mode].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Clicks happen this long after their impressions, e.g. 90s.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "0s")]
    click_delay: Duration,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Mode {
    /// To `topics.events`.
    Labelled,
    /// To `topics.impressions` and `topics.clicks`.
    Joined,
}

impl From<Mode> for StreamMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Labelled => StreamMode::Labelled,
            Mode::Joined => StreamMode::Joined,
        }
    }
}

/// JSON of `replay`.
#[derive(Debug, Serialize)]
struct Replayed {
    /// Rows of the file.
    rows: u64,
    /// Records sent and acknowledged.
    events: u64,
    /// Of them clicks.
    clicks: u64,
    /// Wall time.
    seconds: f64,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.strip_suffix("/s").unwrap_or(text).trim().parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("give rows per second, above zero, e.g. 5000/s".to_owned()),
    }
}

pub(super) fn run(context: &Context, arguments: ReplayArgs) -> Result<(), Failure> {
    let config = &context.config;
    let mode = arguments.mode.map_or(config.topics.mode, StreamMode::from);
    if mode == StreamMode::Joined && config.schema.impression.is_none() {
        return Err(Failure::Usage(RowError::NoImpressionColumn.into()));
    }
    let mut rows = FileRows::open(&arguments.file)?;
    let mut sender = Sender::new(config, mode, arguments.click_delay)?;
    let mut progress = Progress::new("replay", true);
    let started = Instant::now();
    let (mut number, mut unsent, mut first_unsent) = (0, 0u64, None);
    while let Some(row) = rows.next() {
        if let Some(rate) = arguments.rate {
            let due = Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        match split_row(&config.schema, mode, row?, number, sender.delay_ms) {
            Ok(split) => sender.row(split)?,
            Err(error) => {
                unsent += 1;
                first_unsent.get_or_insert_with(|| format!("{}: {error}", rows.place()));
            }
        }
        number += 1;
        if number % LOOK_EVERY == 0 {
            progress.at(number, "");
        }
    }
    sender.finish()?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    output::print(context.format, &Replayed { rows: number, events: sender.events, clicks: sender.clicks, seconds })?;
    match first_unsent {
        None => Ok(()),
        Some(first) => Err(Failure::failed(format!("{unsent} rows were not sent; the first, {first}"))),
    }
}

/// Sends rows in the order of the file, clicks in between where their time comes. Keyed by user: a user's events stay in one partition
/// and in order.
///
/// The broker stamps records with the time they are sent: stamped with the time of the event, a file of last year would fall to the
/// topic's retention at once.
struct Sender {
    producer: KafkaProducer,
    format: EventFormat,
    decoder: EventDecoder,
    role: Role,
    events_topic: String,
    clicks_topic: String,
    delay_ms: i64,
    /// Clicks whose time has not come: as many as the delay holds.
    waiting: BinaryHeap<Reverse<Click>>,
    events: u64,
    clicks: u64,
}

/// A click, ordered by time, then by its place in the file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Click {
    time_ms: i64,
    place: u64,
    key: String,
    payload: Vec<u8>,
}

impl Sender {
    fn new(config: &Config, mode: StreamMode, delay: Duration) -> Result<Self, Failure> {
        let (role, events_topic) = match mode {
            StreamMode::Labelled => (Role::Labelled, config.events_topic()),
            StreamMode::Joined => (Role::Impression, config.impressions_topic()),
        };
        Ok(Sender {
            producer: KafkaProducer::open(&config.kafka)?,
            format: config.topics.format,
            decoder: EventDecoder::new(&config.schema).reading(config.topics.format),
            role,
            events_topic,
            clicks_topic: config.clicks_topic(),
            delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
            waiting: BinaryHeap::new(),
            events: 0,
            clicks: 0,
        })
    }

    fn row(&mut self, split: SplitRow) -> Result<(), Failure> {
        let payload = encode(self.format, &split.event);
        if !self.waiting.is_empty()
            && let Some(time_ms) = self.time_ms(&payload, self.role)
        {
            self.send_clicks(time_ms)?;
        }
        send(&self.producer, &self.events_topic, &split.key, &payload)?;
        self.events += 1;
        let Some(click) = split.click else { return Ok(()) };
        let payload = encode(self.format, &click);
        // A click without a readable time goes at once: the daemon has the last word on it.
        match self.time_ms(&payload, Role::Click) {
            Some(time_ms) if self.delay_ms > 0 => {
                self.waiting.push(Reverse(Click { time_ms, place: self.events, key: split.key, payload }));
                Ok(())
            }
            _ => self.send_click(&split.key, &payload),
        }
    }

    /// Clicks that happened up to this time.
    fn send_clicks(&mut self, time_ms: i64) -> Result<(), Failure> {
        while self.waiting.peek().is_some_and(|Reverse(click)| click.time_ms <= time_ms) {
            if let Some(Reverse(click)) = self.waiting.pop() {
                self.send_click(&click.key, &click.payload)?;
            }
        }
        Ok(())
    }

    fn send_click(&mut self, key: &str, payload: &[u8]) -> Result<(), Failure> {
        send(&self.producer, &self.clicks_topic, key, payload)?;
        self.events += 1;
        self.clicks += 1;
        Ok(())
    }

    /// Sends what waits; everything is acknowledged when this returns.
    fn finish(&mut self) -> Result<(), Failure> {
        self.send_clicks(i64::MAX)?;
        Ok(self.producer.flush()?)
    }

    fn time_ms(&self, payload: &[u8], role: Role) -> Option<i64> {
        let origin = Origin { partition: PartitionIndex(0), offset: 0 };
        let record = Record { origin, role, key: None, payload: Some(payload.to_vec()), timestamp_ms: None };
        match self.decoder.decode(&record) {
            Ok(Decoded::Event(event)) => Some(event.time.0),
            Ok(Decoded::Tombstone) | Err(_) => None,
        }
    }
}

/// A row without a user has no key.
fn send(producer: &KafkaProducer, topic: &str, key: &str, payload: &[u8]) -> Result<(), StreamError> {
    producer.send(topic, None, Some(key.as_bytes()).filter(|key| !key.is_empty()), Some(payload), None)
}

impl View for Replayed {
    fn text(&self) -> String {
        format!(
            "{} rows, {} events ({} clicks) sent and acknowledged in {:.1} s, {:.0} rows/s",
            self.rows,
            self.events,
            self.clicks,
            self.seconds,
            self.rows as f64 / self.seconds.max(f64::EPSILON)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rows_per_second() {
        assert_eq!(rate("5000/s"), Ok(5000.0));
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1/s", "fast", "inf", "5000/m", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn clicks_wait_in_the_order_of_their_times() {
        let click = |time_ms, place| Reverse(Click { time_ms, place, key: String::new(), payload: Vec::new() });
        let mut waiting = BinaryHeap::from([click(5, 2), click(3, 1), click(5, 0)]);
        let order: Vec<(i64, u64)> = std::iter::from_fn(|| waiting.pop()).map(|Reverse(click)| (click.time_ms, click.place)).collect();
        assert_eq!(order, [(3, 1), (5, 0), (5, 2)]);
    }
}
