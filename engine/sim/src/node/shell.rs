//! What a host does with what is around its torrent; see [`crate::shell`].

use super::Node;
use crate::config::Behaviour;
use crate::disk::Write;
use crate::network::Network;
use crate::queue::Answer;
use crate::shell::HABIT_INTERVAL;
use std::net::{Ipv4Addr, SocketAddr};
use swarm_core::id::{PeerKey, PieceIndex};
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::{PieceResult, Pressure};
use swarm_core::tracker::announcer::{NUMWANT_MAX, Transfer};
use swarm_core::wire::Message;

/// How many pieces are claimed each time by one who floods.
const CLAIMS: usize = 4;

impl Node {
    /// When its shell has something to do next.
    pub(crate) fn note_shell_timeout(&mut self) {
        let timeout = self.shell.as_ref().and_then(|shell| shell.poll_timeout());
        self.shell_at = timeout.filter(|_| self.online);
    }

    pub(crate) fn on_shell_timeout(&mut self, now: Time, net: &mut Network) {
        let Some(shell) = &mut self.shell else { return };
        if shell.disk.as_mut().is_some_and(|disk| disk.handle_timeout(now)) {
            self.torrent.handle_disk_ready(now);
        }
        self.indulge(now, net);
        self.announce(now, net);
    }

    /// When a complete piece will be verified and written.
    pub(crate) fn begin_write(&mut self, now: Time, piece: PieceIndex, beside: Duration) -> Time {
        let disk = self.shell.as_mut().and_then(|shell| shell.disk.as_mut());
        disk.map_or(now + beside, |disk| disk.begin(now, piece, beside))
    }

    /// What becomes of a piece that verified. `None` if the torrent ends with an error.
    pub(crate) fn write(
        &mut self,
        now: Time,
        piece: PieceIndex,
        digests: Vec<[u8; 20]>,
    ) -> Option<PieceResult> {
        let disk = self.shell.as_mut().and_then(|shell| shell.disk.as_mut());
        match disk.map_or(Write::Done, |disk| disk.write(now, piece)) {
            Write::Done => Some(PieceResult::Written { digests }),
            Write::Full => Some(PieceResult::NotWritten),
            Write::Failed => None,
        }
    }

    /// Asks for nothing more while too much waits for a slow disk.
    pub(crate) fn note_pressure(&mut self, now: Time) {
        let Some(shell) = &mut self.shell else { return };
        let Some(disk) = &shell.disk else { return };
        let is_behind = disk.is_behind(self.verifying.len(), shell.is_behind);
        if is_behind != std::mem::replace(&mut shell.is_behind, is_behind) {
            self.torrent.set_pressure(now, if is_behind { Pressure::Full } else { Pressure::None });
        }
    }

    /// Lets the announcer look at the time and the transfer, and sends what it wants; as the engine does.
    pub(crate) fn announce(&mut self, now: Time, net: &mut Network) {
        let Some(announcer) = self.shell.as_mut().and_then(|shell| shell.announcer.as_mut()) else { return };
        let totals = self.torrent.totals();
        let left = self.torrent.bytes_missing();
        announcer.handle_transfer(Transfer {
            uploaded: totals.bytes_up,
            downloaded: totals.bytes_down,
            left,
            peers_wanted: if self.torrent.wants_peers() { NUMWANT_MAX } else { 0 },
        });
        if announcer.poll_timeout().is_some_and(|at| at <= now) {
            announcer.handle_timeout(now);
        }
        if left > 0 && self.torrent.peers().next().is_none() {
            announcer.request_more_peers(now);
        }
        while let Some(action) = announcer.poll_action() {
            net.announce(now, self.id, self.life, action);
        }
    }

    pub(crate) fn on_tracker(&mut self, now: Time, answer: Answer, net: &Network) {
        let own = net.hosts.addr_of(self.id);
        let announcer = self.shell.as_mut().and_then(|shell| shell.announcer.as_mut());
        let Some(announcer) = announcer.filter(|_| answer.life == self.life) else { return };
        announcer.handle_response(now, answer.id, answer.result.as_ref());
        if let Ok(response) = answer.result {
            let peers: Vec<SocketAddr> =
                response.peers.iter().map(|peer| peer.addr).filter(|&addr| addr != own).collect();
            self.torrent.handle_addresses(now, &peers, Origin::Tracker(Ipv4Addr::UNSPECIFIED.into()));
        }
    }

    /// Tells the tracker that the download has finished.
    pub(crate) fn announce_completed(&mut self, now: Time) {
        if let Some(announcer) = self.shell.as_mut().and_then(|shell| shell.announcer.as_mut()) {
            announcer.handle_completed(now);
        }
    }

    /// Tells the tracker that it leaves, and hears of it no more.
    pub(crate) fn stop_announcing(&mut self, now: Time, net: &mut Network) {
        let Some(mut announcer) = self.shell.as_mut().and_then(|shell| shell.announcer.take()) else {
            return;
        };
        announcer.handle_stop(now);
        while let Some(action) = announcer.poll_action() {
            net.announce(now, self.id, self.life, action);
        }
    }

    /// Does to its peers what it cannot leave alone.
    fn indulge(&mut self, now: Time, net: &mut Network) {
        let Some(mut habit) = self.shell.as_mut().and_then(|shell| shell.habit.take()) else { return };
        if habit.next_at <= now {
            habit.next_at = now + HABIT_INTERVAL;
            habit.unchokes = !habit.unchokes;
            let keys: Vec<PeerKey> = self.torrent.peers().map(|peer| peer.key).collect();
            let pieces = u64::from(self.torrent.geometry().pieces());
            for key in keys {
                match self.config.behaviour {
                    Behaviour::HaveFlood => (0..CLAIMS).for_each(|_| {
                        let piece = PieceIndex(habit.rng.below(pieces) as u32);
                        self.send(now, key, Message::Have(piece), net);
                    }),
                    _ if habit.unchokes => self.send(now, key, Message::Unchoke, net),
                    _ => self.send(now, key, Message::Choke, net),
                }
            }
        }
        if let Some(shell) = &mut self.shell {
            shell.habit = Some(habit);
        }
    }
}
