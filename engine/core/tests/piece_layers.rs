//! Piece layers of version 2 (BEP 52) that a torrent began without, and asks peers for.

mod common;

use common::*;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::merkle::{HashRange, Node};
use swarm_core::metainfo::{HashTrees, Info};
use swarm_core::peer::PeerInfo;
use swarm_core::time::Duration;
use swarm_core::torrent::hashes::{
    CHUNK, HYBRID_PATIENCE, HYBRID_PATIENCE_IN_VAIN, LAYERS_OUTSTANDING_MAX, LAYERS_TIMEOUT,
};
use swarm_core::torrent::metadata::Content;
use swarm_core::torrent::{Action, CloseReason, Event, Torrent};
use swarm_core::wire::Message;

/// A torrent whose info dictionary is known and no more.
fn wanting(info: &Info) -> Swarm {
    let bare = Arc::new(Info { piece_nodes: None, ..info.clone() });
    let mut swarm = Swarm::of(Torrent::without_metadata(config()));
    swarm.torrent.handle_layers_wanted(swarm.now, HashTrees::of(&bare).unwrap());
    swarm.drain();
    swarm
}

/// A seed connects: what it is asked for.
fn join(swarm: &mut Swarm, n: u32) -> Vec<HashRange> {
    assert_eq!(hash_requests(&swarm.connect(n), n), [], "it may have no metadata either");
    hash_requests(&swarm.say(n, Message::HaveAll), n)
}

fn found(swarm: &mut Swarm) -> Option<Vec<Vec<Node>>> {
    let layers = |event| match event {
        Event::PieceLayersReceived(layers) => Some(layers),
        _ => None,
    };
    swarm.events().into_iter().find_map(layers)
}

/// What the torrent must end up with.
fn layers_of(info: &Info) -> Vec<Vec<Node>> {
    let nodes = info.piece_nodes.as_ref().unwrap();
    let piece_len = u64::from(info.geometry.piece_len());
    let files = info.layered_files().map(|(file, tree, _)| {
        let first = (file.offset / piece_len) as usize;
        nodes[first..first + tree.nodes(tree.piece_layer()) as usize].to_vec()
    });
    files.collect()
}

/// Everybody answers what they are asked, as `answer` says, until the layers are here or nobody is asked any more.
fn converse(
    swarm: &mut Swarm,
    mut asked: Vec<(u32, HashRange)>,
    mut answer: impl FnMut(u32, HashRange) -> Option<Message>,
) -> Option<Vec<Vec<Node>>> {
    while let Some((n, range)) = asked.pop() {
        let Some(message) = answer(n, range).filter(|_| swarm.is_here(n)) else { continue };
        let actions = swarm.say(n, message);
        asked.extend((1..10).flat_map(|n| hash_requests(&actions, n).into_iter().map(move |r| (n, r))));
    }
    found(swarm)
}

#[test]
fn piece_layers_come_from_several_peers_and_make_the_torrent_whole() {
    // Two files alike, one of a single piece, one of three requests with a single hash in the last.
    let info = info_v2(&[4, 5_000, 12, 4 * (2 * CHUNK + 1)], 4);
    let mut swarm = wanting(&info);
    let mut asked: Vec<(u32, HashRange)> = Vec::new();
    for n in 1..=2 {
        asked.extend(join(&mut swarm, n).into_iter().map(|range| (n, range)));
        assert!(asked.len() <= n as usize * LAYERS_OUTSTANDING_MAX);
    }
    assert!(asked.iter().all(|(_, range)| range.length >= 2 && range.index % CHUNK == 0), "{asked:?}");
    let found = converse(&mut swarm, asked, |_, range| Some(hashes(range, true_hashes(&info, range))));
    assert_eq!(found, Some(layers_of(&info)));
    assert!(!swarm.torrent.wants_layers());

    let mut whole = Info { piece_nodes: None, ..info.clone() };
    whole.set_piece_layers(found.unwrap());
    assert_eq!(whole, info);
    let content = Content {
        metadata: Default::default(),
        geometry: info.geometry.clone(),
        have: Bitfield::empty(info.geometry.pieces()),
        padding: info.padding.clone(),
        hashes: HashTrees::of(&Arc::new(whole)),
        private: false,
    };
    swarm.torrent.handle_metadata(swarm.now, content);
    swarm.drain();
    assert!(!requests(&swarm.say(1, Message::Unchoke)).is_empty(), "the download begins");
}

#[test]
fn piece_layers_of_the_same_file_twice_are_asked_for_once() {
    let mut info = info_v2(&[40, 40], 4);
    info.files[1].pieces_root = info.files[0].pieces_root;
    let nodes: Vec<Node> = info.piece_nodes.as_ref().unwrap()[..10].repeat(2);
    info.piece_nodes = Some(nodes.into());
    let mut swarm = wanting(&info);
    let asked = join(&mut swarm, 1);
    assert_eq!(asked.len(), 1);
    let asked = asked.into_iter().map(|range| (1, range)).collect();
    let found = converse(&mut swarm, asked, |_, range| Some(hashes(range, true_hashes(&info, range))));
    assert_eq!(found, Some(layers_of(&info)));
}

#[test]
fn piece_layers_with_a_wrong_proof_ban_their_sender_and_come_from_another() {
    let info = info_v2(&[4 * 3 * CHUNK], 4);
    for wrong in [0, 100, CHUNK as usize, CHUNK as usize + 1] {
        let mut swarm = wanting(&info);
        let asked = join(&mut swarm, 1);
        let mut lie = true_hashes(&info, asked[0]);
        lie[wrong][7] ^= 1;
        let actions = swarm.say(1, hashes(asked[0], lie));
        assert_eq!(closed(&actions), [(1, CloseReason::WrongHashes)]);
        assert!(swarm.events().iter().any(|event| matches!(event, Event::PeerBanned { .. })));
        let asked = join(&mut swarm, 2).into_iter().map(|range| (2, range)).collect();
        let found = converse(&mut swarm, asked, |_, range| Some(hashes(range, true_hashes(&info, range))));
        assert_eq!(found, Some(layers_of(&info)));
    }
    // Too few and too many.
    for len in [1, CHUNK as usize + 1, CHUNK as usize + 3] {
        let mut swarm = wanting(&info);
        let asked = join(&mut swarm, 1)[0];
        let mut wrong = true_hashes(&info, asked);
        wrong.resize(len, [0; 32]);
        assert_eq!(closed(&swarm.say(1, hashes(asked, wrong))), [(1, CloseReason::WrongHashes)]);
    }
}

#[test]
fn piece_layers_rejected_are_asked_of_another_at_once_and_of_the_same_peer_later() {
    let info = info_v2(&[40], 4);
    let mut swarm = wanting(&info);
    let range = join(&mut swarm, 1)[0];
    let reject = || Message::HashReject(Box::new(range));
    let actions = swarm.say(1, reject());
    assert!(sent(&actions).is_empty() && swarm.is_here(1), "nobody is banned for that");
    assert_eq!(join(&mut swarm, 2), [range]);
    assert!(sent(&swarm.say(2, reject())).is_empty());
    let again = swarm.pass(Duration::from_secs(2));
    assert_eq!(hash_requests(&again, 1), [range]);
    let mut times = 0;
    for _ in 0..60 {
        for n in 1..=2 {
            swarm.say(n, reject());
        }
        times += hash_requests(&swarm.pass(Duration::from_secs(1)), 1).len();
    }
    assert!((2..20).contains(&times), "rarer each time: {times}");
    assert!(swarm.is_here(1) && swarm.is_here(2));
}

#[test]
fn piece_layers_that_do_not_come_are_asked_of_others_and_taken_when_late() {
    let info = info_v2(&[40], 4);
    let mut swarm = wanting(&info);
    let range = join(&mut swarm, 1)[0];
    assert_eq!(join(&mut swarm, 2), [], "one is enough for now");
    let slow = swarm.pass(Duration::from_secs(2));
    assert_eq!(hash_requests(&slow, 2), [range], "it is slow, and another is idle");
    let late = swarm.pass(LAYERS_TIMEOUT);
    assert_eq!((hash_requests(&late, 1), closed(&late)), (vec![], vec![]));
    assert_eq!(join(&mut swarm, 3), [range]);
    swarm.disconnect(2);
    swarm.say(1, hashes(range, true_hashes(&info, range)));
    assert_eq!(found(&mut swarm), Some(layers_of(&info)), "late, and right");
}

#[test]
fn piece_layers_nobody_asked_for_cost_their_sender() {
    let info = info_v2(&[40, 80], 4);
    let mut swarm = wanting(&info);
    let asked = join(&mut swarm, 1);
    let other = HashRange { proof_layers: asked[0].proof_layers - 1, ..asked[0] };
    let mut flood = Vec::new();
    for _ in 0..10_000 {
        flood.extend(closed(&swarm.say_unchecked(1, hashes(other, true_hashes(&info, other)))));
    }
    assert_eq!(flood, [(1, CloseReason::Flood)]);
    assert!(swarm.torrent.wants_layers());
    let mut swarm = wanting(&info);
    join(&mut swarm, 1);
    let reject = Message::HashReject(Box::new(other));
    let flood: Vec<_> = (0..40_000).flat_map(|_| closed(&swarm.say_unchecked(1, reject.clone()))).collect();
    assert_eq!(flood, [(1, CloseReason::Flood)]);
}

#[test]
fn piece_layers_of_a_hybrid_are_asked_of_those_that_speak_version_2() {
    let info = Info { piece_hashes: Some(vec![0; 200].into()), ..info_v2(&[40], 4) };
    let mut swarm = Swarm::of(Torrent::without_metadata(config()));
    swarm.connect(1);
    swarm.say(1, Message::HaveAll);
    let bare = Arc::new(Info { piece_nodes: None, ..info.clone() });
    swarm.torrent.handle_layers_wanted(swarm.now, HashTrees::of(&bare).unwrap());
    assert_eq!(closed(&swarm.drain()), [(1, CloseReason::Version2)], "it was not told that we speak it");
    assert_eq!(join(&mut swarm, 2), []);
    swarm.connect_as(3, PeerInfo { v2: true, ..peer(3) });
    assert_eq!(hash_requests(&swarm.say(3, Message::HaveAll), 3).len(), 1);
    assert!(swarm.pass(Duration::from_secs(20)).iter().all(|action| match action {
        Action::Send { peer, message } => peer.0 != 2 || !matches!(message, Message::HashRequest(_)),
        _ => true,
    }));
}

#[test]
fn piece_layers_of_a_hybrid_that_nobody_has_are_done_without() {
    let info = Info { piece_hashes: Some(vec![0; 200].into()), ..info_v2(&[40], 4) };
    let bare = Arc::new(Info { piece_nodes: None, ..info });
    let second = Duration::from_secs(1);
    let is_missing = |swarm: &mut Swarm| swarm.events().contains(&Event::PieceLayersMissing);
    for (named, is_done_without) in [(config(), true), (by_version_2(), false)] {
        let mut swarm = Swarm::of(Torrent::without_metadata(named));
        swarm.torrent.handle_layers_wanted(swarm.now, HashTrees::of(&bare).unwrap());
        swarm.drain();
        swarm.pass(HYBRID_PATIENCE * 2);
        assert!(!is_missing(&mut swarm), "peers may come yet");
        swarm.connect(1);
        swarm.connect_as(2, PeerInfo { v2: true, ..peer(2) });
        swarm.pass(HYBRID_PATIENCE + second * 5);
        assert!(!is_missing(&mut swarm), "one may have them yet");
        swarm.disconnect(2);
        swarm.pass(HYBRID_PATIENCE - second);
        assert!(!is_missing(&mut swarm));
        swarm.pass(second * 3);
        assert_eq!(is_missing(&mut swarm), is_done_without, "who named version 2 alone wants its hashes");
    }
}

/// Two downloaders from one link, whose seeds know version 1 alone, each look to the other like a peer of version 2. Strangers can pose as
/// one, by rejecting, by saying nothing, and by coming again and again.
#[test]
fn peers_of_version_2_without_piece_layers_do_not_hold_up_a_hybrid() {
    let info = Info { piece_hashes: Some(vec![0; 200].into()), ..info_v2(&[4 * 3 * CHUNK], 4) };
    let bare = Arc::new(Info { piece_nodes: None, ..info.clone() });
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Behaviour {
        WithoutMetadata,
        Silent,
        Rejecting,
        Reconnecting,
        /// One right answer, and then none.
        StoppingHalfway,
    }
    use Behaviour::*;
    for behaviour in [WithoutMetadata, Silent, Rejecting, Reconnecting, StoppingHalfway] {
        let mut swarm = Swarm::of(Torrent::without_metadata(config()));
        swarm.torrent.handle_layers_wanted(swarm.now, HashTrees::of(&bare).unwrap());
        swarm.drain();
        swarm.connect(1);
        swarm.say(1, Message::HaveAll);
        swarm.connect_as(2, PeerInfo { v2: true, ..peer(2) });
        let mut asked = match behaviour {
            WithoutMetadata => Vec::new(),
            _ => hash_requests(&swarm.say(2, Message::HaveAll), 2),
        };
        let mut answers = usize::from(behaviour == StoppingHalfway);
        let (mut seconds, mut missing_at) = (0, None);
        while missing_at.is_none() && seconds < 1_000 {
            for range in std::mem::take(&mut asked) {
                let message = match behaviour {
                    Rejecting => Message::HashReject(Box::new(range)),
                    StoppingHalfway if answers > 0 && seconds >= 20 => {
                        hashes(range, true_hashes(&info, range))
                    }
                    StoppingHalfway if answers > 0 => {
                        asked.push(range);
                        continue;
                    }
                    _ => continue,
                };
                answers = answers.saturating_sub(1);
                swarm.say(2, message);
            }
            if behaviour == Reconnecting && seconds % 5 == 0 {
                swarm.disconnect(2);
                swarm.connect_as(2, PeerInfo { v2: true, ..peer(2) });
                swarm.say(2, Message::HaveAll);
            }
            asked.extend(hash_requests(&swarm.pass(Duration::from_secs(1)), 2));
            seconds += 1;
            missing_at = swarm.events().contains(&Event::PieceLayersMissing).then_some(seconds);
        }
        let patience = HYBRID_PATIENCE_IN_VAIN.as_secs() + if behaviour == StoppingHalfway { 20 } else { 0 };
        let missing_at = missing_at.unwrap_or_else(|| panic!("{behaviour:?}: it waits for ever"));
        assert!((patience..patience + 3).contains(&missing_at), "{behaviour:?}: after {missing_at} s");
    }
}

/// A torrent that was named by its info-hash of version 2 alone.
fn by_version_2() -> swarm_core::torrent::Config {
    let mut hash = [1; 32];
    hash[20..].fill(2);
    swarm_core::torrent::Config { info_hash_v2: Some(Box::new(swarm_core::id::InfoHashV2(hash))), ..config() }
}
