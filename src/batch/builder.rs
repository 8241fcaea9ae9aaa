use super::{Batch, Ended, News};
use crate::domain::{Origin, Sample};
use crate::features::{FeatureSpec, Features};

/// A batch also closes at this many ids: bags are of any length, and a batch of long ones must fit memory like any other (32 MiB of ids).
const IDS_MAX: usize = 1 << 22;

/// When a batch closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At this many samples ...
    pub rows: usize,
    /// ... or this many milliseconds after its first sample (or an ended event before it).
    pub linger_ms: i64,
}

/// Collects samples into batches. Time comes in as an argument (any monotonic milliseconds).
///
/// Rows and kept raw fields depend on the sequence of samples alone, unless linger cuts a batch short.
#[derive(Debug)]
pub struct BatchBuilder {
    spec: FeatureSpec,
    pace: Pace,
    raw_every: u64,
    /// Samples taken over the life of the builder.
    taken: u64,
    /// When the open batch got its first sample or ended event.
    opened_ms: Option<i64>,
    open: Batch,
    scratch: Features,
}

impl BatchBuilder {
    /// An empty builder; the first and then every `raw_every`-th sample keeps its raw fields (0: none).
    #[must_use]
    pub fn new(spec: FeatureSpec, pace: Pace, raw_every: u64) -> Self {
        BatchBuilder { spec, pace, raw_every, taken: 0, opened_ms: None, open: empty(), scratch: Features::default() }
    }

    /// Adds a sample; returns the batch it filled.
    pub fn push(&mut self, sample: Sample, now_ms: i64) -> Option<Batch> {
        self.opened_ms.get_or_insert(now_ms);
        self.spec.extract(sample.time, &sample.fields, &mut self.scratch);
        let batch = &mut self.open;
        let base = batch.ids.len() as u32;
        batch.ids.extend_from_slice(&self.scratch.ids);
        batch.bounds.extend(self.scratch.bounds.iter().skip(1).map(|bound| base + bound));
        batch.numbers.extend_from_slice(&self.scratch.numbers);
        batch.click_rates.extend_from_slice(&self.scratch.click_rates);
        if self.raw_every > 0 && self.taken.is_multiple_of(self.raw_every) {
            batch.raw.push((batch.labels.len(), sample.fields));
        }
        self.taken += 1;
        batch.labels.push(sample.label);
        batch.stages.push(sample.stage);
        batch.users.push(sample.user);
        batch.times.push(sample.time);
        batch.impressions.push(sample.impression);
        batch.origins.push(sample.origins);
        if batch.rows() >= self.pace.rows || batch.ids.len() >= IDS_MAX { self.flush() } else { None }
    }

    /// Adds an event that ended without a sample.
    pub fn end(&mut self, ended: Ended, now_ms: i64) {
        self.opened_ms.get_or_insert(now_ms);
        self.open.ended.push(ended);
    }

    /// Adds news of a partition. A mark alone closes no batch: it matters when events after it are done.
    pub fn note(&mut self, news: News, now_ms: i64) {
        if !matches!(news, News::Read(..)) {
            self.opened_ms.get_or_insert(now_ms);
        }
        self.open.news.push(news);
    }

    /// The window of the impression read at `origin`, trained as [`crate::domain::Stage::Open`], ended without a click.
    pub fn close(&mut self, origin: Origin, now_ms: i64) {
        self.opened_ms.get_or_insert(now_ms);
        self.open.closed.push((self.open.rows(), origin));
    }

    /// The batch whose linger has passed, if any. Ended events and closed windows without a sample have nothing to wait for.
    pub fn tick(&mut self, now_ms: i64) -> Option<Batch> {
        let opened_ms = self.opened_ms?;
        if self.open.rows() == 0 || now_ms.saturating_sub(opened_ms) >= self.pace.linger_ms { self.flush() } else { None }
    }

    /// Whatever is left.
    pub fn flush(&mut self) -> Option<Batch> {
        self.opened_ms.take()?;
        Some(std::mem::replace(&mut self.open, empty()))
    }
}

fn empty() -> Batch {
    Batch { bounds: vec![0], ..Batch::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FeatureConfig, FeatureKind, Pooling, SchemaConfig};
    use crate::domain::{DropReason, EventTime, Field, Mark, PartitionIndex, Stage, TopicPartition, UserId};
    use crate::features::slot_key;

    fn builder(rows: usize, raw_every: u64) -> BatchBuilder {
        let kinds = [
            ("item", FeatureKind::Categorical),
            ("x", FeatureKind::Standardise { mean: 0.0, std: 1.0 }),
            ("tags", FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".into(), last: None }),
        ];
        let schema = SchemaConfig::labelled(kinds.into_iter().map(|(name, kind)| FeatureConfig::new(name, kind)).collect());
        BatchBuilder::new(FeatureSpec::new(&schema).unwrap(), Pace { rows, linger_ms: 100 }, raw_every)
    }

    fn origin(offset: i64) -> Origin {
        Origin { partition: PartitionIndex(0), offset }
    }

    fn sample(n: i64) -> Sample {
        let tags = (0..n % 3).map(|t| t.to_string().into()).collect();
        Sample {
            origins: vec![origin(n)],
            time: EventTime(n),
            impression: None,
            user: UserId(format!("u{n}").into()),
            label: n % 2 == 0,
            stage: Stage::Final,
            fields: Box::new([Field::Text(n.to_string().into()), Field::Number(n as f64), Field::List(tags)]),
        }
    }

    fn dropped(offset: i64) -> Ended {
        Ended::Dropped(origin(offset), DropReason::Tombstone)
    }

    #[test]
    fn closes_at_rows_and_keeps_rows_together() {
        let mut builder = builder(3, 0);
        assert!(builder.push(sample(0), 0).is_none());
        assert!(builder.push(sample(1), 0).is_none());
        let batch = builder.push(sample(2), 0).expect("three rows");
        assert_eq!(batch.rows(), 3);
        assert_eq!(batch.bounds, [0, 1, 1, 2, 3, 4, 6]);
        assert_eq!(batch.ids[4..6], [slot_key("tags", "0"), slot_key("tags", "1")]);
        assert_eq!(batch.ids[3], slot_key("item", "2"));
        assert_eq!(batch.numbers, [0.0, 1.0, 2.0]);
        assert_eq!(batch.labels, [true, false, true]);
        assert_eq!(batch.origins, [[origin(0)], [origin(1)], [origin(2)]]);
        assert!(builder.flush().is_none());
    }

    #[test]
    fn linger_counts_from_the_first_sample_or_ended_event() {
        let mut builder = builder(100, 0);
        assert!(builder.tick(1_000_000).is_none(), "an empty batch never closes");
        builder.end(dropped(7), 1000);
        assert!(builder.push(sample(1), 1090).is_none());
        assert!(builder.tick(1099).is_none());
        let batch = builder.tick(1100).expect("100 ms after the ended event");
        assert_eq!((batch.rows(), batch.ended.as_slice()), (1, [dropped(7)].as_slice()));
        assert!(builder.tick(5000).is_none());
        builder.end(dropped(8), 6000);
        let batch = builder.tick(6000).expect("an ended event alone does not wait");
        assert_eq!((batch.rows(), batch.bounds.as_slice(), batch.is_empty()), (0, [0].as_slice(), false));
    }

    #[test]
    fn a_new_partition_does_not_wait_and_a_mark_goes_with_what_comes_next() {
        let mut builder = builder(100, 0);
        let mark = News::Read(PartitionIndex(0), Mark { offset: 64, hash: 7 });
        builder.note(mark.clone(), 0);
        assert!(builder.tick(1_000_000).is_none());
        let appeared = News::Appeared(TopicPartition { topic: "t".into(), partition: 1 }, 5);
        builder.note(appeared.clone(), 2_000_000);
        let batch = builder.tick(2_000_000).expect("somebody has to know of it");
        assert_eq!((batch.rows(), batch.news.as_slice(), batch.is_empty()), (0, [mark, appeared].as_slice(), false));
    }

    #[test]
    fn a_closed_window_has_its_place_among_the_samples_and_alone_does_not_wait() {
        let mut builder = builder(100, 0);
        builder.close(origin(50), 0);
        let batch = builder.tick(0).expect("it has nothing to wait for");
        assert_eq!((batch.rows(), batch.closed.as_slice(), batch.is_empty()), (0, [(0, origin(50))].as_slice(), false));
        builder.push(sample(0), 0);
        builder.close(origin(51), 0);
        assert!(builder.tick(99).is_none());
        builder.push(sample(1), 99);
        builder.close(origin(52), 99);
        assert_eq!(builder.tick(100).expect("linger has passed").closed, [(1, origin(51)), (2, origin(52))]);
    }

    #[test]
    fn raw_fields_are_counted_over_the_life_of_the_builder() {
        let mut builder = builder(4, 3);
        let batches: Vec<Batch> = (0..8).filter_map(|n| builder.push(sample(n), 0)).collect();
        let kept: Vec<Vec<usize>> = batches.iter().map(|batch| batch.raw.iter().map(|(row, _)| *row).collect()).collect();
        assert_eq!(kept, [vec![0, 3], vec![2]], "samples 0, 3 and 6");
        assert_eq!(*batches[1].raw[0].1, *sample(6).fields);
    }
}
