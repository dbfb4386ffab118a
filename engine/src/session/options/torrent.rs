//! Options of a torrent: what it is, what for, and which files of it.

use crate::error::{Error, OptionError};
use crate::session::rate_group::RateGroup;
use crate::storage::PieceStorage;
#[cfg(feature = "__hooks")]
use crate::storage::SpaceBudget;
use crate::storage::verify::Report;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::dht::MutableTorrentLink;
use swarm_core::id::{FileIndex, InfoHash, InfoHashes};
use swarm_core::metainfo::{Layout, METAINFO_LEN_MAX, Magnet, MagnetError, Metainfo, parse_info_hash};
use swarm_core::picker::{Order, Priority};

/// What a torrent's data is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Get what is missing, then seed.
    Download,
    /// Serve what is there; nothing is ever written to the data, but what [`AddTorrent::scrub`] mends.
    Seed,
    /// Get the metadata of a link, then end.
    Metadata,
}

/// What names a torrent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Source {
    /// Everything about it.
    Metainfo(Arc<Metainfo>),
    /// Its info-hash, and perhaps trackers and peers: the metadata comes from peers (BEP 9).
    Magnet(Box<Magnet>),
    /// The link of a mutable torrent (BEP 46): the DHT knows its info-hash.
    Mutable(MutableTorrentLink),
}

impl Source {
    pub(in crate::session) fn metainfo(&self) -> Option<&Arc<Metainfo>> {
        match self {
            Source::Metainfo(metainfo) => Some(metainfo),
            _ => None,
        }
    }

    /// Reads a metainfo file, and blocks meanwhile.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be read, [`Error::Metainfo`] if it is none.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Source, Error> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        // One more byte tells that it is too long.
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(METAINFO_LEN_MAX as u64 + 1).read_to_end(&mut bytes));
        read.map_err(|e| Error::Read { path: path.to_owned(), source: Arc::new(e) })?;
        Ok(Metainfo::parse(&bytes)?.into())
    }

    /// The torrent's info-hash, unless only the DHT knows it; in version 2 alone cut to 20 bytes.
    pub fn info_hash(&self) -> Option<InfoHash> {
        self.info_hashes().swarms().next()
    }

    /// All of its info-hashes that are known.
    pub fn info_hashes(&self) -> InfoHashes {
        match self {
            Source::Metainfo(metainfo) => metainfo.info.info_hashes(),
            Source::Magnet(magnet) => magnet.info_hashes(),
            Source::Mutable(_) => InfoHashes::default(),
        }
    }
}

/// A magnet link, the link of a mutable torrent, or an info-hash in hexadecimal or base32.
impl std::str::FromStr for Source {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Source, MagnetError> {
        if let Some(info_hash) = parse_info_hash(text) {
            return Ok(info_hash.into());
        }
        match text.parse::<Magnet>() {
            Ok(magnet) => Ok(magnet.into()),
            Err(error) => text.parse().map(Source::Mutable).map_err(|_| error),
        }
    }
}

impl From<Arc<Metainfo>> for Source {
    fn from(metainfo: Arc<Metainfo>) -> Source {
        Source::Metainfo(metainfo)
    }
}

impl From<Metainfo> for Source {
    fn from(metainfo: Metainfo) -> Source {
        Source::Metainfo(Arc::new(metainfo))
    }
}

impl From<Magnet> for Source {
    fn from(magnet: Magnet) -> Source {
        Source::Magnet(Box::new(magnet))
    }
}

impl From<InfoHash> for Source {
    fn from(info_hash: InfoHash) -> Source {
        Magnet::new(info_hash).into()
    }
}

impl From<MutableTorrentLink> for Source {
    fn from(link: MutableTorrentLink) -> Source {
        Source::Mutable(link)
    }
}

/// Which files of a torrent are wanted, and how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Choice);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Choice {
    #[default]
    All,
    Only(Vec<FileIndex>),
    Each(Vec<Priority>),
}

impl Files {
    /// All files.
    pub fn all() -> Files {
        Files::default()
    }

    /// Only these files, by their index in the metainfo.
    pub fn only(files: impl IntoIterator<Item = FileIndex>) -> Files {
        Files(Choice::Only(files.into_iter().collect()))
    }

    /// A priority for each file of the metainfo. What is [`Priority::SKIP`] is not downloaded.
    pub fn priorities(priorities: impl IntoIterator<Item = Priority>) -> Files {
        Files(Choice::Each(priorities.into_iter().collect()))
    }

    /// The priority of each of so many files; `None` if all are wanted alike.
    pub(in crate::session) fn resolve(&self, files: usize) -> Result<Option<Vec<Priority>>, OptionError> {
        match &self.0 {
            Choice::All => Ok(None),
            Choice::Each(each) if each.len() == files => Ok(Some(each.clone())),
            Choice::Each(each) => Err(OptionError::FileCount { given: each.len(), files }),
            Choice::Only(only) => {
                let mut each = vec![Priority::SKIP; files];
                for file in only {
                    *each.get_mut(file.idx()).ok_or(OptionError::NoSuchFile { index: file.0, files })? =
                        Priority::NORMAL;
                }
                Ok(Some(each))
            }
        }
    }
}

/// A torrent to add to a session.
///
/// ```
/// use swarm_engine::{AddTorrent, Source};
/// let link: Source = "magnet:?xt=urn:btih:6a9759bffd5c0af65319979fb7832189f4f3c35d".parse()?;
/// let torrent = AddTorrent::download(link, "downloads").download_limit(1_000_000);
/// # Ok::<(), swarm_engine::MagnetError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AddTorrent {
    pub(crate) source: Source,
    pub(crate) dir: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) files: Files,
    pub(crate) hold: bool,
    pub(crate) paused: bool,
    pub(crate) order: Order,
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) trackers: Vec<String>,
    pub(crate) web_seeds: Vec<String>,
    /// Those that were added since, and that metainfo could have named.
    pub(crate) trackers_found: Vec<String>,
    pub(crate) web_seeds_found: Vec<String>,
    /// In the place of those of its source.
    pub(crate) tiers: Option<Vec<Vec<String>>>,
    pub(crate) web_seeds_of_source: Option<Vec<String>>,
    pub(crate) first_last: bool,
    pub(crate) layout: Layout,
    pub(crate) use_metainfo_trackers: bool,
    pub(crate) announce_interval_min: Duration,
    pub(crate) super_seeding: bool,
    pub(crate) peers_max: usize,
    pub(crate) upload_limit: Option<u64>,
    pub(crate) download_limit: Option<u64>,
    pub(crate) rate_groups: Box<[RateGroup]>,
    pub(crate) scrub: Option<u64>,
    pub(crate) overwrite: bool,
    pub(crate) recheck: bool,
    pub(crate) check_only: bool,
    pub(crate) found: Option<Arc<Report>>,
    pub(crate) reuse: Option<Vec<PathBuf>>,
    pub(crate) storage: Option<Arc<dyn PieceStorage>>,
    #[cfg(feature = "__hooks")]
    pub(crate) space: Option<Arc<SpaceBudget>>,
    #[cfg(feature = "__hooks")]
    pub(crate) poison: bool,
}

impl AddTorrent {
    fn new(source: Source, dir: PathBuf, mode: Mode) -> AddTorrent {
        AddTorrent {
            source,
            dir,
            mode,
            files: Files::all(),
            hold: false,
            paused: false,
            order: Order::RarestFirst,
            peers: Vec::new(),
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            trackers_found: Vec::new(),
            web_seeds_found: Vec::new(),
            tiers: None,
            web_seeds_of_source: None,
            first_last: false,
            layout: Layout::default(),
            use_metainfo_trackers: true,
            announce_interval_min: Duration::from_secs(60),
            super_seeding: true,
            peers_max: 100,
            upload_limit: None,
            download_limit: None,
            rate_groups: Box::default(),
            scrub: None,
            overwrite: false,
            recheck: false,
            check_only: false,
            found: None,
            reuse: None,
            storage: None,
            #[cfg(feature = "__hooks")]
            space: None,
            #[cfg(feature = "__hooks")]
            poison: false,
        }
    }

    /// Downloads into `dir`, the folder that is to hold the torrent's file or folder. It need not exist.
    pub fn download(source: impl Into<Source>, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent::new(source.into(), dir.into(), Mode::Download)
    }

    /// Seeds what lies in `dir`, the folder that holds the torrent's file or folder.
    pub fn seed(source: impl Into<Source>, dir: impl Into<PathBuf>) -> AddTorrent {
        AddTorrent::new(source.into(), dir.into(), Mode::Seed)
    }

    /// Downloads into a storage of one's own instead of files. The options about files in the way do nothing then.
    #[doc(hidden)]
    pub fn download_to(source: impl Into<Source>, storage: Arc<dyn PieceStorage>) -> AddTorrent {
        AddTorrent {
            storage: Some(storage),
            ..AddTorrent::new(source.into(), PathBuf::new(), Mode::Download)
        }
    }

    /// Seeds what is in a storage of one's own.
    #[doc(hidden)]
    pub fn seed_from(source: impl Into<Source>, storage: Arc<dyn PieceStorage>) -> AddTorrent {
        AddTorrent { storage: Some(storage), ..AddTorrent::new(source.into(), PathBuf::new(), Mode::Seed) }
    }

    /// Gets the metadata of a link, and nothing else.
    pub fn metadata(source: impl Into<Source>) -> AddTorrent {
        AddTorrent::new(source.into(), PathBuf::new(), Mode::Metadata)
    }

    setters! {
        /// Which files are wanted.
        files(files: Files);

        /// Waits, once the metadata of a link is here, until [`TorrentHandle::set_files`](crate::TorrentHandle::set_files) says which
        /// files are wanted.
        hold(on: bool);

        /// Whether it is added [paused](crate::TorrentHandle::pause).
        paused(on: bool);

        /// The order in which pieces are started.
        order(order: Order);

        /// Whether the first and the last piece of each file that is wanted come before all others: players want those to begin.
        first_last(on: bool);

        /// Other names of the torrent's files on disk than those in its metainfo. It has to be the same each time.
        layout(layout: Layout);

        /// Whether the trackers of the metainfo or link are used.
        use_metainfo_trackers(on: bool);

        /// The shortest interval between two announces that a tracker may impose: a minute unless given. A tracker of one's own may be
        /// trusted with less.
        announce_interval_min(interval: Duration);

        /// Whether a seed that knows of no other copy reveals each piece once before it reveals any again (super-seeding, BEP 16). It does
        /// so only while there are enough peers to copy pieces from one another, and hides less while its uplink idles.
        super_seeding(on: bool);

        /// Connections of this torrent: 100 unless given.
        peers_max(count: usize);

        /// Payload sent to peers of this torrent, in bytes/s.
        upload_limit(bytes_per_s: impl Into<Option<u64>>);

        /// Payload received from peers of this torrent, in bytes/s.
        download_limit(bytes_per_s: impl Into<Option<u64>>);

        /// The groups whose [limits](crate::Session::set_rate_group) it shares.
        rate_groups(groups: impl Into<Box<[RateGroup]>>);

        /// Reads all data that is there again over time, in order, at so many bytes/s, to find what has rotted: that is no longer sent,
        /// [told of](crate::Event::DataBad), and fetched again from peers. So a seed too writes to its files, but only what was right when
        /// a file looked as it does now. The torrents of a session take turns; a round takes at least an hour. On systems other than Linux
        /// what is read may come from memory.
        scrub(bytes_per_s: impl Into<Option<u64>>);

        /// Whether files in the way that are not this torrent's may be overwritten.
        overwrite(on: bool);

        /// Whether to check all data even if saved state says that it is good.
        recheck(on: bool);

        /// Whether it is only looked at what is there: once that is known and checked, the torrent is
        /// [paused](crate::TorrentHandle::pause). No peer and no tracker hears of it before it is resumed.
        check_only(on: bool);

        /// What [`verify::run`](crate::verify::run) has just found in `dir`: of files that have not changed since, nothing is read again. A
        /// report of another torrent counts for nothing.
        found(report: impl Into<Option<Arc<Report>>>);

        /// Makes the disk behave as if it were full beyond a budget.
        #[cfg(feature = "__hooks")]
        #[doc(hidden)]
        space(budget: Arc<SpaceBudget>);

        /// Makes every block that is sent corrupt.
        #[cfg(feature = "__hooks")]
        #[doc(hidden)]
        poison(on: bool);
    }

    /// Peers to connect to, besides those that trackers name.
    pub fn peers(mut self, peers: impl IntoIterator<Item = SocketAddr>) -> AddTorrent {
        self.peers = peers.into_iter().collect();
        self
    }

    /// Before anything is downloaded, takes what these folders and files have of the wanted files, under whatever names: a file of the
    /// same content, or pieces of it at the same places. Where the file system can do that they share their space on the disk. So is done
    /// with what the session's state folder knows of complete torrents, which is all with no folder at all. What other torrents of the
    /// session have is reused in any case. [`Event::Reused`](crate::Event::Reused) tells how much that was.
    pub fn reuse(mut self, dirs: impl IntoIterator<Item = impl Into<PathBuf>>) -> AddTorrent {
        self.reuse = Some(dirs.into_iter().map(Into::into).collect());
        self
    }

    /// Trackers to use, a tier each, besides those of the metainfo or link. Unlike those, they may be anywhere on this machine and
    /// network.
    pub fn trackers(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> AddTorrent {
        self.trackers = urls.into_iter().map(Into::into).collect();
        self
    }

    /// Web seeds to use (BEP 19), besides those of the metainfo or link: URLs of a single file, or of the folder that holds the torrent's.
    /// Unlike those, they may be anywhere on this machine and network.
    pub fn web_seeds(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> AddTorrent {
        self.web_seeds = urls.into_iter().map(Into::into).collect();
        self
    }

    #[cfg(feature = "__hooks")]
    pub(in crate::session) fn is_poisoned(&self) -> bool {
        self.poison
    }

    #[cfg(not(feature = "__hooks"))]
    pub(in crate::session) fn is_poisoned(&self) -> bool {
        false
    }

    pub(in crate::session) fn validate(&self) -> Result<(), Error> {
        if self.peers_max == 0 {
            return Err(OptionError::Zero { option: "peers_max" }.into());
        }
        if let Some(metainfo) = self.source.metainfo() {
            self.files.resolve(metainfo.info.files.len())?;
            self.layout.apply(&metainfo.info).map_err(OptionError::from)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_the_torrent() {
        let file = FileIndex;
        assert_eq!(Files::all().resolve(3), Ok(None));
        let only = Files::only([file(2), file(0)]).resolve(3).unwrap().unwrap();
        assert_eq!(only, [Priority::NORMAL, Priority::SKIP, Priority::NORMAL]);
        let wrong = Files::only([file(3)]).resolve(3);
        assert_eq!(wrong, Err(OptionError::NoSuchFile { index: 3, files: 3 }));
        let wrong = Files::priorities([Priority::HIGH]).resolve(3);
        assert_eq!(wrong, Err(OptionError::FileCount { given: 1, files: 3 }));
    }

    #[test]
    fn a_source_is_parsed_from_what_people_paste() {
        let hash = "6a9759bffd5c0af65319979fb7832189f4f3c35d";
        for text in [hash.to_owned(), format!("magnet:?xt=urn:btih:{hash}")] {
            let source: Source = text.parse().unwrap();
            assert_eq!(source.info_hash().unwrap().to_string(), hash);
        }
        let mutable: Source = format!("magnet:?xs=urn:btpk:{}", "ab".repeat(32)).parse().unwrap();
        assert!(mutable.info_hash().is_none());
        assert!("release.meta".parse::<Source>().is_err());
    }

    #[test]
    fn a_source_is_read_from_a_metainfo_file() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("a.meta");
        assert!(matches!(Source::from_file(&path), Err(Error::Read { .. })));
        std::fs::write(
            &path,
            "d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaaee",
        )
        .unwrap();
        assert!(
            matches!(Source::from_file(&path), Ok(Source::Metainfo(metainfo)) if metainfo.info.name == "a")
        );
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(METAINFO_LEN_MAX as u64 * 2).unwrap();
        let error = Source::from_file(&path).unwrap_err();
        assert!(matches!(error, Error::Metainfo(swarm_core::metainfo::MetainfoError::TooLong(_))), "{error}");
    }
}
