//! Who is unchoked while others have slots and make nothing of them.

mod common;

use common::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use swarm_core::id::PeerKey;
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::Action;
use swarm_core::wire::Message;

const PIECES: u32 = 64;
const ROUND_TRIP: Duration = Duration::from_millis(50);
const STEP: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Asks for a block as soon as it may, and for the next as soon as it has one.
    Honest,
    /// Asks for nothing.
    Silent,
    /// Asks for much and reads none of it.
    Unread,
}

/// A seed, and peers that answer after a round trip.
struct Seed {
    swarm: Swarm,
    kinds: BTreeMap<u32, Kind>,
    unchoked: BTreeSet<u32>,
    asks_at: BTreeMap<u32, Time>,
    /// When the honest ones got their blocks.
    got: BTreeMap<u32, Vec<Time>>,
    joined_at: BTreeMap<u32, Time>,
    unchokes: usize,
}

impl Seed {
    fn new() -> Seed {
        Seed {
            swarm: Swarm::seed(PIECES, 1),
            kinds: BTreeMap::new(),
            unchoked: BTreeSet::new(),
            asks_at: BTreeMap::new(),
            got: BTreeMap::new(),
            joined_at: BTreeMap::new(),
            unchokes: 0,
        }
    }

    fn join(&mut self, ip: IpAddr, kind: Kind) -> u32 {
        let n = self.kinds.len() as u32;
        self.kinds.insert(n, kind);
        self.joined_at.insert(n, self.swarm.now);
        let info = PeerInfo { addr: peer_at(n, ip).addr, ..plain_peer(n) };
        let mut actions = self.swarm.connect_as(n, info);
        actions.extend(self.swarm.say(n, Message::Interested));
        self.react(actions);
        n
    }

    fn play(&mut self, time: Duration) {
        let end = self.swarm.now + time;
        while self.swarm.now < end {
            self.swarm.step(STEP);
            let now = self.swarm.now;
            let due: Vec<u32> = self.asks_at.iter().filter(|(_, at)| **at <= now).map(|(n, _)| *n).collect();
            self.asks_at.retain(|_, at| *at > now);
            for n in due.into_iter().filter(|n| self.unchoked.contains(n)) {
                let count = if self.kinds[&n] == Kind::Unread { 200 } else { 4 };
                for nth in 0..count {
                    let request = Message::Request(block(nth % PIECES, 0));
                    self.swarm.torrent.handle_message(now, PeerKey(n), &request);
                }
            }
            let actions = self.swarm.drain();
            self.react(actions);
        }
    }

    fn react(&mut self, actions: Vec<Action>) {
        if actions.is_empty() {
            return;
        }
        for action in actions {
            match action {
                Action::Send { peer, message: Message::Unchoke } => {
                    self.unchokes += 1;
                    self.unchoked.insert(peer.0);
                    if self.kinds[&peer.0] != Kind::Silent {
                        self.asks_at.insert(peer.0, self.swarm.now + ROUND_TRIP);
                    }
                }
                Action::Send { peer, message: Message::Choke } => drop(self.unchoked.remove(&peer.0)),
                Action::Upload(peer) => self.upload(peer.0),
                _ => {}
            }
        }
        let more = self.swarm.drain();
        self.react(more);
    }

    fn upload(&mut self, n: u32) {
        let unread = self.kinds[&n] == Kind::Unread;
        let mut taken = 0;
        while self.swarm.next_upload(n).is_some() {
            taken += 1;
            if unread && taken == 150 {
                return self.swarm.torrent.handle_upload_blocked(self.swarm.now, PeerKey(n));
            }
        }
        if self.kinds[&n] == Kind::Honest {
            self.got.entry(n).or_default().push(self.swarm.now);
            self.asks_at.insert(n, self.swarm.now + ROUND_TRIP);
        }
    }

    /// How long at the most an honest peer has waited for a block, after so much more time.
    fn longest_wait(&mut self, n: u32, time: Duration) -> Duration {
        self.play(time);
        let joined = self.joined_at[&n];
        let times: Vec<Time> =
            [joined].into_iter().chain(self.got[&n].clone()).chain([self.swarm.now]).collect();
        times.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap()
    }
}

fn apart(n: u8) -> IpAddr {
    IpAddr::from([10, 0, n, 1])
}

fn at_one(_: u8) -> IpAddr {
    IpAddr::from([198, 51, 100, 7])
}

const HONEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

#[test]
fn unchoke_is_not_delayed_by_peers_that_request_nothing() {
    for attacker in [apart, at_one] {
        for before in [0, 100, 1_000, 3_000, 15_000] {
            let mut seed = Seed::new();
            (0..40).for_each(|n| _ = seed.join(attacker(n), Kind::Silent));
            seed.play(Duration::from_millis(before));
            let key = seed.join(HONEST, Kind::Honest);
            let waited = seed.longest_wait(key, Duration::from_secs(60));
            assert!(waited <= Duration::from_millis(1_250), "{waited:?}, {before} ms after them");
        }
    }
}

#[test]
fn unchoke_is_not_delayed_by_peers_that_read_nothing() {
    for attacker in [apart, at_one] {
        for before in [0, 100, 1_000, 3_000, 15_000] {
            let mut seed = Seed::new();
            (0..90).for_each(|n| _ = seed.join(attacker(n), Kind::Unread));
            seed.play(Duration::from_millis(before));
            let key = seed.join(HONEST, Kind::Honest);
            let waited = seed.longest_wait(key, Duration::from_secs(60));
            assert!(waited <= Duration::from_millis(1_750), "{waited:?}, {before} ms after them");
        }
    }
}

#[test]
fn choke_of_an_unused_slot_puts_its_holder_at_the_end_of_the_queue() {
    let mut seed = Seed::new();
    let first: Vec<u32> = (0..4).map(|n| seed.join(apart(n), Kind::Silent)).collect();
    // While nobody waits they may keep it.
    seed.play(Duration::from_secs(5));
    assert!(first.iter().all(|key| seed.unchoked.contains(key)));
    // Four who use theirs: they have all slots that there are.
    let users: Vec<u32> = (10..14).map(|n| seed.join(apart(n), Kind::Honest)).collect();
    seed.play(Duration::from_secs(1));
    assert!(users.iter().all(|key| seed.unchoked.contains(key)));
    // The others went to the end of the queue, and take nothing from anybody.
    seed.play(Duration::from_secs(60));
    assert!(users.iter().all(|key| seed.longest_wait(*key, Duration::ZERO) < Duration::from_millis(300)));
}

#[test]
fn unchoke_slots_are_not_exceeded() {
    let mut seed = Seed::new();
    let keys: Vec<u32> = (0..60).map(|n| seed.join(apart(n), Kind::Honest)).collect();
    seed.play(Duration::from_millis(900));
    assert_eq!(seed.unchoked.len(), 4, "before anything is measured");
    assert_eq!(keys.iter().filter(|key| seed.got.contains_key(key)).count(), 4);
}

#[test]
fn unchoke_of_peers_that_request_nothing_is_rare() {
    let mut seed = Seed::new();
    (0..40).for_each(|n| _ = seed.join(apart(n), Kind::Silent));
    seed.play(Duration::from_secs(60));
    assert!(seed.unchokes <= 40 * 8, "{} in a minute", seed.unchokes);
}
