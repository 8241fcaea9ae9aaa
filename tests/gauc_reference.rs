//! Promise: the streaming metrics are those that the definitions give on the whole stream (to 1e-9), and an evaluator restored from a
//! commit goes on exactly like one that was never interrupted.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail like tests")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use proptest::prelude::*;
use rocket_launching::config::{EvaluateConfig, Span};
use rocket_launching::domain::{EventTime, Head, ScoredSample, UserId};
use rocket_launching::evaluate::{
    AggregateState, Evaluator, HeadReport, MemoryUsers, Report, UserLine, UserStates, UserWriter, WindowReport,
};
use rocket_launching::store::{SledUsers, SledWriter};

const WINDOWS_MS: [i64; 2] = [100, 450];
const FROM_MS: i64 = 40;
const SLED_CACHE_BYTES: u64 = 1 << 20;
const TOLERANCE: f64 = 1e-9;

#[derive(Debug, Clone)]
struct Row {
    user: u8,
    time: i64,
    label: bool,
    logits: [Option<f32>; 3],
}

#[derive(Debug, Clone)]
struct Step {
    rows: Vec<Row>,
    hint_share: f64,
}

fn config(impressions_max: usize, from: bool) -> EvaluateConfig {
    EvaluateConfig {
        windows: WINDOWS_MS.map(|ms| Span::from_millis(ms as u64)).to_vec(),
        user_impressions_max: impressions_max,
        windows_kept: 3,
        from: from.then(|| "1970-01-01T00:00:00.040Z".to_owned()),
        ..EvaluateConfig::default()
    }
}

/// Coarse logits tie; fine ones share bins of the histogram without being equal.
fn logit() -> impl Strategy<Value = f32> {
    prop_oneof![(-6_i8..6).prop_map(|x| f32::from(x) / 2.0), -0.01_f32..0.01, -9.0_f32..9.0]
}

/// Steps whose times drift forward with jumps back, over few users; control may be missing from a step.
fn stream(steps: usize) -> impl Strategy<Value = Vec<Step>> {
    let row = (0_u8..5, -60_i64..60, any::<bool>(), logit(), logit(), logit());
    let step = (prop::collection::vec(row, 0..9), 0_i64..60, prop::bool::weighted(0.8), 0.0_f64..1.0);
    prop::collection::vec(step, 1..steps).prop_map(|steps| {
        let mut now = 0;
        let step = |(rows, advance, control, hint_share): (Vec<_>, i64, bool, f64)| {
            now += advance;
            let row = |(user, jitter, label, light, booster, third): (u8, i64, bool, f32, f32, f32)| Row {
                user,
                time: now + jitter,
                label,
                logits: [Some(light), Some(booster), control.then_some(third)],
            };
            Step { rows: rows.into_iter().map(row).collect(), hint_share }
        };
        steps.into_iter().map(step).collect()
    })
}

fn observe(evaluator: &mut Evaluator, step: &Step) {
    let sample = |row: &Row| ScoredSample {
        user: UserId(row.user.to_string().into()),
        time: EventTime(row.time),
        label: row.label,
        logits: row.logits,
        hint_share: Some(step.hint_share),
    };
    evaluator.observe(&step.rows.iter().map(sample).collect::<Vec<_>>()).unwrap();
}

// ---- The reference: keeps every row and computes each figure by its definition.

/// A row that a user still holds, and the windows it counted in when it came.
#[derive(Clone)]
struct Held {
    row: Row,
    windows: [Option<i64>; 2],
}

#[derive(Default)]
struct Reference {
    impressions_max: usize,
    from: Option<i64>,
    rows: Vec<Row>,
    shares: Vec<f64>,
    held: BTreeMap<u8, VecDeque<Held>>,
    truncated: BTreeSet<u8>,
    current: [Option<i64>; 2],
    in_window: [Vec<Row>; 2],
    closed: [Vec<WindowReport>; 2],
}

impl Reference {
    fn observe(&mut self, step: &Step) {
        for row in step.rows.iter().filter(|row| self.from.is_none_or(|from| row.time >= from)).cloned().collect::<Vec<_>>() {
            self.rows.push(row.clone());
            self.shares.push(step.hint_share);
            let mut windows = [None; 2];
            for kind in 0..2 {
                let id = row.time.div_euclid(WINDOWS_MS[kind]);
                if self.current[kind].is_some_and(|current| id > current) {
                    let report = self.window(kind, false);
                    self.closed[kind].push(report);
                    self.in_window[kind].clear();
                }
                self.current[kind] = self.current[kind].max(Some(id));
                if self.current[kind] == Some(id) {
                    windows[kind] = Some(id);
                    self.in_window[kind].push(row.clone());
                }
            }
            let held = self.held.entry(row.user).or_default();
            held.push_back(Held { row: row.clone(), windows });
            if held.len() > self.impressions_max {
                held.pop_front();
                self.truncated.insert(row.user);
            }
        }
    }

    /// Rows that each user of the current window still holds of it.
    fn window_users(&self, kind: usize) -> Vec<Vec<Row>> {
        let users: BTreeSet<u8> = self.in_window[kind].iter().map(|row| row.user).collect();
        let of = |user: &u8| {
            self.held[user].iter().filter(|held| held.windows[kind] == self.current[kind]).map(|held| held.row.clone()).collect()
        };
        users.iter().map(of).collect()
    }

    fn window(&self, kind: usize, open: bool) -> WindowReport {
        let (id, users) = (self.current[kind].unwrap(), self.window_users(kind));
        WindowReport {
            from_ms: id * WINDOWS_MS[kind],
            to_ms: (id + 1) * WINDOWS_MS[kind],
            open,
            rows: self.in_window[kind].len() as u64,
            clicks: clicks(&self.in_window[kind]),
            users: users.len() as u64,
            gauc_users_skipped: skipped(&users),
            heads: heads(&self.in_window[kind], &users),
        }
    }

    fn report(&self) -> Report {
        let users: Vec<Vec<Row>> = self.held.values().map(|held| held.iter().map(|held| held.row.clone()).collect()).collect();
        let mut report = Report {
            rows: self.rows.len() as u64,
            clicks: clicks(&self.rows),
            users: users.len() as u64,
            gauc_users_skipped: skipped(&users),
            gauc_users_truncated: self.truncated.len() as u64,
            heads: heads(&self.rows, &users),
            ..Report::default()
        };
        let squares = self.rows.iter().map(|row| (f64::from(row.logits[0].unwrap()) - f64::from(row.logits[1].unwrap())).powi(2));
        report.hint.mse = mean(squares);
        report.hint.gradient_share = mean(self.shares.iter().copied());
        for kind in 0..2 {
            let skip = self.closed[kind].len().saturating_sub(3);
            report.windows.extend(self.closed[kind].iter().skip(skip).cloned());
            report.windows.extend((!self.in_window[kind].is_empty()).then(|| self.window(kind, true)));
        }
        report
    }
}

fn mean(terms: impl Iterator<Item = f64>) -> Option<f64> {
    let terms: Vec<f64> = terms.collect();
    (!terms.is_empty()).then(|| terms.iter().sum::<f64>() / terms.len() as f64)
}

fn clicks(rows: &[Row]) -> u64 {
    rows.iter().filter(|row| row.label).count() as u64
}

fn skipped(users: &[Vec<Row>]) -> u64 {
    users.iter().filter(|rows| pair_auc(&scored(rows, 0)).is_none()).count() as u64
}

fn scored(rows: &[Row], head: usize) -> Vec<(f64, bool)> {
    rows.iter().filter_map(|row| Some((f64::from(row.logits[head]?), row.label))).collect()
}

/// All pairs of a positive and a negative, a tie counting ½.
fn pair_auc(rows: &[(f64, bool)]) -> Option<f64> {
    let (mut won, mut pairs) = (0.0, 0.0);
    for (positive, _) in rows.iter().filter(|row| row.1) {
        for (negative, _) in rows.iter().filter(|row| !row.1) {
            pairs += 1.0;
            won += if positive > negative { 1.0 } else { 0.5 * f64::from(u8::from(positive == negative)) };
        }
    }
    (pairs > 0.0).then(|| won / pairs)
}

fn heads(rows: &[Row], users: &[Vec<Row>]) -> BTreeMap<String, HeadReport> {
    Head::ALL.iter().filter_map(|head| Some((head.name().to_owned(), head_report(rows, users, head.index())?))).collect()
}

fn head_report(rows: &[Row], users: &[Vec<Row>], head: usize) -> Option<HeadReport> {
    let rows = scored(rows, head);
    let count = rows.len() as f64;
    if rows.is_empty() {
        return None;
    }
    let binned: Vec<_> = rows.iter().map(|(logit, label)| ((logit * 1024.0).floor(), *label)).collect();
    let p = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    let logloss = rows.iter().map(|(logit, label)| -(if *label { p(*logit) } else { p(-logit) }).ln()).sum::<f64>() / count;
    let clicked = rows.iter().filter(|row| row.1).count() as f64;
    let rate = clicked / count;
    let both = clicked > 0.0 && clicked < count;
    let parts: Vec<(f64, f64)> = users
        .iter()
        .filter_map(|rows| {
            let rows = scored(rows, head);
            Some((rows.len() as f64, pair_auc(&rows)?))
        })
        .collect();
    let weight: f64 = parts.iter().map(|(w, _)| w).sum();
    let gauc = (!parts.is_empty()).then(|| parts.iter().map(|(w, a)| w * a).sum::<f64>() / weight);
    Some(HeadReport {
        auc: pair_auc(&binned),
        gauc,
        gauc_users: parts.len() as u64,
        gauc_stderr: gauc.map(|g| parts.iter().map(|(w, a)| w * w * (a - g) * (a - g)).sum::<f64>().sqrt() / weight),
        logloss: Some(logloss),
        calibration: (clicked > 0.0).then(|| rows.iter().map(|(logit, _)| p(*logit)).sum::<f64>() / clicked),
        ne: both.then(|| logloss / (-rate * rate.ln() - (1.0 - rate) * (1.0 - rate).ln())),
    })
}

// ---- Comparing.

fn same_figure(name: &str, ours: Option<f64>, expected: Option<f64>) -> Result<(), TestCaseError> {
    let near = match (ours, expected) {
        (Some(ours), Some(expected)) => (ours - expected).abs() <= TOLERANCE,
        (ours, expected) => ours == expected,
    };
    prop_assert!(near, "{name}: {ours:?} instead of {expected:?}");
    Ok(())
}

fn same_heads(ours: &BTreeMap<String, HeadReport>, expected: &BTreeMap<String, HeadReport>) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (ours, expected) in ours.values().zip(expected.values()) {
        prop_assert_eq!(ours.gauc_users, expected.gauc_users);
        same_figure("auc", ours.auc, expected.auc)?;
        same_figure("gauc", ours.gauc, expected.gauc)?;
        same_figure("gauc_stderr", ours.gauc_stderr, expected.gauc_stderr)?;
        same_figure("logloss", ours.logloss, expected.logloss)?;
        same_figure("calibration", ours.calibration, expected.calibration)?;
        same_figure("ne", ours.ne, expected.ne)?;
    }
    Ok(())
}

fn same_report(ours: &Report, expected: &Report) -> Result<(), TestCaseError> {
    let counts = |r: &Report| (r.rows, r.clicks, r.users, r.gauc_users_skipped, r.gauc_users_truncated);
    prop_assert_eq!(counts(ours), counts(expected));
    same_heads(&ours.heads, &expected.heads)?;
    same_figure("hint.mse", ours.hint.mse, expected.hint.mse)?;
    same_figure("hint.gradient_share", ours.hint.gradient_share, expected.hint.gradient_share)?;
    let windows = |r: &Report| -> Vec<_> {
        r.windows.iter().map(|w| (w.from_ms, w.to_ms, w.open, w.rows, w.clicks, w.users, w.gauc_users_skipped)).collect()
    };
    prop_assert_eq!(windows(ours), windows(expected));
    for (ours, expected) in ours.windows.iter().zip(&expected.windows) {
        same_heads(&ours.heads, &expected.heads)?;
    }
    Ok(())
}

/// An evaluator and the writing half of its store.
struct Run<W> {
    evaluator: Evaluator,
    writer: W,
}

impl<W: UserWriter<Error: Debug>> Run<W> {
    fn new(config: &EvaluateConfig, (users, writer): (Arc<dyn UserStates>, W), state: AggregateState) -> Self {
        Run { evaluator: Evaluator::new(config, users, state).unwrap(), writer }
    }

    fn observe(&mut self, steps: &[Step]) {
        steps.iter().for_each(|step| observe(&mut self.evaluator, step));
    }

    /// Users are written after `meanwhile`, as another thread would.
    fn write(&mut self, number: u64, meanwhile: &[Step]) -> AggregateState {
        let mut capture = self.evaluator.capture(number);
        self.observe(meanwhile);
        self.writer.write(number, &mut capture.records()).unwrap();
        capture.aggregates
    }

    fn committed(&mut self, number: u64) {
        self.writer.committed(number);
        self.evaluator.committed(number);
    }

    fn top_users(&self) -> Vec<UserLine> {
        self.evaluator.top_users().rank(9, || false).unwrap().unwrap()
    }
}

fn in_memory(users: &MemoryUsers) -> (Arc<dyn UserStates>, MemoryUsers) {
    (Arc::new(users.clone()), users.clone())
}

/// Where the interrupted run is cut: steps before the capture of checkpoint 1, between capture and write, between write and commit (half of
/// those up to `committed` each), and until the crash, which comes after a write of checkpoint 2 that is never committed.
#[derive(Debug, Clone, Copy)]
struct Cuts {
    written: usize,
    committed: usize,
    crashed: usize,
}

fn cuts(steps: usize, [a, b, c]: [prop::sample::Index; 3]) -> Cuts {
    let mut places = [a, b, c].map(|place| place.index(steps + 1));
    places.sort_unstable();
    Cuts { written: places[0], committed: places[1], crashed: places[2] }
}

/// Runs `steps` with a crash and without, over users that `open` opens as of a commit, and compares everything there is.
fn survives<W: UserWriter<Error: Debug>>(
    config: &EvaluateConfig,
    steps: &[Step],
    cuts: Cuts,
    open: impl Fn(u64) -> (Arc<dyn UserStates>, W),
) -> Result<(), TestCaseError> {
    let mut straight = Run::new(config, in_memory(&MemoryUsers::default()), AggregateState::default());
    straight.observe(&steps[..cuts.written]);

    let mut dying = Run::new(config, open(0), AggregateState::default());
    dying.observe(&steps[..cuts.written]);
    let (before_write, before_commit) = steps[cuts.written..cuts.committed].split_at((cuts.committed - cuts.written) / 2);
    let committed = serde_json::to_string(&dying.write(1, before_write)).unwrap();
    dying.observe(before_commit);
    dying.committed(1);
    dying.observe(&steps[cuts.committed..cuts.crashed]);
    dying.write(2, &[]);
    drop(dying);

    let state: AggregateState = serde_json::from_str(&committed).unwrap();
    let mut recovered = Run::new(config, open(1), state);
    prop_assert_eq!(recovered.evaluator.report(), straight.evaluator.report());
    for (place, step) in steps[cuts.written..].iter().enumerate() {
        straight.observe(std::slice::from_ref(step));
        recovered.observe(std::slice::from_ref(step));
        if place == 1 {
            // Its number was written by the dead run too; users that did not come again must not take the dead run's values.
            recovered.write(2, &[]);
        }
        if place == 2 {
            recovered.committed(2);
        }
        prop_assert_eq!(recovered.evaluator.report(), straight.evaluator.report());
    }
    prop_assert_eq!(recovered.write(7, &[]), straight.write(7, &[]));
    recovered.committed(7);
    straight.committed(7);
    prop_assert_eq!(recovered.top_users(), straight.top_users());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn figures_equal_their_definitions(steps in stream(24), impressions_max in prop_oneof![1_usize..12, Just(1024)], from in any::<bool>()) {
        let mut evaluator = Evaluator::new(&config(impressions_max, from), Arc::new(MemoryUsers::default()), AggregateState::default()).unwrap();
        let mut reference = Reference { impressions_max, from: from.then_some(FROM_MS), ..Reference::default() };
        for (place, step) in steps.iter().enumerate() {
            observe(&mut evaluator, step);
            reference.observe(step);
            if place % 7 == 3 {
                same_report(&evaluator.report(), &reference.report())?;
            }
        }
        same_report(&evaluator.report(), &reference.report())?;
    }

    #[test]
    fn a_recovered_run_equals_an_uninterrupted_one_in_memory(
        steps in stream(16), places in any::<[prop::sample::Index; 3]>(), impressions_max in 1_usize..20,
    ) {
        let users = MemoryUsers::default();
        survives(&config(impressions_max, false), &steps, cuts(steps.len(), places), |_| in_memory(&users))?;
    }
}

proptest! {
    // Each case opens a store twice and syncs it five times.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_recovered_run_equals_an_uninterrupted_one_in_sled(
        steps in stream(16), places in any::<[prop::sample::Index; 3]>(), impressions_max in 1_usize..20,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let open = |committed| -> (Arc<dyn UserStates>, SledWriter) {
            let (users, writer) = SledUsers::open(&dir.path().join("users"), SLED_CACHE_BYTES, committed).unwrap();
            (Arc::new(users), writer)
        };
        survives(&config(impressions_max, false), &steps, cuts(steps.len(), places), open)?;
    }
}
