//! Promise: a partition that appears while the pipeline runs is read from its beginning, counted and committed like the others.

mod support;

use std::time::Duration;

use rocket_launching::config::Config;
use rocket_launching::domain::{PartitionIndex, PartitionPosition, Record, Role, TopicPartition};
use rocket_launching::pipeline::{Parts, Running, State, Status};
use rocket_launching::stream::{MemoryDeadLetters, MemorySource};
use rocket_launching::telemetry::Health;
use support::world;

/// The joined stream with its impressions on two partitions, the second of which is third in the table.
fn stream(rows: usize) -> (Vec<TopicPartition>, Vec<Record>) {
    let (mut partitions, mut records) = world::joined_stream(rows, 1);
    partitions.push(TopicPartition { topic: "world.impressions".into(), partition: 1 });
    let mut next = [0, 0];
    for record in records.iter_mut().filter(|record| record.role == Role::Impression) {
        // Late in the stream, so that there is a run before it.
        let new = record.origin.offset > rows as i64 / 3 && record.origin.offset % 2 == 0;
        record.origin.partition = PartitionIndex(if new { 2 } else { 0 });
        record.origin.offset = next[usize::from(new)];
        next[usize::from(new)] += 1;
    }
    // All but its first come seconds behind the others: more than `join.grace`, so that the watermark has to wait for them.
    let behind = |record: &Record| record.origin.partition.0 == 2 && record.origin.offset > 0;
    let mut order: Vec<(usize, Record)> =
        records.into_iter().enumerate().map(|(at, r)| (if behind(&r) { at + 80 } else { at }, r)).collect();
    order.sort_by_key(|(at, _)| *at);
    (partitions, order.into_iter().map(|(_, record)| record).collect())
}

/// `shown`: how many partitions are there at the start.
fn run(config: &Config, (partitions, records): (Vec<TopicPartition>, Vec<Record>), shown: usize, finish_at_end: bool) -> Status {
    let parts = Parts {
        config: config.clone(),
        state: State::Durable,
        source: Box::new(move |positions: &[PartitionPosition]| {
            Ok(Box::new(MemorySource::new(partitions.clone(), records.clone(), 64, positions).appearing_from(shown)))
        }),
        dead_letters: Box::new(MemoryDeadLetters::default()),
        publisher: None,
        health: Health::new(Duration::from_secs(60)),
        finish_at_end,
    };
    Running::start(parts).expect("the pipeline starts").join().expect("the pipeline ends well").status
}

fn counted(status: &Status) -> u64 {
    status.positions.iter().map(PartitionPosition::count).sum()
}

#[test]
fn it_is_read_from_its_beginning_and_counts_as_if_it_had_been_there() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut config = world::config(&dir.path().join("known"), "joined", "");
    let events = stream(1500).1.len() as u64;
    let known = run(&config, stream(1500), 3, true);
    config.state.dir = dir.path().join("new");
    let new = run(&config, stream(1500), 2, true);
    assert_eq!((new.books.done(), counted(&new)), (events, events));
    assert_eq!((&new.books.dropped, new.books.trained), (&known.books.dropped, known.books.trained));
    assert_eq!(new.positions, known.positions);
}

#[test]
fn a_restart_after_it_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = world::config(&dir.path().join("state"), "joined", "");
    let (partitions, records) = stream(1500);
    let events = records.len() as u64;
    let half = records[..records.len() / 2].to_vec();
    assert!(half.iter().any(|record| record.origin.partition.0 == 2), "the new partition has appeared by then");
    let stopped = run(&config, (partitions.clone(), half), 2, false);
    assert_eq!(counted(&stopped), stopped.books.done());
    let ended = run(&config, (partitions, records), 3, true);
    assert_eq!((ended.books.done(), counted(&ended), ended.positions.len()), (events, events, 3));
}
