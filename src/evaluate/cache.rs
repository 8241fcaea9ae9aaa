//! Users in memory: those that the last commit does not hold as they are now, and a bounded number of those that it does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::user::User;
use crate::domain::UserId;

/// Users kept beyond a commit although the store has them: saves a read and a decode when they come again. A user with 20 impressions
/// takes about 1 KB, so this is some 64 MiB.
const CLEAN_USERS_MAX: usize = 65_536;

/// How a user differs from the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not at all.
    Clean,
    /// As in the write that is not committed yet.
    Written,
    /// Otherwise.
    Changed,
}

#[derive(Debug)]
struct Cached {
    /// Shared with a capture; copied when it changes meanwhile.
    user: Arc<User>,
    standing: Standing,
    /// Count of changes to any user when this one was last changed.
    touched: u64,
}

/// The cache.
#[derive(Debug, Default)]
pub(super) struct UserCache {
    users: HashMap<UserId, Cached>,
    changes: u64,
}

impl UserCache {
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    /// A user about to be changed, loaded where it is not here.
    pub(super) fn change<E>(&mut self, id: &UserId, load: impl FnOnce() -> Result<User, E>) -> Result<&mut User, E> {
        let cached = match self.users.entry(id.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Cached { user: Arc::new(load()?), standing: Standing::Clean, touched: 0 }),
        };
        self.changes += 1;
        (cached.standing, cached.touched) = (Standing::Changed, self.changes);
        Ok(Arc::make_mut(&mut cached.user))
    }

    /// The users that differ from the last commit, to be written; copies none of them. Those of a write that was never committed are among
    /// them again.
    pub(super) fn capture(&mut self) -> Vec<(UserId, Arc<User>)> {
        let differing = self.users.iter_mut().filter(|(_, cached)| cached.standing != Standing::Clean);
        differing
            .map(|(id, cached)| {
                cached.standing = Standing::Written;
                (id.clone(), Arc::clone(&cached.user))
            })
            .collect()
    }

    /// What was written is committed; clean users beyond [`CLEAN_USERS_MAX`] leave, the longest untouched first.
    pub(super) fn committed(&mut self) {
        self.settle(CLEAN_USERS_MAX);
    }

    fn settle(&mut self, clean_max: usize) {
        let mut clean = Vec::new();
        for cached in self.users.values_mut() {
            if cached.standing == Standing::Written {
                cached.standing = Standing::Clean;
            }
            if cached.standing == Standing::Clean {
                clean.push(cached.touched);
            }
        }
        let surplus = clean.len().saturating_sub(clean_max);
        if surplus > 0 {
            let (_, newest_to_go, _) = clean.select_nth_unstable(surplus - 1);
            let newest_to_go = *newest_to_go;
            self.users.retain(|_, cached| cached.standing != Standing::Clean || cached.touched > newest_to_go);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::impressions::Impression;
    use super::*;

    fn id(text: &str) -> UserId {
        UserId(text.into())
    }

    fn impression(time: i64) -> Impression {
        Impression { time, label: true, logits: [0.0; 3] }
    }

    fn change<'a>(cache: &'a mut UserCache, name: &str) -> &'a mut User {
        cache.change(&id(name), || Ok::<_, std::convert::Infallible>(User::new(0))).unwrap()
    }

    fn captured(cache: &mut UserCache) -> Vec<String> {
        let mut ids: Vec<_> = cache.capture().into_iter().map(|(id, _)| id.0.into()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_user_changed_between_write_and_commit_stays_to_be_written() {
        let mut cache = UserCache::default();
        for name in ["a", "b", "c"] {
            change(&mut cache, name);
        }
        assert_eq!(captured(&mut cache), ["a", "b", "c"]);
        cache.settle(8);
        change(&mut cache, "a");
        change(&mut cache, "b");
        assert_eq!(captured(&mut cache), ["a", "b"]);
        assert_eq!(captured(&mut cache), ["a", "b"], "not committed: written again next time");
        change(&mut cache, "b");
        cache.settle(8);
        assert_eq!(captured(&mut cache), ["b"]);
    }

    #[test]
    fn a_change_does_not_reach_what_was_captured() {
        let mut cache = UserCache::default();
        change(&mut cache, "a").impressions.push(&impression(1));
        let captured = cache.capture();
        change(&mut cache, "a").impressions.push(&impression(2));
        assert_eq!(captured[0].1.impressions.times(), [1]);
        assert_eq!(cache.capture()[0].1.impressions.times(), [1, 2]);
    }

    #[test]
    fn clean_users_leave_by_age_and_others_never() {
        let mut cache = UserCache::default();
        for name in ["a", "b", "c", "d"] {
            change(&mut cache, name);
        }
        cache.capture();
        change(&mut cache, "a");
        cache.settle(1);
        let mut left: Vec<_> = cache.users.keys().map(|id| id.0.to_string()).collect();
        left.sort();
        assert_eq!(left, ["a", "d"]);
    }
}
