use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::user::User;
use super::{EvaluateError, UserLine, UserStates, record};
use crate::domain::{Head, UserId};

/// Lines gathered beyond the ones asked for before they are ranked: a scan holds few, and sorts seldom.
const SLACK: usize = 1024;

/// Ranks the users of a store, beside whoever measures.
pub struct TopUsers {
    users: Arc<dyn UserStates>,
    lengths: Vec<i64>,
}

impl TopUsers {
    pub(super) fn new(users: Arc<dyn UserStates>, lengths: Vec<i64>) -> Self {
        TopUsers { users, lengths }
    }

    /// The `n` users with most impressions, as of the last commit; ties by id. `None`: `stop` said so before all were read.
    ///
    /// # Errors
    /// [`EvaluateError`].
    pub fn rank(&self, n: usize, stop: impl Fn() -> bool) -> Result<Option<Vec<UserLine>>, EvaluateError> {
        let rank = |lines: &mut Vec<UserLine>| {
            lines.sort_unstable_by(|a, b| (Reverse(a.impressions), &a.user).cmp(&(Reverse(b.impressions), &b.user)));
            lines.truncate(n);
        };
        let (mut lines, mut broken, mut stopped) = (Vec::new(), None, false);
        self.users.scan(&mut |id, bytes| {
            match record::read(&id, &bytes, &self.lengths) {
                Ok(user) => lines.push(line(id, &user)),
                Err(error) => {
                    broken = Some(error);
                    return ControlFlow::Break(());
                }
            }
            if lines.len() >= n.saturating_add(SLACK) {
                rank(&mut lines);
                stopped = stop();
            }
            if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        rank(&mut lines);
        broken.map_or(Ok((!stopped).then_some(lines)), Err)
    }
}

fn line(id: UserId, user: &User) -> UserLine {
    let auc = Head::ALL.iter().zip(&user.total.heads).filter_map(|(head, pairs)| Some((head.name().to_owned(), pairs.auc()?))).collect();
    let clicks = user.impressions.labels().iter().filter(|label| **label).count();
    UserLine { user: id.0.into(), impressions: user.impressions.len() as u64, clicks: clicks as u64, auc }
}
