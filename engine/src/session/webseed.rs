//! What a torrent knows of its web seeds beside the state machine: their URLs, and the fetches that are under way.

use crate::storage::Elsewhere;
use bytes::Bytes;
use reqwest::Response;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::Info;
use swarm_core::tracker::access::UrlOrigin;
use swarm_core::webseed::{FetchId, file_url};
use tokio::task::AbortHandle;
use url::Url;

/// How many files' redirects are kept for each URL.
const REDIRECTS_KEPT: usize = 10_000;

/// The body of an answer: a file from its start, or a part of it.
pub(super) struct Body {
    response: Response,
    /// What has been read of it and not taken.
    rest: Bytes,
    /// Where in the file that is.
    at: u64,
}

impl Body {
    pub(super) fn new(response: Response, at: u64) -> Body {
        Body { response, rest: Bytes::new(), at }
    }

    /// Where in the file the next bytes are.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next bytes, at most so many; none at the end.
    pub(super) async fn next(&mut self, len_max: u64) -> Result<Option<Bytes>, reqwest::Error> {
        while self.rest.is_empty() {
            match self.response.chunk().await? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(None),
            }
        }
        let len = usize::try_from(len_max).unwrap_or(usize::MAX).min(self.rest.len());
        self.at += len as u64;
        Ok(Some(self.rest.split_to(len)))
    }
}

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
    /// The server sends files from their starts only.
    pub(super) in_order: Cell<bool>,
    /// The file that it is sending so, for the next fetch to go on with.
    pub(super) whole: RefCell<Option<(FileIndex, Body)>>,
    /// How much has come so that was not wanted.
    pub(super) skipped: Cell<u64>,
    /// It is other files on this machine.
    pub(super) is_local: bool,
    /// What these have.
    pub(super) elsewhere: RefCell<Vec<Arc<Elsewhere>>>,
}

impl WebSource {
    pub(super) fn new(text: String, url: Option<Url>, origin: UrlOrigin) -> WebSource {
        WebSource {
            text,
            url,
            origin,
            has_answered: Cell::new(false),
            redirects: RefCell::default(),
            in_order: Cell::new(false),
            whole: RefCell::default(),
            skipped: Cell::new(0),
            is_local: false,
            elsewhere: RefCell::default(),
        }
    }

    /// Other files on this machine.
    pub(super) fn local() -> WebSource {
        WebSource { is_local: true, ..WebSource::new(String::new(), None, UrlOrigin::Typed) }
    }

    /// Where a file is, whose path the metainfo may spell in another way. `None` if it cannot be named.
    pub(super) fn locate(&self, info: &Info, file: FileIndex, name: Option<&[Vec<u8>]>) -> Option<Url> {
        let own = || info.files[file.idx()].path.iter().map(|component| component.as_bytes());
        match name {
            Some(name) => file_url(self.url.as_ref()?, info.single_file, name.iter().map(Vec::as_slice)),
            None => file_url(self.url.as_ref()?, info.single_file, own()),
        }
    }

    /// What the server is sending of this file from its start, if that has not come to the range yet.
    pub(super) fn take_whole(&self, file: FileIndex, range: &Range<u64>) -> Option<Body> {
        let (of, body) = self.whole.take()?;
        (of == file && body.at() <= range.start).then_some(body)
    }

    /// Where the server has sent us for this file before.
    pub(super) fn redirect(&self, file: FileIndex) -> Option<(Url, Option<IpAddr>)> {
        self.redirects.borrow().get(&file).cloned()
    }

    pub(super) fn forget_redirects(&self) {
        self.redirects.borrow_mut().clear();
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
