//! Serving the info dictionary to peers that have only its hash (BEP 9).

use super::Torrent;
use crate::id::PeerKey;
use crate::time::Time;
use crate::wire::{Extension, Message, MetadataMessage, metadata_pieces, metadata_range};

/// How often over a peer may fetch the metadata, before it is told no.
const COPIES_MAX: u32 = 3;

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
        let Ok(Some(MetadataMessage::Request(piece))) = MetadataMessage::decode(payload) else { return };
        let (Some(bytes), Some(total_size)) = (self.config.metadata.clone(), self.metadata_size()) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(id) = peer.metadata_id else { return };
        let may_have = peer.metadata_sent < metadata_pieces(total_size) * COPIES_MAX;
        let answer = match metadata_range(total_size, piece).filter(|_| may_have) {
            Some(range) => {
                peer.metadata_sent += 1;
                MetadataMessage::Data { piece, total_size, bytes: &bytes[range] }
            }
            None => MetadataMessage::Reject(piece),
        };
        self.send(now, key, Message::Extended { id, payload: answer.encode() });
    }
}
