//! Anything at all about hashes (BEP 52), in any state: nothing panics, nothing false is taken, and what is answered is true.

mod common;

use common::*;
use proptest::prelude::*;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{PeerKey, PieceIndex};
use swarm_core::merkle::{HashRange, Node};
use swarm_core::metainfo::{HashTrees, Info};
use swarm_core::time::Duration;
use swarm_core::torrent::{Action, Event, PieceResult, Torrent};
use swarm_core::wire::Message;

const BLOCKS: u32 = 4;

fn info() -> Info {
    info_v2(&[3, 77, 1, 600 * BLOCKS + 2, 64], BLOCKS)
}

/// A number that is often one of those that mean something.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..12, 4 => (0u32..14).prop_map(|log| 1 << log), 2 => (0u32..6).prop_map(|n| n * 512), 1 => any::<u32>()]
}

fn any_range() -> impl Strategy<Value = HashRange> {
    let root = prop_oneof![8 => 0usize..5, 1 => Just(usize::MAX)];
    (root, number(), number(), number(), number()).prop_map(
        |(file, base_layer, index, length, proof_layers)| {
            let info = info();
            let root = info.files.get(file).and_then(|file| file.pieces_root).unwrap_or([7; 32]);
            HashRange { pieces_root: root, base_layer, index, length, proof_layers }
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Request(HashRange),
    Hashes(HashRange, Vec<Node>),
    /// Answers the oldest request truly, but for one bit perhaps.
    Answer(Option<usize>),
    Reject(HashRange),
    RejectOldest,
    Leaves(bool),
    Pass(u8),
    Reconnect,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_range().prop_map(Step::Request),
        2 => (any_range(), prop::collection::vec(any::<Node>(), 1..20)).prop_map(|(r, h)| Step::Hashes(r, h)),
        3 => prop::option::of(any::<usize>()).prop_map(Step::Answer),
        1 => any_range().prop_map(Step::Reject),
        1 => Just(Step::RejectOldest),
        2 => any::<bool>().prop_map(Step::Leaves),
        2 => (1u8..6).prop_map(Step::Pass),
        1 => Just(Step::Reconnect),
    ]
}

/// One peer, and what it was asked for.
struct World {
    info: Arc<Info>,
    swarm: Swarm,
    peer: u32,
    asked: Vec<HashRange>,
    jobs: Vec<(PieceIndex, u32)>,
    layers: Option<Vec<Vec<Node>>>,
}

impl World {
    fn note(&mut self, actions: &[Action]) {
        self.asked.extend(hash_requests(actions, self.peer));
        for action in actions {
            if let Action::HashLeaves { first, pieces } = action {
                self.jobs.push((*first, *pieces));
            }
        }
        while let Some((range, hashes)) = self.swarm.next_hashes(self.peer) {
            assert_eq!(hashes, true_hashes(&self.info, range), "{range:?}");
        }
        for event in self.swarm.events() {
            if let Event::PieceLayersReceived(layers) = event {
                self.layers = Some(layers);
            }
        }
    }

    fn join(&mut self) {
        self.peer += 1;
        self.asked.clear();
        let mut actions = self.swarm.connect(self.peer);
        actions.extend(self.swarm.say(self.peer, Message::HaveAll));
        self.note(&actions);
    }

    fn step(&mut self, step: Step) {
        if !self.swarm.is_here(self.peer) {
            self.join();
        }
        let oldest =
            |world: &mut World| if world.asked.is_empty() { None } else { Some(world.asked.remove(0)) };
        let actions = match step {
            Step::Request(range) => self.swarm.ask_hashes(self.peer, range),
            Step::Hashes(range, nodes) => self.swarm.say(self.peer, hashes(range, nodes)),
            Step::Answer(wrong) => {
                let Some(range) = oldest(self) else { return };
                let mut nodes = true_hashes(&self.info, range);
                if let Some(wrong) = wrong {
                    let at = wrong % nodes.len();
                    nodes[at][0] ^= 1;
                }
                let actions = self.swarm.say(self.peer, hashes(range, nodes));
                assert!(wrong.is_none() || !self.swarm.is_here(self.peer), "it lied, and is still here");
                actions
            }
            Step::Reject(range) => self.swarm.say(self.peer, Message::HashReject(Box::new(range))),
            Step::RejectOldest => {
                let Some(range) = oldest(self) else { return };
                self.swarm.say(self.peer, Message::HashReject(Box::new(range)))
            }
            Step::Leaves(readable) => {
                let Some((first, pieces)) = self.jobs.pop() else { return };
                let leaves = (first.0..first.0 + pieces).flat_map(|piece| {
                    let blocks = self.info.geometry.blocks_in(PieceIndex(piece));
                    (0..blocks).map(move |nth| leaf_of(piece, nth))
                });
                let leaves = readable.then(|| leaves.collect());
                self.swarm.torrent.handle_leaves(self.swarm.now, first, pieces, leaves);
                self.swarm.drain()
            }
            Step::Pass(seconds) => self.swarm.pass(Duration::from_secs(seconds.into())),
            Step::Reconnect => {
                let actions = self.swarm.disconnect(self.peer);
                self.note(&actions);
                return self.join();
            }
        };
        self.note(&actions);
    }
}

fn world(info: Info, swarm: Swarm) -> World {
    let info = Arc::new(info);
    World { info, swarm, peer: 0, asked: Vec::new(), jobs: Vec::new(), layers: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_hash_messages_to_a_seed(steps in prop::collection::vec(any_step(), 1..60)) {
        let info = info();
        let pieces = info.geometry.pieces();
        let mut world = world(info.clone(), Swarm::v2(&Arc::new(info), all_but(pieces, &[5])));
        steps.into_iter().for_each(|step| world.step(step));
    }

    #[test]
    fn any_hash_messages_to_who_fetches_piece_layers(steps in prop::collection::vec(any_step(), 1..60)) {
        let info = info();
        let bare = Arc::new(Info { piece_nodes: None, ..info.clone() });
        let mut swarm = Swarm::of(Torrent::without_metadata(config()));
        swarm.torrent.handle_layers_wanted(swarm.now, HashTrees::of(&bare).unwrap());
        let mut world = world(info, swarm);
        steps.into_iter().for_each(|step| world.step(step));
        if let Some(layers) = world.layers {
            let mut whole = Info { piece_nodes: None, ..(*world.info).clone() };
            whole.set_piece_layers(layers);
            prop_assert_eq!(&whole, &*world.info);
        }
    }

    #[test]
    fn any_hash_messages_to_who_tells_blocks_apart(steps in prop::collection::vec(any_step(), 1..60)) {
        let info = info();
        let pieces = info.geometry.pieces();
        let mut swarm = Swarm::v2(&Arc::new(info.clone()), all_but(pieces, &[5, 6]));
        swarm.verifies = false;
        (1001..=1002).for_each(|n| drop(swarm.connect_seed(n)));
        let mut world = world(info, swarm);
        for step in steps {
            for n in 1001..=1002 {
                for block in world.swarm.asked(n).to_vec() {
                    let (_, actions) = world.swarm.send_block(n, block);
                    let whole: Vec<PieceIndex> = actions.iter().filter_map(|action| match action {
                        Action::VerifyPiece { piece, .. } => Some(*piece),
                        _ => None,
                    }).collect();
                    for piece in whole {
                        let digests = digests_of(piece.0, world.info.geometry.blocks_in(piece), &[1]);
                        let actions = world.swarm.verified(piece, PieceResult::Corrupt { digests });
                        world.note(&actions);
                    }
                }
            }
            world.step(step);
        }
    }

    #[test]
    fn any_hash_messages_to_a_torrent_of_version_1(ranges in prop::collection::vec(any_range(), 1..20)) {
        let mut swarm = Swarm::new(config(), Bitfield::full(8), BLOCKS);
        swarm.connect(1);
        for range in ranges {
            swarm.ask_hashes(1, range);
            swarm.say(1, hashes(range, vec![[1; 32]]));
            swarm.say(1, Message::HashReject(Box::new(range)));
            prop_assert!(swarm.torrent.next_hashes(swarm.now, PeerKey(1)).is_none());
        }
    }
}
