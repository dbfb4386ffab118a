//! Begins searches, and takes them step by step to their end.

use super::event::{Event, LookupId};
use super::search::{Announce, Goal, Search};
use super::{Node, Purpose};
use crate::dht::compact::{NodeInfo, is_usable};
use crate::dht::id::NodeId;
use crate::dht::items::Item;
use crate::dht::lookup::Lookup;
use crate::dht::message::{Question, Response};
use crate::dht::peers::SWARM_PEERS_MAX;
use crate::dht::scrape::Census;
use crate::id::InfoHash;
use crate::net::Family;
use crate::time::Time;
use std::net::SocketAddr;

/// Most searches at a time; a further one is over at once.
pub const SEARCHES_MAX: usize = 256;

impl Node {
    /// Looks for the nodes nearest to `target`. Ends with [`Event::Done`].
    pub fn find_node(&mut self, now: Time, family: Family, target: NodeId) -> LookupId {
        self.start(now, family, target, Goal::Nodes)
    }

    /// Looks for peers of a swarm. Gives [`Event::Peers`] as they are found, then [`Event::Done`].
    pub fn get_peers(&mut self, now: Time, family: Family, info_hash: InfoHash) -> LookupId {
        self.start(now, family, info_hash.into(), Goal::Peers(info_hash, None))
    }

    /// The same, and tells the nodes nearest to the swarm's key that we are in it.
    pub fn announce(&mut self, now: Time, family: Family, info_hash: InfoHash, what: Announce) -> LookupId {
        self.start(now, family, info_hash.into(), Goal::Peers(info_hash, Some(what)))
    }

    /// Looks for the item kept at `target`; `salt` is that of a mutable one. Gives [`Event::Item`] for each newer version
    /// that turns up, then [`Event::Done`].
    pub fn get_item(&mut self, now: Time, family: Family, target: NodeId, salt: &[u8]) -> LookupId {
        self.start(now, family, target, Goal::Item(salt.to_vec(), None))
    }

    /// Has the nodes nearest to an item's place keep it; `cas` is the version that must be there.
    pub fn put_item(&mut self, now: Time, family: Family, item: Item, cas: Option<i64>) -> LookupId {
        self.start(now, family, item.target(), Goal::Keep(item, cas))
    }

    /// Asks how many peers a swarm has (BEP 33). Gives [`Event::Peers`] as well as they are found, then
    /// [`Event::Scraped`], then [`Event::Done`].
    pub fn scrape(&mut self, now: Time, family: Family, info_hash: InfoHash) -> LookupId {
        self.start(now, family, info_hash.into(), Goal::Size(Census::new(info_hash)))
    }

    /// Asks nodes near `target` which swarms they know peers of (BEP 51). Gives [`Event::Samples`] for each that
    /// answers, then [`Event::Done`].
    pub fn sample_infohashes(&mut self, now: Time, family: Family, target: NodeId) -> LookupId {
        self.start(now, family, target, Goal::Samples)
    }

    fn start(&mut self, now: Time, family: Family, target: NodeId, goal: Goal) -> LookupId {
        let id = LookupId(self.next_lookup);
        self.next_lookup = self.next_lookup.wrapping_add(1);
        let room = self.searches.len() < SEARCHES_MAX;
        let lookup = if room { self.new_lookup(now, family, target) } else { None };
        let lookup = lookup.unwrap_or_else(|| Lookup::new(target));
        let mut search = Search::new(family, goal, lookup);
        self.search_here(now, id, family, &mut search.goal);
        self.searches.insert(id, search);
        self.advance(now, id);
        id
    }

    /// What others have announced to ourselves counts too, most of all where there are few nodes.
    fn search_here(&mut self, now: Time, lookup: LookupId, family: Family, goal: &mut Goal) {
        let info_hash = match goal {
            Goal::Peers(info_hash, _) => *info_hash,
            Goal::Size(census) => {
                census.add(self.peers.scrape(now, census.info_hash).as_ref(), std::iter::empty());
                census.info_hash
            }
            _ => return,
        };
        for peer in self.peers.sample(now, info_hash, family, false, SWARM_PEERS_MAX, &mut self.rng) {
            self.events.push_back(Event::Peers { lookup, info_hash, peers: vec![peer], by: peer });
        }
    }

    /// Asks whoever is to be asked now, and ends the lookup when it is done.
    fn advance(&mut self, now: Time, id: LookupId) {
        loop {
            let Some(search) = self.searches.get_mut(&id) else { return };
            let Some(lookup) = &mut search.lookup else { return };
            if lookup.is_done() {
                break;
            }
            let Some((addr, node)) = lookup.poll_ask() else { return };
            let target = lookup.target();
            let question = match search.goal {
                Goal::Nodes => Question::FindNode { target },
                Goal::Peers(info_hash, _) => Question::GetPeers { info_hash, no_seeds: false, scrape: false },
                Goal::Size(Census { info_hash, .. }) => {
                    Question::GetPeers { info_hash, no_seeds: false, scrape: true }
                }
                Goal::Samples => Question::SampleInfohashes { target },
                Goal::Item(..) | Goal::Keep(..) => Question::Get { target, seq: None },
            };
            self.send_query(now, addr, node, question, Purpose::Step(id));
        }
        self.conclude(now, id);
    }

    /// A node has answered a step of a search.
    pub(super) fn on_step(&mut self, now: Time, id: LookupId, info: NodeInfo, mut response: Response) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        let Some(lookup) = &mut search.lookup else { return };
        let hops = lookup.answered(info, response.token.take());
        let target = lookup.target();
        let own = self.networks[search.family as usize].as_ref().map(|network| network.table.own());
        let nodes = if search.family == Family::V4 { response.nodes.take() } else { response.nodes6.take() };
        let config = &self.config;
        let mut nodes = nodes.unwrap_or_default();
        nodes.retain(|node| is_usable(node.addr, info.addr) && config.accepts(*node) && Some(node.id) != own);
        for node in &nodes {
            lookup.add_named(*node, info.addr);
        }
        if let Some(event) = search.take_answer(id, target, info.addr, response) {
            search.hops.get_or_insert(hops);
            self.events.push_back(event);
        }
        if let Some(network) = &mut self.networks[search.family as usize] {
            nodes.into_iter().for_each(|node| network.table.named(node));
        }
        self.advance(now, id);
    }

    pub(super) fn on_step_failed(&mut self, now: Time, id: LookupId, addr: SocketAddr) {
        if let Some(lookup) = self.searches.get_mut(&id).and_then(|search| search.lookup.as_mut()) {
            lookup.failed(addr);
            self.advance(now, id);
        }
    }

    pub(super) fn on_slow(&mut self, now: Time, to: SocketAddr, purpose: Purpose) {
        if let Purpose::Step(id) = purpose
            && let Some(lookup) = self.searches.get_mut(&id).and_then(|search| search.lookup.as_mut())
        {
            lookup.mark_slow(to);
            self.advance(now, id);
        }
    }

    /// The lookup is done: announces if that is wanted.
    fn conclude(&mut self, now: Time, id: LookupId) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        let Some(lookup) = search.lookup.take() else { return };
        search.queries = lookup.queries();
        let (found, hops) = lookup.found();
        search.hops.get_or_insert(hops);
        search.nodes = found.iter().map(|found| found.info).collect();
        let mut stores = Vec::new();
        for (to, token) in found.into_iter().filter_map(|found| Some((found.info, found.token?))) {
            let question = match &search.goal {
                Goal::Peers(info_hash, Some(what)) => Question::AnnouncePeer {
                    info_hash: *info_hash,
                    port: what.port,
                    implied_port: what.implied_port,
                    is_seed: what.is_seed,
                    token,
                },
                Goal::Keep(item, cas) => Question::Put { item: item.clone(), cas: *cas, token },
                _ => break,
            };
            stores.push((to, question));
        }
        search.stores = stores.len();
        for (to, question) in stores {
            self.send_query(now, to.addr, Some(to.id), question, Purpose::Store(id));
        }
        self.end_if_over(id);
    }

    /// A node has taken an announcement, or has not.
    pub(super) fn on_stored(&mut self, id: LookupId, stored: bool) {
        if let Some(search) = self.searches.get_mut(&id) {
            search.stores = search.stores.saturating_sub(1);
            search.stored += usize::from(stored);
        }
        self.end_if_over(id);
    }

    fn end_if_over(&mut self, id: LookupId) {
        let is_over = |search: &Search| search.lookup.is_none() && search.stores == 0;
        if self.searches.get(&id).is_some_and(is_over)
            && let Some(search) = self.searches.remove(&id)
        {
            let Search { goal, nodes, stored, queries, hops, .. } = search;
            if let Goal::Size(census) = goal {
                let ((seeds, downloaders), info_hash) = (census.counts(), census.info_hash);
                self.events.push_back(Event::Scraped { lookup: id, info_hash, seeds, downloaders });
            }
            let hops = hops.unwrap_or(0);
            self.events.push_back(Event::Done { lookup: id, nodes, stored, queries, hops });
        }
    }
}
