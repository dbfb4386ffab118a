//! Pieces that other files on this machine turn out to have while the torrent runs, as when another torrent has completed the same file.
//!
//! To the picker and to verification they are one more web seed: what is read there is bytes from outside, and counts once its hashes are
//! right. But it is nobody's bill and takes no line, so that it is asked at once and for everything, beside peers too and over every limit.

use super::Torrent;
use crate::bitfield::Bitfield;
use crate::time::Time;
use crate::webseed::{WEB_SEEDS_MAX, WebSeed, WebSeedIndex};

impl Torrent {
    /// These pieces, and no others, can be read from other files on this machine. The number by which they are
    /// [fetched](super::Action::Fetch), for the run of a torrent always the same; `None` if there are too many web seeds, or if bytes from there
    /// were wrong before.
    pub fn set_local_pieces(&mut self, now: Time, pieces: Bitfield) -> Option<WebSeedIndex> {
        if !self.may_have_local_pieces() {
            return None;
        }
        let index = self.local_pieces().unwrap_or(WebSeedIndex(self.web.seeds.len() as u32));
        let at = index.0 as usize;
        if at == self.web.seeds.len() {
            self.web.seeds.push(WebSeed::local(index, self.geometry.pieces()));
        }
        self.web.seeds[at].set_have(pieces);
        self.plan_later(now);
        Some(index)
    }

    /// The number by which such pieces are fetched, if there have been some.
    pub fn local_pieces(&self) -> Option<WebSeedIndex> {
        let at = self.web.seeds.iter().position(WebSeed::is_local)?;
        Some(WebSeedIndex(at as u32))
    }

    /// Whether [`set_local_pieces`](Self::set_local_pieces) is of use.
    pub fn may_have_local_pieces(&self) -> bool {
        match self.local_pieces() {
            Some(index) => !self.web.seeds[index.0 as usize].is_dropped(),
            None => self.web.seeds.len() < WEB_SEEDS_MAX,
        }
    }

    /// Whether there are such pieces that are missing.
    pub fn is_waiting_for_local(&self) -> bool {
        let has_some =
            |seed: &WebSeed| seed.is_local() && !seed.is_dropped() && seed.have().intersects(self.missing());
        !self.stopped && self.web.seeds.iter().any(has_some)
    }

    pub(super) fn plan_local(&mut self, now: Time) {
        if let Some(index) = self.local_pieces() {
            while self.start_fetch(now, index, None) {}
        }
    }
}
