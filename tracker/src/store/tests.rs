use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use swarm_core::id::PeerId;
use swarm_core::rng::Rng;
use swarm_core::tracker::PeerFormat;

use super::*;
use crate::config::Limits;

mod room;
mod saved;

const HASH: InfoHash = InfoHash([7; 20]);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn request(port: u16, left: u64) -> AnnounceRequest {
    let mut id = [b'-'; 20];
    id[..2].copy_from_slice(&port.to_be_bytes());
    AnnounceRequest {
        info_hash: HASH,
        peer_id: PeerId(id),
        port,
        uploaded: 0,
        downloaded: 0,
        left,
        event: None,
        numwant: None,
        format: PeerFormat::Compact,
        key: None,
        tracker_id: None,
    }
}

fn with(event: Event, request: AnnounceRequest) -> AnnounceRequest {
    AnnounceRequest { event: Some(event), ..request }
}

/// A store with its clock and generator.
struct Bench {
    store: Store,
    rng: Rng,
    now: Time,
}

impl Bench {
    fn new(config: Config) -> Bench {
        Bench { store: Store::new(config), rng: Rng::new(1), now: at(0) }
    }

    fn announce(&mut self, source: IpAddr, request: &AnnounceRequest) -> AnnounceResponse {
        self.try_announce(source, request).unwrap()
    }

    fn try_announce(
        &mut self,
        source: IpAddr,
        request: &AnnounceRequest,
    ) -> Result<AnnounceResponse, Refusal> {
        self.store.announce(self.now, &mut self.rng, request, source)
    }

    fn expire_at(&mut self, now: Time) {
        self.now = now;
        self.store.expire(now);
    }

    fn scrape(&self) -> ScrapeStats {
        self.store.scrape(&[HASH]).files[&HASH]
    }
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn ports(response: &AnnounceResponse) -> BTreeSet<u16> {
    let ports: BTreeSet<u16> = response.peers.iter().map(|peer| peer.addr.port()).collect();
    assert_eq!(ports.len(), response.peers.len(), "nobody is named twice");
    ports
}

#[test]
fn peers_hear_of_each_other_but_not_of_themselves() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(ports(&bench.announce(V4, &request(1, 5))), [].into());
    assert_eq!(ports(&bench.announce(V4, &request(2, 0))), [1].into());
    assert_eq!(ports(&bench.announce(V4, &request(3, 5))), [1, 2].into());
    let again = bench.announce(V4, &request(1, 4));
    assert_eq!(ports(&again), [2, 3].into());
    assert_eq!((again.complete, again.incomplete), (Some(1), Some(2)));
    assert_eq!(
        again.peers.iter().find(|peer| peer.addr.port() == 2).unwrap().id,
        Some(request(2, 0).peer_id)
    );
}

#[test]
fn seeds_hear_of_leechers_only() {
    let mut bench = Bench::new(Config::default());
    for port in 1..=4 {
        bench.announce(V4, &request(port, u64::from(port % 2)));
    }
    assert_eq!(ports(&bench.announce(V4, &request(2, 0))), [1, 3].into());
    assert_eq!(ports(&bench.announce(V4, &request(1, 0))), [3].into(), "it has just become a seed");
    assert_eq!(ports(&bench.announce(V4, &request(3, 1))), [1, 2, 4].into());
    let started = AnnounceRequest { event: Some(Event::Started), ..request(5, 0) };
    assert_eq!(
        ports(&bench.announce(V4, &started)),
        [1, 2, 3, 4].into(),
        "it may lack the metadata, and not know what is left"
    );
}

#[test]
fn families_do_not_mix_but_count_together() {
    let mut bench = Bench::new(Config::default());
    bench.announce(V4, &request(1, 5));
    bench.announce(V6, &request(2, 5));
    let six = bench.announce(V6, &request(3, 0));
    assert_eq!(ports(&six), [2].into());
    assert_eq!(six.peers[0].addr, SocketAddr::new(V6, 2));
    assert_eq!((six.complete, six.incomplete, six.external_ip), (Some(1), Some(2), Some(V6)));
    let mapped = bench.announce("::ffff:127.0.0.1".parse().unwrap(), &request(4, 5));
    assert_eq!(ports(&mapped), [1].into(), "a mapped address is IPv4");
    assert_eq!(mapped.external_ip, Some(V4));
}

#[test]
fn a_restarted_client_replaces_its_former_self() {
    let mut bench = Bench::new(Config::default());
    bench.announce(V4, &request(1, 5));
    let reborn = AnnounceRequest { peer_id: PeerId(*b"-XX0001-reborn000000"), ..request(1, 5) };
    bench.announce(V4, &reborn);
    let other = bench.announce(V4, &request(2, 5));
    assert_eq!(other.peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [Some(reborn.peer_id)]);
}

#[test]
fn a_client_that_moved_does_not_hear_of_its_former_self() {
    let mut bench = Bench::new(Config::default());
    bench.announce(V4, &request(1, 5));
    let moved = AnnounceRequest { port: 9, ..request(1, 5) };
    assert_eq!(ports(&bench.announce(V4, &moved)), [].into());
}

#[test]
fn stopped_peers_are_gone_at_once() {
    let mut bench = Bench::new(Config::default());
    bench.announce(V4, &request(1, 5));
    bench.announce(V4, &request(2, 0));
    let bye = bench.announce(V4, &with(Event::Stopped, request(2, 0)));
    assert_eq!((bye.peers.len(), bye.complete, bye.incomplete), (0, Some(0), Some(1)));
    assert_eq!(ports(&bench.announce(V4, &request(3, 5))), [1].into());
    bench.announce(V4, &with(Event::Stopped, request(9, 0)));
    assert_eq!(bench.scrape().incomplete, 2, "a stranger's leave changes nothing");
}

#[test]
fn leaving_an_unknown_swarm_does_not_found_it() {
    let mut bench = Bench::new(Config::default());
    bench.announce(V4, &with(Event::Stopped, request(1, 5)));
    assert_eq!(bench.store.stats(), StoreStats::default());
}

#[test]
fn downloads_are_counted_once_for_each_peer() {
    let mut bench = Bench::new(Config::default());
    bench.announce(V4, &with(Event::Started, request(1, 0)));
    assert_eq!(bench.scrape().downloaded, 0, "it was a seed from the start");
    bench.announce(V4, &with(Event::Started, request(2, 5)));
    bench.announce(V4, &with(Event::Completed, request(2, 0)));
    bench.announce(V4, &with(Event::Completed, request(2, 0)));
    assert_eq!(bench.scrape(), ScrapeStats { complete: 2, incomplete: 0, downloaded: 1 });
}

#[test]
fn silent_peers_expire_and_then_their_swarm() {
    let mut bench = Bench::new(Config { peer_timeout: Duration::from_secs(100), ..Config::default() });
    bench.announce(V4, &request(1, 5));
    bench.now = at(60);
    bench.announce(V4, &with(Event::Completed, request(2, 0)));
    bench.expire_at(at(100));
    assert_eq!(bench.scrape(), ScrapeStats { complete: 1, incomplete: 1, downloaded: 1 });
    bench.expire_at(at(101));
    assert_eq!(bench.scrape(), ScrapeStats { complete: 1, incomplete: 0, downloaded: 1 });
    bench.expire_at(at(161));
    assert_eq!(bench.store.stats(), StoreStats::default());
}

#[test]
fn numwant_is_heeded_within_limits() {
    let config = Config { numwant_default: 3, numwant_max: 5, ..Config::default() };
    let mut bench = Bench::new(config);
    for port in 1..=20 {
        bench.announce(V4, &request(port, 5));
    }
    for (numwant, expected) in [(None, 3), (Some(0), 0), (Some(4), 4), (Some(5), 5), (Some(u32::MAX), 5)] {
        let wanting = AnnounceRequest { numwant, ..request(1, 5) };
        assert_eq!(ports(&bench.announce(V4, &wanting)).len(), expected, "{numwant:?}");
    }
}

#[test]
fn choice_is_even() {
    const PEERS: u16 = 103;
    const ROUNDS: u32 = 20_000;
    let mut bench = Bench::new(Config::default());
    for port in 1..=PEERS {
        bench.announce(V4, &request(port, u64::from(port % 3)));
    }
    let mut counts = BTreeMap::new();
    for _ in 0..ROUNDS {
        let asking = AnnounceRequest { numwant: Some(10), ..request(1, 5) };
        for port in ports(&bench.announce(V4, &asking)) {
            *counts.entry(port).or_insert(0u32) += 1;
        }
    }
    let expected = ROUNDS * 10 / u32::from(PEERS - 1);
    assert_eq!(counts.len(), usize::from(PEERS - 1));
    for (port, count) in counts {
        assert!(count.abs_diff(expected) < expected / 8, "{port}: {count} times, not about {expected}");
    }
}

#[test]
fn replies_carry_the_intervals_with_jitter() {
    let mut bench = Bench::new(Config::default());
    let config = Config::default();
    let intervals: BTreeSet<_> = (0..100).map(|_| bench.announce(V4, &request(1, 5)).interval).collect();
    assert!(intervals.len() > 10);
    assert!(intervals.first().unwrap() >= &config.interval);
    assert!(intervals.last().unwrap() <= &(config.interval + config.interval / INTERVAL_JITTER));
    assert_eq!(bench.announce(V4, &request(1, 5)).min_interval, Some(config.min_interval));
}

#[test]
fn port_zero_is_refused() {
    let mut bench = Bench::new(Config::default());
    assert_eq!(bench.try_announce(V4, &request(0, 5)), Err(Refusal::PortZero));
    assert_eq!(bench.store.stats().swarms, 0);
}

#[test]
fn a_full_swarm_serves_newcomers_without_listing_them() {
    let limits = Limits { peers_per_swarm_max: 2, ..Limits::default() };
    let mut bench = Bench::new(Config { limits, ..Config::default() });
    bench.announce(V4, &request(1, 5));
    assert_eq!(bench.announce(V4, &request(2, 5)).warning, None);
    let late = bench.announce(V4, &request(3, 5));
    assert_eq!(ports(&late), [1, 2].into());
    assert!(late.warning.is_some());
    assert_eq!(bench.announce(V4, &request(1, 5)).warning, None, "who is listed stays so");
    assert_eq!(bench.scrape().incomplete, 2);
    bench.announce(V4, &with(Event::Stopped, request(2, 5)));
    assert_eq!(bench.announce(V4, &request(3, 5)).warning, None, "there is room again");
}

#[test]
fn scrape_of_a_stranger_is_zero() {
    let bench = Bench::new(Config::default());
    assert_eq!(bench.scrape(), ScrapeStats::default());
}

#[test]
fn only_what_is_allowed_is_served() {
    let mut bench = Bench::new(Config::default());
    let other = AnnounceRequest { info_hash: InfoHash([8; 20]), ..request(1, 5) };
    bench.announce(V4, &request(1, 5));
    bench.announce(V4, &other);
    bench.store.set_allowed(Some([HASH].into_iter().collect()));
    assert_eq!(bench.store.stats().swarms, 1, "what is no longer allowed is dropped");
    bench.store.check_invariants();
    assert_eq!(bench.try_announce(V4, &other), Err(Refusal::NotAllowed));
    assert_eq!(ports(&bench.announce(V4, &request(2, 5))), [1].into());
    let files = bench.store.scrape(&[HASH, other.info_hash]).files;
    assert_eq!(files.into_keys().collect::<Vec<_>>(), [HASH]);
    bench.store.set_allowed(None);
    assert!(bench.try_announce(V4, &other).is_ok());
}

#[derive(Clone, Debug)]
enum Op {
    Announce {
        hash: u8,
        six: bool,
        port: u16,
        left: u64,
        event: Option<Event>,
        numwant: Option<u32>,
        life: u8,
    },
    Wait(u64),
    Expire,
}

fn op() -> impl Strategy<Value = Op> {
    let event = prop_oneof![
        12 => Just(None),
        2 => Just(Some(Event::Started)),
        3 => Just(Some(Event::Completed)),
        4 => Just(Some(Event::Stopped)),
    ];
    let announce =
        (0u8..3, prop::bool::weighted(0.2), 1u16..80, 0u64..2, event, prop::option::of(0u32..90), 0u8..2)
            .prop_map(|(hash, six, port, left, event, numwant, life)| {
                // Most of it in one swarm, so that it grows large.
                Op::Announce { hash: hash.saturating_sub(1), six, port, left, event, numwant, life }
            });
    prop_oneof![20 => announce, 2 => (0u64..40).prop_map(Op::Wait), 1 => Just(Op::Expire)]
}

/// What a tracker is, said in the simplest way: a table of who announced what and when.
#[derive(Default)]
struct Model {
    peers: BTreeMap<(u8, SocketAddr), ModelPeer>,
    downloaded: BTreeMap<u8, (u32, Time)>,
}

#[derive(Clone, Copy)]
struct ModelPeer {
    id: PeerId,
    seed: bool,
    completed: bool,
    seen: Time,
}

impl Model {
    fn announce(&mut self, now: Time, hash: u8, addr: SocketAddr, request: &AnnounceRequest) {
        if request.event == Some(Event::Stopped) {
            self.peers.remove(&(hash, addr));
            self.downloaded.entry(hash).and_modify(|entry| entry.1 = now);
            return;
        }
        let completed = request.event == Some(Event::Completed);
        let before = self.peers.get(&(hash, addr)).is_some_and(|peer| peer.completed);
        let entry = self.downloaded.entry(hash).or_default();
        *entry = (entry.0 + u32::from(completed && !before), now);
        let peer = ModelPeer {
            id: request.peer_id,
            seed: request.left == 0,
            completed: completed || before,
            seen: now,
        };
        self.peers.insert((hash, addr), peer);
    }

    fn expire(&mut self, now: Time, timeout: Duration) {
        self.peers.retain(|_, peer| now.since(peer.seen) <= timeout);
        let peers = &self.peers;
        self.downloaded.retain(|hash, (_, touched)| {
            now.since(*touched) <= timeout || peers.keys().any(|(other, _)| other == hash)
        });
    }

    fn stats(&self, hash: u8) -> ScrapeStats {
        let count =
            |seed| self.peers.iter().filter(|((h, _), peer)| *h == hash && peer.seed == seed).count() as u32;
        let downloaded = self.downloaded.get(&hash).map_or(0, |entry| entry.0);
        ScrapeStats { complete: count(true), incomplete: count(false), downloaded }
    }

    /// Whom a peer may hear of.
    fn candidates(&self, hash: u8, addr: SocketAddr, with_seeds: bool) -> BTreeMap<SocketAddr, PeerId> {
        self.peers
            .iter()
            .filter(|((h, other), peer)| {
                *h == hash
                    && *other != addr
                    && other.is_ipv4() == addr.is_ipv4()
                    && (with_seeds || !peer.seed)
            })
            .map(|((_, other), peer)| (*other, peer.id))
            .collect()
    }
}

proptest! {
    #[test]
    fn store_does_what_the_model_does(seed: u64, ops in prop::collection::vec(op(), 0..400)) {
        let timeout = Duration::from_secs(60);
        let store = Store::new(Config { peer_timeout: timeout, ..Config::default() });
        let mut model = Model::default();
        let mut rng = Rng::new(seed);
        let mut now = at(0);
        for op in ops {
            match op {
                Op::Announce { hash, six, port, left, event, numwant, life } => {
                    let addr = SocketAddr::new(if six { V6 } else { V4 }, port);
                    let mut id = request(port, left).peer_id;
                    id.0[2] = life;
                    let request =
                        AnnounceRequest { info_hash: InfoHash([hash; 20]), peer_id: id, event, numwant, ..request(port, left) };
                    let response = store.announce(now, &mut rng, &request, addr.ip()).unwrap();
                    model.announce(now, hash, addr, &request);
                    let stats = model.stats(hash);
                    prop_assert_eq!(response.complete, Some(stats.complete));
                    prop_assert_eq!(response.incomplete, Some(stats.incomplete));
                    if event == Some(Event::Stopped) {
                        prop_assert!(response.peers.is_empty());
                        continue;
                    }
                    let candidates = model.candidates(hash, addr, left > 0 || event == Some(Event::Started));
                    prop_assert_eq!(response.peers.len(), candidates.len().min(numwant.unwrap_or(50) as usize));
                    ports(&response);
                    for peer in &response.peers {
                        prop_assert_eq!(peer.id, candidates.get(&peer.addr).copied());
                    }
                }
                Op::Wait(seconds) => now += Duration::from_secs(seconds),
                Op::Expire => {
                    store.expire(now);
                    model.expire(now, timeout);
                }
            }
        }
        store.check_invariants();
        for hash in 0..3 {
            prop_assert_eq!(store.scrape(&[InfoHash([hash; 20])]).files[&InfoHash([hash; 20])], model.stats(hash));
        }
    }
}
