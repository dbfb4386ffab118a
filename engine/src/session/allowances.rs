//! What a torrent may transfer under the limits that hold for it: the session's, its own and those of its groups.

use super::torrent::TorrentDriver;
use super::traffic::allowance;
use swarm_core::time::Time;

impl TorrentDriver {
    /// How many bytes of payload may be received, at most `chunk` if there is a limit; or when they may.
    pub(super) fn download_allowance(&self, now: Time, chunk: u64) -> Result<usize, Time> {
        let groups = self.groups.borrow();
        let own = [&self.context.download, &self.download].into_iter();
        allowance(now, chunk, own.chain(groups.iter().map(|group| &group.download)))
    }

    /// How many bytes of payload may be sent, at most `chunk` if there is a limit; or when they may.
    pub(super) fn upload_allowance(&self, now: Time, chunk: u64) -> Result<usize, Time> {
        let groups = self.groups.borrow();
        let own = [&self.context.upload, &self.upload].into_iter();
        allowance(now, chunk, own.chain(groups.iter().map(|group| &group.upload)))
    }

    /// Notes that payload has come.
    pub(super) fn count_download(&self, now: Time, bytes: usize) {
        self.context.download.take(now, bytes as u64);
        self.download.take(now, bytes as u64);
        self.groups.borrow().iter().for_each(|group| group.download.take(now, bytes as u64));
    }

    /// Notes that bytes leave, of whatever kind.
    pub(super) fn count_upload(&self, now: Time, bytes: usize) {
        if bytes > 0 {
            self.context.upload.take(now, bytes as u64);
            self.upload.take(now, bytes as u64);
            self.groups.borrow().iter().for_each(|group| group.upload.take(now, bytes as u64));
        }
    }

    /// The lowest limit of payload received, in bytes/s.
    pub(super) fn download_limit(&self) -> Option<u64> {
        let own = [self.context.download.rate(), self.download.rate()].into_iter().flatten();
        own.chain(self.groups.borrow().iter().filter_map(|group| group.download.rate())).min()
    }
}
