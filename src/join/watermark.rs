use crate::domain::PartitionIndex;

/// Event time of a partition that has delivered nothing, and of the watermark before every partition has.
const BEFORE_ALL: i64 = i64::MIN;

/// How far event time has come, in milliseconds. Never goes back.
#[derive(Debug)]
pub(super) struct Watermark {
    partitions: Vec<Progress>,
    idle_ms: i64,
    value: i64,
}

#[derive(Debug, Clone)]
struct Progress {
    /// Newest event time.
    newest: i64,
    /// Processing time of the last sign of life; `None` until the first call that brings a time.
    seen_ms: Option<i64>,
    idle: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Progress { newest: BEFORE_ALL, seen_ms: None, idle: false }
    }
}

impl Watermark {
    pub(super) fn new(partitions: usize, idle_ms: i64) -> Self {
        Watermark { partitions: vec![Progress::default(); partitions], idle_ms, value: BEFORE_ALL }
    }

    /// One more partition, of which nothing is known yet.
    pub(super) fn add_partition(&mut self) {
        self.partitions.push(Progress::default());
    }

    /// `None` until it is defined.
    pub(super) fn value(&self) -> Option<i64> {
        (self.value > BEFORE_ALL).then_some(self.value)
    }

    /// An event of this time came.
    pub(super) fn event(&mut self, partition: PartitionIndex, time: i64, now_ms: i64) {
        self.saw(partition, now_ms);
        if let Some(progress) = self.partitions.get_mut(partition.0 as usize) {
            progress.newest = progress.newest.max(time);
        }
        self.follow_active();
    }

    /// The partition lives, though what came bears no event time.
    pub(super) fn saw(&mut self, partition: PartitionIndex, now_ms: i64) {
        if let Some(progress) = self.partitions.get_mut(partition.0 as usize) {
            progress.seen_ms = Some(now_ms);
            progress.idle = false;
        }
    }

    /// Processing time passes. Only here do partitions become idle: while events wait to be taken, time passes without anybody being idle.
    pub(super) fn tick(&mut self, now_ms: i64) {
        for progress in &mut self.partitions {
            let seen_ms = *progress.seen_ms.get_or_insert(now_ms);
            progress.idle = now_ms.saturating_sub(seen_ms) >= self.idle_ms;
        }
        if self.partitions.iter().all(|progress| progress.idle) {
            self.follow_clock(now_ms);
        } else {
            self.follow_active();
        }
    }

    fn follow_active(&mut self) {
        let least = self.partitions.iter().filter(|progress| !progress.idle).map(|progress| progress.newest).min();
        self.value = self.value.max(least.unwrap_or(BEFORE_ALL));
    }

    /// All are idle: event time goes on from the newest event, as processing time does from the moment the last one became idle.
    fn follow_clock(&mut self, now_ms: i64) {
        let newest = self.partitions.iter().map(|progress| progress.newest).max().unwrap_or(BEFORE_ALL);
        let last_seen_ms = self.partitions.iter().filter_map(|progress| progress.seen_ms).max();
        if let (true, Some(last_seen_ms)) = (newest > BEFORE_ALL, last_seen_ms) {
            let passed_ms = now_ms.saturating_sub(last_seen_ms.saturating_add(self.idle_ms));
            self.value = self.value.max(newest.saturating_add(passed_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PartitionIndex = PartitionIndex(0);
    const B: PartitionIndex = PartitionIndex(1);

    #[test]
    fn the_slowest_partition_holds_it() {
        let mut watermark = Watermark::new(2, 100);
        watermark.event(A, 50, 0);
        assert_eq!(watermark.value(), None, "B has delivered nothing yet");
        watermark.event(B, 20, 0);
        assert_eq!(watermark.value(), Some(20));
        watermark.event(B, 70, 0);
        assert_eq!(watermark.value(), Some(50));
        watermark.event(A, 10, 0);
        assert_eq!(watermark.value(), Some(50), "an old event does not take it back");
    }

    #[test]
    fn an_idle_partition_lets_go_and_holds_again() {
        let mut watermark = Watermark::new(2, 100);
        watermark.tick(0);
        watermark.event(A, 50, 10);
        watermark.tick(99);
        assert_eq!(watermark.value(), None);
        watermark.tick(100);
        assert_eq!(watermark.value(), Some(50), "B was silent for 100 ms");
        watermark.event(B, 55, 101);
        watermark.event(A, 90, 101);
        assert_eq!(watermark.value(), Some(55));
        watermark.saw(B, 150);
        watermark.event(A, 95, 230);
        watermark.tick(249);
        assert_eq!(watermark.value(), Some(55), "a sign of life at 150 ms");
        watermark.tick(250);
        assert_eq!(watermark.value(), Some(95));
    }

    #[test]
    fn a_partition_that_is_added_holds_it_where_it_is() {
        let mut watermark = Watermark::new(1, 100);
        watermark.event(A, 50, 0);
        watermark.add_partition();
        watermark.event(A, 90, 10);
        assert_eq!(watermark.value(), Some(50), "B has delivered nothing yet");
        watermark.event(B, 70, 20);
        assert_eq!(watermark.value(), Some(70));
        watermark.add_partition();
        watermark.tick(30);
        watermark.event(A, 99, 125);
        watermark.event(B, 99, 125);
        watermark.tick(130);
        assert_eq!(watermark.value(), Some(99), "C was silent for 100 ms");
    }

    #[test]
    fn without_ticks_nobody_is_idle() {
        let mut watermark = Watermark::new(2, 100);
        watermark.event(B, 20, 0);
        watermark.event(A, 50, 1_000_000);
        assert_eq!(watermark.value(), Some(20));
    }

    #[test]
    fn when_all_are_idle_it_moves_with_the_clock() {
        let mut watermark = Watermark::new(2, 100);
        watermark.tick(0);
        watermark.tick(1_000);
        assert_eq!(watermark.value(), None, "no event, no event time");
        watermark.event(A, 50, 1_000);
        watermark.event(B, 80, 1_010);
        watermark.tick(1_109);
        assert_eq!(watermark.value(), Some(80), "A is idle, B is not");
        watermark.tick(1_110);
        assert_eq!(watermark.value(), Some(80));
        watermark.tick(1_160);
        assert_eq!(watermark.value(), Some(130));
        watermark.event(A, 60, 1_170);
        assert_eq!(watermark.value(), Some(130));
    }
}
