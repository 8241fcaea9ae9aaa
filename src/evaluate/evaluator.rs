use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cache::UserCache;
use super::drift::Drift;
use super::impressions::Impression;
use super::pairwise::Pairwise;
use super::record::{self, WINDOWS_CAP};
use super::totals::{Costs, HintTotals, Standing, Totals};
use super::user::User;
use super::windows::{Live, Windows};
use super::{Capture, EvaluateError, Report, Rise, TopUsers, UserStates};
use crate::config::{EvaluateConfig, USER_IMPRESSIONS_CAP};
use crate::domain::{ScoredSample, UserId};

/// The aggregates that go into a commit record; integers and bit-exact sums, so that a recovered run equals an uninterrupted one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AggregateState {
    since_start: Totals,
    users_truncated: u64,
    /// Highest event time measured.
    latest_ms: Option<i64>,
    hint: HintTotals,
    #[serde(default)]
    drift: Drift,
    windows: Vec<Windows>,
}

/// Keeps the metrics. Used by one thread, which reads users; another writes them.
pub struct Evaluator {
    lengths: Vec<i64>,
    windows_kept: usize,
    impressions_max: usize,
    from_ms: i64,
    drift_delta: f64,
    state: AggregateState,
    users: Arc<dyn UserStates>,
    cache: UserCache,
    /// Number of the capture that is not committed yet.
    writing: Option<u64>,
    live: Vec<Option<Live>>,
    pairwise: Pairwise,
    /// Where a user stands before and after an impression.
    standings: [Vec<Standing>; 2],
}

impl Evaluator {
    /// Starts from `state` (default: from nothing) over the users of `users`. Lengths of windows may have changed since `state` was
    /// taken: windows of a length that is gone are forgotten, a new length starts with its next window.
    ///
    /// # Errors
    /// [`EvaluateError::From`], [`EvaluateError::Setting`].
    pub fn new(config: &EvaluateConfig, users: Arc<dyn UserStates>, mut state: AggregateState) -> Result<Self, EvaluateError> {
        let lengths = lengths(config)?;
        let impressions_max = config.user_impressions_max;
        if impressions_max == 0 || impressions_max > USER_IMPRESSIONS_CAP {
            return Err(EvaluateError::Setting {
                key: "user_impressions_max",
                value: impressions_max.to_string(),
                allowed: format!("1 to {USER_IMPRESSIONS_CAP}"),
            });
        }
        let mut known = std::mem::take(&mut state.windows);
        for len_ms in &lengths {
            let place = known.iter().position(|windows| windows.len_ms == *len_ms);
            state.windows.push(place.map_or_else(|| Windows::new(*len_ms, state.latest_ms), |place| known.swap_remove(place)));
        }
        Ok(Evaluator {
            windows_kept: config.windows_kept,
            impressions_max,
            from_ms: from_ms(config)?,
            drift_delta: config.drift_delta,
            live: Vec::with_capacity(lengths.len()),
            lengths,
            state,
            users,
            cache: UserCache::default(),
            writing: None,
            pairwise: Pairwise::default(),
            standings: Default::default(),
        })
    }

    /// Takes samples in the order in which their labels became final. Returns the last rise of the served head's log loss that came to
    /// light.
    ///
    /// # Errors
    /// [`EvaluateError`] of the store or a record.
    pub fn observe(&mut self, samples: &[ScoredSample]) -> Result<Option<Rise>, EvaluateError> {
        let mut rise = None;
        for ScoredSample { user, time, label, logits, hint_share } in samples {
            let logits = logits.map(|logit| logit.filter(|logit| logit.is_finite()).unwrap_or(f32::NAN));
            // A sample without a score has no place in any sum.
            if time.0 >= self.from_ms && logits.iter().any(|logit| !logit.is_nan()) {
                let impression = Impression { time: time.0, label: *label, logits };
                self.measure(user, &impression, *hint_share)?;
                rise = self.state.drift.add(&impression, self.drift_delta).or(rise);
            }
        }
        Ok(rise)
    }

    /// Metrics as of now.
    #[must_use]
    pub fn report(&self) -> Report {
        let AggregateState { since_start, users_truncated, hint, drift, windows, .. } = &self.state;
        Report {
            rows: since_start.rows,
            clicks: since_start.clicks,
            users: since_start.users,
            gauc_users_skipped: since_start.users_skipped,
            gauc_users_truncated: *users_truncated,
            heads: since_start.heads(),
            hint: hint.report(),
            drift: drift.report(),
            windows: windows.iter().flat_map(Windows::reports).collect(),
        }
    }

    /// What ranks users; for another thread, since it reads them all.
    #[must_use]
    pub fn top_users(&self) -> TopUsers {
        TopUsers::new(Arc::clone(&self.users), self.lengths.clone())
    }

    /// Everything as of now, to be written under checkpoint `number`: the aggregates, and every user that differs from the last commit.
    /// Copies no user: one that changes before it is written is copied then.
    pub fn capture(&mut self, number: u64) -> Capture {
        self.writing = Some(number);
        Capture::new(number, self.state.clone(), self.report(), self.cache.capture(), self.lengths.clone())
    }

    /// Checkpoint `number` is committed, its users too. A number other than the last one captured is ignored: nothing was written under it.
    pub fn committed(&mut self, number: u64) {
        if self.writing == Some(number) {
            self.cache.committed();
            self.writing = None;
        }
    }

    /// Users in the cache.
    #[must_use]
    pub fn cached_users(&self) -> usize {
        self.cache.len()
    }

    fn measure(&mut self, id: &UserId, impression: &Impression, hint_share: Option<f64>) -> Result<(), EvaluateError> {
        let load = || match self.users.load(id)? {
            Some(bytes) => record::read(id, &bytes, &self.lengths),
            None => Ok(User::new(self.lengths.len())),
        };
        let user = self.cache.change(id, load)?;
        let state = &mut self.state;
        state.latest_ms = state.latest_ms.max(Some(impression.time));
        let costs = Costs::of(impression);
        state.since_start.add(impression, &costs);
        state.hint.add(impression, hint_share);
        self.live.clear();
        for windows in &mut state.windows {
            if windows.enter(impression.time, self.windows_kept) {
                windows.open.add(impression, &costs);
            }
            self.live.push(windows.live());
        }
        let [before, after] = &mut self.standings;
        stand(user, &self.live, before);
        let truncated = user.truncated;
        user.insert(impression, self.impressions_max, &self.live, &mut self.pairwise);
        state.users_truncated += u64::from(user.truncated && !truncated);
        stand(user, &self.live, after);
        let totals = std::iter::once(&mut state.since_start).chain(state.windows.iter_mut().map(|windows| &mut windows.open));
        for ((totals, before), after) in totals.zip(before).zip(after) {
            totals.replace(before, after);
        }
        Ok(())
    }
}

/// Where a user stands since start (nowhere before the first impression), then in the open window of each length.
fn stand(user: &User, live: &[Option<Live>], standings: &mut Vec<Standing>) {
    let since_start = Standing::of((!user.impressions.is_empty()).then_some(&user.total));
    let windows = live.iter().enumerate().map(|(kind, live)| Standing::of(user.in_window(kind, live.as_ref())));
    standings.clear();
    standings.extend(std::iter::once(since_start).chain(windows));
}

fn lengths(config: &EvaluateConfig) -> Result<Vec<i64>, EvaluateError> {
    let lengths: Vec<i64> = config.windows.iter().map(|span| span.as_millis()).collect();
    let setting = |value: String, allowed: String| Err(EvaluateError::Setting { key: "windows", value, allowed });
    if lengths.len() > WINDOWS_CAP {
        return setting(format!("{} lengths", lengths.len()), format!("at most {WINDOWS_CAP}"));
    }
    for (place, len_ms) in lengths.iter().enumerate() {
        if *len_ms < 1 || lengths[..place].contains(len_ms) {
            return setting(format!("{len_ms} ms"), "each length once, of 1 ms or more".to_owned());
        }
    }
    Ok(lengths)
}

fn from_ms(config: &EvaluateConfig) -> Result<i64, EvaluateError> {
    let Some(value) = &config.from else { return Ok(i64::MIN) };
    let time: jiff::Timestamp = value.parse().map_err(|e: jiff::Error| EvaluateError::From { value: value.clone(), why: e.to_string() })?;
    Ok(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;
    use crate::domain::EventTime;
    use crate::evaluate::{MemoryUsers, UserLine, UserWriter};

    fn evaluator(config: &EvaluateConfig) -> Evaluator {
        Evaluator::new(config, Arc::new(MemoryUsers::default()), AggregateState::default()).unwrap()
    }

    fn over(users: &MemoryUsers) -> Evaluator {
        Evaluator::new(&EvaluateConfig::default(), Arc::new(users.clone()), AggregateState::default()).unwrap()
    }

    fn top(evaluator: &Evaluator, n: usize) -> Vec<UserLine> {
        evaluator.top_users().rank(n, || false).unwrap().unwrap()
    }

    fn sample(user: &str, time: i64, label: bool, logits: [Option<f32>; 3], hint_share: Option<f64>) -> ScoredSample {
        ScoredSample { user: UserId(user.into()), time: EventTime(time), label, logits, hint_share }
    }

    fn observe(evaluator: &mut Evaluator, rows: &[(&str, i64, bool, f32)]) {
        let row = |(user, time, label, light): &(&str, i64, bool, f32)| {
            sample(user, *time, *label, [Some(*light), Some(-light), None], Some(0.25))
        };
        evaluator.observe(&rows.iter().map(row).collect::<Vec<_>>()).unwrap();
    }

    #[test]
    fn a_head_alone_is_measured_and_nothing_is_said_of_the_others_or_the_hint() {
        for (place, head) in ["light", "booster"].into_iter().enumerate() {
            let only = |logit| std::array::from_fn(|head| (head == place).then_some(logit));
            let rows = [("a", true, 1.0), ("a", false, -1.0), ("b", false, 0.5)];
            let samples: Vec<_> =
                (0..).zip(rows).map(|(time, (user, label, logit))| sample(user, time, label, only(logit), None)).collect();
            let mut users = MemoryUsers::default();
            let mut evaluator = over(&users);
            evaluator.observe(&samples).unwrap();
            let report = evaluator.report();
            assert_eq!((report.rows, report.clicks, report.users, report.gauc_users_skipped), (3, 1, 2, 1));
            assert_eq!(report.heads.keys().collect::<Vec<_>>(), [head]);
            assert_eq!(report.heads[head].gauc, Some(1.0));
            assert_eq!((report.hint.mse, report.hint.gradient_share), (None, None));
            users.write(1, &mut evaluator.capture(1).records()).unwrap();
            users.committed(1);
            let top = top(&evaluator, 1);
            assert_eq!((top[0].impressions, top[0].clicks, top[0].auc.get(head)), (2, 1, Some(&1.0)));
        }
    }

    #[test]
    fn figures_of_a_small_stream() {
        let mut evaluator = evaluator(&EvaluateConfig { from: Some("1970-01-01T00:00:01Z".to_owned()), ..EvaluateConfig::default() });
        observe(&mut evaluator, &[("a", 999, true, -9.0), ("a", 1000, true, 1.0), ("a", 1001, false, -1.0), ("b", 1002, false, 0.5)]);
        let report = evaluator.report();
        assert_eq!((report.rows, report.clicks, report.users, report.gauc_users_skipped), (3, 1, 2, 1));
        assert_eq!(report.heads.keys().collect::<Vec<_>>(), ["booster", "light"]);
        assert_eq!((report.heads["light"].gauc, report.heads["booster"].gauc), (Some(1.0), Some(0.0)));
        assert_eq!(report.hint.gradient_share, Some(0.25));
        assert_eq!(report.hint.mse, Some((4.0 + 4.0 + 1.0) / 3.0));
        assert_eq!(report.windows.len(), 2);
    }

    #[test]
    fn scores_that_are_not_there_or_not_finite_leave_no_trace() {
        let mut evaluator = evaluator(&EvaluateConfig::default());
        observe(&mut evaluator, &[("a", 1, true, f32::NAN), ("b", 1, true, f32::INFINITY)]);
        evaluator.observe(&[sample("a", 1, true, [None; 3], None)]).unwrap();
        assert_eq!(evaluator.report().rows, 0);
        assert_eq!(evaluator.cached_users(), 0);
    }

    #[test]
    fn top_users_are_those_of_the_last_commit() {
        let mut users = MemoryUsers::default();
        let mut evaluator = over(&users);
        observe(&mut evaluator, &[("a", 1, true, 0.0), ("b", 2, false, 0.0), ("b", 3, true, 0.0), ("c", 4, false, 1.0)]);
        users.write(1, &mut evaluator.capture(1).records()).unwrap();
        assert_eq!(top(&evaluator, 2), []);
        users.committed(1);
        evaluator.committed(1);
        observe(&mut evaluator, &[("c", 5, true, 0.0), ("c", 6, true, 0.0)]);
        let top = top(&evaluator, 2);
        let summary: Vec<_> =
            top.iter().map(|line| (line.user.as_str(), line.impressions, line.clicks, line.auc.get("light").copied())).collect();
        assert_eq!(summary, [("b", 2, 1, Some(0.5)), ("a", 1, 1, None)]);
    }

    #[test]
    fn ranking_ends_when_it_is_told_to() {
        let mut users = MemoryUsers::default();
        let mut evaluator = over(&users);
        let names: Vec<String> = (0..3000).map(|user| user.to_string()).collect();
        observe(&mut evaluator, &names.iter().map(|name| (name.as_str(), 1, true, 0.0)).collect::<Vec<_>>());
        users.write(1, &mut evaluator.capture(1).records()).unwrap();
        users.committed(1);
        assert_eq!(evaluator.top_users().rank(1, || true).unwrap(), None);
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let refused = |config: EvaluateConfig| {
            Evaluator::new(&config, Arc::new(MemoryUsers::default()), AggregateState::default())
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
        };
        let twice = vec![Span::from_secs(1), Span::from_secs(1)];
        assert!(refused(EvaluateConfig { windows: twice, ..EvaluateConfig::default() }).contains("evaluate.windows = 1000 ms"));
        assert!(refused(EvaluateConfig { windows: vec![Span::from_millis(0)], ..EvaluateConfig::default() }).contains("evaluate.windows"));
        assert!(refused(EvaluateConfig { user_impressions_max: 0, ..EvaluateConfig::default() }).contains("1 to 16384"));
        assert!(
            refused(EvaluateConfig { from: Some("yesterday".to_owned()), ..EvaluateConfig::default() })
                .contains("evaluate.from = \"yesterday\"")
        );
    }
}
