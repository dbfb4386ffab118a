//! What a torrent has of files that are on this machine already.

use super::event::Event;
use super::torrent::TorrentDriver;
use crate::Error;
use crate::storage::{Lengths, Reusable, ReuseSources, Storage};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use swarm_core::bitfield::Bitfield;
use swarm_core::metainfo::Info;

impl TorrentDriver {
    /// Finds what the user's folders, other torrents of the session and those of earlier ones have of the wanted files. Torrents take
    /// turns, as for checks.
    pub(super) async fn find_reusable(
        &self,
        info: &Info,
        storage: &Arc<dyn Storage>,
    ) -> Result<Option<Reusable>, Error> {
        let (context, progress) = (&*self.context, &self.progress);
        progress.looked_at.set(context.completed.count());
        let dirs = self.options.reuse.clone();
        let sources = ReuseSources {
            torrents: context.torrents.siblings_of(self.info_hash, &Lengths::of(&info.files)),
            state_dir: dirs.as_ref().and_then(|_| context.options.state_dir.clone()),
            dirs: dirs.unwrap_or_default(),
        };
        if sources.is_empty() {
            return Ok(None);
        }
        let _turn = progress.unless_aborted(context.checks.acquire()).await?;
        progress.checking.set(true);
        let (threads, sources) = (context.workers.at_once(), Arc::new(sources));
        let finding = || {
            let (storage, sources, aborted) =
                (Arc::clone(storage), Arc::clone(&sources), progress.abort_flag());
            move || storage.find_reusable(&sources, threads, &|| !aborted.load(Ordering::Relaxed))
        };
        let reusable = self.until_it_fits(finding).await?;
        for warning in reusable.warnings() {
            self.emit(Event::Warning(warning.clone()));
        }
        Ok(Some(reusable))
    }

    /// Takes what was found, once there is space, and checks it. All pieces that are there then.
    pub(super) async fn reuse(
        &self,
        info: &Info,
        storage: &Arc<dyn Storage>,
        had: Bitfield,
        reusable: Reusable,
        damaged: &mut Bitfield,
    ) -> Result<Bitfield, Error> {
        let progress = &self.progress;
        let reusable = Arc::new(reusable);
        let copying = || {
            let (storage, reusable, aborted) =
                (Arc::clone(storage), Arc::clone(&reusable), progress.abort_flag());
            move || storage.copy_reusable(&reusable, &|| !aborted.load(Ordering::Relaxed))
        };
        self.until_it_fits(copying).await?;
        let have = match reusable.pieces() {
            Some(pieces) => self.check(info, storage, had.clone(), pieces, damaged).await?,
            None => had.clone(),
        };
        let (mut bytes, mut bytes_cloned) = (0, 0);
        for piece in have.iter_without(&had) {
            let len = progress.wanted_in(info, piece);
            bytes += len;
            if info.segments(piece).next().is_some_and(|segment| reusable.is_cloned(segment.file)) {
                bytes_cloned += len;
            }
        }
        if bytes > 0 || self.options.reuse.is_some() {
            let from = reusable.origins().into_iter().map(Into::into).collect();
            let bytes_total = progress.stats(Some(info)).bytes_total;
            self.emit(Event::Reused { bytes, bytes_total, bytes_cloned, from });
        }
        Ok(have)
    }
}
