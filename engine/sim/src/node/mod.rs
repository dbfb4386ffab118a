//! One simulated host: a torrent, its links, its disk, and what its shell would do.

mod presence;
mod shell;
mod uplink;
mod web;

use crate::basics::NodeId;
use crate::config::{Behaviour, NodeConfig};
use crate::network::Network;
use crate::path::Paths;
use crate::queue::{Arrival, Short, What};
use crate::shell::Shell;
use crate::socket::{Buffers, Socket};
use crate::v2;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{BlockRef, PeerKey, PieceIndex};
use swarm_core::metainfo::HashTrees;
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::discovery::Dial;
use swarm_core::torrent::{Action, Event, PieceResult, Torrent, Totals};
use swarm_core::webseed::{FetchId, WebSeedIndex};
use swarm_core::wire::Message;

/// How long a dialler waits for someone who does not answer.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long verifying and writing a piece takes.
const PIECE_TIME: Duration = Duration::from_millis(2);

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) remote: NodeId,
    /// The connection's key at the other end, once that is known.
    pub(crate) remote_key: Option<PeerKey>,
    pub(crate) delay: Duration,
    /// Whether it waits in the uplink's queue.
    pub(crate) queued: bool,
    /// Where sockets hold anything. By itself, so that links lie closer together where none does.
    pub(crate) socket: Option<Box<Socket>>,
}

/// Something that has a place in the downlink's queue.
#[derive(Debug)]
pub(crate) struct Received {
    at: Time,
    key: PeerKey,
    pub(crate) what: What,
}

/// A fetch that is being served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) to: NodeId,
    pub(crate) id: FetchId,
    pub(crate) blocks: VecDeque<BlockRef>,
}

/// What is remembered of one node from one step to the next.
#[derive(Debug, Default)]
pub(crate) struct StepCheck {
    /// Blocks that were outstanding at more than one peer, snubbed or not.
    pub(crate) doubled: BTreeSet<BlockRef>,
    /// How many requests had been made for such blocks.
    pub(crate) requests_doubled: u64,
    pub(crate) life: u32,
}

/// What a node does next.
#[derive(Clone, Copy)]
enum Next {
    Arrival,
    UplinkFree,
    Received,
    PieceDone,
    Timer,
    Shell,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) config: NodeConfig,
    pub(crate) torrent: Torrent,
    /// By key, from zero.
    pub(crate) links: Vec<Option<Link>>,
    /// The connections with blocks to send, served one block each in turn.
    pub(crate) uplink: VecDeque<PeerKey>,
    /// When the block that is being sent will have left.
    pub(crate) uplink_free_at: Option<Time>,
    /// How many bytes each byte of a simulated block stands for.
    pub(crate) scale: u64,
    /// In version 2.
    pub(crate) trees: Option<Arc<HashTrees>>,
    /// Bytes of other messages that have gone out since and share the uplink, in parts of a simulated byte.
    pub(crate) control_bytes: u64,
    pub(crate) downlink: VecDeque<Received>,
    downlink_free_at: Time,
    pub(crate) verifying: VecDeque<(Time, PieceIndex)>,
    /// What sockets and paths hold, if that matters.
    pub(crate) buffers: Option<Buffers>,
    /// What paths do to what it sends, if they are not ideal.
    pub(crate) paths: Option<Box<Paths>>,
    /// What is around its torrent, if anything matters.
    pub(crate) shell: Option<Box<Shell>>,
    /// When that has something to do.
    pub(crate) shell_at: Option<Time>,
    /// The received blocks that are not what they should be.
    pub(crate) corrupt: BTreeMap<PieceIndex, BTreeSet<u32>>,
    pub(crate) joined_at: Time,
    pub(crate) completed_at: Option<Time>,
    pub(crate) online: bool,
    /// It went without a word, so that its connections still stand at the other end.
    pub(crate) crashed: bool,
    /// How often it has started again.
    pub(crate) life: u32,
    pub(crate) bans: Vec<SocketAddr>,
    /// Which web seed each fetch under way is from.
    pub(crate) fetches: BTreeMap<FetchId, WebSeedIndex>,
    /// Fetches that it serves as a web seed.
    pub(crate) served: VecDeque<Served>,
    /// Who sent corrupt blocks that it kept.
    pub(crate) deceived_by: BTreeSet<NodeId>,
    /// Totals of earlier lives.
    pub(crate) past: Totals,
    pub(crate) control_bytes_sent: u64,
    /// Bytes of blocks that arrived when nobody was there for them, or that waited in a socket when its connection ended.
    pub(crate) bytes_dropped: u64,
    /// What is remembered from one check to the next, if every step is checked.
    pub(crate) check: Option<Box<StepCheck>>,
    pub(crate) trace: u64,
}

impl Node {
    pub(crate) fn new(id: NodeId, config: NodeConfig, torrent: Torrent, now: Time) -> Node {
        Node {
            id,
            config,
            completed_at: torrent.is_complete().then_some(now),
            torrent,
            links: Vec::new(),
            uplink: VecDeque::new(),
            uplink_free_at: None,
            scale: 1,
            trees: None,
            control_bytes: 0,
            downlink: VecDeque::new(),
            downlink_free_at: Time::ZERO,
            verifying: VecDeque::new(),
            buffers: None,
            paths: None,
            shell: None,
            shell_at: None,
            corrupt: BTreeMap::new(),
            joined_at: now,
            online: true,
            crashed: false,
            life: 0,
            bans: Vec::new(),
            fetches: BTreeMap::new(),
            served: VecDeque::new(),
            deceived_by: BTreeSet::new(),
            past: Totals::default(),
            control_bytes_sent: 0,
            bytes_dropped: 0,
            check: None,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Sums over all its lives.
    pub(crate) fn totals(&self) -> Totals {
        self.past.plus(self.torrent.totals())
    }

    /// When something happens to it next, unless something arrives before.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.next(None).map(|(at, _)| at)
    }

    /// Of what happens at the same time, what stands first here comes first.
    fn next(&self, arrival: Option<&Arrival>) -> Option<(Time, Next)> {
        let mut next: Option<(Time, Next)> = None;
        let mut consider = |at: Option<Time>, what| {
            if let Some(at) = at
                && next.is_none_or(|(first, _)| at < first)
            {
                next = Some((at, what));
            }
        };
        consider(arrival.map(|arrival| arrival.at), Next::Arrival);
        consider(self.downlink.front().map(|received| received.at), Next::Received);
        consider(self.uplink_free_at, Next::UplinkFree);
        consider(self.verifying.front().map(|(at, _)| *at), Next::PieceDone);
        consider(self.torrent.poll_timeout().filter(|_| self.online), Next::Timer);
        consider(self.shell_at, Next::Shell);
        next
    }

    /// Catches up with everything that happens before `end`, and with what arrives until then: all of `due`.
    pub(crate) fn run(&mut self, now: Time, end: Time, due: &mut VecDeque<Arrival>, net: &mut Network) {
        self.fetch_peers(due);
        loop {
            let Some((at, what)) = self.next(due.front()).filter(|(at, _)| *at < end) else { return };
            let now = at.max(now);
            match what {
                Next::Arrival => {
                    if let Some(arrival) = due.pop_front() {
                        self.on_arrival(now, arrival, net);
                    }
                }
                Next::Received => self.on_received(now, net),
                Next::UplinkFree => {
                    self.uplink_free_at = None;
                    self.feed_uplink(now, net);
                }
                Next::PieceDone => self.on_piece_done(now, net),
                Next::Shell => self.on_shell_timeout(now, net),
                Next::Timer => self.torrent.handle_timeout(now),
            }
            self.settle(now, net);
        }
    }

    /// Looks at once at the peers from which anything has come, and at what every HAVE will look at. In a large swarm none
    /// of it is in a cache, and waiting for all of it together takes hardly longer than waiting for one.
    fn fetch_peers(&self, due: &VecDeque<Arrival>) {
        let look = |arrival: &Arrival| {
            let peer = self.torrent.peer(arrival.key)?;
            Some(match arrival.what {
                What::Short(Short::Have(piece)) => peer.have().has(piece),
                _ => peer.flags.am_choking,
            })
        };
        std::hint::black_box(due.iter().filter(|arrival| look(arrival) == Some(true)).count());
    }

    fn on_arrival(&mut self, now: Time, arrival: Arrival, net: &mut Network) {
        let Arrival { key, what, .. } = arrival;
        if !self.online {
            return self.on_arrival_offline(now, key, what, net);
        }
        match what {
            What::Short(_) | What::Long(_) if self.buffers.is_some() && !self.downlink.is_empty() => {
                self.downlink.push_back(Received { at: self.downlink_free_at, key, what });
            }
            What::Short(message) => self.torrent.handle_message(now, key, &message.into()),
            What::Long(message) => self.torrent.handle_message(now, key, &message),
            What::Block(block) | What::CorruptBlock(block) => {
                self.downlink_free_at =
                    self.downlink_free_at.max(now) + self.config.down.time_for(uplink::len_on_line(block));
                self.downlink.push_back(Received { at: self.downlink_free_at, key, what });
            }
            What::Taken { len, is_crowded } => self.on_taken(now, key, len, is_crowded, net),
            What::Incoming(from) => self.on_incoming(now, from, key, net),
            What::Accepted { by, key: remote_key } => self.on_accepted(now, key, by, remote_key, net),
            What::Tracker(answer) => self.on_tracker(now, *answer, net),
            What::Web(_) if what.payload() > 0 => {
                let time = self.config.down.time_for(what.payload());
                self.downlink_free_at = self.downlink_free_at.max(now) + time;
                self.downlink.push_back(Received { at: self.downlink_free_at, key, what });
            }
            What::Web(web) => self.on_web(now, *web, net),
            What::Refused => {
                if let Some(link) = self.take_link(key) {
                    self.torrent.handle_connect_failed(now, net.hosts.addr_of(link.remote));
                }
            }
            What::Disconnected => {
                if self.take_link(key).is_some() {
                    self.torrent.handle_disconnected(now, key);
                }
            }
        }
    }

    /// Something has crossed the downlink.
    fn on_received(&mut self, now: Time, net: &mut Network) {
        let Some(Received { key, what, .. }) = self.downlink.pop_front() else { return };
        match what {
            What::Block(block) => self.on_block(now, key, block, false, net),
            What::CorruptBlock(block) => self.on_block(now, key, block, true, net),
            What::Long(message) => self.torrent.handle_message(now, key, &message),
            What::Short(message) => self.torrent.handle_message(now, key, &message.into()),
            What::Web(web) => self.on_web(now, *web, net),
            _ => {}
        }
    }

    fn on_block(&mut self, now: Time, key: PeerKey, block: BlockRef, corrupt: bool, net: &mut Network) {
        if let Some(buffers) = self.buffers
            && let Some(Link { remote, remote_key: Some(remote_key), delay, .. }) =
                &self.links[key.0 as usize]
        {
            let is_crowded = self.downlink_free_at.since(now) > buffers.queue;
            net.leave(*remote, now + *delay, *remote_key, What::Taken { len: block.len, is_crowded });
        }
        self.note([now.as_micros(), u64::from(key.0), u64::from(block.piece.0 ^ block.begin)]);
        let before = self.torrent.totals().bytes_down;
        if self.torrent.handle_block(now, key, block) && corrupt {
            self.corrupt.entry(block.piece).or_default().insert(block.begin);
            self.deceived_by.extend(self.links[key.0 as usize].as_ref().map(|link| link.remote));
        }
        if self.torrent.totals().bytes_down == before {
            self.bytes_dropped += u64::from(block.len);
        }
    }

    fn on_piece_done(&mut self, now: Time, net: &mut Network) {
        let Some((_, piece)) = self.verifying.pop_front() else { return };
        let (corrupt, digests) = self.digests(piece);
        let result =
            if corrupt { Some(PieceResult::Corrupt { digests }) } else { self.write(now, piece, digests) };
        match result {
            Some(result) => self.torrent.handle_piece_result(now, piece, result),
            None => return self.go_offline(now, net),
        }
        self.note_pressure(now);
    }

    /// Whether the piece is corrupt, and what stands for the digest of each block.
    fn digests(&self, piece: PieceIndex) -> (bool, Vec<[u8; 20]>) {
        let bad = self.corrupt.get(&piece);
        let digest = |index: u32| {
            let begin = self.torrent.geometry().block(piece, index).begin;
            let is_bad = bad.is_some_and(|bad| bad.contains(&begin));
            if self.trees.is_some() {
                let [lowest, leaf @ ..] = v2::leaf(piece, index);
                let mut digest = [lowest ^ u8::from(is_bad); 20];
                digest[1..].copy_from_slice(&leaf[..19]);
                return digest;
            }
            let mut digest = [u8::from(is_bad) + 1; 20];
            digest[..4].copy_from_slice(&index.to_be_bytes());
            digest
        };
        (bad.is_some(), (0..self.torrent.geometry().blocks_in(piece)).map(digest).collect())
    }

    /// The leaves of pieces that it has.
    fn hash_leaves(&mut self, now: Time, first: PieceIndex, pieces: u32) {
        let Some(trees) = &self.trees else { return };
        let blocks = |piece| trees.below(piece).map_or(0, |below| below.leaves());
        let all = (first.0..first.0 + pieces).map(PieceIndex);
        let leaves = all.flat_map(|piece| v2::leaves(blocks(piece), piece)).collect();
        self.torrent.handle_leaves(now, first, pieces, Some(leaves));
    }

    fn drop_blocks(&mut self, piece: PieceIndex, blocks: &[u32]) {
        let Some(corrupt) = self.corrupt.get_mut(&piece) else { return };
        blocks.iter().for_each(|&index| _ = corrupt.remove(&(index * BLOCK_LEN)));
        if corrupt.is_empty() {
            self.corrupt.remove(&piece);
        }
    }

    /// Carries out what the torrent wants.
    pub(crate) fn settle(&mut self, now: Time, net: &mut Network) {
        while let Some(action) = self.torrent.poll_action() {
            self.act(now, action, net);
        }
        while let Some(event) = self.torrent.poll_event() {
            match event {
                Event::Completed => {
                    self.completed_at = Some(now);
                    self.announce_completed(now);
                }
                Event::PeerBanned { addr, .. } => self.bans.push(addr),
                _ => {}
            }
        }
        if self.shell.is_some() {
            self.announce(now, net);
            self.note_shell_timeout();
        }
        if let Some(mut check) = self.check.take() {
            check.step(self);
            self.check = Some(check);
        }
    }

    fn act(&mut self, now: Time, action: Action, net: &mut Network) {
        match action {
            Action::Send { peer, message } => self.send(now, peer, message, net),
            Action::BroadcastHave(piece) => {
                if self.check.is_some() {
                    assert!(self.torrent.have().has(piece), "{:?} announces piece {piece}", self.id);
                }
                for key in 0..self.links.len() {
                    if self.links[key].as_ref().is_some_and(|link| link.remote_key.is_some()) {
                        self.post(now, PeerKey(key as u32), What::Short(Short::Have(piece)), net);
                        self.control_bytes += HAVE_LEN;
                    }
                }
            }
            Action::Upload(peer) => {
                while let Some(hashes) = self.torrent.next_hashes(now, peer) {
                    self.send(now, peer, hashes, net);
                }
                if let Some(buffers) = self.buffers {
                    self.fill_socket(now, peer, buffers, net);
                } else if let Some(link) = self.links.get_mut(peer.0 as usize).and_then(Option::as_mut)
                    && !link.queued
                {
                    link.queued = true;
                    self.uplink.push_back(peer);
                    self.feed_uplink(now, net);
                }
            }
            Action::Close { peer, .. } => self.hang_up(now, peer, net),
            Action::Connect(dial) => self.dial(now, dial, net),
            Action::VerifyPiece { piece, .. } => {
                let done = self.begin_write(now, piece, PIECE_TIME);
                self.verifying.push_back((done, piece));
                self.note_pressure(now);
            }
            Action::Fetch { id, seed, blocks } => self.fetch(now, id, seed, blocks, net),
            Action::CancelFetch(id) => self.cancel_fetch(now, id, net),
            // Simulated disks do not rot.
            Action::CheckPiece(_) => {}
            Action::HashBlocks(piece) => self.torrent.handle_blocks_hashed(now, piece, &[]),
            Action::KeepBlocks { .. } => {}
            Action::HashLeaves { first, pieces } => self.hash_leaves(now, first, pieces),
            Action::DropBlocks { piece, blocks } => self.drop_blocks(piece, &blocks),
            Action::DropPiece(piece) => {
                self.corrupt.remove(&piece);
            }
        }
    }

    pub(crate) fn send(&mut self, now: Time, peer: PeerKey, message: Message, net: &mut Network) {
        let gives = matches!(message, Message::Unchoke | Message::AllowedFast(_));
        if gives && self.config.behaviour == Behaviour::FreeRider {
            return;
        }
        if self.links[peer.0 as usize].as_ref().is_none_or(|link| link.remote_key.is_none()) {
            return;
        }
        let len = match &message {
            Message::Have(_) => HAVE_LEN,
            Message::Request(_) | Message::Cancel(_) | Message::Reject(_) => REQUEST_LEN * self.scale,
            Message::Bitfield(bits) => 5 + bits.len() as u64,
            Message::Extended { payload, .. } => 6 + payload.len() as u64,
            Message::HashRequest(_) | Message::Hashes(_) | Message::HashReject(_) => {
                message.encoded_len() as u64
            }
            _ => 5,
        };
        self.control_bytes += len;
        self.post(now, peer, message.into(), net);
    }

    /// When a message arrives that leaves now.
    pub(crate) fn arrival_of_message(&mut self, key: PeerKey, now: Time, delay: Duration) -> Time {
        match &mut self.paths {
            Some(paths) => paths.message(key, now, delay),
            None => now + delay,
        }
    }

    pub(crate) fn hang_up(&mut self, now: Time, peer: PeerKey, net: &mut Network) {
        if let Some(link) = self.take_link(peer)
            && let Some(remote_key) = link.remote_key
        {
            let at = self.arrival_of_message(peer, now, link.delay);
            net.leave(link.remote, at, remote_key, What::Disconnected);
        }
    }

    fn new_link(&mut self, remote: NodeId, remote_key: Option<PeerKey>, net: &Network) -> PeerKey {
        let key = PeerKey(self.links.len() as u32);
        let delay = net.hosts.delay_between(self.id, remote);
        let socket = self.buffers.map(|_| Box::default());
        self.links.push(Some(Link { remote, remote_key, delay, queued: false, socket }));
        key
    }

    /// TCP's handshake and then our own: the other side knows after three one-way delays, we after four.
    fn dial(&mut self, now: Time, Dial { addr, patience, .. }: Dial, net: &mut Network) {
        let Some(to) = net.hosts.id_at(addr).filter(|_| self.online) else {
            return self.torrent.handle_connect_failed(now, addr);
        };
        let key = self.new_link(to, None, net);
        if net.hosts.are_apart(self.id, to) {
            return net.leave(self.id, now + patience, key, What::Refused);
        }
        let delay = net.hosts.delay_between(self.id, to);
        let at = self.arrival_of_message(key, now + delay * 2, delay);
        net.leave(to, at, key, What::Incoming(self.id));
    }

    fn on_incoming(&mut self, now: Time, from: NodeId, their_key: PeerKey, net: &mut Network) {
        if net.hosts.are_apart(self.id, from) {
            return net.leave(from, now + DIAL_TIMEOUT, their_key, What::Refused);
        }
        if !net.hosts.share_version(self.id, from) {
            // To it this is a torrent of another info-hash.
            let delay = net.hosts.delay_between(self.id, from);
            return net.leave(from, now + delay, their_key, What::Refused);
        }
        let key = self.new_link(from, Some(their_key), net);
        let at = self.arrival_of_message(key, now, net.hosts.delay_between(self.id, from));
        net.leave(from, at, their_key, What::Accepted { by: self.id, key });
        self.torrent.handle_connected(now, key, self.info(from, true, net));
    }

    fn on_accepted(&mut self, now: Time, key: PeerKey, by: NodeId, remote_key: PeerKey, net: &mut Network) {
        if let Some(link) = &mut self.links[key.0 as usize] {
            link.remote_key = Some(remote_key);
            self.torrent.handle_connected(now, key, self.info(by, false, net));
        } else {
            self.reset(now, by, remote_key, net);
        }
    }

    /// What is known of a peer.
    fn info(&self, of: NodeId, inbound: bool, net: &Network) -> PeerInfo {
        PeerInfo {
            addr: net.hosts.addr_of(of),
            inbound,
            peer_id: net.hosts.peer_id(of),
            fast: true,
            extended: true,
            encryption: None,
            utp: false,
            v2: net.hosts.share_v2(self.id, of),
        }
    }

    fn note(&mut self, values: [u64; 3]) {
        for value in values {
            self.trace = (self.trace ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }
}

/// Bytes of a HAVE message.
const HAVE_LEN: u64 = 9;
/// Bytes of a REQUEST, CANCEL or REJECT message.
const REQUEST_LEN: u64 = 17;
