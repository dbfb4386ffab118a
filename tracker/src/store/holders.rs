//! Which swarm is evicted when there is no room for another.
//!
//! Anybody can make up info-hashes, so a swarm that one network has to itself is worth little to the others.
//! Each swarm that few networks share weighs on the network that has most of it, its holder: the more, the
//! fewer share it and the more peers the holder has in it. When the tracker is full, the block of networks
//! that all of this weighs heaviest on gives its heaviest swarm up. A swarm that [`SHARED_FROM`] networks
//! share weighs nothing and is never evicted.
//!
//! Everything here takes time in proportion to the logarithm of the number of swarms, and is kept of those
//! swarms only that may be evicted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use swarm_core::id::InfoHash;

/// From so many networks on, a swarm is never evicted.
pub(super) const SHARED_FROM: u32 = 8;
/// What each peer of its holder weighs in a swarm of one network, of two, and of more: some that work
/// together are no better off than one.
const WEIGHTS: [u64; 3] = [4, 2, 1];

/// Who counts as one: an IPv4 address, or an IPv6 network of 64 bits. The order keeps neighbours together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network(u64);

impl Network {
    pub fn of(ip: IpAddr) -> Network {
        match ip {
            // After 32 set bits, where IPv6 has multicast addresses and so no source.
            IpAddr::V4(ip) => Network(u64::MAX << 32 | u64::from(ip.to_bits())),
            IpAddr::V6(ip) => Network((ip.to_bits() >> 64) as u64),
        }
    }

    /// Its place in a set of networks that is told by 64 bits, in which two may share a place.
    pub fn bit(self) -> u64 {
        1 << (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
    }

    /// What one site has: 256 IPv4 addresses, or an IPv6 network of 48 bits.
    fn block(self) -> Network {
        let is_v4 = self.0 >> 32 == u64::from(u32::MAX);
        Network(self.0 & if is_v4 { !0xff } else { !0xffff })
    }
}

/// How a swarm stands with its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub holder: Network,
    /// How many networks share the swarm, at least one.
    pub networks: u32,
    /// How many of its peers are the holder's.
    pub held: u32,
}

impl Standing {
    /// What weighs on the holder; nothing of a swarm that is not evicted.
    pub fn load(&self) -> Option<Load> {
        let each = WEIGHTS[(self.networks.max(1) as usize - 1).min(WEIGHTS.len() - 1)];
        (self.networks < SHARED_FROM).then(|| (self.holder, each * u64::from(self.held.max(1))))
    }
}

/// On whom a swarm weighs, and how much.
pub(super) type Load = (Network, u64);

/// The swarms that may be evicted, by who holds them.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// Each holder's swarms, the heaviest last.
    swarms: BTreeSet<(Network, u64, InfoHash)>,
    /// What weighs on a holder in all.
    weights: BTreeMap<Network, u64>,
    /// The holders of each block, the heaviest last.
    in_block: BTreeSet<(Network, u64, Network)>,
    block_weights: BTreeMap<Network, u64>,
    /// The blocks, the heaviest last.
    blocks: BTreeSet<(u64, Network)>,
}

impl Holders {
    /// Takes note of what a swarm weighed on whom and what it weighs now.
    pub fn change(&mut self, hash: InfoHash, before: Option<Load>, after: Option<Load>) {
        if let Some((holder, weight)) = before
            && self.swarms.remove(&(holder, weight, hash))
        {
            self.weigh(holder, |sum| sum - weight);
        }
        if let Some((holder, weight)) = after
            && self.swarms.insert((holder, weight, hash))
        {
            self.weigh(holder, |sum| sum + weight);
        }
    }

    fn weigh(&mut self, holder: Network, change: impl Fn(u64) -> u64) {
        let block = holder.block();
        let (before, after) = reweigh(&mut self.weights, holder, &change);
        self.in_block.remove(&(block, before, holder));
        if after > 0 {
            self.in_block.insert((block, after, holder));
        }
        let (before, after) = reweigh(&mut self.block_weights, block, &change);
        self.blocks.remove(&(before, block));
        if after > 0 {
            self.blocks.insert((after, block));
        }
    }

    /// The swarm that is to be evicted for another one of `newcomer`, who is counted as if it had that already.
    pub fn first_to_go(&self, newcomer: Network) -> Option<InfoHash> {
        let &(heaviest, mut block) = self.blocks.last()?;
        let own = self.block_weights.get(&newcomer.block());
        if own.is_some_and(|own| own + WEIGHTS[0] > heaviest) {
            block = newcomer.block();
        }
        let &(.., holder) = self.in_block.range(..=(block, u64::MAX, Network(u64::MAX))).next_back()?;
        let &(.., hash) = self.swarms.range(..=(holder, u64::MAX, InfoHash([u8::MAX; 20]))).next_back()?;
        Some(hash)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.swarms.len()
    }

    /// That the sums are those of the swarms listed, which are `expected`.
    #[cfg(test)]
    pub fn check_invariants(&self, expected: impl Iterator<Item = (InfoHash, Standing)>) {
        let (mut weights, mut blocks) = (BTreeMap::new(), BTreeMap::new());
        let mut listed = BTreeSet::new();
        for (hash, standing) in expected {
            let Some((holder, weight)) = standing.load() else { continue };
            *weights.entry(holder).or_insert(0) += weight;
            *blocks.entry(holder.block()).or_insert(0) += weight;
            listed.insert((holder, weight, hash));
        }
        assert_eq!(self.swarms, listed);
        let in_block = weights.iter().map(|(&holder, &weight)| (holder.block(), weight, holder));
        assert_eq!(self.in_block, in_block.collect());
        assert_eq!(self.blocks, blocks.iter().map(|(&block, &weight)| (weight, block)).collect());
        assert_eq!((&self.weights, &self.block_weights), (&weights, &blocks));
    }
}

/// Changes a sum, which is kept while it is not zero; what it was and is.
fn reweigh(sums: &mut BTreeMap<Network, u64>, of: Network, change: impl Fn(u64) -> u64) -> (u64, u64) {
    let before = sums.get(&of).copied().unwrap_or_default();
    let after = change(before);
    if after == 0 {
        sums.remove(&of);
    } else {
        sums.insert(of, after);
    }
    (before, after)
}
