//! uTP (BEP 29): streams over UDP that give way to others (LEDBAT, RFC 6817), without their socket.
//!
//! [`Socket`] is what one UDP socket carries. Its owner hands it each datagram that [`is_utp`], and does what it says:
//!
//! ```text
//! datagrams have come:  handle_datagram for each; after each, drain poll_event, then put its payload where it belongs
//! written, read, …:     handle_write, handle_read, handle_close, handle_abort
//! after either:         poll_transmit while the system takes datagrams
//! poll_timeout:         handle_timeout, then the same again
//! ```
//!
//! # Bytes stay with the owner
//!
//! Like everywhere in this crate, bulk bytes do not pass through here.
//!
//! *Out.* The owner keeps a queue of what was written, from what the peer has ([`Event::Acked`]) to its end, and tells the length of
//! what it appends. [`Socket::poll_transmit`] writes a header and says which part of the stream follows: two slices for the system, or
//! one copy into a buffer of many datagrams for its segmentation offload. A packet that goes again names the same part again.
//!
//! *In.* [`Received`] says where in the datagram payload lies. What is next in the stream ([`Place::Next`]) goes to the reader, from
//! the datagram's memory or by one copy, and after it as many of the kept ones as it says, which have the numbers that follow. What came
//! before its turn ([`Place::Keep`]) is kept under its number. What was told and is not read yet is what [`Socket::handle_read`] takes
//! back; the window that the peer is told follows from it.
//!
//! # What strangers can do
//!
//! A SYN gets 20 bytes and leaves nothing behind; state begins with the first packet that proves the answer was received
//! (`stranger`). RESETs are limited in rate. Each connection has a window for what is not read or not in order, which grows only by what it
//! delivers; the numbers in an acknowledgement, the ranges of a selective one and the packets kept are bounded by what was sent
//! and by the window. An acknowledgement costs what it acknowledges. Connections that are closed end within [`LINGER_MAX`], silent ones
//! within [`SILENCE_MAX`].
//!
//! From the bottom up: `packet` is the vocabulary; `rtt`, `delay`, `congestion` and `mtu` know the path; `sent` and `received` are the
//! two directions; `connection` puts them together; `stranger` answers who has none; `socket` has them all.

mod congestion;
mod connection;
mod delay;
mod mtu;
mod packet;
mod received;
mod rtt;
mod sent;
mod socket;
mod stranger;

pub use congestion::{GAIN, TARGET, WINDOW_INITIAL, WINDOW_MAX, WINDOW_MIN_PACKETS};
pub use connection::{
    ACK_DELAY, CloseReason, FIN_WAIT, KEEP_ALIVE, LINGER_MAX, SILENCE_MAX, SYNS_MAX, TIMEOUTS_MAX,
    TIMEOUTS_WITHOUT_PROGRESS_MAX,
};
pub use packet::{HEADER_LEN, Header, Kind, Packet, PacketError, SACK_LEN_MAX, is_utp};
pub use received::{AHEAD_MAX, CAPACITY_INITIAL, KEPT_OVERHEAD, Place};
pub use rtt::{TIMEOUT_INITIAL, TIMEOUT_MAX, TIMEOUT_MIN};
pub use sent::REORDERING;
pub use socket::{Config, ConnectionId, Event, PathStats, Received, Socket, Transmit};
pub use stranger::{ANSWERS_MAX, RESETS_PER_S};
