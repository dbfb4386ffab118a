//! What a node tells its owner.

use crate::dht::compact::NodeInfo;
use crate::dht::id::NodeId;
use crate::dht::items::Item;
use crate::dht::message::Samples;
use crate::id::InfoHash;
use crate::net::Family;
use std::net::SocketAddr;

/// One search of a node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub(super) u32);

/// What has happened that the owner may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Somebody named peers. There may be several of these for one search, with peers that are already known.
    Peers {
        /// Which search found them.
        lookup: LookupId,
        /// Their swarm.
        info_hash: InfoHash,
        /// Who they are; not checked beyond that they could be.
        peers: Vec<SocketAddr>,
        /// Who named them.
        by: SocketAddr,
    },
    /// Somebody keeps an item that was looked for: genuine, and newer than any that this search has found before.
    Item {
        /// Which search found it.
        lookup: LookupId,
        /// The item.
        item: Item,
    },
    /// How many peers a swarm has (BEP 33), about.
    Scraped {
        /// Which search found it out.
        lookup: LookupId,
        /// The swarm.
        info_hash: InfoHash,
        /// Those that have all of it.
        seeds: u32,
        /// The others.
        downloaders: u32,
    },
    /// Somebody says which swarms it knows peers of (BEP 51).
    Samples {
        /// Which search asked.
        lookup: LookupId,
        /// Some of them, and how many there are.
        samples: Samples,
        /// Who says so.
        by: SocketAddr,
    },
    /// A search is over.
    Done {
        /// Which.
        lookup: LookupId,
        /// The nodes nearest to the place that answered, the nearest first.
        nodes: Vec<NodeInfo>,
        /// How many nodes took an announcement or an item.
        stored: usize,
        /// How many queries it took, announcements aside.
        queries: u32,
        /// How many answers led, one to the next, to the first peers; if there were none, to the nearest node.
        hops: u8,
    },
    /// Others see us at an address that our id is not for (BEP 42), so it has changed.
    NewId {
        /// On which network.
        family: Family,
        /// The id from now on.
        id: NodeId,
    },
}
