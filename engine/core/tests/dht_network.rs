//! Nodes of the DHT with each other, on a virtual network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use swarm_core::dht::{Announce, Event, Item, LookupId, Node, NodeConfig, NodeId};
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::time::{Duration, Time};

const ANNOUNCE: Announce = Announce { port: 6881, implied_port: false, is_seed: false };

/// Nodes, and datagrams on their way.
struct Network {
    now: Time,
    rng: Rng,
    nodes: BTreeMap<SocketAddr, Node>,
    /// By the time of arrival; the number keeps those of one time in order.
    flying: BTreeMap<(Time, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    timers: BTreeMap<SocketAddr, Time>,
    by_time: BTreeSet<(Time, SocketAddr)>,
    sent: u64,
    events: BTreeMap<SocketAddr, Vec<(Time, Event)>>,
}

impl Network {
    fn new(seed: u64) -> Network {
        Network {
            now: Time::from_micros(1),
            rng: Rng::new(seed),
            nodes: BTreeMap::new(),
            flying: BTreeMap::new(),
            timers: BTreeMap::new(),
            by_time: BTreeSet::new(),
            sent: 0,
            events: BTreeMap::new(),
        }
    }

    /// A node at an address, with an id that fits it.
    fn add(&mut self, addr: SocketAddr) {
        let id = NodeId::for_address(addr.ip(), &mut self.rng);
        let of = |family| (Family::of(addr) == family).then_some(id);
        let config = NodeConfig {
            id_v4: of(Family::V4),
            id_v6: of(Family::V6),
            secret: [7; 16],
            read_only: false,
            enforce_ids: true,
            ip_filter: Arc::default(),
        };
        self.nodes.insert(addr, Node::new(self.now, config, self.rng.fork()));
    }

    /// Has a node do something, and sends what it wants sent: each way takes 20 to 60 ms.
    fn with<R>(&mut self, addr: SocketAddr, act: impl FnOnce(&mut Node, Time) -> R) -> R {
        let node = self.nodes.get_mut(&addr).expect("a node");
        let result = act(node, self.now);
        while let Some((to, datagram)) = node.poll_datagram() {
            let arrival = self.now + Duration::from_micros(20_000 + self.rng.below(40_000));
            self.sent += 1;
            self.flying.insert((arrival, self.sent), (addr, to, datagram));
        }
        while let Some(event) = node.poll_event() {
            self.events.entry(addr).or_default().push((self.now, event));
        }
        if let Some(old) = self.timers.remove(&addr) {
            self.by_time.remove(&(old, addr));
        }
        if let Some(timer) = node.poll_timeout() {
            self.timers.insert(addr, timer);
            self.by_time.insert((timer, addr));
        }
        result
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.flying.first_key_value().map(|(key, _)| key.0);
            let timer = self.by_time.first().copied();
            let next = arrival.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if let Some((_, addr)) = timer.filter(|(at, _)| *at == next) {
                self.with(addr, |node, now| node.handle_timeout(now));
            } else if let Some((_, (from, to, datagram))) = self.flying.pop_first()
                && self.nodes.contains_key(&to)
            {
                self.with(to, |node, now| node.handle_datagram(now, from, &datagram));
            }
        }
        self.now = end;
    }

    fn kill(&mut self, addr: SocketAddr) {
        self.nodes.remove(&addr);
        if let Some(timer) = self.timers.remove(&addr) {
            self.by_time.remove(&(timer, addr));
        }
    }

    /// Runs until a search is over. Returns the peers found, and how many nodes took an announcement.
    fn outcome(&mut self, addr: SocketAddr, lookup: LookupId) -> (BTreeSet<SocketAddr>, usize) {
        let begun = self.now;
        loop {
            let events = self.events.get(&addr).map_or(&[][..], Vec::as_slice);
            let stored = events.iter().find_map(|(_, event)| match event {
                Event::Done { lookup: done, stored, .. } if *done == lookup => Some(*stored),
                _ => None,
            });
            if let Some(stored) = stored {
                let peers = events.iter().filter_map(|(_, event)| match event {
                    Event::Peers { lookup: of, peers, .. } if *of == lookup => Some(peers),
                    _ => None,
                });
                return (peers.flatten().copied().collect(), stored);
            }
            assert!(self.now.since(begun) < Duration::from_secs(60), "a search does not end");
            self.run(Duration::from_millis(100));
        }
    }
}

/// A host of its own, in the wide world.
fn host(family: Family, n: u32) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::from((Ipv4Addr::from(0x0b00_0000 + n * 0x101), 6881)),
        Family::V6 => {
            SocketAddr::from((Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n) << 64 | 1), 6881))
        }
    }
}

/// `count` nodes that joined by the first of them, one each 50 ms.
fn joined(family: Family, count: u32, seed: u64) -> (Network, Vec<SocketAddr>) {
    let mut network = Network::new(seed);
    let hosts: Vec<SocketAddr> = (0..count).map(|n| host(family, n)).collect();
    for addr in &hosts {
        network.add(*addr);
        network.with(*addr, |node, now| node.join(now, &hosts[..1]));
        network.run(Duration::from_millis(50));
    }
    network.run(Duration::from_secs(10));
    (network, hosts)
}

fn hash(n: u64) -> InfoHash {
    let mut hash = InfoHash([0; 20]);
    Rng::new(n).fill(&mut hash.0);
    hash
}

/// Every node announces a swarm of its own, and another one looks for it.
fn everybody_is_found(family: Family) {
    let (mut network, hosts) = joined(family, 200, 1);
    for (n, addr) in hosts.iter().enumerate() {
        assert!(network.nodes[addr].nodes(family).len() >= 8, "{addr} knows too few");
        let announce = network.with(*addr, |node, now| node.announce(now, family, hash(n as u64), ANNOUNCE));
        let (_, stored) = network.outcome(*addr, announce);
        assert!(stored >= 7, "{stored} nodes took the announcement of {addr}");
    }
    for n in 0..hosts.len() {
        let asker = hosts[(n * 7 + 3) % hosts.len()];
        let search = network.with(asker, |node, now| node.get_peers(now, family, hash(n as u64)));
        let (peers, _) = network.outcome(asker, search);
        assert_eq!(peers.into_iter().collect::<Vec<_>>(), [hosts[n]], "swarm {n}");
    }
}

#[test]
fn everybody_is_found_over_ipv4() {
    everybody_is_found(Family::V4);
}

#[test]
fn everybody_is_found_over_ipv6() {
    everybody_is_found(Family::V6);
}

#[test]
fn peers_are_found_though_a_third_of_the_nodes_is_gone() {
    let (mut network, hosts) = joined(Family::V4, 150, 2);
    let family = Family::V4;
    for (n, addr) in hosts.iter().enumerate().take(20) {
        let announce = network.with(*addr, |node, now| node.announce(now, family, hash(n as u64), ANNOUNCE));
        network.outcome(*addr, announce);
    }
    (50..100).for_each(|n| network.kill(hosts[n]));
    for n in 0..20 {
        let asker = hosts[100 + n];
        let search = network.with(asker, |node, now| node.get_peers(now, family, hash(n as u64)));
        assert!(network.outcome(asker, search).0.contains(&hosts[n]), "swarm {n}");
    }
}

#[test]
fn a_node_that_nobody_answers_at_first_joins_later() {
    let mut network = Network::new(3);
    let (router, late) = (host(Family::V4, 0), host(Family::V4, 1));
    network.add(late);
    network.with(late, |node, now| node.join(now, &[router]));
    network.run(Duration::from_secs(20));
    assert!(network.nodes[&late].nodes(Family::V4).is_empty());
    network.add(router);
    network.with(router, |_, _| ());
    network.run(Duration::from_secs(60));
    assert_eq!(network.nodes[&late].nodes(Family::V4).len(), 1);
    assert_eq!(network.nodes[&router].nodes(Family::V4).len(), 1, "and is known in turn");
}

#[test]
fn a_quiet_network_stays_quiet() {
    let (mut network, _) = joined(Family::V4, 50, 4);
    // Who has joined looks around a little.
    network.run(Duration::from_secs(60));
    let before = network.sent;
    network.run(Duration::from_secs(800));
    assert!(network.sent - before < 50, "{} datagrams while nothing happened", network.sent - before);
    network.run(Duration::from_secs(1_000));
    assert!(network.sent - before > 1_000, "tables are refreshed");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let sent = |seed| joined(Family::V4, 40, seed).0.sent;
    assert_eq!(sent(5), sent(5));
}

#[test]
fn many_ids_at_few_addresses_gain_nothing() {
    // 300 ids around a key, on five addresses. They answer as any node would, and never with peers.
    let (mut network, hosts) = joined(Family::V4, 60, 6);
    let key = hash(0);
    let announce = network.with(hosts[1], |node, now| node.announce(now, Family::V4, key, ANNOUNCE));
    network.outcome(hosts[1], announce);
    for n in 0..300u16 {
        let addr = SocketAddr::from(([66, 6, 6, (n % 5) as u8], 10_000 + n));
        let id = NodeId::from(key).random_near(30, &mut network.rng);
        let config = NodeConfig {
            id_v4: Some(id),
            id_v6: None,
            secret: [0; 16],
            read_only: false,
            enforce_ids: false,
            ip_filter: Arc::default(),
        };
        network.nodes.insert(addr, Node::new(network.now, config, Rng::new(n.into())));
        network.with(addr, |node, now| node.join(now, &hosts[..1]));
        network.run(Duration::from_millis(50));
    }
    network.run(Duration::from_secs(20));
    for asker in &hosts[10..20] {
        let search = network.with(*asker, |node, now| node.get_peers(now, Family::V4, key));
        assert!(network.outcome(*asker, search).0.contains(&hosts[1]));
    }
}

#[test]
fn items_are_kept_and_the_newest_is_found() {
    let (mut network, hosts) = joined(Family::V4, 60, 7);
    let version = |seq| Item::signed(&[1; 32], b"salt".to_vec(), seq, format!("i{seq}e").into_bytes());
    for item in [Item::immutable(b"5:hello".to_vec()), version(1), version(2), version(7)] {
        let put = network.with(hosts[3], |node, now| node.put_item(now, Family::V4, item.clone(), None));
        assert!(network.outcome(hosts[3], put).1 >= 7);
        let salt = item.owner.as_ref().map_or(&b""[..], |owner| &owner.salt);
        let get = network.with(hosts[40], |node, now| node.get_item(now, Family::V4, item.target(), salt));
        network.outcome(hosts[40], get);
        let found = network.events[&hosts[40]].iter().rev().find_map(|(_, event)| match event {
            Event::Item { lookup, item } if *lookup == get => Some(item.clone()),
            _ => None,
        });
        assert_eq!(found, Some(item));
    }
    // A node farther off may take an old version, having none; whoever looks finds the newest.
    let old = network.with(hosts[4], |node, now| node.put_item(now, Family::V4, version(3), None));
    assert!(network.outcome(hosts[4], old).1 <= 2);
    let target = version(7).target();
    let get = network.with(hosts[50], |node, now| node.get_item(now, Family::V4, target, b"salt"));
    network.outcome(hosts[50], get);
    let newest = network.events[&hosts[50]].iter().rev().find_map(|(_, event)| match event {
        Event::Item { item, .. } => Some(item.clone()),
        _ => None,
    });
    assert_eq!(newest, Some(version(7)));
}

#[test]
fn swarms_are_counted_and_sampled() {
    let (mut network, hosts) = joined(Family::V4, 60, 8);
    for (n, addr) in hosts.iter().enumerate().skip(10) {
        let what = Announce { is_seed: n % 5 == 0, ..ANNOUNCE };
        let announce = network.with(*addr, |node, now| node.announce(now, Family::V4, hash(0), what));
        network.outcome(*addr, announce);
    }
    let asker = hosts[3];
    let scrape = network.with(asker, |node, now| node.scrape(now, Family::V4, hash(0)));
    let (peers, _) = network.outcome(asker, scrape);
    assert!(peers.len() > 40, "most of them are named too");
    let counts = network.events[&asker].iter().find_map(|(_, event)| match event {
        Event::Scraped { lookup, seeds, downloaders, .. } if *lookup == scrape => {
            Some((*seeds, *downloaders))
        }
        _ => None,
    });
    let (seeds, downloaders) = counts.expect("counts");
    assert!(seeds.abs_diff(10) <= 1 && downloaders.abs_diff(40) <= 2, "{seeds} and {downloaders}");

    let target = NodeId::from(hash(0));
    let sample = network.with(asker, |node, now| node.sample_infohashes(now, Family::V4, target));
    network.outcome(asker, sample);
    let mut sampled = network.events[&asker].iter().filter_map(|(_, event)| match event {
        Event::Samples { lookup, samples, .. } if *lookup == sample => Some(samples),
        _ => None,
    });
    assert!(sampled.any(|samples| samples.hashes == [hash(0)] && samples.count == 1));
}
