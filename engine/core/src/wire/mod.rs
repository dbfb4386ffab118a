//! What goes over a peer connection (BEP 3, 6, 9, 10, 11, 20, 21): handshake, messages, and their limits.
//!
//! The decoder looks at bytes and returns one message at a time; it owns no
//! buffer. A block's payload is not a message: the decoder reports its header
//! and the caller moves the bytes to where they belong.

pub mod client;
pub mod decode;
pub mod exchange;
pub mod extension;
pub mod fast;
pub mod handshake;
pub mod holepunch;
pub mod message;
pub mod metadata;

pub use client::{client_name, peer_id};
pub use decode::{DecodeLimits, Decoded, WireError, decode};
pub use exchange::{PeerExchange, PeerFlags};
pub use extension::{Extension, ExtensionHandshake};
pub use fast::allowed_fast_set;
pub use handshake::{HANDSHAKE_LEN, Handshake, HandshakeError, Reserved};
pub use message::{Message, piece_header};
pub use metadata::{MetadataMessage, metadata_pieces, metadata_range};
