//! Peers that serve one another in turns: what they tell each other of what they want.

use std::net::SocketAddr;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::{BLOCK_LEN, Geometry};
use swarm_core::id::{InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::peer::PeerInfo;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::{Action, Config, Torrent, UploadPolicy};
use swarm_core::wire::Message;

const PIECES: u32 = 8;
const BLOCKS: u32 = 4;

struct Swarm {
    torrent: Torrent,
    now: Time,
}

impl Swarm {
    fn new(have: Bitfield) -> Swarm {
        let piece_len = BLOCKS * BLOCK_LEN;
        let geometry = Geometry::new(u64::from(PIECES * piece_len), u64::from(piece_len)).unwrap();
        let mut config = Config::new(InfoHash([1; 20]), PeerId([9; 20]), 42);
        config.upload_policy = UploadPolicy::Cooperative;
        Swarm { torrent: Torrent::new(config, geometry, have), now: Time::from_micros(1) }
    }

    /// A peer that has these pieces; what it is told.
    fn meet(&mut self, key: u32, pieces: &[u32]) -> Vec<(u32, Message)> {
        let addr = SocketAddr::from(([10, 0, 0, key as u8], 6881));
        let peer_id = PeerId([key as u8; 20]);
        let info = PeerInfo { addr, inbound: false, peer_id, fast: true, extended: false };
        self.torrent.handle_connected(self.now, PeerKey(key), info);
        self.torrent.handle_message(self.now, PeerKey(key), &Message::HaveNone);
        for &piece in pieces {
            self.torrent.handle_message(self.now, PeerKey(key), &Message::Have(PieceIndex(piece)));
        }
        self.told()
    }

    fn hear(&mut self, key: u32, message: Message) -> Vec<(u32, Message)> {
        self.torrent.handle_message(self.now, PeerKey(key), &message);
        self.told()
    }

    /// What peers were told since, by key.
    fn told(&mut self) -> Vec<(u32, Message)> {
        self.torrent.check_invariants();
        std::iter::from_fn(|| self.torrent.poll_action())
            .filter_map(|action| match action {
                Action::Send { peer, message } => Some((peer.0, message)),
                _ => None,
            })
            .collect()
    }
}

fn requested(told: &[(u32, Message)], key: u32) -> Vec<u32> {
    let piece = |message: &Message| match message {
        Message::Request(block) => Some(block.piece.0),
        _ => None,
    };
    told.iter().filter(|(to, _)| *to == key).filter_map(|(_, message)| piece(message)).collect()
}

#[test]
fn who_has_nothing_that_is_not_on_its_way_hears_so_until_it_does() {
    let mut swarm = Swarm::new(Bitfield::empty(PIECES));
    assert!(swarm.meet(1, &[3]).contains(&(1, Message::Interested)));
    assert!(swarm.meet(2, &[3]).contains(&(2, Message::Interested)));
    assert!(swarm.meet(3, &[3, 4]).contains(&(3, Message::Interested)));

    let told = swarm.hear(1, Message::Unchoke);
    assert_eq!(requested(&told, 1), [3; BLOCKS as usize]);
    assert!(told.contains(&(2, Message::NotInterested)), "it has only what another sends us: {told:?}");
    assert!(!told.iter().any(|(to, _)| *to == 3), "it has another piece for us: {told:?}");

    // A turn offered meanwhile is passed on.
    assert_eq!(swarm.hear(2, Message::Unchoke), [(2, Message::NotInterested)]);
    assert_eq!(swarm.hear(2, Message::Choke), []);
    // It gets another piece.
    assert!(swarm.hear(2, Message::Have(PieceIndex(5))).contains(&(2, Message::Interested)));

    // The first leaves, so that its piece is to be had from anyone.
    let told = swarm.hear(3, Message::Unchoke);
    assert_eq!(requested(&told, 3), [4; BLOCKS as usize]);
    swarm.torrent.handle_disconnected(swarm.now, PeerKey(1));
    swarm.told();
    let told = swarm.hear(2, Message::Unchoke);
    assert!(requested(&told, 2).iter().all(|&piece| piece == 3 || piece == 5), "{told:?}");
    assert_eq!(requested(&told, 2).len(), BLOCKS as usize);
}

#[test]
fn towards_the_end_nobody_is_told_to_stay_away_for_long() {
    let mut have = Bitfield::full(PIECES);
    have.remove(PieceIndex(3));
    let mut swarm = Swarm::new(have);
    swarm.meet(1, &[3]);
    swarm.meet(2, &[3]);
    assert_eq!(requested(&swarm.hear(1, Message::Unchoke), 1), [3; BLOCKS as usize]);
    // All that is missing is on its way, from one peer. If that is slow, the other is asked.
    let mut told = Vec::new();
    for _ in 0..3 {
        swarm.now += Duration::from_secs(1);
        swarm.torrent.handle_timeout(swarm.now);
        told.extend(swarm.told());
    }
    assert!(swarm.torrent.peer(PeerKey(2)).is_some_and(|peer| peer.am_interested), "{told:?}");
    let told = swarm.hear(2, Message::Unchoke);
    assert!(!requested(&told, 2).is_empty(), "{told:?}");
}
