use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::JoinOutput;
use crate::config::{Emit, JoinConfig, Span};
use crate::domain::{DropReason, Event, EventTime, Field, ImpressionId, Origin, Role, Sample, Stage, UserId};

/// The order in which events are taken: time, then partition, then offset.
pub(super) type Turn = (i64, u32, i64);

pub(super) fn turn(time: EventTime, origin: Origin) -> Turn {
    (time.0, origin.partition.0, origin.offset)
}

/// Open impressions, clicks that wait for theirs, and the memory of closed ones. Takes events one by one; settled time is told from
/// outside.
#[derive(Debug)]
pub(super) struct Windows {
    window_ms: i64,
    grace_ms: i64,
    memory_ms: i64,
    emit: Emit,
    /// How long impressions wait before they leave early; `None`: not at all.
    wait_ms: Option<i64>,
    /// Everything up to this event time is closed, given up or forgotten.
    settled: i64,
    open: HashMap<ImpressionId, Open>,
    /// The open impressions by turn: they close in this order, since their windows have one length.
    closing: BTreeMap<Turn, ImpressionId>,
    /// Those of them that still wait to leave early.
    leaving: BTreeMap<Turn, ImpressionId>,
    waiting: HashMap<ImpressionId, Vec<Click>>,
    /// The waiting clicks by turn: they are given up in this order.
    giving_up: BTreeMap<Turn, ImpressionId>,
    closed: HashMap<ImpressionId, Closed>,
    /// The closed impressions by time: they are forgotten in this order.
    forgetting: BTreeSet<(i64, ImpressionId)>,
    /// Events in `open` and `waiting` that no sample has yet.
    held: u64,
}

#[derive(Debug)]
struct Open {
    origin: Origin,
    time: EventTime,
    user: UserId,
    fields: Box<[Field]>,
    click: Option<Origin>,
    /// Has left as [`Stage::Open`].
    left: bool,
}

#[derive(Debug, Clone, Copy)]
struct Click {
    id: ImpressionId,
    origin: Origin,
    time: EventTime,
}

#[derive(Debug, Clone, Copy)]
struct Closed {
    time: i64,
    /// May have left at its click, before its window ended: a click within the window is a second one.
    at_click: bool,
}

impl Windows {
    pub(super) fn new(config: &JoinConfig, memory: impl IntoIterator<Item = (EventTime, ImpressionId)>) -> Self {
        let mut windows = Windows {
            window_ms: config.window.as_millis(),
            grace_ms: config.grace.as_millis(),
            memory_ms: config.memory.as_millis(),
            emit: config.emit,
            wait_ms: config.wait.map(Span::as_millis),
            settled: i64::MIN,
            open: HashMap::new(),
            closing: BTreeMap::new(),
            leaving: BTreeMap::new(),
            waiting: HashMap::new(),
            giving_up: BTreeMap::new(),
            closed: HashMap::new(),
            forgetting: BTreeSet::new(),
            held: 0,
        };
        for (time, id) in memory {
            windows.remember(id, time, config.emit != Emit::InOrder);
        }
        windows
    }

    /// Events held back.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Takes an impression or a click.
    pub(super) fn take(&mut self, event: Event, out: &mut Vec<JoinOutput>) {
        let id = event.impression.expect("the decoder refuses impressions and clicks without an impression id");
        if event.role == Role::Click {
            self.click(Click { id, origin: event.origin, time: event.time }, out);
        } else {
            self.impression(id, event, out);
        }
    }

    fn impression(&mut self, id: ImpressionId, event: Event, out: &mut Vec<JoinOutput>) {
        if self.open.contains_key(&id) || self.closed.contains_key(&id) {
            out.push(JoinOutput::Dropped(event.origin, DropReason::DuplicateImpression));
            return;
        }
        let turn = turn(event.time, event.origin);
        self.held += 1;
        self.begin(id, event, false);
        if self.emit == Emit::Early {
            match self.wait_ms {
                Some(_) => drop(self.leaving.insert(turn, id)),
                None => self.leave(turn, id, out),
            }
        }
        self.take_waiting(id, out);
    }

    /// Opens the window of an impression that has left as [`Stage::Open`].
    pub(super) fn reopen(&mut self, event: Event, out: &mut Vec<JoinOutput>) {
        let id = event.impression.expect("the decoder refuses impressions without an impression id");
        if self.open.contains_key(&id) || self.closed.contains_key(&id) {
            out.push(JoinOutput::Closed(event.origin));
            return;
        }
        self.begin(id, event, true);
        self.take_waiting(id, out);
    }

    fn begin(&mut self, id: ImpressionId, event: Event, left: bool) {
        let Event { origin, time, user, fields, .. } = event;
        self.closing.insert(turn(time, origin), id);
        self.open.insert(id, Open { origin, time, user, fields, click: None, left });
    }

    /// The clicks that came before their impression.
    fn take_waiting(&mut self, id: ImpressionId, out: &mut Vec<JoinOutput>) {
        for click in self.waiting.remove(&id).unwrap_or_default() {
            self.giving_up.remove(&turn(click.time, click.origin));
            self.held -= 1;
            self.click(click, out);
        }
    }

    fn click(&mut self, click: Click, out: &mut Vec<JoinOutput>) {
        let reason = if let Some(open) = self.open.get_mut(&click.id) {
            let time = open.time.0;
            if click.time.0 > time.saturating_add(self.window_ms) {
                DropReason::LateClick
            } else if click.time.0 < time.saturating_sub(self.grace_ms) {
                DropReason::ClickWithoutImpression
            } else if open.click.is_some() {
                DropReason::DuplicateClick
            } else {
                open.click = Some(click.origin);
                self.held += 1;
                if self.emit != Emit::InOrder {
                    let turn = turn(open.time, open.origin);
                    self.close(turn, click.id, out);
                }
                return;
            }
        } else if let Some(closed) = self.closed.get(&click.id) {
            let within = click.time.0 <= closed.time.saturating_add(self.window_ms);
            if closed.at_click && within { DropReason::DuplicateClick } else { DropReason::LateClick }
        } else if click.time.0.saturating_add(self.grace_ms) <= self.settled {
            DropReason::ClickWithoutImpression
        } else {
            self.giving_up.insert(turn(click.time, click.origin), click.id);
            self.waiting.entry(click.id).or_default().push(click);
            self.held += 1;
            return;
        };
        out.push(JoinOutput::Dropped(click.origin, reason));
    }

    /// Settles event time up to and with `until`: gives up, lets leave, closes and forgets what is due, in the order in which it is due.
    pub(super) fn settle(&mut self, until: i64, out: &mut Vec<JoinOutput>) {
        loop {
            let give_up = due(&self.giving_up, self.grace_ms, until).map(|due| (due, Due::GiveUp));
            let leave = due(&self.leaving, self.wait_ms.unwrap_or(0), until).map(|due| (due, Due::Leave));
            let close = due(&self.closing, self.window_ms, until).map(|due| (due, Due::Close));
            let next = [give_up, leave, close].into_iter().flatten().min_by_key(|((at, ..), _)| *at);
            let Some(((_, turn, id), what)) = next else { break };
            match what {
                Due::GiveUp => self.give_up(turn, id, out),
                Due::Leave => self.leave(turn, id, out),
                Due::Close => self.close(turn, id, out),
            }
        }
        self.settled = self.settled.max(until);
        while let Some((time, id)) =
            self.forgetting.first().copied().filter(|(time, _)| time.saturating_add(self.memory_ms) <= self.settled)
        {
            self.forgetting.remove(&(time, id));
            self.closed.remove(&id);
        }
    }

    fn close(&mut self, turn: Turn, id: ImpressionId, out: &mut Vec<JoinOutput>) {
        self.closing.remove(&turn);
        self.leaving.remove(&turn);
        let Some(Open { origin, time, user, fields, click, left }) = self.open.remove(&id) else { return };
        self.remember(id, time, self.emit != Emit::InOrder && click.is_some());
        if left && click.is_none() {
            out.push(JoinOutput::Closed(origin));
            return;
        }
        let (impression, stage) = if left { (None, Stage::Delayed(origin)) } else { (Some(origin), Stage::Final) };
        let origins: Vec<Origin> = impression.into_iter().chain(click).collect();
        self.held -= origins.len() as u64;
        out.push(JoinOutput::Sample(Sample { origins, time, impression: Some(id), user, label: click.is_some(), stage, fields }));
    }

    /// An impression leaves as unclicked so far; its window stays open.
    fn leave(&mut self, turn: Turn, id: ImpressionId, out: &mut Vec<JoinOutput>) {
        self.leaving.remove(&turn);
        let Some(open) = self.open.get_mut(&id) else { return };
        open.left = true;
        self.held -= 1;
        out.push(JoinOutput::Sample(Sample {
            origins: vec![open.origin],
            time: open.time,
            impression: Some(id),
            user: open.user.clone(),
            label: false,
            stage: Stage::Open,
            fields: open.fields.clone(),
        }));
    }

    fn give_up(&mut self, turn: Turn, id: ImpressionId, out: &mut Vec<JoinOutput>) {
        self.giving_up.remove(&turn);
        let Some(clicks) = self.waiting.get_mut(&id) else { return };
        let (_, partition, offset) = turn;
        if let Some(index) = clicks.iter().position(|click| click.origin.partition.0 == partition && click.origin.offset == offset) {
            let click = clicks.remove(index);
            self.held -= 1;
            out.push(JoinOutput::Dropped(click.origin, DropReason::ClickWithoutImpression));
        }
        if clicks.is_empty() {
            self.waiting.remove(&id);
        }
    }

    fn remember(&mut self, id: ImpressionId, time: EventTime, at_click: bool) {
        if let Some(before) = self.closed.insert(id, Closed { time: time.0, at_click }) {
            self.forgetting.remove(&(before.time, id));
        }
        self.forgetting.insert((time.0, id));
    }
}

/// What can be due.
#[derive(Clone, Copy)]
enum Due {
    GiveUp,
    Leave,
    Close,
}

/// The first entry, if its turn's time plus `after` is not beyond `until`; with that time.
fn due(entries: &BTreeMap<Turn, ImpressionId>, after: i64, until: i64) -> Option<(i64, Turn, ImpressionId)> {
    let (turn, id) = entries.first_key_value()?;
    let at = turn.0.saturating_add(after);
    (at <= until).then_some((at, *turn, *id))
}
