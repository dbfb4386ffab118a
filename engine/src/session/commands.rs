//! Carrying out what a torrent is asked.

use super::command::Command;
use super::torrent::{Next, TorrentDriver};
use std::rc::Rc;
use swarm_core::torrent::discovery::Origin;

impl TorrentDriver {
    /// Carries out a command. What comes next, if its run is to end.
    pub(super) fn on_command(self: &Rc<Self>, command: Command) -> Option<Next> {
        let now = self.context.now();
        command.apply(&mut self.changed.borrow_mut());
        match command {
            Command::Stats(reply) => {
                let _ = reply.send(self.stats());
            }
            // Before it begins, nobody is dialled: it does so with all that were added.
            Command::AddPeers(peers) if self.is_begun.get() => self.handle_addresses(&peers, Origin::User),
            Command::AddPeers(_) => {}
            Command::SetUploadLimit(limit) => {
                self.upload.set(now, limit);
                self.limits_changed();
            }
            Command::SetDownloadLimit(limit) => {
                self.download.set(now, limit);
                self.limits_changed();
            }
            Command::SetRateGroups(groups) => {
                self.groups.replace(self.context.rate_groups.of(&groups));
                self.limits_changed();
            }
            Command::SetScrub(_) => self.on_scrub_set(),
            Command::FileProgress(reply) => {
                let _ = reply.send(self.file_progress());
            }
            Command::Pieces(reply) => drop(reply.send(self.piece_map().map(Box::new))),
            Command::AddWebSeeds(..) if self.content.get().is_none() => {}
            Command::AddWebSeeds(urls, origin) => {
                self.with(|inner| self.add_web_seeds(inner, &urls, origin));
            }
            Command::AddTrackers(urls, origin) => {
                self.announcer.borrow_mut().handle_more_trackers(now, &urls, origin);
            }
            Command::Reannounce if !self.is_begun.get() => {}
            Command::Reannounce => {
                self.start_announcing_now();
                self.announcer.borrow_mut().request_more_peers(now);
                self.announce_on_dht();
            }
            Command::SetTrackers(tiers) => {
                self.announcer.borrow_mut().handle_trackers(now, &tiers);
            }
            Command::SetFirstLast(_) => self.refresh_priorities(),
            // It is connected anew, to those that are left.
            Command::SetWebSeeds(_) => {
                return self.content.get().is_some().then_some(Next::Restart);
            }
            Command::Relocate(request) => {
                *self.relocation.borrow_mut() = Some(request);
                return Some(Next::Relocate);
            }
            Command::SetOrder(order) => self.inner.borrow_mut().core.set_order(order),
            Command::SetFiles(_) => {
                let was_held = self.is_held.replace(false);
                return (self.known.metainfo.get().is_some() && !was_held).then_some(Next::Restart);
            }
            Command::Read(request) => self.on_read(request),
            Command::Recheck => return Some(Next::Restart),
            Command::Pause => return Some(Next::Pause),
            Command::Resume => {}
            Command::Stop => return Some(Next::Stop),
            Command::Delete => return Some(Next::Delete),
        }
        None
    }
}
