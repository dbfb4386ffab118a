//! What those who watch a torrent are told.

use super::event::Event;
use super::torrent::TorrentDriver;
use crate::Error;

/// How many different warnings a watcher gets.
const WARNINGS_MAX: usize = 1_000;

impl TorrentDriver {
    pub(super) fn emit(&self, event: Event) {
        self.events.send(event);
    }

    /// Tells the watcher something that does not end the torrent, once. Others may have a part in the text
    /// (a tracker, a peer): beyond [`WARNINGS_MAX`] different ones nothing more is told.
    pub(super) fn warn(&self, warning: &str) {
        let mut warned = self.warned.borrow_mut();
        if warned.len() < WARNINGS_MAX && warned.insert(warning.to_owned()) {
            self.emit(Event::Warning(warning.to_owned()));
        }
    }

    /// Ends the torrent with an error; the first one counts.
    pub(crate) fn fail(&self, error: Error) {
        self.failure.borrow_mut().get_or_insert(error);
        self.wake.notify_one();
    }
}
