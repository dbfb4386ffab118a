//! Torrents of a session that have files in common: what one has completed, those that run beside it take.

use super::context::Context;
use super::event::Event;
use super::torrent::TorrentDriver;
use super::webseed::WebSource;
use crate::hash::Lane;
use crate::storage::{Elsewhere, ReuseSources, Sibling};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::FileIndex;

/// So long files are gathered that become complete, before others look at them together.
const GATHERED_FOR: Duration = Duration::from_secs(1);

/// Has the torrents that download look at what others have completed, one after the other.
pub(super) async fn share(context: Rc<Context>) {
    loop {
        context.completed.some().await;
        tokio::time::sleep(GATHERED_FOR).await;
        let completed = context.completed.take();
        for torrent in context.torrents.downloading() {
            let others = completed.iter().filter(|(id, _)| **id != torrent.id());
            let torrents: Vec<Sibling> = others.map(|(_, sibling)| sibling.clone()).collect();
            if !torrents.is_empty() {
                torrent.take_from(ReuseSources { torrents, ..ReuseSources::default() }).await;
            }
        }
    }
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
        let Ok(turn) = progress.unless_aborted(context.checks.acquire()).await else { return };
        // Beside what comes over the network, which needs workers too.
        let threads = (context.workers.threads() / 2).max(1);
        let (storage, aborted) = (Arc::clone(&content.storage), progress.abort_flag());
        let finding = move || storage.find_elsewhere(&sources, threads, &|| !aborted.load(Ordering::Relaxed));
        let found = context.on_worker(Lane::Check, finding).await;
        drop(turn);
        if let (Ok(Some(found)), false) = (found, progress.is_aborted()) {
            self.use_elsewhere(found);
        }
    }

    fn use_elsewhere(self: &Rc<Self>, found: Elsewhere) {
        let (now, info) = (self.context.now(), &self.content().metainfo.info);
        let from = found.origins().into_iter().map(Into::into).collect();
        let found = Arc::new(found);
        let bytes = self.with(|inner| {
            let mut pieces = Bitfield::empty(info.geometry.pieces());
            found
                .pieces()
                .filter(|&piece| inner.core.missing().has(piece))
                .for_each(|piece| _ = pieces.insert(piece));
            let index = inner.core.add_local_pieces(now, &pieces).filter(|_| pieces.count() > 0)?;
            if inner.web.sources.len() == index.0 as usize {
                inner.web.sources.push(Rc::new(WebSource::local()));
            }
            let mut elsewhere = inner.web.sources[index.0 as usize].elsewhere.borrow_mut();
            // What has been taken is not kept.
            elsewhere.retain(|found| found.pieces().any(|piece| inner.core.missing().has(piece)));
            elsewhere.push(Arc::clone(&found));
            Some(pieces.iter().map(|piece| self.progress.wanted_in(info, piece)).sum())
        });
        let Some(bytes) = bytes else { return };
        let bytes_total = self.progress.stats(Some(info)).bytes_total;
        self.emit(Event::Reused { bytes, bytes_total, bytes_cloned: 0, from });
    }
}
