//! What downloaders that share a web seed say of their fetches, so that they do not all fetch the same.

mod common;

use common::*;
use std::collections::BTreeMap;
use std::ops::Range;
use swarm_core::time::Duration;
use swarm_core::torrent::{Action, COMING_FOR, PEERS_GIVEN};
use swarm_core::webseed::FetchId;
use swarm_core::wire::Message;
use swarm_core::wire::extension::{self, Extension, ExtensionHandshake};

/// Of 256 KiB: together a run that peers may speak of.
const PIECES: u32 = 16;
const BLOCKS: u32 = 16;
const OTHER: u32 = 1;
/// Its number for these messages.
const ID: u8 = 7;

/// A download from a web seed, beside another one that begins now.
struct Download {
    swarm: Swarm,
    /// The pieces that are fetched, in the order in which that began.
    fetches: Vec<(FetchId, Range<u32>)>,
    /// What the other is told.
    told: Vec<Range<u32>>,
}

impl Download {
    fn start(pieces: u32, before_the_first: impl FnOnce(&mut Swarm)) -> Download {
        let mut swarm = Swarm::leecher(pieces, BLOCKS);
        let has_it =
            |actions: &[Action]| our_hello(actions).unwrap().ids.contains_key(&Extension::WebFetching);
        assert!(!has_it(&swarm.connect(2)), "nobody needs it without web seeds");
        swarm.disconnect(2);
        // It has to wait for the other to come.
        swarm.torrent.set_asking_trackers(START, true);
        swarm.torrent.add_web_seed(START);
        assert!(has_it(&swarm.connect(OTHER)));
        let ids = BTreeMap::from([(Extension::WebFetching, ID)]);
        swarm.say_hello(OTHER, ExtensionHandshake { ids, ..ExtensionHandshake::default() });
        let mut download = Download { swarm, fetches: Vec::new(), told: Vec::new() };
        before_the_first(&mut download.swarm);
        let actions = download.swarm.say(OTHER, Message::HaveNone);
        download.take(actions);
        download
    }

    fn take(&mut self, actions: Vec<Action>) {
        for message in sent_to(&actions, OTHER) {
            if let Message::Extended { id: ID, payload } = message {
                self.told.push(extension::decode_pieces(payload).unwrap());
            }
        }
        for action in actions {
            if let Action::Fetch { id, blocks, .. } = action {
                self.fetches.push((id, blocks[0].piece.0..blocks.last().unwrap().piece.0 + 1));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let actions = self.swarm.pass(time);
        self.take(actions);
    }

    /// The last fetch brings what it was asked for.
    fn serve(&mut self) {
        let (id, pieces) = self.fetches.last().unwrap().clone();
        let (now, torrent) = (self.swarm.now, &mut self.swarm.torrent);
        torrent.handle_fetch_answered(now, id);
        for piece in pieces {
            (0..BLOCKS).for_each(|nth| _ = torrent.handle_fetch_block(now, id, block(piece, nth)));
        }
        torrent.handle_fetch_done(now, id);
        let actions = self.swarm.drain();
        self.take(actions);
    }
}

fn coming(pieces: Range<u32>) -> Message {
    Message::Extended { id: Extension::WebFetching.local_id(), payload: extension::encode_pieces(&pieces) }
}

fn say(swarm: &mut Swarm, pieces: Range<u32>) {
    swarm.say(OTHER, coming(pieces));
}

#[test]
fn the_others_are_told_what_is_fetched() {
    let mut download = Download::start(PIECES, |_| {});
    while download.swarm.now < START + PEERS_GIVEN - Duration::from_secs(1) {
        download.pass(Duration::from_secs(1));
        let fetched: Vec<_> = download.fetches.iter().map(|(_, pieces)| pieces.clone()).collect();
        assert_eq!(download.told, fetched);
        download.serve();
    }
    assert!(download.told.len() > 5);
}

#[test]
fn what_another_fetches_is_left_to_it_for_a_while() {
    let mut download = Download::start(PIECES, |swarm| say(swarm, 0..PIECES - 1));
    download.pass(Duration::from_secs(1));
    assert_eq!(download.told, [PIECES - 1..PIECES]);
    download.serve();
    download.pass(COMING_FOR - Duration::from_millis(1_001));
    assert_eq!(download.fetches.len(), 1);
    // It is looked at again each second.
    download.pass(Duration::from_secs(1));
    assert_eq!(download.fetches.len(), 2, "it has not come");
}

#[test]
fn nobody_is_believed_more_than_a_run_or_pieces_that_are_not_there() {
    for (pieces, claim) in [(PIECES, 0..PIECES + 1), (PIECES, 0..u32::MAX), (PIECES, 5..5), (100, 0..100)] {
        let mut download = Download::start(pieces, |swarm| say(swarm, claim));
        download.pass(Duration::from_secs(1));
        assert!(!download.fetches.is_empty());
    }
}

#[test]
fn who_says_so_again_and_again_and_brings_nothing_holds_nobody_up_for_long() {
    let mut download = Download::start(PIECES, |swarm| say(swarm, 0..PIECES));
    let mut waited = Duration::ZERO;
    while download.fetches.is_empty() {
        download.pass(Duration::from_millis(500));
        say(&mut download.swarm, 0..PIECES);
        waited += Duration::from_millis(500);
        assert!(waited <= PEERS_GIVEN + Duration::from_secs(2), "{waited:?}");
    }
}
