//! Torrents by their trackers, and what changed of that since when.

use crate::table::Row;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// How many trackers that went are remembered. Who has missed more gets everything.
const GONE_MAX: usize = 10_000;

/// The info-hashes of torrents by the URLs of their trackers.
pub type ByTracker<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Torrents by their trackers.
pub fn by_tracker(all: &[Row]) -> ByTracker<'_> {
    let mut by_url: ByTracker<'_> = BTreeMap::new();
    for row in all {
        for url in row.tiers.iter().flatten() {
            by_url.entry(url).or_default().extend(row.summary.info_hash.as_deref());
        }
    }
    by_url
}

/// What was there last, and when each part of it changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Counts changes.
    now: u64,
    /// For each URL a hash of its torrents, and its last change.
    known: BTreeMap<String, (u64, u64)>,
    /// URLs that went, and when.
    gone: VecDeque<(u64, String)>,
    /// Who has seen no more than this gets everything.
    whole_until: u64,
}

/// What changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Trackers that have other torrents, or are new.
    pub changed: BTreeSet<String>,
    /// Trackers that went.
    pub removed: BTreeSet<String>,
}

impl Changes {
    /// Takes over what is there now, and says up to which change that is.
    pub fn look(&mut self, all: &ByTracker<'_>) -> u64 {
        let mut next = self.now;
        let mut tick = || {
            next += 1;
            next
        };
        for (url, hashes) in all {
            let hash = hash_of(hashes);
            match self.known.get_mut(*url) {
                Some((known, _)) if *known == hash => {}
                Some(known) => *known = (hash, tick()),
                None => drop(self.known.insert((*url).to_owned(), (hash, tick()))),
            }
        }
        let gone = &mut self.gone;
        self.known.retain(|url, _| {
            let is_here = all.contains_key(url.as_str());
            if !is_here {
                gone.push_back((tick(), url.clone()));
            }
            is_here
        });
        while self.gone.len() > GONE_MAX {
            self.whole_until = self.gone.pop_front().map_or(self.whole_until, |(at, _)| at);
        }
        self.now = next;
        self.now
    }

    /// What changed after `seen`; `None` if that is not known any more.
    pub fn since(&self, seen: u64) -> Option<Changed> {
        if seen < self.whole_until {
            return None;
        }
        let changed = self.known.iter().filter(|(_, (_, at))| *at > seen).map(|(url, _)| url.clone());
        let gone = self.gone.iter().filter(|(at, url)| *at > seen && !self.known.contains_key(url));
        Some(Changed { changed: changed.collect(), removed: gone.map(|(_, url)| url.clone()).collect() })
    }
}

fn hash_of(hashes: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hashes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(urls: &[&str]) -> BTreeSet<String> {
        urls.iter().map(|url| (*url).to_owned()).collect()
    }

    #[test]
    fn changes_of_trackers_are_told_once_and_to_each() {
        let mut changes = Changes::default();
        let first = changes.look(&ByTracker::from([("a", vec!["1", "2"]), ("b", vec!["1"])]));
        assert_eq!(changes.since(first), Some(Changed::default()));
        let second = changes.look(&ByTracker::from([("a", vec!["1"]), ("c", vec!["2"])]));
        let all = Changed { changed: set(&["a", "c"]), removed: set(&["b"]) };
        assert_eq!(changes.since(first), Some(all));
        assert_eq!(changes.since(second), Some(Changed::default()));
        let third = changes.look(&ByTracker::from([("a", vec!["1"]), ("b", vec!["2"]), ("c", vec!["2"])]));
        let back = Changed { changed: set(&["b"]), removed: BTreeSet::new() };
        assert_eq!(changes.since(second), Some(back), "it is here again");
        assert_eq!(
            third,
            changes.look(&ByTracker::from([("a", vec!["1"]), ("b", vec!["2"]), ("c", vec!["2"])]))
        );
    }

    #[test]
    fn who_has_missed_too_much_gets_everything() {
        let mut changes = Changes::default();
        let names: Vec<String> = (0..=GONE_MAX).map(|nth| nth.to_string()).collect();
        let first = changes.look(&names.iter().map(|name| (name.as_str(), vec!["1"])).collect());
        let second = changes.look(&ByTracker::new());
        assert_eq!((changes.since(first), changes.gone.len()), (None, GONE_MAX));
        assert_eq!(changes.since(second), Some(Changed::default()));
    }
}
