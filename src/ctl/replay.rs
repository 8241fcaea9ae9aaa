//! `rocketctl replay`: a file into the event topics, labelled or as separate impressions and clicks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};

use super::context::Context;
use super::failure::Failure;
use super::output::{self, View};
use super::progress::Progress;
use crate::config::{Config, StreamMode, TimeUnit};
use crate::domain::{Origin, PartitionIndex, Record, Role};
use crate::stream::{FileRows, KafkaProducer, split_row};
use crate::wire::{Decoded, EventDecoder};

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
    let rows = FileRows::open(&arguments.file)?;
    let joined = match arguments.mode {
        Some(mode) => matches!(mode, Mode::Joined),
        None => config.topics.mode == StreamMode::Joined,
    };
    if joined && config.schema.impression.is_none() {
        return Err(Failure::Usage("impressions and clicks apart need schema.impression: the column of the impression id".to_owned()));
    }
    let mut sender = Sender::new(config, arguments.click_delay)?;
    let mut progress = Progress::new("replay", true);
    let started = Instant::now();
    let mut sent = 0;
    for row in rows {
        if let Some(rate) = arguments.rate {
            let due = Duration::from_secs_f64(sent as f64 / rate);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        if joined {
            sender.joined(row?)?
        } else {
            sender.labelled(&row?)?
        }
        sent += 1;
        if sent % LOOK_EVERY == 0 {
            progress.at(sent, "");
        }
    }
    sender.finish()?;
    progress.finish();
    let replayed = Replayed { rows: sent, events: sender.events, clicks: sender.clicks, seconds: started.elapsed().as_secs_f64() };
    output::print(context.format, &replayed)
}

/// Sends rows in the order of the file, clicks in between where their time comes. Keyed by user: a user's events stay in one partition
/// and in order.
///
/// The broker stamps records with the time they are sent: stamped with the time of the event, a file of last year would fall to the
/// topic's retention at once.
struct Sender<'a> {
    config: &'a Config,
    producer: KafkaProducer,
    decoder: EventDecoder,
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
    row: u64,
    key: Option<String>,
    payload: Vec<u8>,
}

impl<'a> Sender<'a> {
    fn new(config: &'a Config, delay: Duration) -> Result<Self, Failure> {
        Ok(Sender {
            config,
            producer: KafkaProducer::open(&config.kafka)?,
            decoder: EventDecoder::new(&config.schema),
            delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
            waiting: BinaryHeap::new(),
            events: 0,
            clicks: 0,
        })
    }

    fn labelled(&mut self, row: &Map<String, Value>) -> Result<(), Failure> {
        let key = self.key(row);
        self.send(&self.config.events_topic(), key.as_deref(), &serde_json::to_vec(row)?)
    }

    fn joined(&mut self, row: Map<String, Value>) -> Result<(), Failure> {
        let key = self.key(&row);
        let (impression, click) = split_row(row, &self.config.schema);
        let payload = serde_json::to_vec(&impression)?;
        if let Some(time_ms) = self.time_ms(&payload, Role::Impression) {
            self.send_clicks(time_ms)?;
        }
        self.send(&self.config.impressions_topic(), key.as_deref(), &payload)?;
        if let Some(click) = click {
            self.click(click, key)?;
        }
        Ok(())
    }

    /// A click without a readable time goes at once, as it is: the daemon has to cope with it, not we.
    fn click(&mut self, mut click: Map<String, Value>, key: Option<String>) -> Result<(), Failure> {
        let time_ms = self.time_ms(&serde_json::to_vec(&click)?, Role::Click).map(|time_ms| time_ms.saturating_add(self.delay_ms));
        if let Some(time_ms) = time_ms
            && self.delay_ms > 0
        {
            click.insert(self.config.schema.time.clone(), time_value(time_ms, self.config.schema.time_unit));
        }
        let payload = serde_json::to_vec(&click)?;
        match time_ms {
            Some(time_ms) if self.delay_ms > 0 => {
                self.waiting.push(Reverse(Click { time_ms, row: self.events, key, payload }));
                Ok(())
            }
            _ => self.send_click(key.as_deref(), &payload),
        }
    }

    /// Clicks that happened up to this time.
    fn send_clicks(&mut self, time_ms: i64) -> Result<(), Failure> {
        while self.waiting.peek().is_some_and(|Reverse(click)| click.time_ms <= time_ms) {
            if let Some(Reverse(click)) = self.waiting.pop() {
                self.send_click(click.key.as_deref(), &click.payload)?;
            }
        }
        Ok(())
    }

    /// Sends what waits; everything is acknowledged when this returns.
    fn finish(&mut self) -> Result<(), Failure> {
        self.send_clicks(i64::MAX)?;
        Ok(self.producer.flush()?)
    }

    fn send_click(&mut self, key: Option<&str>, payload: &[u8]) -> Result<(), Failure> {
        self.clicks += 1;
        self.send(&self.config.clicks_topic(), key, payload)
    }

    fn send(&mut self, topic: &str, key: Option<&str>, payload: &[u8]) -> Result<(), Failure> {
        self.events += 1;
        Ok(self.producer.send(topic, None, key.map(str::as_bytes), Some(payload), None)?)
    }

    fn key(&self, row: &Map<String, Value>) -> Option<String> {
        match row.get(&self.config.schema.user)? {
            Value::String(user) => Some(user.clone()),
            Value::Null => None,
            user => Some(user.to_string()),
        }
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

/// A time in the unit of the schema.
fn time_value(time_ms: i64, unit: TimeUnit) -> Value {
    match unit {
        TimeUnit::S if time_ms % 1000 == 0 => Value::from(time_ms / 1000),
        TimeUnit::S => Value::from(time_ms as f64 / 1000.0),
        TimeUnit::Ms => Value::from(time_ms),
        TimeUnit::Us => Value::from(time_ms.saturating_mul(1000)),
        TimeUnit::Rfc3339 => jiff::Timestamp::from_millisecond(time_ms).map_or(Value::Null, |time| Value::from(time.to_string())),
    }
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
    fn times_are_written_in_the_unit_they_are_read_in() {
        assert_eq!(time_value(61_000, TimeUnit::S), Value::from(61));
        assert_eq!(time_value(61_500, TimeUnit::S), Value::from(61.5));
        assert_eq!(time_value(61_500, TimeUnit::Ms), Value::from(61_500));
        assert_eq!(time_value(61_500, TimeUnit::Us), Value::from(61_500_000));
        assert_eq!(time_value(61_500, TimeUnit::Rfc3339), Value::from("1970-01-01T00:01:01.5Z"));
    }

    #[test]
    fn clicks_wait_in_the_order_of_their_times() {
        let click = |time_ms, row| Reverse(Click { time_ms, row, key: None, payload: Vec::new() });
        let mut waiting = BinaryHeap::from([click(5, 2), click(3, 1), click(5, 0)]);
        let order: Vec<(i64, u64)> = std::iter::from_fn(|| waiting.pop()).map(|Reverse(click)| (click.time_ms, click.row)).collect();
        assert_eq!(order, [(3, 1), (5, 0), (5, 2)]);
    }
}
