//! How much each piece is wanted: by the files that it has a part in, and whether those begin with their ends.

use super::options::Mode;
use super::torrent::{Content, Inner, TorrentDriver};
use std::rc::Rc;
use swarm_core::id::PieceIndex;
use swarm_core::metainfo::Segment;
use swarm_core::picker::Priority;

impl TorrentDriver {
    /// Gives all that is missing the priority that it has by its files.
    pub(super) fn set_priorities(&self, inner: &mut Inner) {
        let have = inner.core.have().clone();
        let priorities = have.iter_zeros().map(|piece| (piece, self.priority_of(piece)));
        inner.core.set_priorities(self.context.now(), priorities);
    }

    /// The same once that has changed; what readers wait for comes first still.
    pub(super) fn refresh_priorities(self: &Rc<Self>) {
        if self.content.get().is_some() {
            self.with(|inner| {
                self.set_priorities(inner);
                self.move_windows(inner, 0..0);
            });
        }
    }

    /// How much a piece is wanted: as much as the files that it has a part in.
    pub(super) fn priority_of(&self, piece: PieceIndex) -> Priority {
        let Content { metainfo, needed, files, storage } = self.content();
        if self.options.mode == Mode::Seed {
            return if storage.mends(piece) { Priority::NORMAL } else { Priority::SKIP };
        }
        if !needed.has(piece) {
            return Priority::SKIP;
        }
        let first_last = self.changed.borrow().first_last;
        if files.is_none() && !first_last {
            return Priority::NORMAL;
        }
        let mut highest = None;
        for Segment { file, offset, len } in metainfo.info.segments(piece) {
            let of_file = files.as_ref().map_or(Priority::NORMAL, |files| files[file.idx()]);
            let is_edge = || offset == 0 || offset + len == metainfo.info.files[file.idx()].length;
            let is_first = first_last && of_file > Priority::SKIP && is_edge();
            highest = highest.max(Some(if is_first { Priority::FIRST } else { of_file }));
        }
        highest.unwrap_or(Priority::NORMAL)
    }
}
