//! What of the list is looked at: which torrents, in which order, from where on. Part of the address, so it can be kept and shared.

use crate::table::{State, Summary};
use std::cmp::Ordering;
use std::sync::Arc;
use url::form_urlencoded;

/// How many rows are sent unless the page asks for others.
const COUNT: usize = 60;
/// How many at most.
const COUNT_MAX: usize = 240;
/// How much of what is searched for counts, in characters.
const SEARCH_LEN_MAX: usize = 200;
/// From how many digits on something can be the beginning of an info-hash. With fewer, any word would find some.
const HASH_LEN_MIN: usize = 6;

/// Torrents that belong together for those who look for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Group {
    #[default]
    All,
    Active,
    Downloading,
    Seeding,
    Complete,
    Waiting,
    Paused,
    Failed,
}

impl Group {
    pub const ALL: [Group; 8] = [
        Group::All,
        Group::Active,
        Group::Downloading,
        Group::Seeding,
        Group::Complete,
        Group::Waiting,
        Group::Paused,
        Group::Failed,
    ];

    /// Its name in addresses.
    pub fn name(self) -> &'static str {
        match self {
            Group::All => "all",
            Group::Active => "active",
            Group::Downloading => "downloading",
            Group::Seeding => "seeding",
            Group::Complete => "complete",
            Group::Waiting => "waiting",
            Group::Paused => "paused",
            Group::Failed => "failed",
        }
    }

    /// Its name for people.
    pub fn label(self) -> &'static str {
        match self {
            Group::All => "All",
            Group::Active => "Active",
            Group::Downloading => "Downloading",
            Group::Seeding => "Seeding",
            Group::Complete => "Complete",
            Group::Waiting => "Waiting",
            Group::Paused => "Paused",
            Group::Failed => "Failed",
        }
    }

    pub fn has(self, summary: &Summary) -> bool {
        match self {
            Group::All => true,
            Group::Active => summary.rate_down | summary.rate_up != 0,
            Group::Downloading => matches!(summary.state, State::Downloading | State::Metadata),
            Group::Seeding => summary.state == State::Seeding,
            Group::Complete => summary.bytes_total > 0 && summary.bytes_verified >= summary.bytes_total,
            Group::Waiting => matches!(summary.state, State::Queued | State::Checking | State::Moving),
            Group::Paused => summary.state == State::Paused,
            Group::Failed => summary.state == State::Failed || summary.error.is_some(),
        }
    }
}

/// What the order goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    Name,
    Progress,
    Size,
    Down,
    Up,
    Ratio,
    Left,
    #[default]
    Added,
    Queue,
}

impl Sort {
    pub const ALL: [Sort; 9] = [
        Sort::Name,
        Sort::Progress,
        Sort::Size,
        Sort::Down,
        Sort::Up,
        Sort::Ratio,
        Sort::Left,
        Sort::Added,
        Sort::Queue,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Progress => "progress",
            Sort::Size => "size",
            Sort::Down => "down",
            Sort::Up => "up",
            Sort::Ratio => "ratio",
            Sort::Left => "left",
            Sort::Added => "added",
            Sort::Queue => "queue",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Sort::Name => "Name",
            Sort::Progress => "Progress",
            Sort::Size => "Size",
            Sort::Down => "Down",
            Sort::Up => "Up",
            Sort::Ratio => "Ratio",
            Sort::Left => "Left",
            Sort::Added => "Added",
            Sort::Queue => "Queue",
        }
    }

    /// What people mean first when they choose it.
    pub fn descends(self) -> bool {
        !matches!(self, Sort::Name | Sort::Left | Sort::Queue)
    }
}

/// What of the list is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    pub search: String,
    pub group: Group,
    pub category: Option<String>,
    pub tag: Option<String>,
    pub sort: Sort,
    pub is_reversed: bool,
    pub from: usize,
    pub count: usize,
}

impl ListQuery {
    /// Reads the pairs of an address. What is not understood means nothing: it came from somebody's history.
    pub fn parse(query: &str) -> ListQuery {
        let mut list = ListQuery { count: COUNT, ..ListQuery::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "q" => list.search = value.trim().chars().take(SEARCH_LEN_MAX).collect(),
                "state" => list.group = one_of(Group::ALL, Group::name, &value),
                "sort" => list.sort = one_of(Sort::ALL, Sort::name, &value),
                "reverse" => list.is_reversed = value == "1",
                "category" => list.category = Some(value.into_owned()),
                "tag" => list.tag = Some(value.into_owned()),
                "from" => list.from = value.parse().unwrap_or(0),
                "count" => list.count = value.parse().unwrap_or(COUNT).clamp(1, COUNT_MAX),
                _ => {}
            }
        }
        list
    }

    /// The same for an address, but for where it begins.
    pub fn encode(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut put = |name: &str, value: &str, is_default: bool| {
            if !is_default {
                query.append_pair(name, value);
            }
        };
        put("q", &self.search, self.search.is_empty());
        put("state", self.group.name(), self.group == Group::All);
        put("category", self.category.as_deref().unwrap_or_default(), self.category.is_none());
        put("tag", self.tag.as_deref().unwrap_or_default(), self.tag.is_none());
        put("sort", self.sort.name(), self.sort == Sort::default());
        put("reverse", "1", !self.is_reversed);
        query.finish()
    }

    /// Whether a torrent is one of those that are looked at. `search` is what is searched for, in lower case.
    pub fn wants(&self, summary: &Summary, search: &str) -> bool {
        let is_hash = search.len() >= HASH_LEN_MIN;
        let has =
            |hash: &Option<String>| is_hash && hash.as_deref().is_some_and(|hash| hash.starts_with(search));
        self.group.has(summary)
            && self
                .category
                .as_ref()
                .is_none_or(|category| summary.category.as_deref().unwrap_or_default() == category)
            && self.tag.as_ref().is_none_or(|tag| summary.tags.contains(tag))
            && (search.is_empty()
                || summary.name.to_lowercase().contains(search)
                || has(&summary.info_hash_v1)
                || has(&summary.info_hash_v2))
    }

    /// Whether the order goes from high to low.
    pub fn descends(&self) -> bool {
        self.sort.descends() != self.is_reversed
    }

    /// Puts torrents in order; those that are alike by their numbers.
    pub fn sort(&self, torrents: &mut [Arc<Summary>]) {
        let by = |key: fn(&Summary) -> u64| move |a: &Summary, b: &Summary| key(a).cmp(&key(b));
        match self.sort {
            Sort::Name => {
                // Lower case is not worked out at each comparison.
                torrents.sort_by_cached_key(|summary| (summary.name.to_lowercase(), summary.id));
                if self.descends() {
                    torrents.reverse();
                }
            }
            Sort::Progress => self.order(torrents, |a, b| done(a).total_cmp(&done(b))),
            Sort::Size => self.order(torrents, by(|summary| summary.bytes_total)),
            Sort::Down => self.order(torrents, by(|summary| summary.rate_down)),
            Sort::Up => self.order(torrents, by(|summary| summary.rate_up)),
            Sort::Ratio => self.order(torrents, |a, b| a.ratio.total_cmp(&b.ratio)),
            Sort::Left => self.order(torrents, by(|summary| left(summary).unwrap_or(u64::MAX))),
            Sort::Added => self.order(torrents, |a, b| (a.added_at, a.id).cmp(&(b.added_at, b.id))),
            Sort::Queue => self.order(torrents, |a, b| a.position.cmp(&b.position)),
        }
    }

    fn order(&self, torrents: &mut [Arc<Summary>], compare: impl Fn(&Summary, &Summary) -> Ordering) {
        let descends = self.descends();
        torrents.sort_by(|a, b| {
            let order = compare(a, b);
            (if descends { order.reverse() } else { order }).then(a.id.cmp(&b.id))
        });
    }
}

fn one_of<T: Copy + Default>(
    all: impl IntoIterator<Item = T>,
    name: fn(T) -> &'static str,
    value: &str,
) -> T {
    all.into_iter().find(|one| name(*one) == value).unwrap_or_default()
}

fn done(summary: &Summary) -> f64 {
    match summary.bytes_total {
        0 => 0.0,
        total => summary.bytes_verified as f64 / total as f64,
    }
}

/// In how many seconds it is complete, if it goes on like this.
pub fn left(summary: &Summary) -> Option<u64> {
    let missing = summary.bytes_total.saturating_sub(summary.bytes_verified);
    (summary.state == State::Downloading && missing > 0)
        .then(|| missing.checked_div(summary.rate_down))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrents::Id;

    fn torrent(id: i64, name: &str, verified: u64) -> Arc<Summary> {
        let hash = Some(format!("{id:040x}"));
        Arc::new(Summary {
            id: Id(id),
            name: name.into(),
            info_hash_v1: hash,
            bytes_total: 10,
            bytes_verified: verified,
            added_at: id,
            ..Summary::default()
        })
    }

    #[test]
    fn a_query_survives_its_address_and_nonsense_means_nothing() {
        let text = "q=a%26b%3Cscript%3E&state=paused&category=x%20y&tag=t&sort=name&reverse=1";
        let query = ListQuery::parse(text);
        assert_eq!((&*query.search, query.group, query.sort), ("a&b<script>", Group::Paused, Sort::Name));
        assert_eq!(ListQuery::parse(&query.encode()), query);
        let plain = ListQuery::parse("state=x&sort=&count=99999999&from=-1&other=1&q=%ff");
        assert_eq!(
            (plain.group, plain.sort, plain.count, plain.from),
            (Group::All, Sort::Added, COUNT_MAX, 0)
        );
        assert_eq!(ListQuery::parse(&format!("q={}", "x".repeat(10_000))).search.len(), SEARCH_LEN_MAX);
    }

    #[test]
    fn torrents_are_found_by_name_hash_and_group() {
        let one = torrent(0xab, "Debian ÄÖ", 10);
        let wants = |query: &str| {
            let query = ListQuery::parse(query);
            query.wants(&one, &query.search.to_lowercase())
        };
        assert!(wants("") && wants("q=DEBIAN") && wants("q=%C3%A4%C3%B6") && wants("q=00000000"));
        assert!(wants("state=complete") && wants("category="));
        assert!(!wants("q=fedora") && !wants("state=seeding") && !wants("category=x") && !wants("tag=x"));
    }

    #[test]
    fn orders_go_both_ways_and_are_the_same_each_time() {
        let all = [torrent(1, "b", 5), torrent(2, "A", 5), torrent(3, "c", 9)];
        let order = |query: &str| {
            let mut sorted = all.to_vec();
            ListQuery::parse(query).sort(&mut sorted);
            sorted.iter().map(|torrent| torrent.id.0).collect::<Vec<_>>()
        };
        assert_eq!((order(""), order("reverse=1")), (vec![3, 2, 1], vec![1, 2, 3]));
        assert_eq!((order("sort=name"), order("sort=name&reverse=1")), (vec![2, 1, 3], vec![3, 1, 2]));
        assert_eq!(
            (order("sort=progress"), order("sort=progress&reverse=1")),
            (vec![3, 1, 2], vec![1, 2, 3])
        );
    }
}
