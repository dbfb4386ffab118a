//! What leaves a host: blocks and messages, over its sockets or at once.

use super::{Link, Node};
use crate::config::Behaviour;
use crate::network::Network;
use crate::queue::What;
use crate::socket::{Buffers, Socket, Unsent};
use swarm_core::id::{BlockRef, PeerKey};
use swarm_core::time::Time;
use swarm_core::wire::message::PIECE_HEADER_LEN;

impl Link {
    /// The bytes of the blocks that its socket has taken and that have not left.
    pub(crate) fn unsent_bytes(&self) -> u64 {
        self.socket.as_ref().map_or(0, |socket| socket.unsent_bytes)
    }
}

impl Node {
    fn socket(&mut self, key: PeerKey) -> Option<&mut Socket> {
        self.links.get_mut(key.0 as usize)?.as_mut()?.socket.as_deref_mut()
    }

    /// Sends a message, or has it wait behind the blocks before it.
    pub(crate) fn post(&mut self, now: Time, key: PeerKey, what: What, net: &mut Network) {
        let Some(link) = self.links.get_mut(key.0 as usize).and_then(Option::as_mut) else { return };
        if let Some(socket) = &mut link.socket
            && !socket.unsent.is_empty()
        {
            return socket.unsent.push_back(Unsent::Message(what));
        }
        let Some(remote_key) = link.remote_key else { return };
        let (remote, delay) = (link.remote, link.delay);
        net.leave(remote, self.arrival_of_message(key, now, delay), remote_key, what);
    }

    /// A socket takes what its peer is to be sent, as far as there is room.
    pub(crate) fn fill_socket(&mut self, now: Time, key: PeerKey, buffers: Buffers, net: &mut Network) {
        while let Some(socket) = self.socket(key) {
            socket.is_full = socket.unsent_bytes >= buffers.socket;
            if socket.is_full {
                break;
            }
            let Some(block) = self.torrent.next_upload(now, key) else { break };
            if self.is_unreadable(block) {
                self.torrent.handle_upload_failed(now, key, block);
                continue;
            }
            if let Some(socket) = self.socket(key) {
                socket.unsent_bytes += u64::from(block.len);
                socket.unsent.push_back(Unsent::Block(block));
            }
        }
        self.line_up(key);
        self.feed_line(now, buffers, net);
    }

    /// The receiver has got some of it.
    pub(crate) fn on_taken(
        &mut self,
        now: Time,
        key: PeerKey,
        len: u32,
        is_crowded: bool,
        net: &mut Network,
    ) {
        let (Some(buffers), Some(Some(link))) = (self.buffers, self.links.get_mut(key.0 as usize)) else {
            return;
        };
        let window_max = self.config.up.bytes_in(buffers.queue + 2 * link.delay);
        if let Some(socket) = &mut link.socket {
            socket.window.on_arrived(len.into(), is_crowded, window_max);
        }
        self.line_up(key);
        self.feed_line(now, buffers, net);
    }

    fn line_up(&mut self, key: PeerKey) {
        if let Some(Some(link)) = self.links.get_mut(key.0 as usize)
            && !link.queued
            && link.socket.as_ref().is_some_and(|socket| !socket.unsent.is_empty())
        {
            link.queued = true;
            self.uplink.push_back(key);
        }
    }

    /// Puts the next block of a socket on the uplink, if that is idle.
    pub(crate) fn feed_line(&mut self, now: Time, buffers: Buffers, net: &mut Network) {
        while self.uplink_free_at.is_none() && self.online && self.sends_blocks(now) {
            let Some(key) = self.uplink.pop_front() else { return };
            let Some(link) = &mut self.links[key.0 as usize] else { continue };
            let Some(socket) = &mut link.socket else { continue };
            let (messages, block) = socket.next();
            let has_room = socket.is_full && socket.unsent_bytes <= buffers.socket / 2;
            let (remote, delay, remote_key) = (link.remote, link.delay, link.remote_key);
            link.queued = block.is_some();
            let Some(remote_key) = remote_key else { continue };
            for message in messages {
                net.leave(remote, self.arrival_of_message(key, now, delay), remote_key, message);
            }
            if let Some(block) = block {
                self.uplink.push_back(key);
                self.send_block(now, key, block, net);
            }
            if has_room {
                self.fill_socket(now, key, buffers, net);
            }
        }
    }

    /// What waits in the socket of a connection that is gone will not be sent.
    pub(crate) fn take_link(&mut self, key: PeerKey) -> Option<Link> {
        let link = self.links.get_mut(key.0 as usize)?.take()?;
        self.bytes_dropped += link.unsent_bytes();
        Some(link)
    }

    pub(crate) fn sends_blocks(&self, now: Time) -> bool {
        match self.config.behaviour {
            Behaviour::FreezesAt(at) => now < at,
            Behaviour::FreezesWith(percent) => {
                let have = self.torrent.have();
                u64::from(have.count()) * 100 < u64::from(have.len()) * u64::from(percent)
            }
            _ => true,
        }
    }

    pub(crate) fn is_unreadable(&self, block: BlockRef) -> bool {
        let disk = self.shell.as_ref().and_then(|shell| shell.disk.as_ref());
        disk.is_some_and(|disk| !disk.is_readable(block.piece))
    }

    /// Puts the next block on the uplink, if it is idle and there is one.
    pub(super) fn feed_uplink(&mut self, now: Time, net: &mut Network) {
        if self.config.behaviour == Behaviour::WebSeed {
            return self.feed_web(now, net);
        }
        if let Some(buffers) = self.buffers {
            return self.feed_line(now, buffers, net);
        }
        while self.uplink_free_at.is_none() && self.online && self.sends_blocks(now) {
            let Some(key) = self.uplink.pop_front() else { return };
            let Some(link) = &mut self.links[key.0 as usize] else { continue };
            let Some(block) = self.torrent.next_upload(now, key).filter(|_| link.remote_key.is_some()) else {
                link.queued = false;
                continue;
            };
            self.uplink.push_back(key);
            if self.is_unreadable(block) {
                self.torrent.handle_upload_failed(now, key, block);
                continue;
            }
            self.send_block(now, key, block, net);
        }
    }

    /// Puts a block on the uplink, which is idle.
    pub(crate) fn send_block(&mut self, now: Time, key: PeerKey, block: BlockRef, net: &mut Network) {
        let Some(Link { remote, remote_key: Some(remote_key), delay, .. }) = &self.links[key.0 as usize]
        else {
            return;
        };
        let control = self.control_bytes / self.scale;
        self.control_bytes %= self.scale;
        self.control_bytes_sent += control;
        let sent = now + self.config.up.time_for(len_on_line(block) + control);
        let at = match &mut self.paths {
            Some(paths) => paths.block(key, sent, *delay),
            None => sent + *delay,
        };
        let is_corrupt = self.config.behaviour == Behaviour::Poisoner;
        let what = if is_corrupt { What::CorruptBlock(block) } else { What::Block(block) };
        net.leave(*remote, at, *remote_key, what);
        self.uplink_free_at = Some(sent);
    }
}

/// What a block takes on a line, with its header.
pub(crate) fn len_on_line(block: BlockRef) -> u64 {
    u64::from(block.len) + PIECE_HEADER_LEN as u64
}
