//! What is sent to the topics: the generated world with a few faults of each kind, counted, or the rows of a file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use super::generator::{Columns, Impression, World};
use super::ranking::Scored;
use crate::config::{EventFormat, JoinConfig};
use crate::domain::{Books, DropReason, Role};
use crate::wire::encode;

/// Shares of impressions with a fault, about 3 % in all. A late click needs an impression without one, a duplicate click one with.
const BROKEN: f64 = 0.005;
const DUPLICATE_IMPRESSION: f64 = 0.010;
const ORPHAN_CLICK: f64 = 0.005;
const TOMBSTONE: f64 = 0.001;
const LATE_CLICK: f64 = 0.005;
const DUPLICATE_CLICK: f64 = 0.030;
/// How long after window and grace a late click comes.
const LATE_BY_MS: i64 = 2_000;

/// One record to send.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) role: Role,
    /// The user: a user's events stay in order, in one partition.
    pub(super) key: String,
    /// `None`: a tombstone.
    pub(super) payload: Option<Vec<u8>>,
    /// An impression as the ad server saw it before it was shown.
    pub(super) offer: Option<Offer>,
}

/// A scoring request that replays an impression, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    pub(super) time_ms: i64,
    pub(super) group: u64,
    pub(super) context: Columns,
    /// The first one is the one that was shown.
    pub(super) candidates: Vec<Columns>,
    pub(super) clicked: bool,
}

/// The user's group in [`Scored`].
pub(super) fn group(user: &str) -> u64 {
    xxh3_64(user.as_bytes())
}

/// Records in the order of event time, the same for the same seed, and the books that the pipeline must end with.
pub(super) struct Synthetic {
    world: World,
    join: JoinConfig,
    format: EventFormat,
    rows_left: u64,
    now_ms: i64,
    waiting: BinaryHeap<Reverse<Waiting>>,
    queued: u64,
    expected: Books,
    truth: Vec<Scored>,
}

/// A message whose time has not come, ordered by time, then by when it was made.
struct Waiting {
    time_ms: i64,
    place: u64,
    message: Message,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time_ms, self.place).cmp(&(other.time_ms, other.place))
    }
}

impl Synthetic {
    /// `rows` impressions and what belongs to them, for a joiner of this configuration.
    pub(super) fn new(seed: u64, rows: u64, join: &JoinConfig, format: EventFormat) -> Self {
        Synthetic {
            world: World::new(seed, join.window.as_millis()),
            join: join.clone(),
            format,
            rows_left: rows,
            now_ms: i64::MIN,
            waiting: BinaryHeap::new(),
            queued: 0,
            expected: Books::default(),
            truth: Vec::new(),
        }
    }

    /// Where every event made so far must end.
    pub(super) fn expected(&self) -> &Books {
        &self.expected
    }

    /// True probabilities and labels of every impression made so far.
    pub(super) fn truth(&self) -> &[Scored] {
        &self.truth
    }

    fn make_row(&mut self) {
        let impression = self.world.draw();
        self.now_ms = impression.time_ms;
        self.truth.push(Scored {
            group: group(&impression.user),
            score: impression.probability,
            clicked: impression.click_after_ms.is_some(),
        });
        self.expected.samples += 1;
        self.expected.trained += 1;
        let payload = encode(self.format, &impression.event());
        let shown = Message {
            role: Role::Impression,
            key: impression.user.clone(),
            payload: Some(payload.clone()),
            offer: Some(offer(&impression)),
        };
        self.send(impression.time_ms, shown);
        if let Some(after_ms) = impression.click_after_ms {
            self.expected.trained += 1;
            self.send_click(&impression.id, &impression.user, impression.time_ms + after_ms);
        }
        self.make_faults(&impression, payload);
    }

    /// At most one fault of each kind per impression.
    fn make_faults(&mut self, impression: &Impression, payload: Vec<u8>) {
        let (time_ms, user) = (impression.time_ms, &impression.user);
        let plain = |role, payload| Message { role, key: user.clone(), payload, offer: None };
        if self.world.chance() < BROKEN {
            self.expected.dead_lettered += 1;
            let broken = broken(self.expected.dead_lettered, impression, self.format);
            self.send(time_ms, plain(Role::Impression, Some(broken)));
        }
        if self.world.chance() < DUPLICATE_IMPRESSION {
            self.expect_drop(DropReason::DuplicateImpression);
            self.send(time_ms, plain(Role::Impression, Some(payload)));
        }
        if self.world.chance() < ORPHAN_CLICK {
            self.expect_drop(DropReason::ClickWithoutImpression);
            self.send_click(&format!("nobody-{}", impression.id), user, time_ms);
        }
        if self.world.chance() < TOMBSTONE {
            self.expect_drop(DropReason::Tombstone);
            self.send(time_ms, plain(Role::Click, None));
        }
        let chance = self.world.chance();
        match impression.click_after_ms {
            Some(after_ms) if chance < DUPLICATE_CLICK => {
                self.expect_drop(DropReason::DuplicateClick);
                self.send_click(&impression.id, user, time_ms + after_ms);
            }
            None if chance < LATE_CLICK => {
                self.expect_drop(DropReason::LateClick);
                let late_ms = self.join.window.as_millis() + self.join.grace.as_millis() + LATE_BY_MS;
                self.send_click(&impression.id, user, time_ms + late_ms);
            }
            _ => {}
        }
    }

    fn send_click(&mut self, impression: &str, user: &str, time_ms: i64) {
        let click = [("impression_id", json!(impression)), ("ts_ms", json!(time_ms))];
        let payload = encode(self.format, &click.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
        self.send(time_ms, Message { role: Role::Click, key: user.to_owned(), payload: Some(payload), offer: None });
    }

    fn send(&mut self, time_ms: i64, message: Message) {
        self.queued += 1;
        self.waiting.push(Reverse(Waiting { time_ms, place: self.queued, message }));
    }

    fn expect_drop(&mut self, reason: DropReason) {
        *self.expected.dropped.entry(reason).or_default() += 1;
    }
}

impl Iterator for Synthetic {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        // What waits up to the newest impression may go: nothing made later is earlier.
        while self.rows_left > 0 && self.waiting.peek().is_none_or(|Reverse(first)| first.time_ms > self.now_ms) {
            self.rows_left -= 1;
            self.make_row();
        }
        self.waiting.pop().map(|Reverse(first)| first.message)
    }
}

fn offer(impression: &Impression) -> Offer {
    Offer {
        time_ms: impression.time_ms,
        group: group(&impression.user),
        context: impression.context.clone(),
        candidates: std::iter::once(&impression.shown).chain(&impression.others).cloned().collect(),
        clicked: impression.click_after_ms.is_some(),
    }
}

/// Broken in turn: cut off, without a user, with a time that is none, no event at all.
fn broken(turn: u64, impression: &Impression, format: EventFormat) -> Vec<u8> {
    let mut event = impression.event();
    event.insert("impression_id".to_owned(), json!(format!("broken-{turn}")));
    match turn % 4 {
        0 => {
            let mut text = encode(format, &event);
            text.truncate(text.len() / 2);
            text
        }
        1 => {
            event.remove("user_id");
            encode(format, &event)
        }
        2 => {
            event.insert("ts_ms".to_owned(), json!("yesterday"));
            encode(format, &event)
        }
        _ => b"not json".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seed: u64, rows: u64) -> (Vec<Message>, Books) {
        let mut traffic = Synthetic::new(seed, rows, &JoinConfig::default(), EventFormat::Json);
        let messages = traffic.by_ref().collect();
        (messages, traffic.expected().clone())
    }

    #[test]
    fn every_message_stands_in_the_expected_books_once() {
        let (messages, expected) = all(3, 5_000);
        assert_eq!(messages.len() as u64, expected.done());
        assert_eq!(expected.samples, 5_000);
        assert_eq!(messages.iter().filter(|message| message.offer.is_some()).count(), 5_000);
        for reason in [
            DropReason::DuplicateImpression,
            DropReason::DuplicateClick,
            DropReason::LateClick,
            DropReason::ClickWithoutImpression,
            DropReason::Tombstone,
        ] {
            assert!(expected.dropped.get(&reason).is_some_and(|&count| count > 0), "{} never happens", reason.name());
        }
        assert!(expected.dead_lettered > 0);
        let faults = expected.dropped.values().sum::<u64>() + expected.dead_lettered;
        assert!(faults < 5_000 / 20, "{faults} faults are more than a few");
    }

    #[test]
    fn messages_are_the_same_for_the_same_seed() {
        assert_eq!(all(5, 300), all(5, 300));
        assert_ne!(all(5, 300).0, all(6, 300).0);
    }

    #[test]
    fn messages_come_in_the_order_of_their_times() {
        let (messages, _) = all(3, 2_000);
        let times: Vec<i64> = messages
            .iter()
            .filter_map(|message| serde_json::from_slice::<Columns>(message.payload.as_deref()?).ok()?.get("ts_ms")?.as_i64())
            .collect();
        assert!(times.len() > 2_000);
        assert!(times.is_sorted());
    }
}
