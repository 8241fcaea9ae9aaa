//! Positions moved by an operator, between two runs.

use super::PipelineError;
use crate::checkpoint::{CheckpointStore, Commit, Input, input_of};
use crate::config::Config;
use crate::domain::{DropReason, OpenImpression, PartitionPosition, TopicPartition};
use crate::stream::Loss;

/// Where reading of a partition is to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub partition: TopicPartition,
    /// First offset to be read.
    pub to: i64,
    /// Why reading cannot go on from where it stands, if it cannot.
    pub loss: Option<Loss>,
}

/// What a [`Move`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub partition: TopicPartition,
    /// Where reading would have gone on; `None`: it was not read yet.
    pub from: Option<i64>,
    /// Where it goes on.
    pub to: i64,
    /// Offsets between that were not done: they count as dropped from now on.
    pub skipped: u64,
    /// A new pass begins: what was counted so far stays counted, and what is read counts on top of it.
    pub new_pass: bool,
}

/// The newest commit's input with positions moved, not written yet. Holds the state directory's lock.
pub struct Reset {
    store: CheckpointStore,
    commit: Commit,
    input: Input,
    moved: Vec<Moved>,
}

impl Reset {
    /// Opens the state directory; no daemon may run on it. `None`: nothing was committed yet.
    ///
    /// # Errors
    /// [`PipelineError::Checkpoint`].
    pub fn open(config: &Config) -> Result<Option<Self>, PipelineError> {
        let store = CheckpointStore::open(&config.state.dir, config.checkpoint.keep)?;
        let Some(commit) = store.latest().cloned() else { return Ok(None) };
        let input = input_of(&config.state.dir, &commit)?;
        Ok(Some(Reset { store, commit, input, moved: Vec::new() }))
    }

    /// The commit that is changed.
    #[must_use]
    pub fn commit(&self) -> &Commit {
        &self.commit
    }

    /// Moves positions.
    pub fn apply(&mut self, moves: &[Move]) -> &[Moved] {
        self.moved = move_all(&mut self.input, moves);
        &self.moved
    }

    /// Commits, under the next number, which it returns.
    ///
    /// # Errors
    /// [`PipelineError`]; the commit before is still the newest then.
    pub fn write(mut self, created_ms: i64) -> Result<u64, PipelineError> {
        Ok(self.store.amend(&self.commit, self.input, created_ms)?.number)
    }
}

fn move_all(input: &mut Input, moves: &[Move]) -> Vec<Moved> {
    let position = |input: &Input, partition: &TopicPartition| input.positions.iter().position(|known| known.partition == *partition);
    let back = |goal: &Move| {
        let low = position(input, &goal.partition).map(|place| input.positions[place].low);
        same_log(goal.loss) && low.is_some_and(|low| goal.to < low)
    };
    // What is read again is to be trained again, not to be dropped as known.
    if moves.iter().any(back) {
        input.memory.clear();
    }
    let mut all = Vec::with_capacity(moves.len());
    for Move { partition, to, loss } in moves {
        let mut moved = Moved { partition: partition.clone(), from: None, to: *to, skipped: 0, new_pass: false };
        match position(input, partition) {
            None => input.positions.push(PartitionPosition::new(partition.clone(), *to)),
            Some(place) => {
                let known = &mut input.positions[place];
                moved.from = Some(known.low);
                if same_log(*loss) && *to >= known.low {
                    (*known, moved.skipped) = known.skipped_to(*to);
                    *input.books.dropped.entry(DropReason::SkippedByOperator).or_default() += moved.skipped;
                    close(input, partition, |open| (open.offset < *to, open.offset >= *to));
                } else {
                    *known = known.anew_at(*to);
                    moved.new_pass = true;
                    close(input, partition, |open| (!same_log(*loss) || open.offset < *to, false));
                }
            }
        }
        all.push(moved);
    }
    input.books.dropped.retain(|_, count| *count > 0);
    all
}

/// Whether the offsets of the position are offsets of what the broker holds.
fn same_log(loss: Option<Loss>) -> bool {
    matches!(loss, None | Some(Loss::Removed))
}

/// Of the partition's open impressions, `what` says which are over (remembered, without a final label) and which stay open. The rest is
/// forgotten: it will be read again as new.
fn close(input: &mut Input, partition: &TopicPartition, what: impl Fn(&OpenImpression) -> (bool, bool)) {
    let Input { open, memory, .. } = input;
    for (_, open) in open.iter_mut().filter(|(known, _)| known == partition) {
        memory.extend(open.iter().filter(|open| what(open).0).filter_map(|open| Some((open.sample.time, open.impression?))));
        open.retain(|open| what(open).1);
    }
    open.retain(|(_, open)| !open.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Books, EventTime, ImpressionId, Mark, ScoredSample, UserId};

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: number }
    }

    fn open(offset: i64) -> OpenImpression {
        let sample = ScoredSample { user: UserId("u".into()), time: EventTime(offset), label: false, logits: [None; 3], hint_share: None };
        OpenImpression { offset, impression: Some(ImpressionId(offset as u128)), sample }
    }

    /// One partition: 10 to 100 and 110 to 120 are done, held at 40 by open impressions at 40 and 115; another of which nothing is known.
    fn input() -> Input {
        let mark = Some(Mark { offset: 38, hash: 1 });
        let position = PartitionPosition { low: 40, done: vec![(40, 100), (110, 120)], mark, ..PartitionPosition::new(partition(0), 10) };
        let books = Books { trained: position.count(), ..Books::default() };
        Input {
            positions: vec![position],
            books,
            memory: vec![(EventTime(1), ImpressionId(1))],
            open: vec![(partition(0), vec![open(40), open(115)])],
        }
    }

    fn moved(to: i64, loss: Option<Loss>) -> (Input, Moved) {
        let mut input = input();
        let mut moved = move_all(&mut input, &[Move { partition: partition(0), to, loss }]);
        let counted: u64 = input.positions.iter().map(PartitionPosition::count).sum();
        assert_eq!(counted, input.books.done(), "the books add up");
        (input, moved.remove(0))
    }

    fn offsets(input: &Input) -> Vec<i64> {
        input.open.iter().flat_map(|(_, open)| open.iter().map(|open| open.offset)).collect()
    }

    fn remembered(input: &Input) -> Vec<i64> {
        input.memory.iter().map(|(time, _)| time.0).collect()
    }

    #[test]
    fn forward_in_the_same_log_what_was_not_done_is_dropped_and_what_is_passed_is_over() {
        for loss in [None, Some(Loss::Removed)] {
            let (input, moved) = moved(112, loss);
            assert_eq!((moved.from, moved.to, moved.skipped, moved.new_pass), (Some(40), 112, 10, false));
            assert_eq!(input.books.dropped[&DropReason::SkippedByOperator], 10);
            let position = &input.positions[0];
            assert_eq!((position.start, position.low, position.done.as_slice(), position.earlier), (10, 112, [(112, 120)].as_slice(), 0));
            assert_eq!((offsets(&input), remembered(&input)), (vec![115], vec![1, 40]));
        }
    }

    #[test]
    fn back_in_the_same_log_a_new_pass_begins_and_nothing_is_remembered_that_is_read_again() {
        let (input, moved) = moved(20, None);
        assert_eq!((moved.skipped, moved.new_pass, input.positions[0].earlier), (0, true, 100));
        assert_eq!((offsets(&input), remembered(&input)), (vec![], vec![]));
        assert_eq!(input.positions[0].mark, None);
    }

    #[test]
    fn in_another_log_a_new_pass_begins_and_what_was_open_is_over() {
        for loss in [Loss::Beyond, Loss::OtherRecord(Mark { offset: 38, hash: 1 })] {
            let (input, moved) = moved(60, Some(loss));
            assert_eq!((moved.skipped, moved.new_pass), (0, true));
            assert_eq!((input.positions[0].low, input.positions[0].count()), (60, 100));
            assert_eq!((offsets(&input), remembered(&input)), (vec![], vec![1, 40, 115]));
            assert!(input.books.dropped.is_empty());
        }
    }

    #[test]
    fn a_partition_that_was_not_read_yet_begins_there() {
        let mut input = input();
        let moved = move_all(&mut input, &[Move { partition: partition(1), to: 7, loss: None }]);
        assert_eq!((moved[0].from, moved[0].new_pass), (None, false));
        assert_eq!(input.positions[1], PartitionPosition::new(partition(1), 7));
    }
}
