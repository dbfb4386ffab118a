//! Limits of categories and trackers: the session knows them as groups of torrents.

use super::Manager;
use crate::torrents::book::Torrent;
use crate::torrents::labels::host_of;
use crate::torrents::{Labels, SharedLimits, addresses};
use std::collections::BTreeMap;
use swarm_engine::RateGroup;

/// Whose limits a group shares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Category(String),
    Tracker(String),
}

/// The groups that the session was told of.
#[derive(Debug, Default)]
pub(super) struct Groups {
    told: BTreeMap<Whose, (RateGroup, SharedLimits)>,
    last: u64,
}

impl Groups {
    /// What the session is to be told of these labels; whether torrents belong to other groups then.
    fn update(&mut self, labels: &Labels) -> (Vec<(RateGroup, SharedLimits)>, bool) {
        let categories = labels.categories.iter().map(|(name, category)| {
            let whose = Whose::Category(name.clone());
            (whose, category.limits)
        });
        let trackers = labels.trackers.iter().map(|(host, limits)| (Whose::Tracker(host.clone()), *limits));
        let wanted: BTreeMap<Whose, SharedLimits> =
            categories.chain(trackers).filter(|(_, limits)| !limits.is_none()).collect();
        let (mut news, mut moves) = (Vec::new(), false);
        self.told.retain(|whose, (group, _)| {
            let is_wanted = wanted.contains_key(whose);
            if !is_wanted {
                news.push((*group, SharedLimits::default()));
                moves = true;
            }
            is_wanted
        });
        for (whose, limits) in wanted {
            match self.told.get_mut(&whose) {
                Some((_, told)) if *told == limits => {}
                Some((group, told)) => {
                    *told = limits;
                    news.push((*group, limits));
                }
                None => {
                    self.last += 1;
                    let group = RateGroup(self.last);
                    news.push((group, limits));
                    self.told.insert(whose, (group, limits));
                    moves = true;
                }
            }
        }
        (news, moves)
    }

    /// The groups of a torrent.
    pub(super) fn of(&self, torrent: &Torrent) -> Vec<RateGroup> {
        if self.told.is_empty() {
            return Vec::new();
        }
        let options = &torrent.record.options;
        let category = options.category.clone().map(Whose::Category);
        let (metainfo, link) = (torrent.metainfo.as_deref(), torrent.record.link.as_deref());
        let tiers = addresses::tiers(options, metainfo, link);
        let hosts = tiers.iter().flatten().filter_map(|url| host_of(url)).map(Whose::Tracker);
        let mut groups: Vec<RateGroup> =
            category.into_iter().chain(hosts).filter_map(|whose| Some(self.told.get(&whose)?.0)).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

impl Manager {
    /// Tells the session which limits torrents share, as the labels have them.
    pub(super) fn tell_groups(&mut self) {
        let (news, moves) = self.groups.update(self.book.labels());
        for (group, limits) in news {
            self.session.set_rate_group(group, limits.upload_limit, limits.download_limit);
        }
        if moves {
            self.touched.extend(self.by_engine.values());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrents::{Category, Id, Options, Record};

    fn torrent(category: &str, trackers: &[&str]) -> Torrent {
        let trackers = trackers.iter().map(|url| (*url).to_owned()).collect();
        let options = Options { category: Some(category.into()), trackers, ..Options::default() };
        Torrent { record: Record { id: Id(1), options, ..Record::default() }, metainfo: None, conflict: None }
    }

    #[test]
    fn a_torrent_shares_the_limits_of_its_category_and_its_trackers() {
        let limits = SharedLimits { upload_limit: Some(5), download_limit: None };
        let mut labels = Labels::default();
        labels.categories.insert("limited".into(), Category { dir: None, limits });
        labels.categories.insert("free".into(), Category::default());
        labels.trackers.insert("tracker.example.org".into(), limits);
        let mut groups = Groups::default();
        let (news, moves) = groups.update(&labels);
        assert!(moves && news == [(RateGroup(1), limits), (RateGroup(2), limits)]);
        assert_eq!(groups.update(&labels), (Vec::new(), false), "no news");
        let urls = ["http://tracker.example.org/announce", "udp://tracker.example.org:1/"];
        for (torrent, expected) in [
            (torrent("limited", &[]), vec![RateGroup(1)]),
            (torrent("limited", &urls), vec![RateGroup(1), RateGroup(2)]),
            (torrent("free", &["http://other.example.org/"]), Vec::new()),
        ] {
            assert_eq!(groups.of(&torrent), expected);
        }
        let other = SharedLimits { upload_limit: Some(6), download_limit: None };
        labels.trackers.insert("tracker.example.org".into(), other);
        labels.categories.remove("limited");
        let (news, moves) = groups.update(&labels);
        assert!(moves && news == [(RateGroup(1), SharedLimits::default()), (RateGroup(2), other)]);
        assert_eq!(groups.of(&torrent("limited", &urls)), [RateGroup(2)]);
    }
}
