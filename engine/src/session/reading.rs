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
use swarm_core::picker::Priority;

impl TorrentDriver {
    pub(super) fn on_read(self: &Rc<Self>, request: ReadRequest) {
        let ReadRequest { reader, window, part } = request;
        self.with(|inner| {
            let readers = &mut inner.readers;
            readers.waiting.retain(|_, parts| {
                parts.retain(|part| !part.reply.is_closed());
                !parts.is_empty()
            });
            let before = match window.is_empty() {
                true => readers.windows.remove(&reader),
                false => readers.windows.insert(reader, window.clone()),
            };
            let may_download = self.content.get().is_none_or(|content| content.storage.is_downloading());
            if before.as_ref() != Some(&window) && may_download {
                self.move_windows(inner, before.unwrap_or_default());
            }
            match part {
                Some(part) if inner.core.have().has(part.piece) => self.read_part(part),
                Some(part) => inner.readers.waiting.entry(part.piece).or_default().push(part),
                None => {}
            }
            self.refuse_waiting(inner);
        });
    }

    /// Has the pieces of all windows downloaded first, and those that were in one `before` when it is their turn.
    pub(super) fn move_windows(&self, inner: &mut Inner, before: Range<u32>) {
        if self.content.get().is_none() {
            return;
        }
        let mut priorities: BTreeMap<PieceIndex, Priority> =
            before.map(PieceIndex).map(|piece| (piece, self.priority_of(piece))).collect();
        for window in inner.readers.windows.values() {
            for piece in window.clone() {
                // The sooner it is needed the higher, and above what files may have.
                let step = (piece - window.start).min(2) as u8;
                let wanted = Priority(Priority::HIGH.0 + 3 - step);
                let highest = priorities.entry(PieceIndex(piece)).or_insert(wanted);
                *highest = wanted.max(*highest);
            }
        }
        inner.core.set_priorities(self.context.now(), priorities);
    }

    /// A piece is here: whoever waits for it reads it.
    pub(super) fn read_waiting(&self, inner: &mut Inner, piece: PieceIndex) {
        let parts = inner.readers.waiting.remove(&piece).unwrap_or_default();
        parts.into_iter().for_each(|part| self.read_part(part));
    }

    /// The data is opened: whoever waits for what is there reads it.
    pub(super) fn read_all_waiting(&self, inner: &mut Inner) {
        let here = |piece: &PieceIndex| inner.core.have().has(*piece);
        let pieces: Vec<PieceIndex> = inner.readers.waiting.keys().copied().filter(here).collect();
        pieces.into_iter().for_each(|piece| self.read_waiting(inner, piece));
    }

    /// Nothing more is downloaded: nobody waits for what is not there.
    pub(super) fn refuse_waiting(&self, inner: &mut Inner) {
        if self.content.get().is_some_and(|content| !content.storage.is_downloading()) {
            for part in std::mem::take(&mut inner.readers.waiting).into_values().flatten() {
                let why = "the piece is not there, and its file is not downloaded";
                let _ = part.reply.send(Err(io::Error::new(io::ErrorKind::NotFound, why)));
            }
        }
    }

    fn read_part(&self, part: ReadPart) {
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
