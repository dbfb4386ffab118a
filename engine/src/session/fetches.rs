//! A torrent's web seeds: which there are, what is fetched from them, and how they stand.

use super::event::{Event, WebSeedStats, WebSeedStatus};
use super::options::{Mode, Source};
use super::torrent::{Inner, TorrentDriver};
use super::webseed::WebSource;
use crate::Error;
use std::rc::Rc;
use swarm_core::id::{BlockRef, FileIndex};
use swarm_core::time::Time;
use swarm_core::tracker::access::UrlOrigin;
use swarm_core::webseed::{Fault, FetchId, Penalty, Standing, WebSeedIndex, parse_url};
use tokio::task::spawn_local;

/// How many faults of web seeds a watcher is told of. Others have a part in them, and in their number.
const FAULTS_REPORTED_MAX: usize = 1_000;

impl TorrentDriver {
    /// Its data is known and checked: web seeds may be asked for what is missing.
    pub(super) fn start_web_seeds(self: &Rc<Self>, inner: &mut Inner) {
        if self.options.mode != Mode::Download {
            return;
        }
        let metainfo = &self.content().metainfo;
        let replaced = self.changed.borrow().web_seeds_of_source.clone();
        let of_source = match &self.options.source {
            _ if replaced.is_some() => replaced.as_deref().unwrap_or_default(),
            Source::Magnet(magnet) => &magnet.web_seeds,
            _ => &metainfo.web_seeds,
        };
        let (typed, found) = {
            let options = self.changed.borrow();
            (options.web_seeds.clone(), options.web_seeds_found.clone())
        };
        if typed.len() + of_source.len() > 0 {
            inner.web.names = Rc::new(metainfo.info.renamed_paths(&metainfo.info_bytes));
        }
        if !self.is_begun.get() {
            inner.core.set_asking_trackers(self.context.now(), true);
        }
        self.add_web_seeds(inner, &typed, UrlOrigin::Typed);
        self.add_web_seeds(inner, of_source, UrlOrigin::Metainfo);
        self.add_web_seeds(inner, &found, UrlOrigin::Metainfo);
    }

    /// Uses these URLs too.
    pub(super) fn add_web_seeds(&self, inner: &mut Inner, urls: &[String], origin: UrlOrigin) {
        let now = self.context.now();
        for text in urls {
            if inner.web.sources.iter().any(|source| source.text == *text) {
                continue;
            }
            let Some(index) = inner.core.add_web_seed(now) else {
                return self.warn("too many web seeds: some are passed over");
            };
            let url = parse_url(text);
            let fault = url.as_ref().err().cloned();
            let dropped = self.dropped_web_seeds.borrow().get(text).cloned();
            let source = WebSource::new(text.clone(), url.ok(), origin);
            inner.web.sources.push(Rc::new(source));
            if let Some(fault) = dropped.or(fault.map(Fault::Unsupported)) {
                inner.core.handle_web_seed_fault(now, index, fault);
            }
        }
    }

    /// Fetches blocks in a task of its own.
    pub(super) fn start_fetch(
        self: &Rc<Self>,
        inner: &mut Inner,
        id: FetchId,
        seed: WebSeedIndex,
        blocks: Vec<BlockRef>,
    ) {
        let source = Rc::clone(&inner.web.sources[seed.0 as usize]);
        let task = spawn_local(Rc::clone(self).fetch(id, source, Rc::clone(&inner.web.names), blocks));
        inner.web.fetches.insert(id, task.abort_handle());
        // While it asked nobody it was told nothing.
        inner.core.set_pressure(self.context.now(), self.context.pressure.get());
        self.context.torrents.note_active(self.info_hash);
        let torrent = Rc::clone(self);
        spawn_local(async move {
            match task.await {
                Err(error) if error.is_panic() => torrent.fail(Error::Defect(error.to_string())),
                _ => {}
            }
        });
    }

    pub(super) fn cancel_fetch(&self, inner: &mut Inner, id: FetchId) {
        inner.web.fetches.remove(&id).into_iter().for_each(|task| task.abort());
        self.drop_idle_bodies(inner);
    }

    /// What no next fetch goes on with is not kept open.
    fn drop_idle_bodies(&self, inner: &Inner) {
        let now = self.context.now();
        for (seed, source) in inner.core.web_seeds().iter().zip(&inner.web.sources) {
            if seed.standing(now) != Standing::Fetching {
                source.whole.take();
            }
        }
    }

    /// A fetch has come to its end, or is stopped by a fault, of a file or of the URL.
    pub(super) fn fetch_ended(self: &Rc<Self>, id: FetchId, result: Result<(), (Fault, Option<FileIndex>)>) {
        let now = self.context.now();
        let info = &self.content().metainfo.info;
        self.with(|inner| {
            inner.web.fetches.remove(&id);
            match result {
                Ok(()) => inner.core.handle_fetch_done(now, id),
                Err((fault, file)) => {
                    let file = file.map(|file| &info.files[file.idx()]);
                    let bytes = file.map(|file| file.offset..file.offset + file.length);
                    inner.core.handle_fetch_failed(now, id, fault, bytes);
                }
            }
        });
        self.drop_idle_bodies(&self.inner.borrow());
    }

    /// Tells of a fault.
    pub(super) fn on_web_seed_fault(
        &self,
        inner: &mut Inner,
        seed: WebSeedIndex,
        file_start: Option<u64>,
        fault: Fault,
        penalty: Penalty,
    ) {
        let source = Rc::clone(&inner.web.sources[seed.0 as usize]);
        let file = file_start.and_then(|start| {
            let info = &self.content().metainfo.info;
            let file = info.segments_of(start, 1).next()?.file;
            source.keep_redirect(file, None);
            Some(info.files[file.idx()].path.join("/"))
        });
        if source.is_local {
            if penalty == Penalty::Dropped {
                source.elsewhere.take();
            }
            return tracing::debug!(?file, %fault, ?penalty, "what another torrent has is not taken");
        }
        if matches!(penalty, Penalty::Paused(_)) {
            // It was perhaps the fault of a mirror that it leads to: after the pause it may lead elsewhere.
            source.forget_redirects();
        }
        if penalty == Penalty::Dropped {
            self.dropped_web_seeds.borrow_mut().insert(source.text.clone(), fault.clone());
        }
        tracing::debug!(url = source.text, ?file, %fault, ?penalty, "a web seed fails");
        if inner.web.faults_reported < FAULTS_REPORTED_MAX {
            inner.web.faults_reported += 1;
            self.emit(Event::WebSeedFault { url: source.text.clone(), file, fault, penalty });
        }
    }

    pub(super) fn web_seed_stats(&self, inner: &Inner, now: Time) -> Vec<WebSeedStats> {
        let seeds = inner.core.web_seeds().iter().zip(&inner.web.sources);
        let stats = seeds.filter(|(seed, _)| !seed.is_local()).map(|(seed, source)| WebSeedStats {
            url: source.text.clone(),
            status: match seed.standing(now) {
                Standing::Fetching => WebSeedStatus::Fetching,
                Standing::Paused(until) => {
                    let wait = until.since(now);
                    WebSeedStatus::Paused { fault: seed.last_fault().cloned(), retry_in: wait }
                }
                Standing::Dropped => WebSeedStatus::Dropped(seed.last_fault().cloned()),
                Standing::Idle if seed.lost_files() > 0 && !seed.have().intersects(inner.core.missing()) => {
                    let retry_in = seed.lost_until().map(|until| until.since(now));
                    WebSeedStatus::Lost { fault: seed.last_fault().cloned(), retry_in }
                }
                Standing::Idle => WebSeedStatus::Idle,
            },
            bytes_down: seed.bytes(),
            rate_down: seed.bytes_per_s(now),
            requests: seed.requests(),
            files_lost: seed.lost_files(),
        });
        stats.collect()
    }
}
