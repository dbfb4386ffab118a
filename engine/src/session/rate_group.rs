//! Limits that several torrents share, beside their own and the session's.

use super::limit::Limit;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use swarm_core::time::Time;

/// Torrents of a session that share limits. What the number means is its user's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a number is all that it is")]
pub struct RateGroup(pub u64);

/// The limits of a group.
pub(super) struct GroupLimits {
    pub(super) upload: Limit,
    pub(super) download: Limit,
}

/// The groups of a session, as far as they have limits or torrents.
#[derive(Default)]
pub(super) struct RateGroups(RefCell<BTreeMap<RateGroup, Rc<GroupLimits>>>);

impl RateGroups {
    /// Sets or lifts the limits of a group.
    pub(super) fn set(&self, now: Time, group: RateGroup, upload: Option<u64>, download: Option<u64>) {
        let limits = self.get(group);
        limits.upload.set(now, upload);
        limits.download.set(now, download);
        drop(limits);
        // Those that limit nothing and nobody are forgotten.
        let is_of_use = |limits: &Rc<GroupLimits>| {
            let has_limit = limits.upload.rate().or(limits.download.rate()).is_some();
            has_limit || Rc::strong_count(limits) > 1
        };
        self.0.borrow_mut().retain(|_, limits| is_of_use(limits));
    }

    fn get(&self, group: RateGroup) -> Rc<GroupLimits> {
        let new = || Rc::new(GroupLimits { upload: Limit::new(None), download: Limit::new(None) });
        Rc::clone(self.0.borrow_mut().entry(group).or_insert_with(new))
    }

    /// The limits of a torrent in these groups.
    pub(super) fn of(&self, groups: &[RateGroup]) -> Box<[Rc<GroupLimits>]> {
        groups.iter().map(|group| self.get(*group)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_there_as_long_as_it_limits_somebody() {
        let (groups, now) = (RateGroups::default(), Time::from_micros(1));
        let (one, other) = (RateGroup(1), RateGroup(2));
        groups.set(now, one, Some(1_000), None);
        let torrent = groups.of(&[one, other]);
        groups.set(now, other, None, Some(5));
        assert_eq!(torrent[1].download.rate(), Some(5), "it holds for those that are there already");
        groups.set(now, one, None, None);
        groups.set(now, other, None, None);
        assert_eq!(groups.0.borrow().len(), 2);
        drop(torrent);
        groups.set(now, one, None, None);
        assert!(groups.0.borrow().is_empty());
    }
}
