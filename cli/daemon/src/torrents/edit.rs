//! What users change of a torrent.

use super::Refusal;
use super::addresses::TrackerEdit;
use super::goals::Goal;
use super::labels::{check_label, check_limit};
use super::record::Options;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use url::Url;
use utoipa::ToSchema;

/// How many trackers, web seeds or peers users may add to a torrent.
pub const ADDRESSES_MAX: usize = 1_000;
/// How long a URL may be, in bytes.
const URL_LEN_MAX: usize = 4_096;
/// How many tags a torrent may have.
const TAGS_MAX: usize = 100;
/// How long the name of a torrent in lists may be, in bytes.
const NAME_LEN_MAX: usize = 1_024;
/// The highest priority of a file.
const PRIORITY_MAX: u8 = 7;

/// What is to be changed of a torrent. What is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Edit {
    /// What it is called in lists; null: by its own name. Its files keep theirs.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub name: Option<Option<String>>,
    /// Whether it takes no part in its swarm. Resuming a torrent that a goal has stopped has it go on beyond that goal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Whether it runs without a turn in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<bool>,
    /// Whether pieces are started in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequential: Option<bool>,
    /// Whether the first and the last piece of each file are downloaded first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_last: Option<bool>,
    /// The limit of payload sent, in bytes/s; null lifts it.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub upload_limit: Option<Option<u64>>,
    /// The limit of payload received, in bytes/s; null lifts it.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub download_limit: Option<Option<u64>>,
    /// It stops when it has sent this many times its size: a number, "none" or "default".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_limit: Option<Goal<f64>>,
    /// It stops when it has seeded for so many seconds: a number, "none" or "default".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed_time_limit: Option<Goal<u64>>,
    /// Its category; null takes it away.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub category: Option<Option<String>>,
    /// All of its tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Tags to give it, beside those that it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_tags: Vec<String>,
    /// Tags to take away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
    /// Where it goes in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Place>,
    /// All data is checked again.
    #[serde(skip)]
    pub recheck: bool,
    /// Other priorities, by the indices of the files.
    #[serde(skip)]
    pub priorities: BTreeMap<u32, u8>,
    /// Trackers to add, a tier each.
    #[serde(skip)]
    pub trackers: Vec<String>,
    /// All of its trackers, in tiers, in the place of those that it has.
    #[serde(skip)]
    pub tiers: Option<Vec<Vec<String>>>,
    /// Other changes of its trackers, one after the other.
    #[serde(skip)]
    pub tracker_edits: Vec<TrackerEdit>,
    /// Web seeds to remove.
    #[serde(skip)]
    pub web_seeds_removed: Vec<String>,
    /// Web seeds to add.
    #[serde(skip)]
    pub web_seeds: Vec<String>,
    /// Peers to add.
    #[serde(skip)]
    pub peers: Vec<SocketAddr>,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Before all others.
    Top,
    /// One further to the front.
    Up,
    /// One further to the end.
    Down,
    /// After all others.
    Bottom,
    /// After so many others.
    At(u32),
}

/// A value that is there, be it null.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn invalid<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(what.into()))
}

impl Edit {
    /// Whether it makes sense by itself.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), Refusal> {
        if let Some(Goal::Value(ratio)) = self.ratio_limit
            && !(ratio.is_finite() && ratio >= 0.0)
        {
            return invalid(format!("ratio_limit: {ratio} is not a number from 0 up"));
        }
        if let Some(Goal::Value(seconds)) = self.seed_time_limit
            && i64::try_from(seconds).is_err()
        {
            return invalid(format!("seed_time_limit: {seconds} is out of range"));
        }
        for (name, limit) in [("upload_limit", self.upload_limit), ("download_limit", self.download_limit)] {
            check_limit(name, limit.flatten())?;
        }
        if let Some(Some(name)) = &self.name
            && (name.trim().is_empty() || name.len() > NAME_LEN_MAX || name.contains(char::is_control))
        {
            return invalid(format!("name: has 1 to {NAME_LEN_MAX} bytes, and no control characters"));
        }
        let labels = self.tags.iter().flatten().chain(&self.add_tags).chain(self.category.iter().flatten());
        labels.into_iter().try_for_each(|label| check_label(label))?;
        if let Some((file, priority)) = self.priorities.iter().find(|(_, priority)| **priority > PRIORITY_MAX)
        {
            return invalid(format!("file {file}: {priority} is not a priority from 0 to {PRIORITY_MAX}"));
        }
        let named = self.tracker_edits.iter().filter_map(|edit| match edit {
            TrackerEdit::Add { url, .. } | TrackerEdit::Replace { with: url, .. } => Some(url),
            TrackerEdit::Remove { .. } => None,
        });
        let trackers = self.trackers.iter().chain(self.tiers.iter().flatten().flatten()).chain(named);
        trackers.into_iter().try_for_each(|url| check_url(url, &["http", "https", "udp"]))?;
        if self.tracker_edits.len().max(self.web_seeds_removed.len()) > ADDRESSES_MAX {
            return invalid(format!("at most {ADDRESSES_MAX} trackers or web seeds at once"));
        }
        self.web_seeds.iter().try_for_each(|url| check_url(url, &["http", "https"]))?;
        match self.peers.iter().find(|peer| peer.port() == 0) {
            Some(peer) => invalid(format!("{peer}: has port 0, where no peer can listen")),
            None => Ok(()),
        }
    }

    /// Changes a torrent's options, but for its position and its files.
    ///
    /// # Errors
    /// If there were too many of something.
    pub fn apply(&self, options: &mut Options) -> Result<(), Refusal> {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(from) = from {
                *to = from.clone();
            }
        }
        set(&mut options.name, self.name.as_ref());
        set(&mut options.paused, self.paused.as_ref());
        set(&mut options.forced, self.forced.as_ref());
        set(&mut options.sequential, self.sequential.as_ref());
        set(&mut options.first_last, self.first_last.as_ref());
        set(&mut options.upload_limit, self.upload_limit.as_ref());
        set(&mut options.download_limit, self.download_limit.as_ref());
        set(&mut options.ratio_limit, self.ratio_limit.as_ref());
        set(&mut options.seed_time_limit, self.seed_time_limit.as_ref());
        set(&mut options.category, self.category.as_ref());
        if let Some(tags) = &self.tags {
            options.tags.clone_from(tags);
        }
        options.tags.retain(|tag| !self.remove_tags.contains(tag));
        options.tags.extend(self.add_tags.iter().cloned());
        options.tags.sort();
        options.tags.dedup();
        if options.tags.len() > TAGS_MAX {
            return invalid(format!("tags: at most {TAGS_MAX}"));
        }
        options.recheck |= self.recheck;
        match &mut options.tiers {
            Some(tiers) => add_tiers(tiers, &self.trackers)?,
            None => add("trackers", &mut options.trackers, &self.trackers)?,
        }
        let web_seeds = options.all_web_seeds.as_mut().unwrap_or(&mut options.web_seeds);
        add("web seeds", web_seeds, &self.web_seeds)?;
        add("peers", &mut options.peers, &self.peers)
    }
}

fn add<T: Clone + PartialEq>(what: &str, to: &mut Vec<T>, more: &[T]) -> Result<(), Refusal> {
    for one in more {
        if !to.contains(one) {
            to.push(one.clone());
        }
    }
    if to.len() > ADDRESSES_MAX {
        invalid(format!("{what}: at most {ADDRESSES_MAX} may be added"))
    } else {
        Ok(())
    }
}

fn add_tiers(tiers: &mut Vec<Vec<String>>, more: &[String]) -> Result<(), Refusal> {
    for url in more {
        if !tiers.iter().flatten().any(|known| known == url) {
            tiers.push(vec![url.clone()]);
        }
    }
    match tiers.iter().map(Vec::len).sum::<usize>() > ADDRESSES_MAX {
        true => invalid(format!("trackers: at most {ADDRESSES_MAX}")),
        false => Ok(()),
    }
}

fn check_url(text: &str, schemes: &[&str]) -> Result<(), Refusal> {
    if text.len() > URL_LEN_MAX {
        return invalid(format!("a URL has at most {URL_LEN_MAX} bytes"));
    }
    let url = Url::parse(text).map_err(|error| Refusal::Invalid(format!("{text}: is not a URL: {error}")))?;
    if !schemes.contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
        return invalid(format!("{text}: is no URL that starts with {}:", schemes.join(":, ")));
    }
    match url.scheme() == "udp" && url.port().is_none() {
        true => invalid(format!("{text}: names no port, and udp: has none of its own")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrents::goals::GoalWord;

    fn edit(json: &str) -> Edit {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_left_out_stays_and_null_takes_away() {
        let mut options = Options { upload_limit: Some(5), category: Some("a".into()), ..Options::default() };
        edit("{}").apply(&mut options).unwrap();
        assert_eq!((options.upload_limit, options.category.as_deref()), (Some(5), Some("a")));
        edit(r#"{"upload_limit": null, "category": null, "paused": true}"#).apply(&mut options).unwrap();
        assert_eq!((options.upload_limit, &options.category, options.paused), (None, &None, true));
        edit(r#"{"ratio_limit": "none", "tags": ["b", "a", "b"]}"#).apply(&mut options).unwrap();
        assert_eq!(options.ratio_limit, Goal::Word(GoalWord::None));
        assert_eq!(options.tags, ["a", "b"]);
        edit(r#"{"add_tags": ["c", "a"], "remove_tags": ["b", "x"]}"#).apply(&mut options).unwrap();
        assert_eq!(options.tags, ["a", "c"]);
        assert!(serde_json::from_str::<Edit>(r#"{"dir": "/etc"}"#).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (json, named) in [
            (r#"{"ratio_limit": -1.0}"#, "ratio_limit"),
            (r#"{"upload_limit": 0}"#, "upload_limit"),
            (r#"{"download_limit": 18446744073709551615}"#, "download_limit"),
            (r#"{"tags": ["a,b"]}"#, "a,b"),
            (r#"{"category": ""}"#, "category"),
        ] {
            let Err(Refusal::Invalid(message)) = edit(json).check() else { panic!("{json}") };
            assert!(message.contains(named), "{message}");
        }
        for url in ["file:///etc/passwd", "ftp://a/", "udp://a", "http://", "gopher://a:70/", "a"] {
            let tracker = Edit { trackers: vec![url.to_owned()], ..Edit::default() };
            assert!(tracker.check().is_err(), "{url}");
        }
        let web_seed = Edit { web_seeds: vec!["udp://a:1/".to_owned()], ..Edit::default() };
        assert!(web_seed.check().is_err());
        let peer = Edit { peers: vec!["127.0.0.1:0".parse().unwrap()], ..Edit::default() };
        assert!(peer.check().is_err());
        let priority = Edit { priorities: BTreeMap::from([(0, 8)]), ..Edit::default() };
        assert!(priority.check().is_err());
    }

    #[test]
    fn what_is_added_is_bounded_and_counts_once() {
        let mut options = Options::default();
        let peers = |from: u16, to: u16| (from..to).map(|port| ([10, 0, 0, 1], port).into()).collect();
        let more = Edit { peers: peers(1, 1_001), ..Edit::default() };
        more.apply(&mut options).unwrap();
        more.apply(&mut options).unwrap();
        assert_eq!(options.peers.len(), ADDRESSES_MAX);
        assert!(Edit { peers: peers(1_001, 1_002), ..Edit::default() }.apply(&mut options).is_err());
    }
}
