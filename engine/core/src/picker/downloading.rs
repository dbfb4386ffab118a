//! A piece of which some block is requested or received.

use crate::geometry::BLOCK_LEN;
use crate::id::PeerKey;

/// From how many peers one block may be requested in the endgame while it may still come from one of them.
pub const REQUESTED_FROM_MAX: usize = 3;

/// The peers that a block is requested from; at least one.
#[derive(Clone, Debug)]
pub(super) struct RequestedFrom {
    first: PeerKey,
    others: Vec<PeerKey>,
}

impl RequestedFrom {
    pub(super) fn iter(&self) -> impl Iterator<Item = PeerKey> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

#[derive(Clone, Debug)]
pub(super) enum BlockState {
    Unrequested,
    Requested(RequestedFrom),
    /// From whom; `None`: in an earlier run.
    Received(Option<PeerKey>),
    /// It is never requested.
    Padding,
}

#[derive(Debug)]
pub(super) struct DownloadingPiece {
    blocks: Vec<BlockState>,
    unrequested: u32,
    received: u32,
    padding: u32,
    received_at: u64,
    /// Every block before this one is requested, received or padding.
    first_unrequested: u32,
    last_taker: Option<PeerKey>,
    /// After a failed verification: who sent it then, and who alone may fill it now.
    exclusive: Option<Exclusive>,
    /// The peer on parole that started it: others leave it alone while they have something else to do.
    parole: Option<Parole>,
}

#[derive(Debug)]
struct Parole {
    peer: PeerKey,
    /// For how many more rounds the piece is reserved.
    rounds_left: u32,
}

#[derive(Debug)]
struct Exclusive {
    senders: Vec<PeerKey>,
    owner: Option<PeerKey>,
    /// For how many more rounds it is the owner's.
    rounds_left: u32,
}

/// How many rounds of [`DownloadingPiece::exclusive_round_passed`] the owner of a failed piece has for it.
const EXCLUSIVE_ROUNDS: u32 = 3;
/// How many rounds of [`DownloadingPiece::parole_round_passed`] a peer on parole has its first piece to itself.
const PAROLE_ROUNDS: u32 = 2;

impl DownloadingPiece {
    /// A piece of so many blocks, of which these are padding.
    pub(super) fn new(blocks: u32, padding: &[u32]) -> DownloadingPiece {
        let mut states = vec![BlockState::Unrequested; blocks as usize];
        padding.iter().for_each(|&index| states[index as usize] = BlockState::Padding);
        DownloadingPiece {
            blocks: states,
            unrequested: blocks - padding.len() as u32,
            received: 0,
            padding: padding.len() as u32,
            received_at: 0,
            first_unrequested: 0,
            last_taker: None,
            exclusive: None,
            parole: None,
        }
    }

    pub(super) fn unrequested(&self) -> u32 {
        self.unrequested
    }

    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// Bytes received of a piece of this length.
    pub(super) fn received_bytes(&self, piece_len: u32) -> u64 {
        let shortfall = self.blocks.len() as u32 * BLOCK_LEN - piece_len;
        let has_last = matches!(self.blocks.last(), Some(BlockState::Received(_)));
        u64::from(self.received) * u64::from(BLOCK_LEN) - if has_last { u64::from(shortfall) } else { 0 }
    }

    /// How many blocks had come to the torrent when the last one came to this piece.
    pub(super) fn received_at(&self) -> u64 {
        self.received_at
    }

    pub(super) fn is_complete(&self) -> bool {
        (self.received + self.padding) as usize == self.blocks.len()
    }

    pub(super) fn is_untouched(&self) -> bool {
        (self.unrequested + self.padding) as usize == self.blocks.len()
    }

    /// The blocks that are padding.
    pub(super) fn padding(&self) -> impl Iterator<Item = u32> + '_ {
        let blocks = self.blocks.iter().zip(0..).filter(|_| self.padding > 0);
        blocks.filter(|(block, _)| matches!(block, BlockState::Padding)).map(|(_, index)| index)
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive.is_some()
    }

    pub(super) fn last_taker(&self) -> Option<PeerKey> {
        self.last_taker
    }

    pub(super) fn may_fill(&self, peer: PeerKey) -> bool {
        self.exclusive.as_ref().is_none_or(|s| match s.owner {
            Some(owner) => owner == peer,
            None => !s.senders.contains(&peer),
        })
    }

    /// Reserves the piece for `peer`, which is on parole.
    pub(super) fn reserve_for(&mut self, peer: PeerKey) {
        self.parole = Some(Parole { peer, rounds_left: PAROLE_ROUNDS });
    }

    /// The peer on parole that the piece is reserved for.
    pub(super) fn reserved_for(&self) -> Option<PeerKey> {
        self.parole.as_ref().map(|parole| parole.peer)
    }

    pub(super) fn end_parole_of(&mut self, peer: PeerKey) {
        self.parole.take_if(|parole| parole.peer == peer);
    }

    /// A round has passed: a peer on parole that is too slow for the piece has it to itself no more.
    pub(super) fn parole_round_passed(&mut self) {
        match &mut self.parole {
            Some(parole) if parole.rounds_left > 0 => parole.rounds_left -= 1,
            _ => self.parole = None,
        }
    }

    /// Whether every block that is here came from `peer`, and none is asked of anybody else.
    pub(super) fn is_only_from(&self, peer: PeerKey) -> bool {
        self.blocks.iter().all(|block| match block {
            BlockState::Unrequested | BlockState::Padding => true,
            BlockState::Requested(peers) => peers.iter().all(|peer_asked| peer_asked == peer),
            BlockState::Received(sender) => *sender == Some(peer),
        })
    }

    pub(super) fn set_exclusive(&mut self, senders: Vec<PeerKey>) {
        self.exclusive = (!senders.is_empty()).then_some(Exclusive {
            senders,
            owner: None,
            rounds_left: EXCLUSIVE_ROUNDS,
        });
    }

    /// If `corrupt` sent some of it, the others need not have been at fault.
    pub(super) fn clear_senders_beside(&mut self, corrupt: PeerKey) {
        if let Some(exclusive) = self.exclusive.as_mut().filter(|s| s.senders.contains(&corrupt)) {
            exclusive.senders.retain(|&sender| sender == corrupt);
        }
    }

    /// Whether `peer` alone was to fill it until now.
    pub(super) fn release_exclusive(&mut self, peer: PeerKey) -> bool {
        let owned = self.exclusive.as_mut().filter(|exclusive| exclusive.owner == Some(peer));
        owned.map(|exclusive| exclusive.owner = None).is_some()
    }

    /// A round has passed: a piece that nobody owns may be taken by those who sent it before, and one whose owner
    /// is too slow for it by anyone.
    pub(super) fn exclusive_round_passed(&mut self) {
        let Some(exclusive) = &mut self.exclusive else { return };
        match exclusive.owner {
            None => exclusive.senders.clear(),
            Some(_) if exclusive.rounds_left > 0 => exclusive.rounds_left -= 1,
            Some(_) => self.exclusive = None,
        }
    }

    pub(super) fn request(&mut self, peer: PeerKey, count: usize, mut taken: impl FnMut(u32)) {
        let wanted = count.min(self.unrequested as usize);
        let mut index = self.first_unrequested as usize;
        for _ in 0..wanted {
            while !matches!(self.blocks[index], BlockState::Unrequested) {
                index += 1;
            }
            self.blocks[index] = BlockState::Requested(RequestedFrom { first: peer, others: Vec::new() });
            taken(index as u32);
        }
        self.first_unrequested = index as u32;
        self.unrequested -= wanted as u32;
        self.last_taker = Some(peer);
        if let Some(exclusive) = &mut self.exclusive {
            exclusive.owner = Some(peer);
        }
    }

    /// Requests blocks one behind the other, for as long as `take` takes them: from the first that is unrequested on, or only if that is
    /// the piece's first but for padding. Whether they reach the end of the piece.
    pub(super) fn request_run(
        &mut self,
        peer: PeerKey,
        from_anywhere: bool,
        mut take: impl FnMut(u32) -> bool,
    ) -> bool {
        let is_padding = |block: &BlockState| matches!(block, BlockState::Padding);
        let is_unrequested = |block: &BlockState| matches!(block, BlockState::Unrequested);
        let start = match from_anywhere {
            true => self.blocks.iter().position(is_unrequested),
            false => self.blocks.iter().position(|block| !is_padding(block)),
        };
        let mut index = start.unwrap_or(self.blocks.len());
        let mut taken = false;
        while let Some(block) = self.blocks.get_mut(index) {
            if is_unrequested(block) && take(index as u32) {
                *block = BlockState::Requested(RequestedFrom { first: peer, others: Vec::new() });
                self.unrequested -= 1;
                taken = true;
            } else if !is_padding(block) {
                break;
            }
            index += 1;
        }
        if taken {
            if from_anywhere {
                self.first_unrequested = index as u32;
            }
            self.last_taker = Some(peer);
            if let Some(exclusive) = &mut self.exclusive {
                exclusive.owner = Some(peer);
            }
        }
        index == self.blocks.len()
    }

    pub(super) fn duplicate(&mut self, index: u32, peer: PeerKey, requested_from_max: usize) -> bool {
        let BlockState::Requested(peers) = &mut self.blocks[index as usize] else { return false };
        if peers.others.len() + 1 >= requested_from_max || peers.iter().any(|h| h == peer) {
            return false;
        }
        peers.others.push(peer);
        true
    }

    /// Marks the block as received and returns what it was before; unchanged if it was received.
    pub(super) fn receive(&mut self, index: u32, peer: Option<PeerKey>, at: u64) -> BlockState {
        let state = &mut self.blocks[index as usize];
        if matches!(state, BlockState::Received(_) | BlockState::Padding) {
            return state.clone();
        }
        self.received += 1;
        self.received_at = at;
        let before = std::mem::replace(state, BlockState::Received(peer));
        self.unrequested -= u32::from(matches!(before, BlockState::Unrequested));
        before
    }

    /// Takes the block back from `peer`; whether nobody else is asked for it.
    pub(super) fn release(&mut self, index: u32, peer: PeerKey) -> bool {
        let state = &mut self.blocks[index as usize];
        let BlockState::Requested(peers) = state else { return false };
        if peers.first != peer {
            peers.others.retain(|&h| h != peer);
            return false;
        }
        if let Some(next) = peers.others.pop() {
            peers.first = next;
            return false;
        }
        *state = BlockState::Unrequested;
        self.unrequested += 1;
        self.first_unrequested = self.first_unrequested.min(index);
        true
    }

    /// A block that was received is bad.
    pub(super) fn fail(&mut self, index: u32) {
        let state = &mut self.blocks[index as usize];
        if matches!(state, BlockState::Received(_)) {
            *state = BlockState::Unrequested;
            self.received -= 1;
            self.unrequested += 1;
            self.first_unrequested = self.first_unrequested.min(index);
        }
    }

    pub(super) fn senders(&self) -> Vec<Option<PeerKey>> {
        let sender = |state: &BlockState| match state {
            BlockState::Received(peer) => *peer,
            _ => None,
        };
        self.blocks.iter().map(sender).collect()
    }

    pub(super) fn check_invariants(&self) {
        let unrequested = self.blocks.iter().filter(|b| matches!(b, BlockState::Unrequested)).count();
        let received = self.blocks.iter().filter(|b| matches!(b, BlockState::Received(_))).count();
        assert_eq!(self.padding().count(), self.padding as usize);
        assert_eq!(unrequested, self.unrequested as usize);
        assert_eq!(received, self.received as usize);
        let before_first = &self.blocks[..(self.first_unrequested as usize).min(self.blocks.len())];
        assert!(!before_first.iter().any(|b| matches!(b, BlockState::Unrequested)));
    }
}
