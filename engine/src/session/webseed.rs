//! What a torrent knows of its web seeds beside the state machine: their URLs, and the fetches that are under way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::Info;
use swarm_core::tracker::access::UrlOrigin;
use swarm_core::webseed::{FetchId, file_url};
use tokio::task::AbortHandle;
use url::Url;

/// How many files' redirects are kept for each URL.
const REDIRECTS_KEPT: usize = 10_000;

/// One URL.
pub(super) struct WebSource {
    /// As the user or the metainfo names it.
    pub(super) text: String,
    pub(super) url: Option<Url>,
    pub(super) origin: UrlOrigin,
    /// Whether it has answered.
    pub(super) has_answered: Cell<bool>,
    /// Where files are that the server has sent us elsewhere for, and who did.
    redirects: RefCell<BTreeMap<FileIndex, (Url, Option<IpAddr>)>>,
}

impl WebSource {
    pub(super) fn new(text: String, url: Option<Url>, origin: UrlOrigin) -> WebSource {
        WebSource { text, url, origin, has_answered: Cell::new(false), redirects: RefCell::default() }
    }

    /// Where a file is, whose path the metainfo may spell in another way. `None` if it cannot be named.
    pub(super) fn locate(&self, info: &Info, file: FileIndex, name: Option<&[Vec<u8>]>) -> Option<Url> {
        let own = || info.files[file.idx()].path.iter().map(|component| component.as_bytes());
        match name {
            Some(name) => file_url(self.url.as_ref()?, info.single_file, name.iter().map(Vec::as_slice)),
            None => file_url(self.url.as_ref()?, info.single_file, own()),
        }
    }

    /// Where the server has sent us for this file before.
    pub(super) fn redirect(&self, file: FileIndex) -> Option<(Url, Option<IpAddr>)> {
        self.redirects.borrow().get(&file).cloned()
    }

    pub(super) fn keep_redirect(&self, file: FileIndex, to: Option<(Url, Option<IpAddr>)>) {
        let mut redirects = self.redirects.borrow_mut();
        redirects.remove(&file);
        if let Some(to) = to.filter(|_| redirects.len() < REDIRECTS_KEPT) {
            redirects.insert(file, to);
        }
    }
}

/// The web seeds of a torrent.
#[derive(Default)]
pub(super) struct WebSources {
    /// In the order of the state machine's.
    pub(super) sources: Vec<Rc<WebSource>>,
    /// How the metainfo spells the paths of files that have other names here.
    pub(super) names: Rc<BTreeMap<FileIndex, Vec<Vec<u8>>>>,
    pub(super) fetches: BTreeMap<FetchId, AbortHandle>,
    /// How many faults were reported.
    pub(super) faults_reported: usize,
}
