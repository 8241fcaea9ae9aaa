use super::*;
use crate::config::{EarlyLabels, Span};
use crate::domain::{Field, Role, UserId};

const WINDOW: i64 = 100;
const GRACE: i64 = 10;
const MEMORY: i64 = 500;
const IDLE: i64 = 1_000;

/// (id, label) of samples, (offset, reason) of drops.
type Outcome = (Vec<(u128, bool)>, Vec<(i64, DropReason)>);

/// Partition 0 has impressions, partition 1 clicks; offsets are the numbers of the events.
struct Bench {
    joiner: Joiner,
    out: Vec<JoinOutput>,
    offset: i64,
}

fn origin(role: Role, offset: i64) -> Origin {
    Origin { partition: PartitionIndex(u32::from(role == Role::Click)), offset }
}

fn event_at(offset: i64, role: Role, time: i64, id: u128) -> Event {
    Event {
        origin: origin(role, offset),
        role,
        time: EventTime(time),
        impression: Some(ImpressionId(id)),
        user: UserId("u".into()),
        label: None,
        fields: Box::new([Field::Number(id as f64)]),
    }
}

/// What left early: (id, stage, events) of samples, the impression's offset of closed windows.
#[derive(Debug, PartialEq)]
enum Left {
    Sample(u128, Stage, Vec<Origin>),
    Closed(i64),
}

impl Bench {
    fn new(emit: Emit, memory: &[(i64, u128)]) -> Self {
        Bench::waiting(emit, None, memory)
    }

    fn early(wait: Option<i64>) -> Self {
        Bench::waiting(Emit::Early, wait, &[])
    }

    fn waiting(emit: Emit, wait: Option<i64>, memory: &[(i64, u128)]) -> Self {
        let span = |ms: i64| Span::from_millis(ms as u64);
        let early = if wait.is_some() { EarlyLabels::EsDfm } else { EarlyLabels::Fnw };
        let wait = wait.map(span);
        let config = JoinConfig { window: span(WINDOW), grace: span(GRACE), emit, early, wait, memory: span(MEMORY), idle: span(IDLE) };
        let memory = memory.iter().map(|(time, id)| (EventTime(*time), ImpressionId(*id)));
        Bench { joiner: Joiner::new(StreamMode::Joined, &config, 2, memory), out: Vec::new(), offset: 0 }
    }

    fn event(&mut self, role: Role, time: i64, id: u128) -> i64 {
        let offset = self.offset;
        self.offset += 1;
        self.joiner.push(event_at(offset, role, time, id), 0, &mut self.out);
        offset
    }

    fn impression(&mut self, time: i64, id: u128) -> i64 {
        self.event(Role::Impression, time, id)
    }

    fn click(&mut self, time: i64, id: u128) -> i64 {
        self.event(Role::Click, time, id)
    }

    /// Moves both partitions' event time to `time` by an impression and a click that stay open.
    fn move_to(&mut self, time: i64) {
        self.impression(time, 1_000_000 + time as u128);
        self.click(time, 1_000_000 + time as u128);
    }

    /// What came out since the last call.
    fn outcome(&mut self) -> Outcome {
        let (mut samples, mut drops) = (Vec::new(), Vec::new());
        for output in self.out.drain(..) {
            match output {
                JoinOutput::Sample(sample) => samples.push((sample.impression.unwrap().0, sample.label)),
                JoinOutput::Dropped(origin, reason) => drops.push((origin.offset, reason)),
                JoinOutput::Closed(origin) => panic!("{origin:?} was not trained before"),
            }
        }
        (samples, drops)
    }

    /// What left and what was dropped since the last call; those that only move time left out.
    fn left(&mut self) -> (Vec<Left>, Vec<(i64, DropReason)>) {
        let (mut left, mut drops) = (Vec::new(), Vec::new());
        for output in self.out.drain(..) {
            match output {
                JoinOutput::Sample(sample) if sample.impression.unwrap().0 >= 1_000_000 => {}
                JoinOutput::Sample(sample) => {
                    let id = sample.impression.unwrap().0;
                    assert_eq!(sample.label, sample.stage != Stage::Open);
                    assert_eq!(*sample.fields, [Field::Number(id as f64)]);
                    left.push(Left::Sample(id, sample.stage, sample.origins));
                }
                JoinOutput::Dropped(origin, reason) => drops.push((origin.offset, reason)),
                JoinOutput::Closed(origin) => left.push(Left::Closed(origin.offset)),
            }
        }
        (left, drops)
    }
}

#[test]
fn labelled_events_pass_straight_through() {
    let mut joiner = Joiner::new(StreamMode::Labelled, &JoinConfig::default(), 1, []);
    let event = Event {
        origin: Origin { partition: PartitionIndex(0), offset: 4 },
        role: Role::Labelled,
        time: EventTime(5),
        impression: None,
        user: UserId("u".into()),
        label: Some(true),
        fields: Box::default(),
    };
    let mut out = Vec::new();
    joiner.push(event.clone(), 0, &mut out);
    let origins = vec![event.origin];
    let sample =
        Sample { origins, time: event.time, impression: None, user: event.user, label: true, stage: Stage::Final, fields: event.fields };
    assert_eq!((out, joiner.pending()), (vec![JoinOutput::Sample(sample)], 0));
}

#[test]
fn an_impression_closes_when_the_watermark_has_passed_window_and_grace() {
    let mut bench = Bench::new(Emit::InOrder, &[]);
    bench.impression(1000, 1);
    let click = bench.click(1050, 1);
    bench.impression(1010, 2);
    assert_eq!(bench.joiner.pending(), 3);
    bench.move_to(1000 + WINDOW + GRACE - 1);
    assert_eq!(bench.outcome(), (vec![], vec![]));
    bench.move_to(1000 + WINDOW + GRACE);
    let JoinOutput::Sample(sample) = &bench.out[0] else { panic!("{:?}", bench.out) };
    assert_eq!(sample.origins[1], Origin { partition: PartitionIndex(1), offset: click });
    assert_eq!(bench.outcome(), (vec![(1, true)], vec![]));
    bench.move_to(1010 + WINDOW + GRACE);
    assert_eq!(bench.outcome(), (vec![(2, false)], vec![]));
}

#[test]
fn samples_leave_in_the_order_of_impression_times() {
    let mut bench = Bench::new(Emit::InOrder, &[]);
    for (time, id) in [(1005, 1), (1001, 2), (1003, 3), (1001, 4)] {
        bench.impression(time, id);
    }
    bench.click(1050, 1);
    bench.joiner.finish(&mut bench.out);
    assert_eq!(bench.outcome().0, [(2, false), (4, false), (3, false), (1, true)]);
    assert_eq!(bench.joiner.pending(), 0);
}

#[test]
fn a_click_counts_from_grace_before_its_impression_to_the_end_of_its_window() {
    for (click_time, expected) in [
        (1000 - GRACE - 1, Err(DropReason::ClickWithoutImpression)),
        (1000 - GRACE, Ok(true)),
        (1000, Ok(true)),
        (1000 + WINDOW, Ok(true)),
        (1000 + WINDOW + 1, Err(DropReason::LateClick)),
    ] {
        for click_first in [false, true] {
            let mut bench = Bench::new(Emit::InOrder, &[]);
            let click;
            if click_first {
                click = bench.click(click_time, 1);
                bench.impression(1000, 1);
            } else {
                bench.impression(1000, 1);
                click = bench.click(click_time, 1);
            }
            bench.joiner.finish(&mut bench.out);
            let (samples, drops) = bench.outcome();
            match expected {
                Ok(label) => assert_eq!((samples, drops), (vec![(1, label)], vec![]), "{click_time} {click_first}"),
                Err(reason) => assert_eq!((samples, drops), (vec![(1, false)], vec![(click, reason)]), "{click_time} {click_first}"),
            }
        }
    }
}

#[test]
fn duplicates_and_unknown_clicks_are_told_apart() {
    let mut bench = Bench::new(Emit::InOrder, &[]);
    bench.impression(1000, 1);
    let second = bench.impression(1001, 1);
    bench.click(1010, 1);
    let again = bench.click(1011, 1);
    let unknown = bench.click(1012, 9);
    bench.move_to(1012 + 2 * GRACE);
    assert_eq!(
        bench.outcome().1,
        [(second, DropReason::DuplicateImpression), (again, DropReason::DuplicateClick), (unknown, DropReason::ClickWithoutImpression)]
    );
}

#[test]
fn closed_impressions_are_remembered_and_then_forgotten() {
    let mut bench = Bench::new(Emit::InOrder, &[]);
    bench.impression(1000, 1);
    bench.move_to(1000 + WINDOW + GRACE);
    assert_eq!(bench.outcome().0, [(1, false)]);
    let (late, twice) = (bench.click(1000 + MEMORY, 1), bench.impression(1000 + MEMORY, 1));
    let forgotten = bench.click(1000 + MEMORY + 1, 1);
    bench.move_to(1000 + MEMORY + 1 + 2 * GRACE);
    let drops = bench.outcome().1;
    assert!(drops.contains(&(late, DropReason::LateClick)), "{drops:?}");
    assert!(drops.contains(&(twice, DropReason::DuplicateImpression)), "{drops:?}");
    assert!(drops.contains(&(forgotten, DropReason::ClickWithoutImpression)), "{drops:?}");
}

#[test]
fn what_was_closed_before_a_restart_is_remembered() {
    let mut bench = Bench::new(Emit::InOrder, &[(1000, 1)]);
    let (twice, late) = (bench.impression(1000, 1), bench.click(1020, 1));
    bench.joiner.finish(&mut bench.out);
    assert_eq!(bench.outcome(), (vec![], vec![(twice, DropReason::DuplicateImpression), (late, DropReason::LateClick)]));
}

#[test]
fn on_click_a_positive_leaves_at_its_click() {
    let mut bench = Bench::new(Emit::OnClick, &[]);
    bench.impression(1000, 1);
    bench.impression(1001, 2);
    bench.click(1005, 2);
    assert_eq!(bench.outcome(), (vec![(2, true)], vec![]));
    let (again, twice) = (bench.click(1006, 2), bench.impression(1006, 2));
    assert_eq!(bench.outcome().1, [(again, DropReason::DuplicateClick), (twice, DropReason::DuplicateImpression)]);
    bench.click(1007, 3);
    assert_eq!(bench.outcome().0, []);
    bench.impression(1006, 3);
    assert_eq!(bench.outcome(), (vec![(3, true)], vec![]), "its click was there before it");
    bench.move_to(1000 + WINDOW + GRACE);
    assert!(bench.outcome().0.contains(&(1, false)));
}

#[test]
fn early_an_impression_leaves_at_once_and_again_at_its_click_or_is_closed() {
    let mut bench = Bench::early(None);
    let (first, second) = (bench.impression(1000, 1), bench.impression(1001, 2));
    assert_eq!(bench.joiner.pending(), 2, "they are not settled");
    bench.move_to(1001 + GRACE);
    let open = |id, offset| Left::Sample(id, Stage::Open, vec![origin(Role::Impression, offset)]);
    assert_eq!(bench.left(), (vec![open(1, first), open(2, second)], vec![]));
    let (click, again, twice) = (bench.click(1050, 2), bench.click(1051, 2), bench.impression(1052, 2));
    bench.move_to(1052 + GRACE);
    let delayed = Left::Sample(2, Stage::Delayed(origin(Role::Impression, second)), vec![origin(Role::Click, click)]);
    let drops = vec![(again, DropReason::DuplicateClick), (twice, DropReason::DuplicateImpression)];
    assert_eq!(bench.left(), (vec![delayed], drops));
    bench.move_to(1000 + WINDOW + GRACE);
    assert_eq!(bench.left().0, [Left::Closed(first)], "the clicked one has been");
    let late = bench.click(1002 + WINDOW, 1);
    bench.move_to(1002 + WINDOW + GRACE);
    assert_eq!(bench.left().1, [(late, DropReason::LateClick)]);
}

#[test]
fn early_a_click_that_comes_before_its_impression_makes_it_leave_twice_at_once_unless_there_is_a_wait() {
    for wait in [None, Some(20)] {
        let mut bench = Bench::early(wait);
        let click = bench.click(1000 - GRACE, 1);
        let impression = bench.impression(1000, 1);
        bench.joiner.finish(&mut bench.out);
        let (impression, click) = (origin(Role::Impression, impression), origin(Role::Click, click));
        let twice = vec![Left::Sample(1, Stage::Open, vec![impression]), Left::Sample(1, Stage::Delayed(impression), vec![click])];
        let once = vec![Left::Sample(1, Stage::Final, vec![impression, click])];
        assert_eq!(bench.left(), (if wait.is_none() { twice } else { once }, vec![]));
        assert_eq!(bench.joiner.pending(), 0);
    }
}

#[test]
fn early_with_a_wait_a_click_in_it_is_waited_for() {
    const WAIT: i64 = 20;
    for (delay, within) in [(0, true), (WAIT, true), (WAIT + 1, false), (WINDOW, false)] {
        let mut bench = Bench::early(Some(WAIT));
        let impression = bench.impression(1000, 1);
        let click = bench.click(1000 + delay, 1);
        bench.joiner.finish(&mut bench.out);
        let (impression, click) = (origin(Role::Impression, impression), origin(Role::Click, click));
        let once = vec![Left::Sample(1, Stage::Final, vec![impression, click])];
        let twice = vec![Left::Sample(1, Stage::Open, vec![impression]), Left::Sample(1, Stage::Delayed(impression), vec![click])];
        assert_eq!(bench.left(), (if within { once } else { twice }, vec![]), "{delay}");
    }
}

#[test]
fn what_left_early_before_a_restart_is_opened_again_and_does_not_leave_again_as_unclicked() {
    for wait in [None, Some(20)] {
        let memory = [(990, 3)];
        let mut bench = Bench::waiting(Emit::Early, wait, &memory);
        for id in [1, 2, 3] {
            let event = event_at(bench.offset, Role::Impression, 1000, id);
            bench.offset += 1;
            bench.joiner.reopen(event, 0, &mut bench.out);
        }
        assert_eq!((bench.left().0, bench.joiner.pending()), (vec![Left::Closed(2)], 0), "the third is remembered as closed");
        let (click, again, known) = (bench.click(1050, 1), bench.click(1051, 1), bench.click(1052, 3));
        bench.move_to(1000 + WINDOW + GRACE);
        let delayed = Left::Sample(1, Stage::Delayed(origin(Role::Impression, 0)), vec![origin(Role::Click, click)]);
        let drops = vec![(again, DropReason::DuplicateClick), (known, DropReason::DuplicateClick)];
        assert_eq!(bench.left(), (vec![delayed, Left::Closed(1)], drops));
    }
}

#[test]
fn a_late_impression_still_becomes_a_sample() {
    let mut bench = Bench::new(Emit::InOrder, &[]);
    bench.move_to(5000);
    bench.impression(1000, 1);
    assert_eq!(bench.outcome(), (vec![(1, false)], vec![]));
    let late = bench.click(1001, 1);
    assert_eq!(bench.outcome().1, [(late, DropReason::ClickWithoutImpression)], "its memory is over as well");
}

#[test]
fn silence_closes_windows_too() {
    let mut bench = Bench::new(Emit::InOrder, &[]);
    bench.joiner.tick(0, &mut bench.out);
    bench.impression(1000, 1);
    bench.joiner.tick(IDLE + WINDOW + GRACE - 1, &mut bench.out);
    assert_eq!(bench.outcome().0, []);
    bench.joiner.tick(IDLE + WINDOW + GRACE, &mut bench.out);
    assert_eq!(bench.outcome().0, [(1, false)]);
}
