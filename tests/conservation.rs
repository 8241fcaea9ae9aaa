//! Promise: every event read is trained, dropped for a named reason, or dead-lettered, exactly once; and how partitions interleave
//! changes nothing.

mod support;

use rocket_launching::domain::DropReason;
use rocket_launching::pipeline::State;
use support::world;

#[test]
fn every_event_ends_in_exactly_one_place() {
    let dir = tempfile::tempdir().expect("tempdir");
    let stream = world::joined_stream(2000, 1);
    let events = stream.1.len() as u64;
    let (summary, letters) = world::run(&world::config(dir.path(), "joined", ""), State::Memory, stream, None, true);
    let books = &summary.status.books;
    assert_eq!(books.done(), events);
    assert_eq!((summary.status.read, summary.status.pending), (events, 0));
    assert_eq!(books.dead_lettered, letters.letters().len() as u64);
    assert_eq!(books.dead_lettered, (0..2000).filter(|n| n % 97 == 13).count() as u64);
    for reason in [DropReason::DuplicateImpression, DropReason::DuplicateClick, DropReason::LateClick, DropReason::ClickWithoutImpression] {
        assert!(books.dropped[&reason] > 0, "{reason:?}");
    }
    assert_eq!(books.dropped[&DropReason::DuplicateImpression], (0..2000).filter(|n| n % 50 == 3 && n % 97 != 13).count() as u64);
    assert_eq!(summary.status.report.rows, books.samples);
}

#[test]
fn the_events_of_a_step_that_is_not_finite_are_dead_letters_that_name_where_they_lie() {
    let dir = tempfile::tempdir().expect("tempdir");
    let stream = world::joined_stream(2000, 1);
    let events = stream.1.len() as u64;
    let mut config = world::config(dir.path(), "joined", "");
    // The first step throws the weights out of all bounds: none after it is finite.
    config.train.optimizer.dense_lr = 1e30;
    let (summary, letters) = world::run(&config, State::Durable, stream, None, true);
    let books = &summary.status.books;
    assert_eq!((books.done(), summary.status.pending), (events, 0));
    assert_eq!(books.samples, config.train.batch_rows as u64, "the first step alone was applied");
    let (refused, broken): (Vec<_>, Vec<_>) = letters.letters().into_iter().partition(|letter| letter.stage == "train");
    assert_eq!((books.dead_lettered, books.trained > 0), ((refused.len() + broken.len()) as u64, true));
    let mut places: Vec<_> =
        refused.iter().map(|letter| (letter.partition.partition, letter.partition.topic.clone(), letter.offset)).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), refused.len(), "each event once");
    assert!(refused.iter().all(|letter| letter.payload.is_none() && letter.message.contains("not finite")));
}

#[test]
fn a_negative_that_is_not_sampled_is_dropped_for_that_reason_and_no_click_is() {
    for mode in ["labelled", "joined"] {
        let run = |keep| {
            let dir = tempfile::tempdir().expect("tempdir");
            let stream = if mode == "joined" { world::joined_stream(2000, 1) } else { world::labelled_stream(2000) };
            let events = stream.1.len() as u64;
            let mut config = world::config(dir.path(), mode, "");
            config.train.negatives.keep = keep;
            let (summary, _) = world::run(&config, State::Memory, stream, None, true);
            assert_eq!((summary.status.books.done(), summary.status.pending), (events, 0), "{mode}");
            summary.status
        };
        let (all, mut sampled) = (run(1.0), run(0.25));
        let left_out = sampled.books.dropped.remove(&DropReason::NotSampled).expect("some are left out");
        let negatives = all.report.rows - all.report.clicks;
        assert!((0.7..0.8).contains(&(left_out as f64 / negatives as f64)), "{mode}: {left_out} of {negatives}");
        assert_eq!((sampled.report.rows + left_out, sampled.report.clicks), (all.report.rows, all.report.clicks), "{mode}");
        assert_eq!(sampled.books.dropped, all.books.dropped, "{mode}: the other reasons are as without sampling");
    }
}

#[test]
fn where_labels_come_early_an_impression_and_its_click_are_each_trained_once_and_measured_together() {
    let run = |wait| {
        let dir = tempfile::tempdir().expect("tempdir");
        let stream = world::joined_stream(2000, 1);
        let events = stream.1.len() as u64;
        let mut config = world::config(dir.path(), "joined", "");
        if let Some(wait) = wait {
            world::early(&mut config, wait);
        }
        let (summary, _) = world::run(&config, State::Memory, stream, None, true);
        assert_eq!((summary.status.books.done(), summary.status.pending), (events, 0), "{wait:?}");
        summary.status
    };
    let in_order = run(None);
    for wait in [None, Some(1500)] {
        let early = run(Some(wait));
        assert_eq!(early.books.trained, in_order.books.trained, "{wait:?}");
        assert_eq!(early.books.dropped, in_order.books.dropped, "{wait:?}");
        assert_eq!((early.report.rows, early.report.clicks), (in_order.report.rows, in_order.report.clicks), "{wait:?}");
        let twice = early.books.samples - in_order.books.samples;
        assert!(twice > 0 && (twice == in_order.report.clicks) == wait.is_none(), "{wait:?}: {twice} impressions trained twice");
    }
}

#[test]
fn interleaving_changes_nothing() {
    let run = |seed, wait| {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut config = world::config(dir.path(), "joined", "");
        if let Some(wait) = wait {
            world::early(&mut config, wait);
        }
        let (summary, _) = world::run(&config, State::Memory, world::joined_stream(1200, seed), None, true);
        (summary.status.books, summary.status.report)
    };
    for wait in [None, Some(None), Some(Some(1500))] {
        assert_eq!(run(1, wait), run(2, wait), "{wait:?}");
    }
}
