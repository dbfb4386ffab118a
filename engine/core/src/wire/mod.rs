//! What goes over a peer connection (BEP 3, 6, 10): handshake, messages, and their limits.
//!
//! The decoder looks at bytes and returns one message at a time; it owns no
//! buffer. A block's payload is not a message: the decoder reports its header
//! and the caller moves the bytes to where they belong.

pub mod decode;
pub mod message;

pub use decode::{DecodeLimits, Decoded, WireError, decode};
pub use message::{Message, encode_piece_header};

/// The longest block anyone may request from us, in bytes. 16 KiB is what everyone asks for;
/// some old clients ask for more.
pub const REQUEST_LEN_MAX: u32 = 128 * 1024;
