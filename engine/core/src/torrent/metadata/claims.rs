//! BITFIELDs, HAVEs and the like that come before the metadata: kept, within bounds, until the number of pieces is known.

use crate::id::{PeerKey, PieceIndex};
use crate::wire::Message;
use std::collections::BTreeMap;

/// The limit of all peers' BITFIELDs together, in bytes. A peer over the limit has to reconnect.
pub const BITFIELDS_LEN_MAX: usize = 8 * 1024 * 1024;
/// How many HAVEs and ALLOWED FASTs of a peer are kept.
pub const CLAIMED_MAX: usize = 1_024;

/// One peer's claims.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// BITFIELD, HAVE ALL or HAVE NONE.
    pub(super) pieces: Option<Message>,
    /// HAVE and ALLOWED FAST, in order.
    pub(super) more: Vec<Message>,
    /// More came than is kept.
    pub(super) is_cut: bool,
}

/// The claims of all peers.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_peer: BTreeMap<PeerKey, Claim>,
    bitfields_len: usize,
}

fn bitfield_len(message: &Message) -> usize {
    if let Message::Bitfield(bytes) = message { bytes.len() } else { 0 }
}

impl Claims {
    /// Keeps a message. False if it is a duplicate or over the limit.
    pub(super) fn note(&mut self, key: PeerKey, message: &Message) -> bool {
        let claim = self.by_peer.entry(key).or_default();
        match message {
            Message::Bitfield(_) | Message::HaveAll | Message::HaveNone if claim.pieces.is_none() => {
                let len = bitfield_len(message);
                if self.bitfields_len + len > BITFIELDS_LEN_MAX {
                    claim.is_cut = true;
                    return true;
                }
                self.bitfields_len += len;
                claim.pieces = Some(message.clone());
                true
            }
            Message::Have(_) | Message::AllowedFast(_) if claim.more.len() < CLAIMED_MAX => {
                claim.more.push(message.clone());
                true
            }
            _ => {
                claim.is_cut = true;
                false
            }
        }
    }

    /// Whether a peer claims any piece.
    pub(super) fn has_some(&self, key: PeerKey) -> bool {
        self.by_peer.get(&key).is_some_and(|claim| {
            let has = |message: &Message| match message {
                Message::HaveAll | Message::Have(PieceIndex(_)) => true,
                Message::Bitfield(bytes) => bytes.iter().any(|&byte| byte != 0),
                _ => false,
            };
            claim.pieces.iter().chain(&claim.more).any(has)
        })
    }

    /// Takes out a peer's claims.
    pub(super) fn take(&mut self, key: PeerKey) -> Claim {
        let claim = self.by_peer.remove(&key).unwrap_or_default();
        self.bitfields_len -= claim.pieces.as_ref().map_or(0, bitfield_len);
        claim
    }
}
