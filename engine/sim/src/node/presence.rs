//! Coming and going: hosts that leave in good order, fail, lose their power, are cut off, and return.

use crate::basics::NodeId;
use crate::network::Network;
use crate::node::{DIAL_TIMEOUT, Link, Node};
use crate::queue::What;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::PeerKey;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::Torrent;

impl Node {
    /// Leaves the network: its connections end, the tracker is told.
    pub(crate) fn go_offline(&mut self, now: Time, net: &mut Network) {
        for key in 0..self.links.len() as u32 {
            self.hang_up(now, PeerKey(key), net);
        }
        self.stop_announcing(now, net);
        if let Some(disk) = self.shell.as_mut().and_then(|shell| shell.disk.as_mut()) {
            disk.sync();
        }
        self.fall_silent();
    }

    /// Its power fails. Nobody is told, and what its disk had not synced may be lost.
    pub(crate) fn crash(&mut self) {
        if let Some(disk) = self.shell.as_mut().and_then(|shell| shell.disk.as_mut()) {
            disk.crash();
        }
        self.crashed = true;
        self.fall_silent();
    }

    fn fall_silent(&mut self) {
        self.online = false;
        (self.uplink_free_at, self.control_bytes) = (None, 0);
        self.uplink.clear();
        self.served.clear();
        self.fetches.clear();
        self.bytes_dropped += self.downlink.drain(..).map(|r| r.what.payload()).sum::<u64>();
        self.verifying.clear();
        self.note_shell_timeout();
    }

    /// What it has when it starts again.
    pub(crate) fn recover(&mut self) -> Bitfield {
        match self.shell.as_mut().and_then(|shell| shell.disk.as_mut()) {
            Some(disk) => disk.recover(),
            None => self.torrent.have().clone(),
        }
    }

    /// Comes back with a new torrent that has what the disk held.
    pub(crate) fn restart(&mut self, now: Time, torrent: Torrent, net: &mut Network) {
        for key in 0..self.links.len() as u32 {
            self.hang_up(now, PeerKey(key), net);
        }
        self.past = self.totals();
        self.torrent = torrent;
        self.completed_at = self.completed_at.filter(|_| self.torrent.is_complete());
        self.corrupt.clear();
        (self.online, self.crashed) = (true, false);
        self.life += 1;
    }

    /// Its connections to hosts from which it is apart now are gone.
    pub(crate) fn lose_connections(&mut self, now: Time, net: &mut Network) {
        let id = self.id;
        for key in 0..self.links.len() {
            let is_apart = |link: &Link| net.hosts.are_apart(id, link.remote);
            if !self.links[key].as_ref().is_some_and(is_apart) {
                continue;
            }
            let Some(link) = self.take_link(PeerKey(key as u32)) else { continue };
            match link.remote_key {
                Some(_) => self.torrent.handle_disconnected(now, PeerKey(key as u32)),
                None => self.torrent.handle_connect_failed(now, net.hosts.addr_of(link.remote)),
            }
        }
    }

    /// What arrives at a host that is not there.
    pub(crate) fn on_arrival_offline(&mut self, now: Time, key: PeerKey, what: What, net: &mut Network) {
        match what {
            What::Block(_) | What::CorruptBlock(_) | What::Web(_) => self.bytes_dropped += what.payload(),
            What::Incoming(from) => {
                let silence = if self.crashed { DIAL_TIMEOUT } else { Duration::ZERO };
                let delay = net.hosts.delay_between(self.id, from);
                net.leave(from, now + silence + delay, key, What::Refused);
            }
            // Its connections still stand at the other end, until it is back and knows nothing of them.
            What::Accepted { key: remote_key, .. } if self.crashed => {
                if let Some(link) = &mut self.links[key.0 as usize] {
                    link.remote_key = Some(remote_key);
                }
            }
            What::Accepted { by, key: remote_key } => self.reset(now, by, remote_key, net),
            What::Refused | What::Disconnected => drop(self.take_link(key)),
            What::Short(_) | What::Long(_) | What::Taken { .. } | What::Tracker(_) => {}
        }
    }

    /// Tells a host that its connection to us does not exist.
    pub(crate) fn reset(&self, now: Time, remote: NodeId, remote_key: PeerKey, net: &mut Network) {
        net.leave(remote, now + net.hosts.delay_between(self.id, remote), remote_key, What::Disconnected);
    }
}
