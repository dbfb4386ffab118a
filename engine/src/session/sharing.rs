//! Torrents of a session that have files in common: what one has completed, those that run beside it take.

use super::context::Context;
use super::event::Event;
use super::torrent::{Inner, TorrentDriver};
use super::webseed::WebSource;
use crate::hash::Lane;
use crate::storage::{Elsewhere, ReuseSources, Sibling};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{FileIndex, PieceIndex};
use swarm_core::webseed::WebSeedIndex;

/// So long files are gathered that become complete, before others look at them together.
const GATHERED_FOR: Duration = Duration::from_secs(1);

/// Has the torrents that download look at what others have completed, one after the other.
pub(super) async fn share(context: Rc<Context>) {
    loop {
        context.completed.some().await;
        tokio::time::sleep(GATHERED_FOR).await;
        let (completed, newcomers) = context.completed.take();
        // By their names: one may have to wait long for its turn, and others be removed meanwhile.
        for name in context.torrents.downloading() {
            let Some(torrent) = context.torrents.get(name) else { continue };
            let (id, lengths) = (torrent.id(), context.torrents.lengths_of(name));
            let others = completed.iter().filter(|(other, _)| **other != id);
            let others =
                others.map(|(_, other)| other).filter(|other| other.lengths.may_meet(&lengths)).cloned();
            let mut torrents: Vec<Sibling> = others.collect();
            if newcomers.contains(&name) {
                torrents.extend(context.torrents.siblings_of(name, &lengths));
            }
            if !torrents.is_empty() {
                torrent.take_from(ReuseSources { torrents, ..ReuseSources::default() }).await;
            }
        }
    }
}

/// What is known of the other files that a torrent takes from.
fn local_source(inner: &Inner) -> Option<Rc<WebSource>> {
    let WebSeedIndex(at) = inner.core.local_pieces()?;
    inner.web.sources.get(at as usize).cloned()
}

impl TorrentDriver {
    /// These of its files are complete, or all may be. Others may have them too.
    pub(super) fn note_complete(&self, files: Option<Vec<FileIndex>>) {
        if files.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        if let Some(location) = self.known.location() {
            self.context.completed.note(self.events.id, location, files);
        }
    }

    /// Finds which pieces these have of those that it lacks, and has them taken from there.
    pub(super) async fn take_from(self: Rc<Self>, sources: ReuseSources) {
        let (context, progress) = (&self.context, &self.progress);
        let Some(content) = self.content.get() else { return };
        if !self.inner.borrow().core.may_have_local_pieces() {
            return;
        }
        let Ok(turn) = progress.unless_aborted(context.checks.acquire()).await else { return };
        // Beside what comes over the network, which needs workers too.
        let threads = (context.workers.at_once() / 2).max(1);
        let (storage, aborted) = (Arc::clone(&content.storage), progress.abort_flag());
        let finding = move || storage.find_elsewhere(&sources, threads, &|| !aborted.load(Ordering::Relaxed));
        let found = context.on_worker(Lane::Check, finding).await;
        drop(turn);
        if let (Ok(Some(found)), false) = (found, progress.is_aborted()) {
            self.use_elsewhere(found);
        }
    }

    fn use_elsewhere(self: &Rc<Self>, found: Elsewhere) {
        let info = &self.content().metainfo.info;
        let from = found.origins().into_iter().map(Into::into).collect();
        let found = Arc::new(found);
        let bytes = self.with(|inner| {
            let missing = |piece: &PieceIndex| inner.core.missing().has(*piece);
            let bytes: u64 = found
                .pieces()
                .into_iter()
                .filter(missing)
                .map(|piece| self.progress.wanted_in(info, piece))
                .sum();
            if bytes == 0 {
                return None;
            }
            let local = local_source(inner);
            let source = local.clone().unwrap_or_else(|| Rc::new(WebSource::local()));
            source.elsewhere.borrow_mut().push(Arc::clone(&found));
            let index = self.set_elsewhere(inner, &source);
            if local.is_none() && index.is_some() {
                inner.web.sources.push(source);
            }
            index.map(|_| bytes)
        });
        let Some(bytes) = bytes else { return };
        let bytes_total = self.progress.stats(Some(info)).bytes_total;
        self.emit(Event::Reused { bytes, bytes_total, bytes_cloned: 0, from });
    }

    /// Nothing is taken any more, at least for now.
    pub(super) fn leave_elsewhere(&self, inner: &mut Inner) {
        if let Some(source) = local_source(inner) {
            source.elsewhere.take();
            self.set_elsewhere(inner, &source);
        }
    }

    /// Tells the state machine which missing pieces can be had so. What has nothing of them is not kept.
    pub(super) fn set_elsewhere(&self, inner: &mut Inner, source: &WebSource) -> Option<WebSeedIndex> {
        let missing = inner.core.missing();
        let mut pieces = Bitfield::empty(missing.len());
        source.elsewhere.borrow_mut().retain(|found| {
            let mut has_some = false;
            for piece in found.pieces().into_iter().filter(|piece| missing.has(*piece)) {
                (has_some, _) = (true, pieces.insert(piece));
            }
            has_some
        });
        inner.core.set_local_pieces(self.context.now(), pieces)
    }
}
