//! Categories, tags, and limits of trackers: what belongs to several torrents.

use super::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use utoipa::ToSchema;

/// How many categories there may be.
const CATEGORIES_MAX: usize = 1_000;
/// How many tags.
const TAGS_MAX: usize = 10_000;
/// How many trackers may have limits.
const TRACKERS_MAX: usize = 1_000;
/// How long a tag or a category may be, in bytes.
const LABEL_LEN_MAX: usize = 255;
/// How long the name of a host may be, in bytes.
const HOST_LEN_MAX: usize = 255;

/// Limits that some torrents share, in bytes/s; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SharedLimits {
    /// Of payload sent.
    pub upload_limit: Option<u64>,
    /// Of payload received.
    pub download_limit: Option<u64>,
}

/// A category: what its torrents have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Category {
    /// The folder of torrents that are added to it without one: absolute, without links. `None`: the daemon's.
    pub dir: Option<PathBuf>,
    /// What its torrents together may move.
    pub limits: SharedLimits,
}

/// What is to be changed of a category. What is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CategoryEdit {
    /// Its folder, as `folders::resolve` gives it.
    pub dir: Option<Option<PathBuf>>,
    /// The limit of payload sent.
    pub upload_limit: Option<Option<u64>>,
    /// The limit of payload received.
    pub download_limit: Option<Option<u64>>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Categories by name.
    pub categories: BTreeMap<String, Category>,
    /// Tags.
    pub tags: BTreeSet<String>,
    /// Limits by the host of a tracker.
    pub trackers: BTreeMap<String, SharedLimits>,
}

/// What is to be changed of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelsEdit {
    /// Makes a category. Refused if it is there.
    CreateCategory(String, CategoryEdit),
    /// Changes a category. Refused if there is none.
    EditCategory(String, CategoryEdit),
    /// Takes categories away, from their torrents too. Those that are not there are passed over.
    RemoveCategories(Vec<String>),
    /// Makes tags, as far as they are not there.
    CreateTags(Vec<String>),
    /// Takes tags away, from their torrents too. Those that are not there are passed over.
    RemoveTags(Vec<String>),
    /// Limits all torrents together that a tracker of this host has; without limits it is forgotten.
    LimitTracker(String, SharedLimits),
}

/// Whether a text can be a tag or the name of a category.
///
/// # Errors
/// Why not.
pub fn check_label(label: &str) -> Result<(), Refusal> {
    if label.is_empty() || label.len() > LABEL_LEN_MAX || label.contains([',', '\n', '\r', '\0']) {
        return Err(Refusal::Invalid(format!(
            "{label:?}: a tag or category has 1 to {LABEL_LEN_MAX} bytes, and no comma"
        )));
    }
    Ok(())
}

/// Whether a limit makes sense.
///
/// # Errors
/// Why not.
pub fn check_limit(name: &str, limit: Option<u64>) -> Result<(), Refusal> {
    match limit.is_some_and(|limit| limit == 0 || i64::try_from(limit).is_err()) {
        true => {
            Err(Refusal::Invalid(format!("{name}: is a number of bytes/s from 1 up; null lifts the limit")))
        }
        false => Ok(()),
    }
}

impl SharedLimits {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == SharedLimits::default()
    }

    fn check(&self) -> Result<(), Refusal> {
        check_limit("upload_limit", self.upload_limit)?;
        check_limit("download_limit", self.download_limit)
    }
}

impl Category {
    fn apply(&mut self, edit: CategoryEdit) -> Result<(), Refusal> {
        let CategoryEdit { dir, upload_limit, download_limit } = edit;
        self.dir = dir.unwrap_or(self.dir.take());
        self.limits.upload_limit = upload_limit.unwrap_or(self.limits.upload_limit);
        self.limits.download_limit = download_limit.unwrap_or(self.limits.download_limit);
        self.limits.check()
    }
}

impl Labels {
    /// Takes an edit over. What it takes from torrents is the caller's to do.
    ///
    /// # Errors
    /// Why not: then nothing counts.
    pub fn apply(&mut self, edit: LabelsEdit) -> Result<(), Refusal> {
        match edit {
            LabelsEdit::CreateCategory(name, edit) => {
                if self.categories.contains_key(&name) {
                    return Err(Refusal::CategoryExists(name));
                }
                check_label(&name)?;
                self.categories.entry(name).or_default().apply(edit)?;
            }
            LabelsEdit::EditCategory(name, edit) => match self.categories.get_mut(&name) {
                Some(category) => category.apply(edit)?,
                None => return Err(Refusal::NoSuchCategory(name)),
            },
            LabelsEdit::RemoveCategories(names) => {
                self.categories.retain(|name, _| !names.contains(name));
            }
            LabelsEdit::CreateTags(tags) => {
                tags.iter().try_for_each(|tag| check_label(tag))?;
                self.tags.extend(tags);
            }
            LabelsEdit::RemoveTags(tags) => self.tags.retain(|tag| !tags.contains(tag)),
            LabelsEdit::LimitTracker(host, limits) => {
                limits.check()?;
                let host = check_host(&host)?;
                match limits.is_none() {
                    true => self.trackers.remove(&host),
                    false => self.trackers.insert(host, limits),
                };
            }
        }
        self.check_size()
    }

    /// Takes up what a torrent has; whether that is news.
    ///
    /// # Errors
    /// If there are too many then.
    pub fn take_up(&mut self, category: Option<&str>, tags: &[String]) -> Result<bool, Refusal> {
        let mut is_news = false;
        if let Some(category) = category.filter(|category| !self.categories.contains_key(*category)) {
            self.categories.insert(category.to_owned(), Category::default());
            is_news = true;
        }
        for tag in tags {
            if !self.tags.contains(tag) {
                is_news |= self.tags.insert(tag.clone());
            }
        }
        self.check_size().map(|()| is_news)
    }

    fn check_size(&self) -> Result<(), Refusal> {
        let counts = [
            ("categories", self.categories.len(), CATEGORIES_MAX),
            ("tags", self.tags.len(), TAGS_MAX),
            ("trackers with limits", self.trackers.len(), TRACKERS_MAX),
        ];
        match counts.into_iter().find(|(_, count, max)| count > max) {
            Some((what, _, max)) => Err(Refusal::Invalid(format!("{what}: there may be {max} of them"))),
            None => Ok(()),
        }
    }
}

/// A host as trackers are compared by it.
fn check_host(host: &str) -> Result<String, Refusal> {
    let wrong = || Refusal::Invalid(format!("{host:?}: is no host of a tracker, as in tracker.example.org"));
    if host.is_empty() || host.len() > HOST_LEN_MAX {
        return Err(wrong());
    }
    let url = url::Url::parse(&format!("http://{host}/")).map_err(|_| wrong())?;
    // An address of IPv6 stands in brackets; a port belongs to no host.
    let has_port = if host.starts_with('[') { !host.ends_with(']') } else { host.contains(':') };
    let plain = url.host_str().filter(|_| !has_port && !host.contains(['?', '#', '@', '/', '\\']));
    plain.map(str::to_owned).ok_or_else(wrong)
}

/// The host of a tracker, as limits know it.
pub fn host_of(tracker: &str) -> Option<String> {
    let url = url::Url::parse(tracker).ok()?;
    // Of `udp:` it is taken as it stands.
    url.host_str().map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(name: &str) -> LabelsEdit {
        LabelsEdit::CreateCategory(name.to_owned(), CategoryEdit::default())
    }

    #[test]
    fn a_category_is_made_once_and_changed_in_part() {
        let mut labels = Labels::default();
        let edit = CategoryEdit {
            dir: Some(Some("/srv".into())),
            upload_limit: Some(Some(5)),
            ..CategoryEdit::default()
        };
        labels.apply(LabelsEdit::CreateCategory("a".into(), edit)).unwrap();
        assert_eq!(labels.apply(create("a")), Err(Refusal::CategoryExists("a".into())));
        let edit = CategoryEdit { upload_limit: Some(None), ..CategoryEdit::default() };
        labels.apply(LabelsEdit::EditCategory("a".into(), edit.clone())).unwrap();
        let expected = Category { dir: Some("/srv".into()), limits: SharedLimits::default() };
        assert_eq!(labels.categories["a"], expected);
        let none = labels.apply(LabelsEdit::EditCategory("b".into(), edit));
        assert_eq!(none, Err(Refusal::NoSuchCategory("b".into())));
        let zero = CategoryEdit { download_limit: Some(Some(0)), ..CategoryEdit::default() };
        assert!(labels.clone().apply(LabelsEdit::EditCategory("a".into(), zero)).is_err());
        for name in ["", "a,b", "a\nb"] {
            assert!(labels.clone().apply(create(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn they_are_bounded() {
        let mut labels = Labels::default();
        let tags = (0..TAGS_MAX).map(|tag| tag.to_string()).collect();
        labels.apply(LabelsEdit::CreateTags(tags)).unwrap();
        assert!(labels.clone().apply(LabelsEdit::CreateTags(vec!["x".into()])).is_err());
        assert!(labels.clone().take_up(None, &["x".into()]).is_err());
        assert_eq!(labels.take_up(None, &["7".into()]), Ok(false));
        assert_eq!(labels.take_up(Some("c"), &[]), Ok(true));
    }

    #[test]
    fn limits_of_trackers_go_by_their_hosts() {
        let mut labels = Labels::default();
        let limits = SharedLimits { upload_limit: Some(1), download_limit: None };
        for host in ["Tracker.Example.org", "192.0.2.1", "[2001:db8::1]"] {
            labels.apply(LabelsEdit::LimitTracker(host.into(), limits)).unwrap();
        }
        for (url, host) in [
            ("http://tracker.example.org:80/announce", "tracker.example.org"),
            ("udp://TRACKER.example.org:1337", "tracker.example.org"),
            ("https://[2001:db8::1]/", "[2001:db8::1]"),
        ] {
            assert_eq!(host_of(url).as_deref(), Some(host));
            assert!(labels.trackers.contains_key(host), "{host}");
        }
        for wrong in ["", "a/b", "http://a", "a:80", "a@b", "a b"] {
            assert!(labels.apply(LabelsEdit::LimitTracker(wrong.into(), limits)).is_err(), "{wrong}");
        }
        labels
            .apply(LabelsEdit::LimitTracker("tracker.example.org".into(), SharedLimits::default()))
            .unwrap();
        assert_eq!(labels.trackers.len(), 2);
    }
}
