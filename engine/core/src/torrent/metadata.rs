//! Serving the info dictionary to peers that have only its hash (BEP 9).

use super::{Action, Torrent};
use crate::id::PeerKey;
use crate::peer::budget::Cost;
use crate::time::Time;
use crate::wire::{Extension, Message, MetadataMessage, metadata_pieces, metadata_range};

/// How often over a peer may fetch the metadata, before it is told no.
const COPIES_MAX: u32 = 3;
/// How many pieces of the metadata a peer may have asked for and not been sent yet; beyond that it is told no.
pub const METADATA_ASKED_MAX: usize = 256;

impl Torrent {
    /// The extension messages that we take.
    pub(super) fn extensions(&self) -> impl Iterator<Item = Extension> + use<> {
        let metadata = self.config.metadata.as_ref().map(|_| Extension::Metadata);
        [Extension::DontHave, Extension::UploadOnly]
            .into_iter()
            .chain(metadata)
            .chain(self.exchange_extension())
    }

    /// Bytes in the metadata that we serve.
    pub(super) fn metadata_size(&self) -> Option<u32> {
        self.config.metadata.as_ref().and_then(|bytes| u32::try_from(bytes.len()).ok())
    }

    /// A message of the metadata exchange. We have the metadata: only requests are of interest.
    pub(super) fn on_metadata(&mut self, now: Time, key: PeerKey, payload: &[u8]) {
        let Ok(Some(MetadataMessage::Request(piece))) = MetadataMessage::decode(payload) else {
            self.charge(now, key, Cost::Refused);
            return;
        };
        let Some(total_size) = self.metadata_size() else { return };
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(id) = peer.metadata_id else {
            self.charge(now, key, Cost::Refused);
            return;
        };
        let may_have = peer.metadata_sent < metadata_pieces(total_size) * COPIES_MAX
            && peer.metadata_asked.len() < METADATA_ASKED_MAX;
        if may_have && metadata_range(total_size, piece).is_some() {
            peer.metadata_sent += 1;
            peer.metadata_asked.push_back(piece);
            return self.actions.push_back(Action::Upload(key));
        }
        if self.charge(now, key, Cost::Refused) {
            self.send(now, key, Message::Extended { id, payload: MetadataMessage::Reject(piece).encode() });
        }
    }

    /// The next piece of the metadata to send to this peer, as a message that is taken to be sent now; `None` if it waits for none.
    pub fn next_metadata(&mut self, now: Time, key: PeerKey) -> Option<Message> {
        let (bytes, total_size) = (self.config.metadata.as_ref()?, self.metadata_size()?);
        let peer = self.peers.get_mut(key)?;
        let piece = peer.metadata_asked.pop_front()?;
        let (id, range) = (peer.metadata_id?, metadata_range(total_size, piece)?);
        peer.sent_at = now;
        let data = MetadataMessage::Data { piece, total_size, bytes: &bytes[range] };
        Some(Message::Extended { id, payload: data.encode() })
    }
}
