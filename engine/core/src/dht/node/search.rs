//! One search of a node's: a lookup, and what is done with what it finds.

use super::event::{Event, LookupId};
use crate::dht::compact::{NodeInfo, is_usable};
use crate::dht::id::NodeId;
use crate::dht::items::{Item, Owner};
use crate::dht::lookup::Lookup;
use crate::dht::message::Response;
use crate::dht::scrape::Census;
use crate::id::InfoHash;
use crate::net::Family;
use std::net::SocketAddr;

/// What to tell of ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The port on which we listen for peers.
    pub port: u16,
    /// Others should rather take the port from which our datagrams come, which is the same and may be mapped.
    pub implied_port: bool,
    /// We have all of it (BEP 33).
    pub is_seed: bool,
}

/// What a search is for.
pub(super) enum Goal {
    Nodes,
    Peers(InfoHash, Option<Announce>),
    /// With the salt, which nodes do not tell; and the newest so far.
    Item(Vec<u8>, Option<Item>),
    /// With the version that must be there.
    Keep(Item, Option<i64>),
    Size(Census),
    Samples,
}

/// One search of a node's, from its first query to its last answer.
pub(super) struct Search {
    pub(super) family: Family,
    pub(super) goal: Goal,
    /// `None` once it is over, and the announcements are on their way.
    pub(super) lookup: Option<Lookup>,
    pub(super) nodes: Vec<NodeInfo>,
    pub(super) queries: u32,
    pub(super) hops: Option<u8>,
    pub(super) stores: usize,
    pub(super) stored: usize,
}

impl Search {
    pub(super) fn new(family: Family, goal: Goal, lookup: Lookup) -> Search {
        let lookup = Some(lookup);
        Search { family, goal, lookup, nodes: Vec::new(), queries: 0, hops: None, stores: 0, stored: 0 }
    }

    /// What there is in an answer that its owner wants to know, nodes aside.
    pub(super) fn take_answer(
        &mut self,
        lookup: LookupId,
        target: NodeId,
        by: SocketAddr,
        response: Response,
    ) -> Option<Event> {
        let mut peers = response.peers;
        peers.retain(|peer| Family::of(*peer) == self.family && is_usable(*peer, by));
        if let Goal::Size(census) = &mut self.goal {
            census.add(response.scrape.as_ref(), peers.iter().map(SocketAddr::ip));
        }
        match &mut self.goal {
            Goal::Peers(info_hash, _) | Goal::Size(Census { info_hash, .. }) => {
                let info_hash = *info_hash;
                (!peers.is_empty()).then_some(Event::Peers { lookup, info_hash, peers, by })
            }
            Goal::Item(salt, newest) => {
                let mut item = response.item?;
                item.owner = item.owner.map(|owner| Owner { salt: salt.clone(), ..owner });
                let is_newer = newest.as_ref().is_none_or(|newest| item.seq() > newest.seq());
                if !is_newer || item.target() != target || !item.is_genuine() {
                    return None;
                }
                *newest = Some(item.clone());
                Some(Event::Item { lookup, item })
            }
            Goal::Samples => {
                let samples = response.samples?;
                Some(Event::Samples { lookup, samples, by })
            }
            Goal::Nodes | Goal::Keep(..) => None,
        }
    }
}
