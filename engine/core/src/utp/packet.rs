//! The packets of uTP on the wire: a header of 20 bytes, a chain of extensions, and the payload.

use thiserror::Error;

/// Bytes of a header without extensions.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest selective ACK that we send: its length is a byte, and a multiple of four.
pub const SACK_LEN_MAX: usize = 252;

const VERSION: u8 = 1;
const EXTENSION_NONE: u8 = 0;
const EXTENSION_SACK: u8 = 1;
/// Eight bytes that nobody uses. libutp (Transmission, µTorrent) drops packets that begin with an extension above this one,
/// but skips those further on.
const EXTENSION_BITS: u8 = 2;
const EXTENSION_BITS_LEN: usize = 8;
/// Nobody knows this extension, so everybody skips it: it makes a probe of the path's MTU as long as it should be.
const EXTENSION_PADDING: u8 = 0x70;
/// The least that a packet can be padded by: eight bytes that nobody uses, and an empty extension, with their heads.
pub(super) const PADDING_MIN: usize = 2 + EXTENSION_BITS_LEN + 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Payload.
    Data = 0,
    /// The end of the stream.
    Fin = 1,
    /// Nothing but what the header says: mostly an acknowledgement. It has no sequence number of its own.
    State = 2,
    /// There is no such connection.
    Reset = 3,
    /// The wish for a connection.
    Syn = 4,
}

/// The fields that each packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the packet is for.
    pub kind: Kind,
    /// The connection, as its receiver numbers it; in a SYN, as its sender does.
    pub connection_id: u16,
    /// When it was sent: microseconds of the sender's clock, which wrap.
    pub timestamp: u32,
    /// How long the last packet of the other direction seemed to take, by clocks that differ; 0 if none has come.
    pub timestamp_difference: u32,
    /// How many bytes the sender of this has room for.
    pub window: u32,
    /// The packet's number; for a STATE, the number of the next one that will have payload.
    pub seq: u16,
    /// The last number up to which everything has come.
    pub ack: u16,
}

/// A packet that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its header.
    pub header: Header,
    /// The bits of its selective ACK: the first is for `ack + 2`, the lowest of each byte comes first. Empty without one.
    pub sack: &'a [u8],
    /// What follows the header and its extensions.
    pub payload: &'a [u8],
}

/// Why a datagram is no packet of uTP.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketError {
    /// It ends within the header.
    #[error("a packet of uTP has at least {HEADER_LEN} bytes")]
    Short,
    /// It has another version, or a type that version 1 has not.
    #[error("not a packet of uTP version 1")]
    Unknown,
    /// An extension goes on past the end.
    #[error("an extension is longer than the packet")]
    Extension,
}

/// Whether a datagram is uTP's, among those of others on the same socket: messages of the DHT begin with `d`, answers of
/// trackers with a zero byte.
pub fn is_utp(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN && kind(datagram[0]).is_some()
}

fn kind(first: u8) -> Option<Kind> {
    if first & 0xf != VERSION {
        return None;
    }
    Some(match first >> 4 {
        0 => Kind::Data,
        1 => Kind::Fin,
        2 => Kind::State,
        3 => Kind::Reset,
        4 => Kind::Syn,
        _ => return None,
    })
}

impl<'a> Packet<'a> {
    /// Reads a datagram. Extensions that nobody has heard of are skipped.
    pub fn parse(datagram: &'a [u8]) -> Result<Packet<'a>, PacketError> {
        let Some((head, mut rest)) = datagram.split_at_checked(HEADER_LEN) else {
            return Err(PacketError::Short);
        };
        let u16_at = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let u32_at = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let header = Header {
            kind: kind(head[0]).ok_or(PacketError::Unknown)?,
            connection_id: u16_at(2),
            timestamp: u32_at(4),
            timestamp_difference: u32_at(8),
            window: u32_at(12),
            seq: u16_at(16),
            ack: u16_at(18),
        };
        let (mut extension, mut sack) = (head[1], &[][..]);
        while extension != EXTENSION_NONE {
            let [next, len, after @ ..] = rest else { return Err(PacketError::Extension) };
            let Some((body, after)) = after.split_at_checked(usize::from(*len)) else {
                return Err(PacketError::Extension);
            };
            if extension == EXTENSION_SACK {
                sack = body;
            }
            (extension, rest) = (*next, after);
        }
        Ok(Packet { header, sack, payload: rest })
    }
}

impl Header {
    /// Appends the header to `out`, with a selective ACK of these bits unless there are none, and with `padding` bytes
    /// that say nothing (0, or at least 12).
    pub fn encode(&self, sack: &[u8], padding: usize, out: &mut Vec<u8>) {
        debug_assert!(sack.len() <= SACK_LEN_MAX && sack.len().is_multiple_of(4));
        debug_assert!(padding == 0 || padding >= PADDING_MIN);
        let after_sack = if padding > 0 { EXTENSION_BITS } else { EXTENSION_NONE };
        let first = if sack.is_empty() { after_sack } else { EXTENSION_SACK };
        out.extend_from_slice(&[(self.kind as u8) << 4 | VERSION, first]);
        out.extend_from_slice(&self.connection_id.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.timestamp_difference.to_be_bytes());
        out.extend_from_slice(&self.window.to_be_bytes());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.ack.to_be_bytes());
        if !sack.is_empty() {
            out.extend_from_slice(&[after_sack, sack.len() as u8]);
            out.extend_from_slice(sack);
        }
        if padding > 0 {
            pad(padding, out);
        }
    }
}

/// Appends a chain of extensions of this many bytes together.
fn pad(mut bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&[EXTENSION_PADDING, EXTENSION_BITS_LEN as u8]);
    out.resize(out.len() + EXTENSION_BITS_LEN, 0);
    bytes -= 2 + EXTENSION_BITS_LEN;
    while bytes > 1 {
        let most = bytes.min(2 + 255);
        // One byte alone would be no extension.
        let this = if bytes - most == 1 { most - 1 } else { most };
        bytes -= this;
        out.extend_from_slice(&[
            if bytes > 1 { EXTENSION_PADDING } else { EXTENSION_NONE },
            (this - 2) as u8,
        ]);
        out.resize(out.len() + this - 2, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers() -> impl Strategy<Value = Header> {
        let kinds = prop_oneof![
            Just(Kind::Data),
            Just(Kind::Fin),
            Just(Kind::State),
            Just(Kind::Reset),
            Just(Kind::Syn)
        ];
        (kinds, any::<u16>(), any::<[u32; 3]>(), any::<u16>(), any::<u16>()).prop_map(
            |(kind, connection_id, [timestamp, timestamp_difference, window], seq, ack)| Header {
                kind,
                connection_id,
                timestamp,
                timestamp_difference,
                window,
                seq,
                ack,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(
            header in headers(),
            words in 0usize..=SACK_LEN_MAX / 4,
            padding in prop_oneof![Just(0usize), PADDING_MIN..1500],
            payload in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let sack: Vec<u8> = (0..words * 4).map(|i| i as u8).collect();
            let mut datagram = Vec::new();
            header.encode(&sack, padding, &mut datagram);
            let extensions = if sack.is_empty() { 0 } else { 2 + sack.len() };
            prop_assert_eq!(datagram.len(), HEADER_LEN + extensions + padding);
            datagram.extend_from_slice(&payload);
            prop_assert!(is_utp(&datagram));
            prop_assert_eq!(Packet::parse(&datagram), Ok(Packet { header, sack: &sack, payload: &payload }));
        }

        #[test]
        fn any_bytes_are_read_without_harm(
            mut datagram in proptest::collection::vec(any::<u8>(), 0..400),
            is_ours in any::<bool>(),
        ) {
            if let Some(first) = datagram.first_mut().filter(|_| is_ours) {
                *first = (*first & 0xf0) | VERSION;
            }
            if let Ok(packet) = Packet::parse(&datagram) {
                prop_assert!(packet.payload.len() + packet.sack.len() + HEADER_LEN <= datagram.len());
            }
        }
    }

    #[test]
    fn datagrams_of_others_are_told_apart_by_their_first_byte() {
        let of_others: [&[u8]; 3] =
            [b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", &[0; 20], &[0x51; 20]];
        for datagram in of_others {
            assert!(!is_utp(datagram));
            assert_eq!(Packet::parse(datagram), Err(PacketError::Unknown));
        }
        assert_eq!(Packet::parse(&[0x41; 19]), Err(PacketError::Short));
    }

    // A chain as libutp sends it: "extension bits" (2) before a selective ACK, both in a STATE.
    #[test]
    fn unknown_extensions_are_skipped() {
        let mut datagram = vec![0x21, 2];
        datagram.resize(HEADER_LEN, 7);
        datagram.extend_from_slice(&[1, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        datagram.extend_from_slice(&[0, 4, 1, 0, 0, 0x80]);
        let packet = Packet::parse(&datagram).unwrap();
        assert_eq!((packet.sack, packet.payload), (&[1, 0, 0, 0x80][..], &[][..]));
        for cut in HEADER_LEN..datagram.len() {
            assert_eq!(Packet::parse(&datagram[..cut]), Err(PacketError::Extension), "cut at {cut}");
        }
    }

    // libutp drops what begins with an extension above 2 (`UTP_Version`), and extension bits (2) of another length than 8.
    #[test]
    fn padding_is_skipped_by_libutp() {
        let header = Header {
            kind: Kind::Data,
            connection_id: 1,
            timestamp: 0,
            timestamp_difference: 0,
            window: 0,
            seq: 1,
            ack: 0,
        };
        for padding in PADDING_MIN..1500 {
            let mut datagram = Vec::new();
            header.encode(&[], padding, &mut datagram);
            assert_eq!((datagram[1], datagram[HEADER_LEN + 1]), (2, 8));
            assert_eq!(datagram.len(), HEADER_LEN + padding);
        }
    }

    // A selective ACK without bits, which go-utp sent (anacrolix/old-go-utp#23), and of odd lengths, which libtorrent
    // sends (arvidn/libtorrent#7071), are what they say.
    #[test]
    fn selective_acks_of_other_lengths_are_read() {
        for len in [0u8, 1, 5, 255] {
            let mut datagram = vec![0x21, 1];
            datagram.resize(HEADER_LEN, 0);
            datagram.extend_from_slice(&[0, len]);
            datagram.resize(datagram.len() + usize::from(len), 0xff);
            assert_eq!(Packet::parse(&datagram).unwrap().sack.len(), usize::from(len));
        }
    }
}
