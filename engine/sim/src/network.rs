//! What lies between the nodes.

use crate::basics::{NodeId, PATH_MIN};
use crate::queue::{Arrival, Inbox, What};
use crate::tracker::{self, Announce};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use swarm_core::id::{PeerId, PeerKey};
use swarm_core::metainfo::Format;
use swarm_core::time::{Duration, Time};
use swarm_core::tracker::AnnounceAction;

/// The port at which every node listens.
pub(crate) const PORT: u16 = 6881;
/// The address of the first node.
const FIRST_IP: u32 = 0x0a00_0001;

/// What a node's peers know of it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) delay: Duration,
    pub(crate) peer_id: PeerId,
    /// The versions of the protocol that it speaks.
    pub(crate) format: Format,
}

/// Who is where. Nothing of it changes while nodes run.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// By node.
    pub(crate) all: Vec<Host>,
    /// On which side of a cut each host is, while there is one.
    pub(crate) sides: Vec<bool>,
    /// Those that are web seeds, in the order in which torrents know them.
    pub(crate) web_seeds: Vec<NodeId>,
}

impl Hosts {
    pub(crate) fn delay_between(&self, a: NodeId, b: NodeId) -> Duration {
        (self.all[a.0 as usize].delay + self.all[b.0 as usize].delay).max(PATH_MIN)
    }

    /// Whether nothing gets from one to the other now.
    pub(crate) fn are_apart(&self, a: NodeId, b: NodeId) -> bool {
        let side = |id: NodeId| self.sides.get(id.0 as usize).copied().unwrap_or(false);
        !self.sides.is_empty() && side(a) != side(b)
    }

    /// Whether both speak the same version of the protocol, and so are in the same swarm.
    pub(crate) fn share_version(&self, a: NodeId, b: NodeId) -> bool {
        let speaks = |id: NodeId| self.all[id.0 as usize].format;
        speaks(a).has_v1() && speaks(b).has_v1() || self.share_v2(a, b)
    }

    /// Whether both speak version 2.
    pub(crate) fn share_v2(&self, a: NodeId, b: NodeId) -> bool {
        self.all[a.0 as usize].format.has_v2() && self.all[b.0 as usize].format.has_v2()
    }

    pub(crate) fn addr_of(&self, id: NodeId) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from(FIRST_IP + id.0), PORT))
    }

    pub(crate) fn id_at(&self, addr: SocketAddr) -> Option<NodeId> {
        let IpAddr::V4(ip) = addr.ip() else { return None };
        let id = u32::from(ip).checked_sub(FIRST_IP)?;
        ((id as usize) < self.all.len()).then_some(NodeId(id))
    }

    pub(crate) fn peer_id(&self, id: NodeId) -> PeerId {
        self.all[id.0 as usize].peer_id
    }
}

/// What the nodes of a lane have sent and nobody has got yet; see [`crate::lanes`].
#[derive(Debug)]
pub(crate) struct Outbox {
    /// By the lane of the receiver, in the order of sending.
    pub(crate) mail: Vec<Vec<Arrival>>,
    /// How many nodes each lane has.
    lane_len: u32,
    pub(crate) announces: Vec<Announce>,
}

impl Outbox {
    pub(crate) fn new() -> Outbox {
        Outbox { mail: vec![Vec::new()], lane_len: u32::MAX, announces: Vec::new() }
    }

    /// From now on there are so many lanes with so many nodes each. It must be empty.
    pub(crate) fn set_lanes(&mut self, lanes: usize, lane_len: usize) {
        self.mail.resize_with(lanes, Vec::new);
        self.lane_len = lane_len as u32;
    }

    /// Brings everything to the inboxes of all nodes.
    pub(crate) fn deliver(&mut self, inboxes: &mut [Inbox]) {
        for arrival in self.mail.iter_mut().flat_map(|mail| mail.drain(..)) {
            inboxes[arrival.to.0 as usize].leave(arrival);
        }
    }
}

/// The network as a node sees it that runs.
#[derive(Debug)]
pub(crate) struct Network<'a> {
    pub(crate) hosts: &'a Hosts,
    pub(crate) outbox: &'a mut Outbox,
}

impl Network<'_> {
    /// Sends something that arrives at `at`. Of what arrives at the same time, the first sent is first.
    pub(crate) fn leave(&mut self, to: NodeId, at: Time, key: PeerKey, what: What) {
        let lane = to.0 / self.outbox.lane_len;
        self.outbox.mail[lane as usize].push(Arrival { at, to, key, what });
    }

    /// Sends an announce to the tracker, which is on the side of the first host.
    pub(crate) fn announce(&mut self, now: Time, from: NodeId, life: u32, action: AnnounceAction) {
        let (addr, is_cut_off) = (self.hosts.addr_of(from), self.hosts.are_apart(from, NodeId(0)));
        let delay = (self.hosts.all[from.0 as usize].delay + tracker::DELAY).max(PATH_MIN);
        let announce = Announce { at: now + delay, from, addr, delay, is_cut_off, life, action };
        self.outbox.announces.push(announce);
    }
}
