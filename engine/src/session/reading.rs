//! A torrent and the readers of its files: what they wait for is downloaded first, and read when it is there.

use super::command::{ReadPart, ReadRequest};
use super::torrent::{Inner, TorrentDriver};
use crate::hash::Lane;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::id::PieceIndex;
use swarm_core::reading;

impl TorrentDriver {
    pub(super) fn on_read(self: &Rc<Self>, request: ReadRequest) {
        self.with(|inner| {
            let window = request.window.clone();
            let before = inner.readers.add(request);
            let may_download = self.content.get().is_none_or(|content| content.storage.is_downloading());
            if before != window && may_download {
                self.move_windows(inner, before);
                self.hurry(inner, &window);
            }
            self.serve_readers(inner);
        });
    }

    /// Has the pieces of all windows downloaded first, and those that were in one `before` when it is their turn.
    pub(super) fn move_windows(&self, inner: &mut Inner, before: Range<u32>) {
        if self.content.get().is_none() {
            return;
        }
        let windows = inner.readers.windows.values();
        let priorities = reading::priorities(windows, before, |piece| self.priority_of(piece));
        inner.core.set_priorities(self.context.now(), priorities);
    }

    /// Has others send first what a reader waits for from now on.
    fn hurry(&self, inner: &mut Inner, window: &Range<u32>) {
        if !window.is_empty() {
            inner.core.hurry(self.context.now(), window.clone());
        }
    }

    /// A piece is here: whoever waits for it reads it.
    pub(super) fn read_waiting(&self, inner: &mut Inner, piece: PieceIndex) {
        let parts = inner.readers.waiting.remove(&piece).unwrap_or_default();
        parts.into_iter().for_each(|part| self.read_part(inner, part));
    }

    /// Whoever waits for what is there reads it. Where nothing more is downloaded, nobody waits for the rest.
    pub(super) fn serve_readers(&self, inner: &mut Inner) {
        let Some(content) = self.content.get() else { return };
        let here = |piece: &PieceIndex| inner.core.have().has(*piece);
        let pieces: Vec<PieceIndex> = inner.readers.waiting.keys().copied().filter(here).collect();
        pieces.into_iter().for_each(|piece| self.read_waiting(inner, piece));
        if !content.storage.is_downloading() {
            let (mended, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
                std::mem::take(&mut inner.readers.waiting)
                    .into_iter()
                    .partition(|(piece, _)| content.storage.mends(*piece));
            inner.readers.waiting = mended;
            for part in others.into_values().flatten() {
                let why = "the piece is not there, and its file is not downloaded";
                let _ = part.reply.send(Err(io::Error::new(io::ErrorKind::NotFound, why)));
            }
        }
    }

    /// Reads a part of a piece that is here, after that has been checked.
    pub(super) fn read_part(&self, inner: &mut Inner, part: ReadPart) {
        if !self.is_checked(part.piece) {
            inner.disk.unchecked().ask_now(part.piece).parts.push(part);
            return self.check_unchecked(inner);
        }
        let storage = Arc::clone(&self.content().storage);
        self.context.workers.submit(Lane::Transfer, move || {
            let ReadPart { piece, range, reply } = part;
            let read = storage.prepare(piece, range.clone()).and_then(|prepared| {
                let mut bytes = vec![0; range.len()];
                prepared.copy_to(range.start, &mut bytes).map(|()| bytes)
            });
            let _ = reply.send(read.map_err(io::Error::other));
        });
    }
}
