//! Web seeds: hosts that serve fetches and nothing else, and those who fetch from them.

use super::{Node, Served};
use crate::config::Behaviour;
use crate::network::Network;
use crate::queue::{Web, What};
use swarm_core::id::{BlockRef, PeerKey};
use swarm_core::time::Time;
use swarm_core::webseed::{FetchId, WebSeedIndex};

/// What is on its way between a web seed and who fetches belongs to no connection.
const NO_KEY: PeerKey = PeerKey(u32::MAX);

impl Node {
    /// Asks a web seed for a run of blocks.
    pub(crate) fn fetch(
        &mut self,
        now: Time,
        id: FetchId,
        seed: WebSeedIndex,
        blocks: Vec<BlockRef>,
        net: &mut Network,
    ) {
        self.send_web(now, seed, Web::Fetch { from: self.id, id, blocks }, net);
        self.fetches.insert(id, seed);
    }

    pub(crate) fn cancel_fetch(&mut self, now: Time, id: FetchId, net: &mut Network) {
        if let Some(seed) = self.fetches.remove(&id) {
            self.send_web(now, seed, Web::Cancel { from: self.id, id }, net);
        }
    }

    fn send_web(&mut self, now: Time, seed: WebSeedIndex, web: Web, net: &mut Network) {
        let to = net.hosts.web_seeds[seed.0 as usize];
        let at = now + net.hosts.delay_between(self.id, to);
        net.leave(to, at, NO_KEY, What::Web(Box::new(web)));
    }

    /// Something of a fetch has arrived. A block waits for the downlink like any other.
    pub(crate) fn on_web(&mut self, now: Time, web: Web, net: &mut Network) {
        match web {
            Web::Fetch { from, id, blocks } if self.config.behaviour == Behaviour::WebSeed => {
                self.served.push_back(Served { to: from, id, blocks: blocks.into() });
                self.feed_web(now, net);
            }
            Web::Fetch { .. } => {}
            Web::Cancel { from, id } => self.served.retain(|served| served.to != from || served.id != id),
            Web::Block { id, block, is_last } => {
                let before = self.torrent.totals().bytes_down;
                self.torrent.handle_fetch_answered(now, id);
                self.torrent.handle_fetch_block(now, id, block);
                if self.torrent.totals().bytes_down == before {
                    self.bytes_dropped += u64::from(block.len);
                }
                if is_last {
                    self.fetches.remove(&id);
                    self.torrent.handle_fetch_done(now, id);
                }
            }
        }
    }

    /// Puts the next block on the uplink, of one fetch after the other.
    pub(crate) fn feed_web(&mut self, now: Time, net: &mut Network) {
        if self.uplink_free_at.is_some() || !self.online {
            return;
        }
        let Some(mut served) = self.served.pop_front() else { return };
        let Some(block) = served.blocks.pop_front() else { return };
        let (to, id, is_last) = (served.to, served.id, served.blocks.is_empty());
        if !is_last {
            self.served.push_back(served);
        }
        let sent = now + self.config.up.time_for(block.len.into());
        let at = sent + net.hosts.delay_between(self.id, to);
        net.leave(to, at, NO_KEY, What::Web(Box::new(Web::Block { id, block, is_last })));
        self.past.bytes_up += u64::from(block.len);
        self.uplink_free_at = Some(sent);
    }
}
