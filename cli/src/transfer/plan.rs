//! What the user wants of the torrents of a command.

use crate::exit::{Exit, fail, label_of, printable};
use crate::network::NetworkArgs;
use crate::selection::Selection;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::metainfo::Info;
use swarm_core::picker::Order;
use swarm_engine::verify::Report;
use swarm_engine::{AddTorrent, Files, Mode, Source, SpaceBudget};

/// When to stop once everything is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SeedUntil {
    /// At once.
    Complete,
    /// When interrupted.
    Interrupted,
    /// When this many times the size has been uploaded.
    Ratio(f64),
    /// After this time.
    Elapsed(Duration),
}

/// What the user wants, the same for all torrents.
pub struct Plan {
    pub mode: Mode,
    /// The folder that holds, or is to hold, each torrent's file or folder.
    pub dir: PathBuf,
    pub selection: Selection,
    pub sequential: bool,
    /// Whether a file is served to players.
    pub stream: bool,
    pub overwrite: bool,
    pub recheck: bool,
    /// What was found in `dir` just now, so that it is not read again.
    pub found: Option<Arc<Report>>,
    /// Folders whose files are taken instead of downloaded.
    pub reuse: Vec<PathBuf>,
    /// The rate at which all data is read again over time.
    pub scrub: Option<u64>,
    /// Whether missing pieces are an error from the start.
    pub needs_all: bool,
    pub until: SeedUntil,
    /// How long a full disk is waited for.
    pub space_wait: Option<Duration>,
    /// How long nothing may come.
    pub stall_timeout: Option<Duration>,
    /// A disk that is full after so many bytes, for so long.
    pub simulated_disk: Option<(u64, Duration)>,
    /// Whether each block that is sent is corrupt.
    pub poison: bool,
}

impl Plan {
    /// Seeds until interrupted, and has nothing else out of the ordinary.
    pub fn new(mode: Mode, dir: PathBuf) -> Plan {
        Plan {
            mode,
            dir,
            selection: Selection::default(),
            sequential: false,
            stream: false,
            overwrite: false,
            recheck: false,
            found: None,
            reuse: Vec::new(),
            scrub: None,
            needs_all: false,
            until: SeedUntil::Interrupted,
            space_wait: None,
            stall_timeout: None,
            simulated_disk: None,
            poison: false,
        }
    }

    pub fn is_seed(&self) -> bool {
        self.mode == Mode::Seed
    }

    pub fn is_metadata(&self) -> bool {
        self.mode == Mode::Metadata
    }

    /// A torrent for the session. Of a link the files are chosen later.
    pub fn torrent(
        &self,
        source: Source,
        files: Files,
        space: Option<Arc<SpaceBudget>>,
        network: &NetworkArgs,
    ) -> AddTorrent {
        let (dir, is_link) = match &source {
            Source::Metainfo(metainfo) => (self.dir_of(&metainfo.info), false),
            _ => (self.dir.clone(), true),
        };
        let torrent = match self.mode {
            Mode::Seed => AddTorrent::seed(source, dir),
            Mode::Metadata => AddTorrent::metadata(source),
            _ => AddTorrent::download(source, dir),
        };
        let torrent = torrent
            .hold(is_link && !self.is_metadata())
            .files(files)
            .order(if self.sequential { Order::Sequential } else { Order::RarestFirst })
            .first_last(self.stream)
            .overwrite(self.overwrite)
            .recheck(self.recheck)
            .scrub(self.scrub)
            .found(self.found.clone())
            .poison(self.poison);
        let torrent = match &self.reuse[..] {
            [] => torrent,
            dirs => torrent.reuse(dirs),
        };
        network.apply(match space {
            Some(budget) => torrent.space(budget),
            None => torrent,
        })
    }

    /// A seed's folder must not be a file, such as a second metainfo file. Of a link it is chosen before it is
    /// known what the torrent is, so it must not be the data itself.
    pub fn expect_folder(&self, info: &Info, is_link: bool) -> Result<()> {
        let (dir, name) = (self.dir_of(info), printable(&info.name));
        if self.is_seed() && dir.is_file() {
            let what = format!("{}: is a file, not the folder that contains {name}", label_of(dir));
            return fail(Exit::Usage, what);
        }
        if is_link && dir != self.dir {
            let (given, dir) = (label_of(&self.dir), label_of(dir));
            return fail(
                Exit::Usage,
                format!("{given}: is {name} itself; give the folder that contains it, {dir}"),
            );
        }
        Ok(())
    }

    /// The folder that holds the torrent's file or folder, also where the user names these themselves.
    pub fn dir_of(&self, info: &Info) -> PathBuf {
        let dir = &self.dir;
        let is_there = dir.join(&info.name).symlink_metadata().is_ok();
        if !self.is_seed() || is_there || !is_data(dir, info) {
            return dir.clone();
        }
        folder_of(dir, &info.name).unwrap_or_else(|| dir.clone())
    }
}

/// The folder that holds what is at this path by this name; none if that is called otherwise.
pub fn folder_of(path: &Path, name: &str) -> Option<PathBuf> {
    let named = |path: &Path| (path.file_name()? == name).then(|| parent_of(path).to_owned());
    // Of `.`, `..` and links to it only the real path has the name.
    named(path).or_else(|| named(&path.canonicalize().ok()?))
}

/// The folder in which a file or folder lies.
pub fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether what is at this path looks like the torrent's file, or like a folder with some of its files.
fn is_data(path: &Path, info: &Info) -> bool {
    let below =
        info.files.iter().map(|file| file.path.get(1..).unwrap_or_default().iter().collect::<PathBuf>());
    path.is_file() && info.files.iter().all(|file| file.path.len() == 1)
        || below.filter(|below| !below.as_os_str().is_empty()).any(|below| path.join(below).exists())
}
