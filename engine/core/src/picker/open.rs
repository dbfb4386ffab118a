//! A piece of which some block is asked for or received.

use crate::geometry::BLOCK_LEN;
use crate::id::PeerKey;

/// How many peers may be asked for one block in the endgame while it may still come from one of them.
pub const HOLDERS_MAX: usize = 3;

/// The peers that were asked for a block; at least one.
#[derive(Clone, Debug)]
pub(super) struct Holders {
    first: PeerKey,
    others: Vec<PeerKey>,
}

impl Holders {
    pub(super) fn iter(&self) -> impl Iterator<Item = PeerKey> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

#[derive(Clone, Debug)]
pub(super) enum BlockState {
    Free,
    Requested(Holders),
    /// From whom; `None`: in an earlier run.
    Received(Option<PeerKey>),
    /// It is padding: nobody is asked for it.
    Padding,
}

#[derive(Debug)]
pub(super) struct OpenPiece {
    blocks: Vec<BlockState>,
    free: u32,
    received: u32,
    padding: u32,
    received_at: u64,
    /// No block before this one is free.
    first_free: u32,
    last_taker: Option<PeerKey>,
    /// After a failed verification: who sent it then, and who alone may send it now.
    suspicion: Option<Suspicion>,
    /// A peer on parole that started it: others leave it alone while they have something else to do.
    parole: Option<Parole>,
}

#[derive(Debug)]
struct Parole {
    peer: PeerKey,
    /// How many rounds of [`OpenPiece::forgive_parole`] it still has.
    patience: u32,
}

#[derive(Debug)]
struct Suspicion {
    senders: Vec<PeerKey>,
    owner: Option<PeerKey>,
    /// How often the owner may still be found unfinished.
    patience: u32,
}

/// How many rounds of [`OpenPiece::forgive`] the owner of a suspect piece has for it.
const OWNER_ROUNDS: u32 = 3;
/// How many rounds of [`OpenPiece::forgive_parole`] a peer on parole has its first piece to itself.
const PAROLE_ROUNDS: u32 = 2;

impl OpenPiece {
    /// A piece of so many blocks, of which these are padding.
    pub(super) fn new(blocks: u32, padding: &[u32]) -> OpenPiece {
        let mut states = vec![BlockState::Free; blocks as usize];
        padding.iter().for_each(|&index| states[index as usize] = BlockState::Padding);
        OpenPiece {
            blocks: states,
            free: blocks - padding.len() as u32,
            received: 0,
            padding: padding.len() as u32,
            received_at: 0,
            first_free: 0,
            last_taker: None,
            suspicion: None,
            parole: None,
        }
    }

    pub(super) fn free(&self) -> u32 {
        self.free
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
        (self.free + self.padding) as usize == self.blocks.len()
    }

    /// The blocks that are padding.
    pub(super) fn padding(&self) -> impl Iterator<Item = u32> + '_ {
        let blocks = self.blocks.iter().zip(0..).filter(|_| self.padding > 0);
        blocks.filter(|(block, _)| matches!(block, BlockState::Padding)).map(|(_, index)| index)
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    pub(super) fn last_taker(&self) -> Option<PeerKey> {
        self.last_taker
    }

    pub(super) fn is_open_to(&self, peer: PeerKey) -> bool {
        self.suspicion.as_ref().is_none_or(|s| match s.owner {
            Some(owner) => owner == peer,
            None => !s.senders.contains(&peer),
        })
    }

    /// Leaves the piece to `peer`, which is on parole.
    pub(super) fn leave_to(&mut self, peer: PeerKey) {
        self.parole = Some(Parole { peer, patience: PAROLE_ROUNDS });
    }

    /// The peer on parole that the piece is left to.
    pub(super) fn left_to(&self) -> Option<PeerKey> {
        self.parole.as_ref().map(|parole| parole.peer)
    }

    pub(super) fn end_parole_of(&mut self, peer: PeerKey) {
        self.parole.take_if(|parole| parole.peer == peer);
    }

    /// A round has passed: a peer on parole that is too slow for the piece has it to itself no more.
    pub(super) fn forgive_parole(&mut self) {
        match &mut self.parole {
            Some(parole) if parole.patience > 0 => parole.patience -= 1,
            _ => self.parole = None,
        }
    }

    /// Whether every block that is here came from `peer`, and none is asked of anybody else.
    pub(super) fn is_only_from(&self, peer: PeerKey) -> bool {
        self.blocks.iter().all(|block| match block {
            BlockState::Free | BlockState::Padding => true,
            BlockState::Requested(holders) => holders.iter().all(|holder| holder == peer),
            BlockState::Received(sender) => *sender == Some(peer),
        })
    }

    pub(super) fn set_suspects(&mut self, senders: Vec<PeerKey>) {
        self.suspicion =
            (!senders.is_empty()).then_some(Suspicion { senders, owner: None, patience: OWNER_ROUNDS });
    }

    /// If `liar` sent some of it, the others need not have been at fault.
    pub(super) fn clear_suspects_beside(&mut self, liar: PeerKey) {
        if let Some(suspicion) = self.suspicion.as_mut().filter(|s| s.senders.contains(&liar)) {
            suspicion.senders.retain(|&sender| sender == liar);
        }
    }

    /// Whether `peer` alone was to fill it until now.
    pub(super) fn disown(&mut self, peer: PeerKey) -> bool {
        let owned = self.suspicion.as_mut().filter(|suspicion| suspicion.owner == Some(peer));
        owned.map(|suspicion| suspicion.owner = None).is_some()
    }

    /// A round has passed: a piece that nobody owns may be taken by those who sent it before, and one whose owner
    /// is too slow for it by anyone.
    pub(super) fn forgive(&mut self) {
        let Some(suspicion) = &mut self.suspicion else { return };
        match suspicion.owner {
            None => suspicion.senders.clear(),
            Some(_) if suspicion.patience > 0 => suspicion.patience -= 1,
            Some(_) => self.suspicion = None,
        }
    }

    pub(super) fn take_free(&mut self, peer: PeerKey, count: usize, mut taken: impl FnMut(u32)) {
        let wanted = count.min(self.free as usize);
        let mut index = self.first_free as usize;
        for _ in 0..wanted {
            while !matches!(self.blocks[index], BlockState::Free) {
                index += 1;
            }
            self.blocks[index] = BlockState::Requested(Holders { first: peer, others: Vec::new() });
            taken(index as u32);
        }
        self.first_free = index as u32;
        self.free -= wanted as u32;
        self.last_taker = Some(peer);
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.owner = Some(peer);
        }
    }

    pub(super) fn duplicate(&mut self, index: u32, peer: PeerKey, holders_max: usize) -> bool {
        let BlockState::Requested(holders) = &mut self.blocks[index as usize] else { return false };
        if holders.others.len() + 1 >= holders_max || holders.iter().any(|h| h == peer) {
            return false;
        }
        holders.others.push(peer);
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
        self.free -= u32::from(matches!(before, BlockState::Free));
        before
    }

    /// Takes the block back from `peer`; whether it is free now and was not before.
    pub(super) fn release(&mut self, index: u32, peer: PeerKey) -> bool {
        let state = &mut self.blocks[index as usize];
        let BlockState::Requested(holders) = state else { return false };
        if holders.first != peer {
            holders.others.retain(|&h| h != peer);
            return false;
        }
        if let Some(next) = holders.others.pop() {
            holders.first = next;
            return false;
        }
        *state = BlockState::Free;
        self.free += 1;
        self.first_free = self.first_free.min(index);
        true
    }

    pub(super) fn senders(&self) -> Vec<Option<PeerKey>> {
        let sender = |state: &BlockState| match state {
            BlockState::Received(peer) => *peer,
            _ => None,
        };
        self.blocks.iter().map(sender).collect()
    }

    pub(super) fn check_invariants(&self) {
        let free = self.blocks.iter().filter(|b| matches!(b, BlockState::Free)).count();
        let received = self.blocks.iter().filter(|b| matches!(b, BlockState::Received(_))).count();
        assert_eq!(self.padding().count(), self.padding as usize);
        assert_eq!(free, self.free as usize);
        assert_eq!(received, self.received as usize);
        let before_first = &self.blocks[..(self.first_free as usize).min(self.blocks.len())];
        assert!(!before_first.iter().any(|b| matches!(b, BlockState::Free)));
    }
}
