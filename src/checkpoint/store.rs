use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::files::{self, Extra};
use super::{CheckpointError, Commit, Evidence, LastPublished, PublishMark, chain, directory, inspect, retention, tables};
use crate::config::SchemaConfig;
use crate::domain::{Books, EventTime, ImpressionId, OpenImpression, PartitionPosition, Quarantine, TopicPartition};
use crate::evaluate::{AggregateState, Report};
use crate::train::LearnerState;

/// A raw event and the light net's logit for it at the checkpoint: a snapshot's self-test.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ProbeSample {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// One per feature, as [`crate::wire::snapshot::field_to_json`] writes them.
    pub fields: Vec<serde_json::Value>,
    /// Light's logit with the weights of the checkpoint.
    pub logit: f32,
}

/// What is to be committed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Checkpoint number.
    pub number: u64,
    /// Weights, rows, optimizer.
    pub learner: LearnerState,
    /// Impressions closed recently.
    pub memory: Vec<(EventTime, ImpressionId)>,
    /// Impressions trained whose windows are open, by partition.
    pub open: Vec<(TopicPartition, Vec<OpenImpression>)>,
    /// Self-test.
    pub probes: Vec<ProbeSample>,
    /// What the version is judged on.
    pub evidence: Evidence,
    /// What the learner was trained with, and fields of samples stand in the order of.
    pub schema: SchemaConfig,
    /// What is done of the input.
    pub positions: Vec<PartitionPosition>,
    /// Conservation.
    pub books: Books,
    /// GAUC.
    pub evaluation: AggregateState,
    /// Metrics.
    pub report: Report,
    /// blake3 of the config's JSON, hex.
    pub config_hash: String,
    /// When, milliseconds.
    pub created_ms: i64,
    /// What was last published.
    pub published: Option<LastPublished>,
    /// Input that is skipped for good.
    pub quarantine: Quarantine,
    /// The schedule of publishing; names this checkpoint where it is to be published itself.
    pub publish_mark: PublishMark,
}

/// A checkpoint read back.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Weights, rows (full), optimizer.
    pub learner: LearnerState,
    /// Impressions closed recently.
    pub memory: Vec<(EventTime, ImpressionId)>,
    /// Impressions trained whose windows are open, by partition.
    pub open: Vec<(TopicPartition, Vec<OpenImpression>)>,
    /// Self-test.
    pub probes: Vec<ProbeSample>,
    /// What the version is judged on.
    pub evidence: Evidence,
    /// What the learner was trained with, and fields of samples stand in the order of; `None` in checkpoints of earlier versions.
    pub schema: Option<SchemaConfig>,
}

/// The checkpoint directory. One process at a time.
#[derive(Debug)]
pub struct CheckpointStore {
    pub(super) dir: PathBuf,
    keep: usize,
    latest: Option<Commit>,
    /// Highest number any file bears, committed or not.
    highest: u64,
    /// Held for the lifetime of the store.
    _lock: File,
}

impl CheckpointStore {
    /// Opens (or makes) the directory, takes its lock, and finds the newest commit whose record and files are whole.
    ///
    /// # Errors
    /// [`CheckpointError::Locked`], [`CheckpointError::Io`], [`CheckpointError::NoUsableCommit`], [`CheckpointError::Newer`].
    pub fn open(dir: &Path, keep: usize) -> Result<Self, CheckpointError> {
        directory::create(dir)?;
        let lock = take_lock(dir)?;
        let highest = directory::highest_number(dir)?;
        let numbers = directory::commit_numbers(dir)?;
        let mut latest = newest_whole(dir, &numbers)?;
        if let Some(latest) = &mut latest {
            // Going back because of damage undoes no quarantine that can still be read.
            let newer = numbers.iter().filter(|number| **number > latest.number);
            let quarantines: Vec<_> = newer.filter_map(|number| Some(directory::read_commit(dir, *number).ok()?.quarantine)).collect();
            quarantines.iter().for_each(|quarantine| latest.quarantine.extend(quarantine));
        }
        retention::remove_unfinished(dir)?;
        Ok(CheckpointStore { dir: dir.to_owned(), keep, latest, highest, _lock: lock })
    }

    /// Looks whether another process owns the directory, for what must not be done beside it. Makes the directory where there is none.
    ///
    /// # Errors
    /// [`CheckpointError::Locked`], [`CheckpointError::Io`].
    pub fn refuse_if_in_use(dir: &Path) -> Result<(), CheckpointError> {
        fs::create_dir_all(dir).map_err(CheckpointError::io("creating directory", dir))?;
        take_lock(dir).map(drop)
    }

    /// The newest commit.
    #[must_use]
    pub fn latest(&self) -> Option<&Commit> {
        self.latest.as_ref()
    }

    /// A kept commit by its number.
    ///
    /// # Errors
    /// [`CheckpointError`]: it is not kept, or damaged.
    pub fn commit(&self, number: u64) -> Result<Commit, CheckpointError> {
        inspect::commit(&self.dir, number)
    }

    /// As [`CheckpointStore::commit`], its files checked as well.
    ///
    /// # Errors
    /// [`CheckpointError`]: it is not kept, or damaged.
    pub fn whole(&self, number: u64) -> Result<Commit, CheckpointError> {
        let commit = self.commit(number)?;
        directory::check_files(&self.dir, &commit)?;
        Ok(commit)
    }

    /// The number the next checkpoint takes: above every one ever used here, and above `floor`.
    pub fn next_number(&mut self, floor: u64) -> u64 {
        self.highest = self.highest.max(floor) + 1;
        self.highest
    }

    /// Writes the files, then the commit record; then removes what the kept commits (and those of `also_keep`) no longer need. A draft
    /// whose rows are not full builds on the latest commit.
    ///
    /// # Errors
    /// [`CheckpointError`]; the latest commit is still the one before.
    pub fn write(&mut self, draft: Draft, also_keep: &BTreeSet<u64>) -> Result<&Commit, CheckpointError> {
        let number = draft.number;
        self.highest = self.highest.max(number);
        let (dir, keep, made) = (self.dir.clone(), self.keep, self.write_files(draft));
        let commit = self.conclude(number, made)?;
        if let Err(e) = retention::retain(&dir, keep, also_keep) {
            tracing::warn!(error = %e, "old checkpoints could not be removed; they only take space");
        }
        Ok(commit)
    }

    fn write_files(&self, draft: Draft) -> Result<Commit, CheckpointError> {
        let files_dir = directory::files_dir(&self.dir);
        let number = draft.number;
        let LearnerState { dense, rows, light_rows, click_counts, course } = draft.learner;
        let latest = self.latest.as_ref();
        let before = latest.map(|commit| (&commit.rows, &commit.further_rows));
        let (rows, further_rows) = tables::extend(&files_dir, "rows", number, &rows, before)?;
        let before = latest.map(|commit| (&commit.light_rows, &commit.further_light_rows));
        let (light_rows, further_light_rows) =
            tables::extend(&files_dir, "light_rows", number, light_rows.as_deref().unwrap_or_default(), before)?;
        let click_counts =
            chain::extend(&files_dir, "click_counts", number, click_counts.as_ref(), latest.map(|commit| &commit.click_counts))?;
        let dense = files::write_durable(&files_dir, &files::name("dense", number, "safetensors"), &files::encode_dense(&dense))?;
        let extra = Extra {
            memory: draft.memory,
            open: draft.open,
            probes: draft.probes,
            evidence: draft.evidence,
            schema: Some(draft.schema),
            course,
        };
        let extra = files::write_extra(&files_dir, number, &extra)?;
        Ok(Commit {
            number,
            created_ms: draft.created_ms,
            dense,
            rows,
            further_rows,
            light_rows,
            further_light_rows,
            click_counts,
            extra,
            positions: draft.positions,
            books: draft.books,
            evaluation: draft.evaluation,
            report: draft.report,
            config_hash: draft.config_hash,
            published: draft.published,
            publish_mark: Some(draft.publish_mark),
            quarantine: draft.quarantine,
            restores: None,
        })
    }

    /// Commits what was made under `number`: from now on it is the latest. Where that fails, or nothing could be made, what was written of
    /// it is removed.
    pub(super) fn conclude(&mut self, number: u64, made: Result<Commit, CheckpointError>) -> Result<&Commit, CheckpointError> {
        let committed = made.and_then(|commit| {
            files::write_durable(&directory::commits_dir(&self.dir), &directory::commit_name(number), &commit.encode())?;
            Ok(commit)
        });
        let commit = committed.inspect_err(|_| retention::give_up(&self.dir, number))?;
        Ok(self.latest.insert(commit))
    }

    /// Makes the kept checkpoint `number` the state to go on from: a new commit, with the next number and that one's content. Nothing is
    /// removed, what was last published is still said, and what was skipped for good still is; a publication that was due before is due no
    /// more.
    ///
    /// # Errors
    /// [`CheckpointError`]: it is not kept, or damaged; nothing has changed then.
    pub fn restore(&mut self, number: u64, now_ms: i64) -> Result<&Commit, CheckpointError> {
        self.restore_skipping(number, &Quarantine::default(), now_ms)
    }

    /// As [`CheckpointStore::restore`]; from now on `more` of the input is skipped too.
    ///
    /// # Errors
    /// As there.
    pub fn restore_skipping(&mut self, number: u64, more: &Quarantine, now_ms: i64) -> Result<&Commit, CheckpointError> {
        let of = self.whole(number)?;
        let mut quarantine = of.quarantine.clone();
        quarantine.extend(more);
        self.latest.iter().for_each(|latest| quarantine.extend(&latest.quarantine));
        let published = self.latest.as_ref().map_or(of.published, |latest| latest.published);
        let publish_mark = Some(PublishMark { number: None, samples: of.books.samples, at_ms: now_ms });
        let number = self.next_number(0);
        self.conclude(
            number,
            Ok(Commit { number, created_ms: now_ms, published, publish_mark, quarantine, restores: Some(of.users_of()), ..of }),
        )
    }

    /// Reads a committed checkpoint, every hash checked.
    ///
    /// # Errors
    /// [`CheckpointError::Corrupt`], [`CheckpointError::Io`].
    pub fn load(dir: &Path, commit: &Commit) -> Result<Loaded, CheckpointError> {
        let dir = directory::files_dir(dir);
        let dense = files::decode_dense(&dir.join(&commit.dense.name), &files::read_verified(&dir, &commit.dense)?)?;
        let rows = tables::read(&dir, &commit.rows, &commit.further_rows)?;
        if commit.rows.is_empty() {
            return Err(CheckpointError::corrupt(&dir, format_args!("commit {} names no rows file", commit.number)));
        }
        let light_rows = tables::read(&dir, &commit.light_rows, &commit.further_light_rows)?;
        let light_rows = (!light_rows.is_empty()).then_some(light_rows);
        let click_counts = chain::read(&dir, &commit.click_counts)?;
        let extra = files::read_extra(&dir, &commit.extra)?;
        let learner = LearnerState { dense, rows, light_rows, click_counts, course: extra.course };
        Ok(Loaded { learner, memory: extra.memory, open: extra.open, probes: extra.probes, evidence: extra.evidence, schema: extra.schema })
    }
}

/// The directory's lock; released when dropped.
fn take_lock(dir: &Path) -> Result<File, CheckpointError> {
    let lock_path = dir.join("lock");
    let lock = File::create(&lock_path).map_err(CheckpointError::io("creating", &lock_path))?;
    lock.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => CheckpointError::Locked { path: dir.to_owned() },
        TryLockError::Error(source) => CheckpointError::Io { doing: "locking", path: lock_path, source },
    })?;
    Ok(lock)
}

/// The newest commit that is whole; `None` where there is none at all. One of a newer program is not damaged: going on from an older one
/// would undo what that program did.
fn newest_whole(dir: &Path, numbers: &[u64]) -> Result<Option<Commit>, CheckpointError> {
    let mut problems = Vec::new();
    for number in numbers.iter().rev() {
        let whole = directory::read_commit(dir, *number).and_then(|commit| {
            directory::check_files(dir, &commit)?;
            Ok(commit)
        });
        match whole {
            Ok(commit) => return Ok(Some(commit)),
            Err(newer @ CheckpointError::Newer { .. }) => return Err(newer),
            Err(e) => {
                tracing::error!(checkpoint = number, error = %e, "checkpoint is damaged; falling back to the one before");
                problems.push(e.to_string());
            }
        }
    }
    if problems.is_empty() { Ok(None) } else { Err(CheckpointError::NoUsableCommit { path: dir.to_owned(), why: problems.join("; ") }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EmbeddingOptimizer;
    use crate::domain::{ScoredSample, UserId};
    use crate::train::{AdmissionState, CountsState, Course, DenseState, RowsState, TensorLayout};

    fn partition() -> TopicPartition {
        TopicPartition { topic: "impressions".into(), partition: 3 }
    }

    fn open_impression() -> OpenImpression {
        let sample = ScoredSample {
            user: UserId("u".into()),
            time: EventTime(9),
            label: false,
            logits: [Some(0.1), Some(-1e-30), None],
            hint_share: Some(0.1 + 0.2),
        };
        OpenImpression { offset: 4, impression: Some(ImpressionId(u128::MAX - 1)), sample }
    }

    fn draft(number: u64, keys: &[u64], full: bool) -> Draft {
        let value = number as f32;
        Draft {
            number,
            learner: LearnerState {
                dense: DenseState {
                    layout: vec![TensorLayout { name: "light.0.bias".to_owned(), shape: vec![2] }],
                    params: vec![value, -0.0],
                    m: vec![0.5, f32::MIN_POSITIVE],
                    v: vec![1e-30, 2.0],
                    steps: number * 10,
                },
                rows: vec![RowsState {
                    dim: 1,
                    width: 2,
                    optimizer: EmbeddingOptimizer::Adagrad,
                    keys: keys.to_vec(),
                    data: keys.iter().flat_map(|key| [*key as f32 + value, value]).collect(),
                    full,
                    admission: AdmissionState { drawn: number, counters: vec![number as u8; 3] },
                    ..RowsState::default()
                }],
                light_rows: None,
                click_counts: Some(CountsState { keys: keys.to_vec(), data: keys.iter().flat_map(|_| [value, 0.5]).collect(), full }),
                course: Course { samples: number, steps_before: 1, ..Course::default() },
            },
            memory: vec![(EventTime(5), ImpressionId(u128::MAX))],
            open: vec![(partition(), vec![open_impression()])],
            probes: vec![ProbeSample { time_ms: 1, fields: vec![serde_json::json!("a")], logit: 0.1 }],
            evidence: Evidence::default(),
            schema: SchemaConfig::labelled(Vec::new()),
            positions: Vec::new(),
            books: Books { samples: number, ..Books::default() },
            evaluation: AggregateState::default(),
            report: Report::default(),
            config_hash: String::new(),
            created_ms: 7,
            published: None,
            quarantine: Quarantine::default(),
            publish_mark: PublishMark { number: None, samples: 0, at_ms: 0 },
        }
    }

    fn numbers(store: &CheckpointStore) -> Vec<u64> {
        directory::commit_numbers(&store.dir).unwrap()
    }

    #[test]
    fn a_chain_of_touched_rows_reads_back_as_one_table() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
        assert!(store.latest().is_none());
        store.write(draft(1, &[10, 20], true), &BTreeSet::new()).unwrap();
        store.write(draft(2, &[20, 30], false), &BTreeSet::new()).unwrap();
        drop(store);
        let store = CheckpointStore::open(dir.path(), 3).unwrap();
        let loaded = CheckpointStore::load(dir.path(), store.latest().unwrap()).unwrap();
        assert_eq!(loaded.learner.rows[0].keys, [10, 20, 30]);
        assert_eq!(loaded.learner.rows[0].data, [11.0, 1.0, 22.0, 2.0, 32.0, 2.0]);
        let counts = loaded.learner.click_counts.unwrap();
        assert_eq!((counts.keys.as_slice(), counts.data.as_slice()), ([10, 20, 30].as_slice(), [1.0, 0.5, 2.0, 0.5, 2.0, 0.5].as_slice()));
        let expected = draft(2, &[], false);
        assert_eq!(loaded.learner.rows[0].admission, expected.learner.rows[0].admission);
        assert_eq!(loaded.learner.dense.params.iter().map(|p| p.to_bits()).collect::<Vec<_>>(), [2.0f32.to_bits(), (-0.0f32).to_bits()]);
        assert_eq!((&loaded.learner.dense, loaded.learner.course), (&expected.learner.dense, expected.learner.course));
        assert_eq!(loaded.learner.light_rows, None);
        assert_eq!((loaded.memory, loaded.open, loaded.probes), (expected.memory, expected.open, expected.probes));
    }

    #[test]
    fn rows_of_light_alone_are_a_chain_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
        let draft = |number, keys: &[u64], light: &[u64], full| {
            let (mut draft, light) = (draft(number, keys, full), draft(number, light, full));
            draft.learner.light_rows = Some(light.learner.rows);
            draft
        };
        store.write(draft(1, &[10, 20], &[10, 30], true), &BTreeSet::new()).unwrap();
        store.write(draft(2, &[20], &[40], false), &BTreeSet::new()).unwrap();
        drop(store);
        let store = CheckpointStore::open(dir.path(), 3).unwrap();
        let learner = CheckpointStore::load(dir.path(), store.latest().unwrap()).unwrap().learner;
        assert_eq!(learner.rows[0].keys, [10, 20]);
        assert_eq!(learner.served_rows()[0].keys, [10, 30, 40]);
        assert_eq!(learner.served_rows()[0].data, [11.0, 1.0, 31.0, 1.0, 42.0, 2.0]);
    }

    #[test]
    fn further_tables_have_chains_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
        let draft = |number, tables: [&[u64]; 3], full| {
            let [first, second, light] = tables.map(|keys| draft(number, keys, full).learner.rows.remove(0));
            let wide = |rows: RowsState| RowsState { dim: 2, ..rows };
            let mut draft = draft(number, &[1], full);
            draft.learner.light_rows = Some(vec![first.clone(), wide(light)]);
            draft.learner.rows = vec![first, wide(second)];
            draft
        };
        store.write(draft(1, [&[10], &[10, 20], &[30]], true), &BTreeSet::new()).unwrap();
        store.write(draft(2, [&[11], &[20], &[10]], false), &BTreeSet::new()).unwrap();
        drop(store);
        let store = CheckpointStore::open(dir.path(), 3).unwrap();
        let commit = store.latest().unwrap();
        assert_eq!(commit.further_rows[&2][1].name, files::name("rows_2", 2, "safetensors"));
        let learner = CheckpointStore::load(dir.path(), commit).unwrap().learner;
        let held = |tables: &[RowsState]| tables.iter().map(|rows| (rows.dim, rows.keys.clone())).collect::<Vec<_>>();
        assert_eq!(held(&learner.rows), [(1, vec![10, 11]), (2, vec![10, 20])]);
        assert_eq!(held(learner.served_rows()), [(1, vec![10, 11]), (2, vec![30, 10])]);
        assert_eq!(learner.rows[1].data, [11.0, 1.0, 22.0, 2.0]);
    }

    /// A commit of one table is what it was when there could be no other.
    #[test]
    fn a_commit_of_one_table_says_nothing_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
        let commit = store.write(draft(1, &[10], true), &BTreeSet::new()).unwrap();
        let record = String::from_utf8(commit.encode()).unwrap();
        assert!(record.contains("\"rows\":[") && !record.contains("further"), "{record}");
    }

    #[test]
    fn a_flipped_bit_anywhere_falls_back_to_the_commit_before() {
        for kind in ["commits/commit", "checkpoints/dense", "checkpoints/rows", "checkpoints/click_counts", "checkpoints/extra"] {
            let dir = tempfile::tempdir().unwrap();
            let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
            store.write(draft(1, &[1], true), &BTreeSet::new()).unwrap();
            store.write(draft(2, &[1], false), &BTreeSet::new()).unwrap();
            drop(store);
            let extension = if kind.ends_with("commit") || kind.ends_with("extra") { "json" } else { "safetensors" };
            let path = dir.path().join(format!("{kind}-{:020}.{extension}", 2));
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).unwrap();
            let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
            assert_eq!(store.latest().unwrap().number, 1, "{kind}");
            assert_eq!(store.next_number(0), 3, "a number is never used again");
        }
    }

    #[test]
    fn when_every_commit_is_damaged_it_says_so_and_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
        store.write(draft(1, &[1], true), &BTreeSet::new()).unwrap();
        drop(store);
        let path = directory::commits_dir(dir.path()).join(files::name("commit", 1, "json"));
        fs::write(&path, "{}").unwrap();
        let error = CheckpointStore::open(dir.path(), 3).unwrap_err();
        assert!(matches!(&error, CheckpointError::NoUsableCommit { why, .. } if why.contains("commit-")), "{error}");
    }

    #[test]
    fn retention_keeps_what_the_kept_commits_are_built_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = CheckpointStore::open(dir.path(), 2).unwrap();
        store.write(draft(1, &[1], true), &BTreeSet::new()).unwrap();
        for number in 2..=5 {
            store.write(draft(number, &[number], false), &BTreeSet::from([2])).unwrap();
        }
        assert_eq!(numbers(&store), [2, 4, 5]);
        assert_eq!(CheckpointStore::load(dir.path(), store.latest().unwrap()).unwrap().learner.rows[0].keys, [1, 2, 3, 4, 5]);
        store.write(draft(6, &[9], true), &BTreeSet::new()).unwrap();
        store.write(draft(7, &[9], false), &BTreeSet::new()).unwrap();
        assert_eq!(numbers(&store), [6, 7]);
        assert!(!directory::files_dir(dir.path()).join(files::name("rows", 1, "safetensors")).exists());
    }

    #[test]
    fn two_processes_cannot_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let _first = CheckpointStore::open(dir.path(), 1).unwrap();
        assert!(matches!(CheckpointStore::open(dir.path(), 1), Err(CheckpointError::Locked { .. })));
    }

    /// Files of `dir`, by name.
    fn names(dir: &Path) -> BTreeSet<String> {
        directory::names_in(dir).unwrap().into_iter().collect()
    }

    #[test]
    fn what_a_killed_writer_left_is_no_checkpoint_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        drop(CheckpointStore::open(dir.path(), 3).unwrap());
        // Killed in its very first commit.
        let leftovers = [
            directory::commits_dir(dir.path()).join("commit-00000000000000000001.json.tmp"),
            directory::files_dir(dir.path()).join("extra-00000000000000000001.json.tmp"),
        ];
        leftovers.iter().for_each(|path| fs::write(path, "{").unwrap());
        let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
        assert!(store.latest().is_none() && leftovers.iter().all(|path| !path.exists()));
        assert_eq!(store.next_number(0), 2, "a number that was in use is never used again");
    }

    #[test]
    fn a_kept_record_that_cannot_be_read_keeps_what_it_may_need() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, none) = (CheckpointStore::open(dir.path(), 2).unwrap(), BTreeSet::new());
        store.write(draft(1, &[1], true), &none).unwrap();
        store.write(draft(2, &[1], false), &none).unwrap();
        let record = directory::commits_dir(dir.path()).join(directory::commit_name(2));
        let bytes = fs::read(&record).unwrap();
        fs::write(&record, "unreadable for now").unwrap();
        store.write(draft(3, &[1], true), &none).unwrap();
        let _unneeded = fs::write(directory::files_dir(dir.path()).join(files::name("rows", 9, "safetensors")), "");
        assert_eq!(numbers(&store), [2, 3]);
        // The disk gives it back.
        fs::write(&record, bytes).unwrap();
        CheckpointStore::load(dir.path(), &store.commit(2).unwrap()).unwrap();

        fs::write(&record, "unreadable for good").unwrap();
        store.write(draft(4, &[1], true), &none).unwrap();
        store.write(draft(10, &[1], true), &none).unwrap();
        assert_eq!(numbers(&store), [4, 10]);
        let files = names(&directory::files_dir(dir.path()));
        assert!(files.iter().all(|name| [Some(4), Some(10)].contains(&directory::number_of(name))), "{files:?}");
    }

    #[test]
    fn a_collection_that_was_killed_between_record_and_files_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, none) = (CheckpointStore::open(dir.path(), 1).unwrap(), BTreeSet::new());
        store.write(draft(1, &[1], true), &none).unwrap();
        fs::remove_file(directory::commits_dir(dir.path()).join(directory::commit_name(1))).unwrap();
        store.write(draft(2, &[1], true), &none).unwrap();
        let files = names(&directory::files_dir(dir.path()));
        assert!(files.iter().all(|name| directory::number_of(name) == Some(2)), "{files:?}");
        assert!(inspect::is_whole(dir.path(), store.latest().unwrap()));
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_leaves_nothing_and_the_next_one_can() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, none) = (CheckpointStore::open(dir.path(), 2).unwrap(), BTreeSet::new());
        store.write(draft(1, &[1], true), &none).unwrap();
        let before = [directory::files_dir(dir.path()), directory::commits_dir(dir.path())].map(|dir| names(&dir));
        for name in ["checkpoints/extra-00000000000000000002.json", "commits/commit-00000000000000000003.json"] {
            // Nothing can be renamed to the name of a directory that is not empty.
            let in_the_way = dir.path().join(name);
            fs::create_dir_all(in_the_way.join("full")).unwrap();
            let number = directory::number_of(name).unwrap();
            store.write(draft(number, &[1], true), &none).unwrap_err();
            assert_eq!(store.latest().unwrap().number, 1);
            fs::remove_dir_all(in_the_way).unwrap();
            if name.starts_with("checkpoints") {
                assert_eq!([directory::files_dir(dir.path()), directory::commits_dir(dir.path())].map(|dir| names(&dir)), before, "{name}");
            }
        }
        store.write(draft(4, &[1, 2], true), &none).unwrap();
        assert_eq!(CheckpointStore::load(dir.path(), store.latest().unwrap()).unwrap().learner.rows[0].keys, [1, 2]);
        assert_eq!(numbers(&store), [1, 4]);
    }

    #[test]
    fn a_restored_checkpoint_is_a_new_commit_of_the_old_content_and_nothing_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, none) = (CheckpointStore::open(dir.path(), 3).unwrap(), BTreeSet::new());
        store.write(draft(1, &[1], true), &none).unwrap();
        store.write(draft(2, &[1, 2], false), &none).unwrap();
        let published = Some(LastPublished { version: crate::domain::Version(2), promoted: true });
        let mark = PublishMark { number: Some(3), samples: 3, at_ms: 3 };
        store.write(Draft { published, publish_mark: mark, ..draft(3, &[1, 2, 3], false) }, &none).unwrap();
        assert_eq!(store.latest().unwrap().unpublished(), Some(3));
        store.restore(2, 9).unwrap();
        drop(store);

        let mut store = CheckpointStore::open(dir.path(), 3).unwrap();
        let commit = store.latest().unwrap().clone();
        assert_eq!((commit.number, commit.restores, commit.created_ms, commit.books.samples), (4, Some(2), 9, 2));
        assert_eq!((commit.published, commit.unpublished()), (published, None));
        assert_eq!(CheckpointStore::load(dir.path(), &commit).unwrap().learner.rows[0].keys, [1, 2]);
        assert_eq!((numbers(&store), store.next_number(0)), (vec![1, 2, 3, 4], 5));
        store.write(draft(5, &[7], false), &none).unwrap();
        assert_eq!(CheckpointStore::load(dir.path(), store.latest().unwrap()).unwrap().learner.rows[0].keys, [1, 2, 7]);
        let unknown = store.restore(77, 9).unwrap_err();
        assert!(matches!(&unknown, CheckpointError::Unknown { number: 77, kept, .. } if kept == "3, 4, 5"), "{unknown}");
    }
}
