//! Who is sent to while others have slots and make nothing of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{BlockRef, InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::{Action, Config, Torrent};
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
struct Script {
    torrent: Torrent,
    now: Time,
    kinds: BTreeMap<PeerKey, Kind>,
    unchoked: BTreeSet<PeerKey>,
    asks_at: BTreeMap<PeerKey, Time>,
    /// When the honest ones got their blocks.
    got: BTreeMap<PeerKey, Vec<Time>>,
    joined_at: BTreeMap<PeerKey, Time>,
    unchokes: usize,
}

impl Script {
    fn new() -> Script {
        let geometry = Geometry::new(u64::from(PIECES * BLOCK_LEN), u64::from(BLOCK_LEN)).unwrap();
        let config = Config::new(InfoHash([1; 20]), PeerId([5; 20]), 42);
        Script {
            torrent: Torrent::new(config, geometry, Bitfield::full(PIECES)),
            now: Time::from_micros(1),
            kinds: BTreeMap::new(),
            unchoked: BTreeSet::new(),
            asks_at: BTreeMap::new(),
            got: BTreeMap::new(),
            joined_at: BTreeMap::new(),
            unchokes: 0,
        }
    }

    fn join(&mut self, ip: IpAddr, kind: Kind) -> PeerKey {
        let key = PeerKey(self.kinds.len() as u32);
        let mut peer_id = [7; 20];
        peer_id[..4].copy_from_slice(&key.0.to_be_bytes());
        let addr = SocketAddr::new(ip, 6881);
        let info = PeerInfo { addr, inbound: true, peer_id: PeerId(peer_id), fast: false, extended: false };
        self.kinds.insert(key, kind);
        self.joined_at.insert(key, self.now);
        self.torrent.handle_connected(self.now, key, info);
        self.torrent.handle_message(self.now, key, &Message::Interested);
        self.drain();
        key
    }

    fn play(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            if self.torrent.poll_timeout().is_some_and(|at| at <= self.now) {
                self.torrent.handle_timeout(self.now);
            }
            let due: Vec<PeerKey> =
                self.asks_at.iter().filter(|(_, at)| **at <= self.now).map(|(key, _)| *key).collect();
            for key in due {
                self.asks_at.remove(&key);
                if self.unchoked.contains(&key) {
                    let count = if self.kinds[&key] == Kind::Unread { 200 } else { 4 };
                    (0..count).for_each(|n| {
                        let block = BlockRef { piece: PieceIndex(n % PIECES), begin: 0, len: BLOCK_LEN };
                        self.torrent.handle_message(self.now, key, &Message::Request(block));
                    });
                }
            }
            self.drain();
        }
    }

    fn drain(&mut self) {
        self.torrent.check_invariants();
        while let Some(action) = self.torrent.poll_action() {
            match action {
                Action::Send { peer, message: Message::Unchoke } => {
                    self.unchokes += 1;
                    self.unchoked.insert(peer);
                    if self.kinds[&peer] != Kind::Silent {
                        self.asks_at.insert(peer, self.now + ROUND_TRIP);
                    }
                }
                Action::Send { peer, message: Message::Choke } => drop(self.unchoked.remove(&peer)),
                Action::Upload(peer) => self.upload(peer),
                _ => {}
            }
        }
    }

    fn upload(&mut self, peer: PeerKey) {
        let unread = self.kinds[&peer] == Kind::Unread;
        let mut taken = 0;
        while self.torrent.next_upload(self.now, peer).is_some() {
            taken += 1;
            if unread && taken == 150 {
                return self.torrent.handle_upload_blocked(self.now, peer);
            }
        }
        if self.kinds[&peer] == Kind::Honest {
            self.got.entry(peer).or_default().push(self.now);
            self.asks_at.insert(peer, self.now + ROUND_TRIP);
        }
    }

    /// How long at the most an honest peer has waited for a block, after so much more time.
    fn longest_wait(&mut self, key: PeerKey, time: Duration) -> Duration {
        self.play(time);
        let joined = self.joined_at[&key];
        let times: Vec<Time> = [joined].into_iter().chain(self.got[&key].clone()).chain([self.now]).collect();
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
fn those_who_ask_for_nothing_keep_nobody_waiting_for_a_slot() {
    for attacker in [apart, at_one] {
        for before in [0, 100, 1_000, 3_000, 15_000] {
            let mut script = Script::new();
            (0..40).for_each(|n| _ = script.join(attacker(n), Kind::Silent));
            script.play(Duration::from_millis(before));
            let key = script.join(HONEST, Kind::Honest);
            let waited = script.longest_wait(key, Duration::from_secs(60));
            assert!(waited <= Duration::from_millis(1_250), "{waited:?}, {before} ms after them");
        }
    }
}

#[test]
fn those_who_read_nothing_keep_nobody_waiting_for_a_slot() {
    for attacker in [apart, at_one] {
        for before in [0, 100, 1_000, 3_000, 15_000] {
            let mut script = Script::new();
            (0..90).for_each(|n| _ = script.join(attacker(n), Kind::Unread));
            script.play(Duration::from_millis(before));
            let key = script.join(HONEST, Kind::Honest);
            let waited = script.longest_wait(key, Duration::from_secs(60));
            assert!(waited <= Duration::from_millis(1_750), "{waited:?}, {before} ms after them");
        }
    }
}

#[test]
fn an_unused_slot_goes_to_somebody_else_and_its_holder_to_the_end_of_the_queue() {
    let mut script = Script::new();
    let first: Vec<PeerKey> = (0..4).map(|n| script.join(apart(n), Kind::Silent)).collect();
    // While nobody waits they may keep it.
    script.play(Duration::from_secs(5));
    assert!(first.iter().all(|key| script.unchoked.contains(key)));
    // Four who use theirs: they have all slots that there are.
    let users: Vec<PeerKey> = (10..14).map(|n| script.join(apart(n), Kind::Honest)).collect();
    script.play(Duration::from_secs(1));
    assert!(users.iter().all(|key| script.unchoked.contains(key)));
    // The others went to the end of the queue, and take nothing from anybody.
    script.play(Duration::from_secs(60));
    assert!(users.iter().all(|key| script.longest_wait(*key, Duration::ZERO) < Duration::from_millis(300)));
}

#[test]
fn slots_in_use_are_no_more_than_there_are() {
    let mut script = Script::new();
    let keys: Vec<PeerKey> = (0..60).map(|n| script.join(apart(n), Kind::Honest)).collect();
    script.play(Duration::from_millis(900));
    assert_eq!(script.unchoked.len(), 4, "before anything is measured");
    assert_eq!(keys.iter().filter(|key| script.got.contains_key(key)).count(), 4);
}

#[test]
fn who_makes_nothing_of_slots_is_not_told_of_them_without_end() {
    let mut script = Script::new();
    (0..40).for_each(|n| _ = script.join(apart(n), Kind::Silent));
    script.play(Duration::from_secs(60));
    assert!(script.unchokes <= 40 * 8, "{} in a minute", script.unchokes);
}
