//! A seed that is the only copy (BEP 16): what it shows to whom, and when it stops hiding.

mod common;

use common::*;
use std::collections::BTreeSet;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{PeerKey, PieceIndex};
use swarm_core::time::Duration;
use swarm_core::torrent::{Action, Config};
use swarm_core::wire::Message;

const PIECES: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// The only seed, with this many connected peers that have nothing and want everything; the piece that each is told of.
fn super_seed(peers: u32) -> (Swarm, Vec<PieceIndex>) {
    let config = Config { super_seeding: true, ..config() };
    let mut seed = Swarm::new(config, Bitfield::full(PIECES), 2);
    let told = (1..=peers).map(|n| {
        let told = told_on_connecting(&mut seed, n);
        assert_eq!(told.len(), 1, "one piece to begin with");
        seed.say(n, Message::HaveNone);
        seed.say(n, Message::Interested);
        // Those who may ask do, and get it.
        seed.say(n, Message::Request(block(told[0].0, 0)));
        seed.next_upload(n);
        told[0]
    });
    let told = told.collect();
    (seed, told)
}

fn told_on_connecting(seed: &mut Swarm, n: u32) -> Vec<PieceIndex> {
    let greeting = seed.connect(n);
    assert!(!sent(&greeting).contains(&&Message::HaveAll), "it hides what it has");
    told(&greeting, n)
}

/// Peers that share an address come from this one.
fn connect_from(seed: &mut Swarm, ip: [u8; 4], n: u32) -> Vec<PieceIndex> {
    told(&seed.connect_as(n, peer_at(n, ip.into())), n)
}

/// The pieces that the peer hears of.
fn told(actions: &[Action], n: u32) -> Vec<PieceIndex> {
    let piece = |message| match message {
        &Message::Have(piece) => Some(piece),
        _ => None,
    };
    sent_to(actions, n).into_iter().filter_map(piece).collect()
}

fn upload_only(actions: &[Action]) -> Option<bool> {
    our_hello(actions).unwrap().upload_only
}

#[test]
fn super_seed_tells_each_peer_of_another_piece() {
    let (_, told) = super_seed(20);
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 20, "{told:?}");
}

#[test]
fn super_seed_reveals_the_next_piece_to_whoever_passed_one_on() {
    let (mut seed, pieces) = super_seed(6);
    let got = seed.say(1, Message::Have(pieces[0]));
    assert_eq!(told(&got, 1), [], "nobody has it from this peer yet");
    assert_eq!(told(&seed.pass(SECOND), 1), []);
    let passed_on = seed.say(2, Message::Have(pieces[0]));
    let next = told(&passed_on, 1);
    assert!(next.len() == 1 && !pieces.contains(&next[0]), "{next:?}");
}

#[test]
fn super_seed_reveals_everything_to_a_lone_peer_without_waiting() {
    let (mut seed, pieces) = super_seed(1);
    let mut new = pieces;
    let mut heard: BTreeSet<PieceIndex> = new.iter().copied().collect();
    let mut round_trips = 0;
    while heard.len() < PIECES as usize {
        let replies: Vec<Vec<PieceIndex>> =
            new.drain(..).map(|piece| told(&seed.say(1, Message::Have(piece)), 1)).collect();
        new.extend(replies.into_iter().flatten());
        heard.extend(&new);
        round_trips += 1;
        assert!(round_trips <= 7, "heard of {} after {round_trips} round trips", heard.len());
    }
}

#[test]
fn super_seed_reveals_pieces_in_order() {
    let (_, many) = super_seed(20);
    // A few are told of a second one as they are unchoked.
    assert!(many.is_sorted() && many[19] < PieceIndex(24), "{many:?}");
    let (mut seed, told_first) = super_seed(1);
    let mut heard = told_first;
    let mut got = 0;
    while heard.len() < PIECES as usize {
        // It gets them as it asks for them: in order.
        let piece = heard[got];
        heard.extend(told(&seed.say(1, Message::Have(piece)), 1));
        got += 1;
    }
    assert_eq!(heard, (0..PIECES).map(PieceIndex).collect::<Vec<_>>(), "alone with the seed, too");
}

#[test]
fn super_seed_ends_with_another_seed() {
    let (mut seed, _) = super_seed(6);
    assert_eq!(upload_only(&seed.connect(7)), Some(false), "who seems to want nothing would be left");
    let actions = seed.say(7, Message::HaveAll);
    assert!(!seed.torrent.is_super_seeding());
    for key in 1..=6 {
        let rest = told(&actions, key).len();
        assert!(rest >= PIECES as usize - 2, "peer {key} hears of {rest} more");
    }
    assert_eq!(upload_only(&seed.connect(8)), Some(true));
}

#[test]
fn super_seed_ends_as_soon_as_every_piece_is_elsewhere() {
    let (mut seed, _) = super_seed(6);
    for piece in (0..PIECES - 1).map(PieceIndex) {
        seed.say(1 + piece.0 % 6, Message::Have(piece));
    }
    seed.pass(2 * SECOND);
    assert!(seed.torrent.is_super_seeding(), "one piece is nowhere else");
    let last = told_on_connecting(&mut seed, 7);
    assert_eq!(last, [PieceIndex(PIECES - 1)]);
    seed.say(7, Message::Have(last[0]));
    seed.pass(SECOND);
    assert!(!seed.torrent.is_super_seeding());
}

#[test]
fn super_seed_reveals_more_to_who_passed_nothing_on_only_while_the_uplink_idles() {
    for is_idle in [true, false] {
        let (mut seed, pieces) = super_seed(6);
        let ask = |seed: &mut Swarm, key: u32| {
            let piece = pieces[key as usize - 1];
            for nth in [0, 1] {
                seed.say(key, Message::Request(block(piece.0, nth)));
            }
        };
        ask(&mut seed, 1);
        let sent = std::iter::from_fn(|| seed.next_upload(1)).count();
        assert_eq!(sent, 2, "it is unchoked");
        if !is_idle {
            ask(&mut seed, 2);
        }
        seed.say(1, Message::Have(pieces[0]));
        assert_eq!(told(&seed.pass(SECOND), 1), [], "once may be chance");
        let mut heard = Vec::new();
        for _ in 0..2 {
            // The others still take something now and then.
            for key in 3..=6 {
                let block = block(pieces[key as usize - 1].0, 1);
                seed.say(key, Message::Request(block));
                seed.next_upload(key);
            }
            heard.extend(told(&seed.pass(SECOND), 1));
        }
        // Of two at the most, since it asks for none of them.
        assert_eq!(!heard.is_empty(), is_idle, "while it idles: {is_idle}");
        assert!(heard.len() <= 2, "{heard:?}");
    }
}

#[test]
fn super_seed_does_not_wait_for_peers_that_request_nothing() {
    let (mut seed, _) = super_seed(0);
    for key in 1..=40 {
        seed.connect(key);
        seed.say(key, Message::Interested);
    }
    seed.pass(10 * SECOND);
    assert!(!seed.torrent.is_super_seeding(), "there is nobody to copy anything from");
}

#[test]
fn super_seed_reveals_everything_to_a_lone_peer_beside_a_crowd_that_takes_nothing() {
    for asks in [false, true] {
        let (mut seed, _) = super_seed(0);
        for key in 1..=40 {
            let revealed = connect_from(&mut seed, [10, 0, 1, 1], key)[0];
            seed.say(key, Message::Interested);
            if asks {
                // Two blocks on their way, of which it reads none.
                for nth in [0, 1] {
                    seed.say(key, Message::Request(block(revealed.0, nth)));
                }
                seed.next_upload(key);
                seed.torrent.handle_upload_blocked(seed.now, PeerKey(key));
            }
        }
        let mut known = connect_from(&mut seed, [10, 0, 2, 1], 50);
        seed.say(50, Message::Interested);
        // It gets a slot as soon as the uplink has idled for a while.
        known.extend(told(&seed.pass(SECOND), 50));
        for got in 0..PIECES as usize {
            assert!(got < known.len(), "{got} are all that it knows of after a second");
            known.extend(told(&seed.say(50, Message::Have(known[got])), 50));
        }
    }
}
