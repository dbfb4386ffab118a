//! From what somebody gives, a file, an address or a link, to a torrent for the manager.

use crate::config::Rules;
use crate::folders;
use crate::torrents::book::{PRIORITY_NORMAL, What, no_such_file, wanted_len};
use crate::torrents::{Edit, Goal, Labels, New, Options, Refusal};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use swarm_engine::{Error, METAINFO_LEN_MAX, Metainfo, SessionOptions, Source};
use tokio::sync::Semaphore;
use url::Url;
use utoipa::{IntoParams, ToSchema};

/// How long a link may be, in bytes.
const LINK_LEN_MAX: usize = 64 * 1024;
/// How many metainfo files are fetched at a time: a server may send as much as the longest has.
static FETCHES: Semaphore = Semaphore::const_new(8);

/// What holds when a torrent is added.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The rules in force.
    pub rules: Arc<Rules>,
    /// Categories, which may have folders.
    pub labels: Arc<Labels>,
}

/// What is wanted of a torrent that is added. In a query, lists are separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AddOptions {
    /// The folder for its file or folder: absolute, or below the one of the configuration. Default: that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    pub dir: Option<PathBuf>,
    /// Whether it is added paused.
    pub paused: bool,
    /// Whether its data is there already, and only to be read.
    pub seed: bool,
    /// Whether it runs without a turn in the queue.
    pub forced: bool,
    /// Whether pieces are started in their order.
    pub sequential: bool,
    /// Whether the first and the last piece of each file are downloaded first.
    pub first_last: bool,
    /// Whether files in its way are its own, whoever has written them: what of them does not match the torrent is replaced. Without it,
    /// such files are only read, and one that does not match fails the torrent.
    pub overwrite: bool,
    /// The indices of the files that are wanted, all others are not; in a query as in `0,3-5`. Default: all are. Of a link it is not known
    /// yet which there are: it can name them itself (`so=0,3-5`).
    #[serde(deserialize_with = "files", skip_serializing_if = "Vec::is_empty")]
    #[param(value_type = Option<String>)]
    pub files: Vec<u32>,
    /// The limit of payload sent, in bytes/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_limit: Option<u64>,
    /// The limit of payload received, in bytes/s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_limit: Option<u64>,
    /// It stops when it has sent this many times its size: a number, "none" or "default".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Goal<f64>>)]
    #[param(value_type = Option<String>)]
    pub ratio_limit: Option<Goal<f64>>,
    /// It stops when it has seeded for so many seconds: a number, "none" or "default".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Goal<u64>>)]
    #[param(value_type = Option<String>)]
    pub seed_time_limit: Option<Goal<u64>>,
    /// Its category.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Its tags.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Trackers, beside its own.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub trackers: Vec<String>,
    /// Peers to connect to, as ADDR:PORT.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
}

/// A list, or a text with commas.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::List(list) => list,
        Given::Text(text) => text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
    })
}

/// Indices of files in a list, or a text with commas and ranges.
fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        List(Vec<u32>),
        Text(String),
    }
    match Given::deserialize(deserializer)? {
        Given::List(list) => Ok(list),
        Given::Text(text) => crate::units::parse_files(&text).map_err(serde::de::Error::custom),
    }
}

fn invalid(error: impl ToString) -> Refusal {
    Refusal::Invalid(error.to_string())
}

impl AddOptions {
    fn options(&self) -> Result<Options, Refusal> {
        let peers = self.peers.iter().map(|peer| {
            peer.parse()
                .map_err(|_| Refusal::Invalid(format!("{peer}: is no peer; write it as in 192.0.2.7:6881")))
        });
        let edit = Edit {
            paused: Some(self.paused),
            forced: Some(self.forced),
            sequential: Some(self.sequential),
            first_last: Some(self.first_last),
            upload_limit: self.upload_limit.map(Some),
            download_limit: self.download_limit.map(Some),
            ratio_limit: self.ratio_limit,
            seed_time_limit: self.seed_time_limit,
            category: self.category.clone().map(Some),
            tags: Some(self.tags.clone()),
            trackers: self.trackers.clone(),
            peers: peers.collect::<Result<_, _>>()?,
            ..Edit::default()
        };
        edit.check()?;
        let mut options = Options { seed: self.seed, overwrite: self.overwrite, ..Options::default() };
        edit.apply(&mut options)?;
        Ok(options)
    }
}

/// A torrent of the bytes of a metainfo file.
///
/// # Errors
/// If they are none, or the options make no sense.
pub async fn of_bytes(bytes: Vec<u8>, options: AddOptions, terms: Terms) -> Result<New, Refusal> {
    blocking(move || {
        let metainfo = Metainfo::parse(&bytes).map_err(invalid)?;
        new(What::Metainfo(Arc::new(metainfo)), &options, &terms)
    })
    .await
}

/// A torrent of a link, an info-hash or the address of a metainfo file, which is fetched first.
///
/// # Errors
/// If it is none of these, cannot be fetched, or the options make no sense.
pub async fn of_source(
    text: &str,
    options: AddOptions,
    terms: Terms,
    session: &SessionOptions,
) -> Result<New, Refusal> {
    if text.len() > LINK_LEN_MAX {
        return Err(Refusal::Invalid(format!("a link has at most {LINK_LEN_MAX} bytes")));
    }
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    if matches!(scheme.as_str(), "http" | "https") {
        let url = Url::parse(text).map_err(invalid)?;
        let bytes = fetch(&url, terms.rules.allow_private_urls, session).await?;
        return of_bytes(bytes, options, terms).await;
    }
    let source: Source = text.trim().parse().map_err(invalid)?;
    let name = match &source {
        Source::Magnet(magnet) => magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string()),
        _ => text.trim().to_owned(),
    };
    let hashes = source.info_hashes();
    let what = What::Link { text: text.trim().to_owned(), name, hashes };
    blocking(move || new(what, &options, &terms)).await
}

/// What is at a URL. Nothing of this machine and network is asked, unless that is allowed: a client that may add torrents, or whoever
/// writes what it adds, is not to reach what trusts us there.
async fn fetch(url: &Url, allow_private: bool, session: &SessionOptions) -> Result<Vec<u8>, Refusal> {
    let _place = FETCHES.acquire().await.map_err(|_| Refusal::Stopping)?;
    let fetched = match allow_private {
        true => swarm_engine::fetch(url, METAINFO_LEN_MAX, session).await,
        false => swarm_engine::fetch_public(url, METAINFO_LEN_MAX, session).await,
    };
    fetched.map_err(|error| match error {
        Error::LocalAddress { url, ip } => Refusal::PrivateUrl { url, ip },
        error => Refusal::Fetch(crate::manager::said(&error)),
    })
}

/// The folder that a client means, if it may be used.
///
/// # Errors
/// If it may not, or cannot be looked at.
pub async fn folder(given: PathBuf, rules: Arc<Rules>) -> Result<PathBuf, Refusal> {
    blocking(move || folders::resolve(Some(&given), &rules.dir, &rules.allow_dirs)).await
}

fn new(what: What, options: &AddOptions, terms: &Terms) -> Result<New, Refusal> {
    let Terms { rules, labels } = terms;
    let category = options.category.as_ref().and_then(|category| labels.categories.get(category));
    // The folder of a category was one that may be used when it was set, which may be long ago.
    let given = options.dir.as_ref().or_else(|| category?.dir.as_ref());
    let dir = folders::resolve(given.map(PathBuf::as_path), &rules.dir, &rules.allow_dirs)?;
    let mut wanted = options.options()?;
    if !options.files.is_empty() {
        let What::Metainfo(metainfo) = &what else { return Err(Refusal::NoMetadata) };
        wanted.priorities = Some(only(&options.files, metainfo.info.files.len())?);
    }
    Ok(New { what, dir, is_default_dir: given.is_none(), options: wanted, past: None })
}

/// The priorities of so many files of which only these are wanted.
fn only(wanted: &[u32], files: usize) -> Result<Vec<u8>, Refusal> {
    let mut each = vec![0; files];
    for &file in wanted {
        *each.get_mut(file as usize).ok_or_else(|| no_such_file(file, files))? = PRIORITY_NORMAL;
    }
    Ok(each)
}

/// Whether the file system of its folder could hold what is wanted of a torrent.
///
/// # Errors
/// If it never can.
pub fn expect_room(new: &New) -> Result<(), Refusal> {
    match &new.what {
        // What is taken over from elsewhere is there, as far as it is.
        What::Metainfo(metainfo) if !new.options.seed && new.past.is_none() => {
            folders::expect_room(&new.dir, wanted_len(&new.options, metainfo))
        }
        _ => Ok(()),
    }
}

/// What looks at files, or parses for long, does not hold up others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refusal::Engine("a defect: it ended early".to_owned()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrents::Category;
    use crate::torrents::goals::GoalWord;

    #[test]
    fn the_folder_of_a_category_is_looked_at_again() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().canonicalize().unwrap().join(name);
        for name in ["home", "other"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let terms = |allowed: &str| {
            let category =
                |name: &str| (name.to_owned(), Category { dir: Some(at(name)), ..Category::default() });
            Terms {
                rules: Arc::new(Rules { dir: at("home"), allow_dirs: vec![at(allowed)], ..Rules::default() }),
                labels: Arc::new(Labels {
                    categories: ["other"].into_iter().map(category).collect(),
                    ..Labels::default()
                }),
            }
        };
        let torrent = || {
            let text = "d4:infod6:lengthi5e4:name1:t12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee";
            What::Metainfo(Arc::new(Metainfo::parse(text.as_bytes()).unwrap()))
        };
        let options = AddOptions { category: Some("other".into()), ..AddOptions::default() };
        let added = new(torrent(), &options, &terms("other")).unwrap();
        assert_eq!((added.dir, added.is_default_dir), (at("other"), false));
        let refused = new(torrent(), &options, &terms("home")).map(|new| new.dir);
        assert_eq!(refused, Err(Refusal::Folder(at("other"))), "it may not be used any more");
        // What is there now is a link to elsewhere.
        std::fs::remove_dir(at("other")).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/", at("other")).unwrap();
            let terms =
                Terms { rules: Arc::new(Rules { dir: at("home"), ..Rules::default() }), ..terms("home") };
            assert!(new(torrent(), &options, &terms).is_err());
        }
    }

    #[test]
    fn options_come_in_json_and_in_queries() {
        let json: AddOptions =
            serde_json::from_str(r#"{"tags": ["a", "b"], "ratio_limit": 1.5, "paused": true}"#).unwrap();
        let query: AddOptions =
            axum::extract::Query::try_from_uri(&"/?tags=a,b&ratio_limit=1.5&paused=true".parse().unwrap())
                .unwrap()
                .0;
        assert_eq!(json, query);
        assert_eq!(
            (&json.tags[..], json.ratio_limit),
            (&["a".to_owned(), "b".to_owned()][..], Some(Goal::Value(1.5)))
        );
        let query = |text: &str| axum::extract::Query::<AddOptions>::try_from_uri(&text.parse().unwrap());
        let json: AddOptions = serde_json::from_str(r#"{"files": [0, 3, 4], "overwrite": true}"#).unwrap();
        assert_eq!(json, query("/?files=0,3-4&overwrite=true").unwrap().0);
        assert_eq!(only(&[2, 0], 3), Ok(vec![4, 0, 4]));
        assert!(matches!(only(&[3], 3), Err(Refusal::Invalid(_))));
        assert_eq!(
            query("/?seed_time_limit=none").unwrap().0.seed_time_limit,
            Some(Goal::Word(GoalWord::None))
        );
        assert!(query("/?seed_time_limit=soon").is_err() && query("/?run=rm").is_err());
    }
}
