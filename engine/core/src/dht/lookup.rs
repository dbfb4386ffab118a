//! One iterative search for the nodes nearest to a place (BEP 5).
//!
//! It asks the nearest nodes that it knows of for nearer ones, [`ALPHA`] at a time, and ends early: as soon as the
//! nearest [`BUCKET_LEN_MAX`] that are not dead or slow have all answered, whatever is still on its way. A node that
//! is slow to answer no longer counts as one of those that are being asked, so that dead entries cost a moment only.
//! Of each host one node takes part, so that many ids at one address gain nothing.

use super::compact::NodeInfo;
use super::id::{Distance, NodeId};
use super::table::BUCKET_LEN_MAX;
use crate::net::Host;
use std::net::SocketAddr;

/// Nodes asked at the same time.
pub const ALPHA: usize = 4;
/// Nodes remembered by a lookup.
pub const CANDIDATES_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Untried,
    Asked,
    /// Asked, and it should have answered by now.
    Slow,
    Answered,
    Failed,
}

struct Candidate {
    /// Nothing is known of the id of an address that somebody gave us to begin with.
    id: Option<NodeId>,
    addr: SocketAddr,
    progress: Progress,
    /// How many answers led here.
    hops: u8,
    token: Option<Vec<u8>>,
}

/// A node that has answered a lookup.
pub(super) struct Found {
    pub(super) info: NodeInfo,
    pub(super) token: Option<Vec<u8>>,
}

/// A search in progress. It decides whom to ask; its owner asks.
pub(super) struct Lookup {
    target: NodeId,
    /// The nearest first; those without an id last.
    candidates: Vec<Candidate>,
    queries: u32,
}

impl Lookup {
    pub(super) fn new(target: NodeId) -> Lookup {
        Lookup { target, candidates: Vec::new(), queries: 0 }
    }

    pub(super) fn target(&self) -> NodeId {
        self.target
    }

    /// Queries sent so far.
    pub(super) fn queries(&self) -> u32 {
        self.queries
    }

    /// Where a node stands: the distance, or after all others.
    fn place(&self, id: Option<NodeId>) -> (bool, Option<Distance>) {
        (id.is_none(), id.map(|id| self.target.distance(id)))
    }

    /// Takes up a node to begin with; without an id it is asked only if there are few others.
    pub(super) fn add_seed(&mut self, id: Option<NodeId>, addr: SocketAddr) {
        self.add(id, addr, 0);
    }

    /// Takes up a node that another one has named.
    pub(super) fn add_named(&mut self, info: NodeInfo, by: SocketAddr) {
        let hops = self.candidates.iter().find(|known| known.addr == by).map_or(0, |by| by.hops);
        self.add(Some(info.id), info.addr, hops.saturating_add(1));
    }

    fn add(&mut self, id: Option<NodeId>, addr: SocketAddr, hops: u8) {
        let host = Host::of(addr);
        let takes_part = |known: &Candidate| {
            known.addr == addr || known.progress != Progress::Failed && Host::of(known.addr) == host
        };
        if !self.candidates.iter().any(takes_part) {
            self.insert(Candidate { id, addr, progress: Progress::Untried, hops, token: None });
        }
    }

    fn insert(&mut self, candidate: Candidate) {
        let place = self.place(candidate.id);
        let at = self.candidates.partition_point(|known| self.place(known.id) < place);
        self.candidates.insert(at, candidate);
        if self.candidates.len() > CANDIDATES_MAX {
            // Who is waited for stays, or its answer would find nobody; there are few of those.
            let least = self
                .candidates
                .iter()
                .rposition(|c| matches!(c.progress, Progress::Untried | Progress::Failed));
            self.candidates.remove(least.unwrap_or(CANDIDATES_MAX));
        }
    }

    /// The nearest that count: neither dead nor slow.
    fn nearest(&self) -> impl Iterator<Item = &Candidate> {
        let counts = |c: &&Candidate| !matches!(c.progress, Progress::Failed | Progress::Slow);
        self.candidates.iter().filter(counts).take(BUCKET_LEN_MAX)
    }

    /// The next node to ask, if one is to be asked now.
    pub(super) fn poll_ask(&mut self) -> Option<(SocketAddr, Option<NodeId>)> {
        let is_asked = |candidate: &&Candidate| candidate.progress == Progress::Asked;
        if self.candidates.iter().filter(is_asked).count() >= ALPHA {
            return None;
        }
        let addr = self.nearest().find(|candidate| candidate.progress == Progress::Untried)?.addr;
        let candidate = self.candidate(addr)?;
        candidate.progress = Progress::Asked;
        let asked = (candidate.addr, candidate.id);
        self.queries += 1;
        Some(asked)
    }

    fn candidate(&mut self, addr: SocketAddr) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.addr == addr)
    }

    /// A node has answered, under the id that it has. Returns how many answers led to it.
    pub(super) fn answered(&mut self, info: NodeInfo, token: Option<Vec<u8>>) -> u8 {
        let Some(at) = self.candidates.iter().position(|known| known.addr == info.addr) else { return 0 };
        let mut candidate = self.candidates.remove(at);
        candidate.id = Some(info.id);
        candidate.progress = Progress::Answered;
        candidate.token = token;
        let hops = candidate.hops;
        self.insert(candidate);
        hops
    }

    /// A node has not answered yet.
    pub(super) fn mark_slow(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.candidate(addr).filter(|c| c.progress == Progress::Asked) {
            candidate.progress = Progress::Slow;
        }
    }

    /// A node will not answer, or is not to take part.
    pub(super) fn failed(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.candidate(addr) {
            candidate.progress = Progress::Failed;
        }
    }

    /// Whether nobody will be found that is nearer.
    pub(super) fn is_done(&self) -> bool {
        let answered = self.nearest().filter(|candidate| candidate.progress == Progress::Answered).count();
        let is_slow = |candidate: &Candidate| candidate.progress == Progress::Slow;
        answered == self.nearest().count()
            && (answered == BUCKET_LEN_MAX || !self.candidates.iter().any(is_slow))
    }

    /// The nearest nodes that have answered, the nearest first, and how many answers led to the nearest.
    pub(super) fn found(self) -> (Vec<Found>, u8) {
        let nearest = self.candidates.iter().find(|candidate| candidate.progress == Progress::Answered);
        let hops = nearest.map_or(0, |nearest| nearest.hops);
        let found = self
            .candidates
            .into_iter()
            .filter(|candidate| candidate.progress == Progress::Answered)
            .filter_map(|c| Some(Found { info: NodeInfo { id: c.id?, addr: c.addr }, token: c.token }))
            .take(BUCKET_LEN_MAX)
            .collect();
        (found, hops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: NodeId = NodeId([0; 20]);

    /// The node with this distance from the target.
    fn node(n: u8) -> NodeInfo {
        let mut id = TARGET;
        id.0[0] = n;
        NodeInfo { id, addr: SocketAddr::from(([1, 1, 1, n], 6881)) }
    }

    fn lookup(seeds: impl IntoIterator<Item = u8>) -> Lookup {
        let mut lookup = Lookup::new(TARGET);
        seeds.into_iter().for_each(|n| lookup.add_seed(Some(node(n).id), node(n).addr));
        lookup
    }

    fn asked(lookup: &mut Lookup) -> Vec<SocketAddr> {
        std::iter::from_fn(|| lookup.poll_ask()).map(|(addr, _)| addr).collect()
    }

    fn addrs(nodes: &[u8]) -> Vec<SocketAddr> {
        nodes.iter().map(|n| node(*n).addr).collect()
    }

    #[test]
    fn the_nearest_are_asked_first_a_few_at_a_time() {
        let mut lookup = lookup([50, 10, 40, 30, 20, 60]);
        assert_eq!(asked(&mut lookup), addrs(&[10, 20, 30, 40]));
        lookup.add_named(node(5), node(10).addr);
        assert_eq!(lookup.answered(node(10), None), 0);
        assert_eq!(asked(&mut lookup), addrs(&[5]));
        assert_eq!(lookup.answered(node(5), None), 1, "one answer led to it");
        assert_eq!(lookup.queries(), 5);
    }

    #[test]
    fn it_ends_as_soon_as_the_nearest_have_answered() {
        let mut lookup = lookup(1..=20);
        for n in [1, 2, 3, 4, 5, 6, 7] {
            asked(&mut lookup);
            lookup.answered(node(n), None);
            assert!(!lookup.is_done());
        }
        lookup.answered(node(8), Some(b"token".to_vec()));
        assert!(lookup.is_done(), "farther ones are still to answer");
        assert_eq!(asked(&mut lookup), []);
        let found = lookup.found().0;
        assert_eq!(found.iter().map(|f| f.info).collect::<Vec<_>>(), (1..=8).map(node).collect::<Vec<_>>());
        assert_eq!(found[7].token.as_deref(), Some(&b"token"[..]));
    }

    #[test]
    fn the_slow_and_the_dead_make_room() {
        let mut lookup = lookup([1, 2, 3, 4, 5]);
        asked(&mut lookup);
        lookup.mark_slow(node(1).addr);
        assert_eq!(asked(&mut lookup), addrs(&[5]));
        for n in 2..=5 {
            lookup.answered(node(n), None);
        }
        assert!(!lookup.is_done(), "so few have answered that the slow one is waited for");
        lookup.failed(node(1).addr);
        assert!(lookup.is_done());
        assert_eq!(lookup.found().0.len(), 4);
    }

    #[test]
    fn a_host_takes_part_once_until_it_fails() {
        let mut lookup = lookup([10]);
        let other_port = SocketAddr::new(node(10).addr.ip(), 1);
        let near = NodeInfo { id: node(1).id, addr: other_port };
        lookup.add_named(near, node(10).addr);
        assert_eq!(asked(&mut lookup), addrs(&[10]));
        lookup.failed(node(10).addr);
        lookup.add_named(near, node(10).addr);
        assert_eq!(asked(&mut lookup), [other_port]);
    }

    #[test]
    fn a_node_counts_under_the_id_that_it_answers_with() {
        let mut lookup = lookup([1, 20]);
        asked(&mut lookup);
        lookup.answered(NodeInfo { id: node(99).id, addr: node(1).addr }, None);
        lookup.answered(node(20), None);
        assert_eq!(lookup.found().0[0].info, node(20), "whoever named the other one had its id wrong");
    }

    #[test]
    fn addresses_without_an_id_are_the_last_resort() {
        let mut lookup = lookup(1..=8);
        lookup.add_seed(None, node(100).addr);
        while let Some((addr, id)) = lookup.poll_ask() {
            lookup.answered(NodeInfo { id: id.unwrap(), addr }, None);
        }
        assert!(lookup.is_done());
        assert!(lookup.found().0.iter().all(|found| found.info.addr != node(100).addr));
        let mut alone = Lookup::new(TARGET);
        alone.add_seed(None, node(100).addr);
        assert_eq!(asked(&mut alone), addrs(&[100]));
    }

    #[test]
    fn memory_is_bounded_and_the_nearest_stay() {
        let mut lookup = lookup([200]);
        asked(&mut lookup);
        for n in (0..=255u8).rev().filter(|n| *n != 200) {
            lookup.add_named(node(n), node(200).addr);
        }
        assert_eq!(lookup.candidates.len(), CANDIDATES_MAX);
        assert_eq!(asked(&mut lookup), addrs(&[0, 1, 2]));
        assert_eq!(lookup.answered(node(200), None), 0);
    }
}
