//! The join against a reference that sees all events at once: same samples, same drops, whatever the interleaving of partitions; and
//! conservation for streams that keep no promise at all.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rocket_launching::config::{EarlyLabels, Emit, JoinConfig, Span, StreamMode};
use rocket_launching::domain::{DropReason, Event, EventTime, Field, ImpressionId, Origin, PartitionIndex, Role, Stage, UserId};
use rocket_launching::join::{JoinOutput, Joiner};

const PARTITIONS: usize = 3;
const WINDOW: i64 = 20;
const GRACE: i64 = 6;
const MEMORY: i64 = 40;
const IDLE: i64 = 50;

fn config(emit: Emit, wait: Option<i64>) -> JoinConfig {
    let span = |ms: i64| Span::from_millis(ms as u64);
    let early = if wait.is_some() { EarlyLabels::EsDfm } else { EarlyLabels::Fnw };
    JoinConfig { window: span(WINDOW), grace: span(GRACE), emit, early, wait: wait.map(span), memory: span(MEMORY), idle: span(IDLE) }
}

fn event(partition: usize, offset: usize, role: Role, time: i64, id: u8) -> Event {
    Event {
        origin: Origin { partition: PartitionIndex(partition as u32), offset: offset as i64 },
        role,
        time: EventTime(time),
        impression: Some(ImpressionId(id.into())),
        user: UserId(format!("u{id}").into()),
        label: None,
        fields: Box::new([Field::Number(time as f64)]),
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Impression), Just(Role::Click)]
}

/// Partitions whose events come at most `GRACE - 1` behind the newest of their own partition. Few ids and a long time: clicks without
/// impressions, duplicates, late ones and ids that come again after they were forgotten are all frequent.
fn within_grace() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let one = (role(), 0i64..8, 0i64..GRACE, 0u8..6);
    proptest::collection::vec(proptest::collection::vec(one, 0..40), PARTITIONS).prop_map(|partitions| {
        partitions
            .into_iter()
            .enumerate()
            .map(|(partition, steps)| {
                let mut newest = 100;
                let events = steps.into_iter().enumerate().map(|(offset, (role, step, behind, id))| {
                    newest += step;
                    event(partition, offset, role, newest - behind, id)
                });
                events.collect()
            })
            .collect()
    })
}

/// Merges partitions, each in its own order, as `choices` say.
fn interleave(partitions: &[Vec<Event>], choices: &[usize]) -> Vec<Event> {
    let mut queues: Vec<_> = partitions.iter().map(|events| events.iter().cloned()).collect();
    let mut merged = Vec::new();
    let mut choices = choices.iter().cycle();
    while !queues.is_empty() {
        let index = choices.next().copied().unwrap_or(0) % queues.len();
        match queues[index].next() {
            Some(event) => merged.push(event),
            None => drop(queues.remove(index)),
        }
    }
    merged
}

fn join(emit: Emit, wait: Option<i64>, events: &[Event]) -> Vec<JoinOutput> {
    let mut joiner = Joiner::new(StreamMode::Joined, &config(emit, wait), PARTITIONS, []);
    let mut out = Vec::new();
    for event in events {
        joiner.push(event.clone(), 0, &mut out);
    }
    joiner.finish(&mut out);
    assert_eq!(joiner.pending(), 0);
    out
}

/// Samples in order, each an impression with its click, and why every other event was dropped.
type Joined = (Vec<(Origin, Option<Origin>)>, BTreeMap<Origin2, DropReason>);

/// What the join promises, read off the whole stream at once, id by id.
fn reference(partitions: &[Vec<Event>]) -> Joined {
    let mut ids: BTreeMap<ImpressionId, Vec<&Event>> = BTreeMap::new();
    for event in partitions.iter().flatten() {
        ids.entry(event.impression.expect("all have one")).or_default().push(event);
    }
    let order = |event: &Event| (event.time, event.origin.partition, event.origin.offset);
    let mut samples = Vec::new();
    let mut drops = BTreeMap::new();
    for events in ids.values_mut() {
        events.sort_by_key(|event| order(event));
        let mut kept: Vec<(&Event, Option<Origin>)> = Vec::new();
        for impression in events.iter().filter(|event| event.role == Role::Impression) {
            match kept.last() {
                Some((before, _)) if impression.time.0 <= before.time.0 + MEMORY => {
                    drops.insert(key(impression.origin), DropReason::DuplicateImpression);
                }
                _ => kept.push((impression, None)),
            }
        }
        for click in events.iter().filter(|event| event.role == Role::Click) {
            let before = kept.iter().rposition(|(kept, _)| order(kept) < order(click) && click.time.0 <= kept.time.0 + MEMORY);
            let after = kept.iter().position(|(kept, _)| order(kept) > order(click) && kept.time.0 - GRACE <= click.time.0);
            let reason = match before.or(after) {
                None => DropReason::ClickWithoutImpression,
                Some(index) if click.time.0 > kept[index].0.time.0 + WINDOW => DropReason::LateClick,
                Some(index) if kept[index].1.is_some() => DropReason::DuplicateClick,
                Some(index) => {
                    kept[index].1 = Some(click.origin);
                    continue;
                }
            };
            drops.insert(key(click.origin), reason);
        }
        samples.extend(kept);
    }
    samples.sort_by_key(|(impression, _)| order(impression));
    (samples.into_iter().map(|(impression, click)| (impression.origin, click)).collect(), drops)
}

type Origin2 = (u32, i64);

fn key(origin: Origin) -> Origin2 {
    (origin.partition.0, origin.offset)
}

/// Every origin that has come out, each time it did.
fn ended(out: &[JoinOutput]) -> Vec<Origin2> {
    let origins = |output: &JoinOutput| match output {
        JoinOutput::Sample(sample) => sample.origins.clone(),
        JoinOutput::Dropped(origin, _) => vec![*origin],
        JoinOutput::Closed(_) => vec![],
    };
    let mut ended: Vec<Origin2> = out.iter().flat_map(origins).map(key).collect();
    ended.sort_unstable();
    ended
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn in_order_it_equals_the_reference_for_every_interleaving(
        partitions in within_grace(),
        first in proptest::collection::vec(0..PARTITIONS, 1..60),
        second in proptest::collection::vec(0..PARTITIONS, 1..60),
    ) {
        let out = join(Emit::InOrder, None, &interleave(&partitions, &first));
        prop_assert_eq!(&out, &join(Emit::InOrder, None, &interleave(&partitions, &second)));

        let mut samples = Vec::new();
        let mut drops = BTreeMap::new();
        for output in out {
            match output {
                JoinOutput::Sample(sample) => {
                    let impression = &partitions[sample.origins[0].partition.0 as usize][sample.origins[0].offset as usize];
                    prop_assert_eq!(sample.label, sample.origins.len() == 2);
                    prop_assert_eq!(sample.time, impression.time);
                    prop_assert_eq!(sample.impression, impression.impression);
                    prop_assert_eq!(&sample.user, &impression.user);
                    prop_assert_eq!(&sample.fields, &impression.fields);
                    samples.push((sample.origins[0], sample.origins.get(1).copied()));
                }
                JoinOutput::Dropped(origin, reason) => drop(drops.insert(key(origin), reason)),
                JoinOutput::Closed(origin) => prop_assert!(false, "{:?} was not trained before", origin),
            }
        }
        prop_assert_eq!((samples, drops), reference(&partitions));
    }

    #[test]
    fn early_it_says_in_the_end_what_the_reference_says_for_every_interleaving(
        partitions in within_grace(),
        wait in proptest::option::of(1..WINDOW),
        first in proptest::collection::vec(0..PARTITIONS, 1..60),
        second in proptest::collection::vec(0..PARTITIONS, 1..60),
    ) {
        let out = join(Emit::Early, wait, &interleave(&partitions, &first));
        prop_assert_eq!(&out, &join(Emit::Early, wait, &interleave(&partitions, &second)));

        let at = |origin: Origin| &partitions[origin.partition.0 as usize][origin.offset as usize];
        let (mut open, mut samples, mut drops) = (BTreeSet::new(), Vec::new(), BTreeMap::new());
        for output in out {
            match output {
                JoinOutput::Sample(sample) => {
                    prop_assert_eq!(sample.label, sample.stage != Stage::Open);
                    let impression = if let Stage::Delayed(impression) = sample.stage { impression } else { sample.origins[0] };
                    prop_assert_eq!((sample.time, &sample.fields), (at(impression).time, &at(impression).fields));
                    match sample.stage {
                        Stage::Open => prop_assert!(open.insert(key(impression))),
                        Stage::Final => {
                            prop_assert!(at(sample.origins[1]).time.0 <= sample.time.0 + wait.expect("without one nothing is final at first"));
                            samples.push((impression, Some(sample.origins[1])));
                        }
                        Stage::Delayed(_) => {
                            prop_assert!(open.remove(&key(impression)), "it is open");
                            samples.push((impression, Some(sample.origins[0])));
                        }
                    }
                }
                JoinOutput::Dropped(origin, reason) => drop(drops.insert(key(origin), reason)),
                JoinOutput::Closed(impression) => {
                    prop_assert!(open.remove(&key(impression)), "it is open");
                    samples.push((impression, None));
                }
            }
        }
        prop_assert!(open.is_empty(), "every window is told to have ended");
        samples.sort_by_key(|(impression, _)| (at(*impression).time, impression.partition, impression.offset));
        prop_assert_eq!((samples, drops), reference(&partitions));
    }

    #[test]
    fn on_click_no_positive_within_grace_is_lost(
        partitions in within_grace(),
        choices in proptest::collection::vec(0..PARTITIONS, 1..60),
    ) {
        // Ids that come once have one outcome, whenever their click arrives.
        let (samples, _) = reference(&partitions);
        let mut seen: BTreeMap<ImpressionId, usize> = BTreeMap::new();
        for event in partitions.iter().flatten().filter(|event| event.role == Role::Impression) {
            *seen.entry(event.impression.expect("all have one")).or_default() += 1;
        }
        let at = |origin: Origin| &partitions[origin.partition.0 as usize][origin.offset as usize];
        let clicked = |impression: Origin, label: bool| (label && seen[&at(impression).impression.expect("one")] == 1).then_some(key(impression));
        let expected: Vec<_> = samples.iter().filter_map(|(impression, click)| clicked(*impression, click.is_some())).collect();
        let mut found: Vec<_> = join(Emit::OnClick, None, &interleave(&partitions, &choices)).iter().filter_map(|output| match output {
            JoinOutput::Sample(sample) => clicked(sample.origins[0], sample.label),
            JoinOutput::Dropped(..) | JoinOutput::Closed(_) => None,
        }).collect();
        found.sort_by_key(|(partition, offset)| (at(Origin { partition: PartitionIndex(*partition), offset: *offset }).time, *partition, *offset));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn every_event_comes_out_exactly_once(
        steps in proptest::collection::vec((role(), 0..PARTITIONS, 0i64..300, 0u8..6, 0i64..30, any::<bool>()), 0..120),
        (emit, wait) in prop_oneof![
            Just((Emit::InOrder, None)),
            Just((Emit::OnClick, None)),
            Just((Emit::Early, None)),
            Just((Emit::Early, Some(WINDOW / 2)))
        ],
        remembered in proptest::collection::vec((0i64..300, 0u8..6), 0..4),
    ) {
        let memory = remembered.into_iter().map(|(time, id)| (EventTime(time), ImpressionId(id.into())));
        let mut joiner = Joiner::new(StreamMode::Joined, &config(emit, wait), PARTITIONS, memory);
        let mut out = Vec::new();
        let mut now = 0;
        let mut pushed = Vec::new();
        for (offset, (role, partition, time, id, pause, tick)) in steps.into_iter().enumerate() {
            now += pause;
            if tick {
                joiner.tick(now, &mut out);
            }
            let event = event(partition, offset, role, time, id);
            pushed.push(key(event.origin));
            joiner.push(event, now, &mut out);
            prop_assert_eq!(ended(&out).len() as u64 + joiner.pending(), pushed.len() as u64);
        }
        joiner.finish(&mut out);
        pushed.sort_unstable();
        prop_assert_eq!(joiner.pending(), 0);
        prop_assert_eq!(ended(&out), pushed);
    }
}
