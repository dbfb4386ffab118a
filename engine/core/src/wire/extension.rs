//! The extension protocol's handshake (BEP 10), and the small messages that it makes possible.
//!
//! A peer may send its handshake again: what it then leaves out stays as it was.

use super::decode::EXTENDED_LEN_MAX;
use crate::bencode::{self, BencodeError, Limits, Value, emit_some, parse};
use crate::id::PieceIndex;
use crate::net::{read_ip, write_ip};
use bendy::encoding::AsString;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// The id of an extension handshake itself.
pub const EXTENSION_HANDSHAKE_ID: u8 = 0;

/// Requests that a peer takes at once when it does not say (`reqq`).
pub const REQQ_DEFAULT: u32 = 250;

/// How many characters of a client's name are kept.
pub const CLIENT_LEN_MAX: usize = 64;

/// What a handshake may cost to read. Twenty keys or so are in use, nested once.
const LIMITS: Limits = Limits { depth_max: 8, tokens_max: 1_000, input_len_max: EXTENDED_LEN_MAX as usize };

/// The extension messages that we know, in the order of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Extension {
    /// "I no longer have this piece" (BEP 54).
    DontHave,
    /// "I want nothing any more", or again (BEP 21; the message is libtorrent's).
    UploadOnly,
    /// Meeting peers behind NATs (BEP 55).
    Holepunch,
    /// The info dictionary, piece by piece (BEP 9).
    Metadata,
    /// Addresses of other peers (BEP 11).
    PeerExchange,
    /// "These pieces are on their way to me from a web seed": ours, so that downloaders do not all fetch the same.
    WebFetching,
}

impl Extension {
    /// All of them.
    pub const ALL: [Extension; 6] = [
        Extension::DontHave,
        Extension::UploadOnly,
        Extension::Holepunch,
        Extension::Metadata,
        Extension::PeerExchange,
        Extension::WebFetching,
    ];

    /// The name in the handshake.
    pub const fn name(self) -> &'static str {
        match self {
            Extension::DontHave => "lt_donthave",
            Extension::UploadOnly => "upload_only",
            Extension::Holepunch => "ut_holepunch",
            Extension::Metadata => "ut_metadata",
            Extension::PeerExchange => "ut_pex",
            Extension::WebFetching => "web_fetching",
        }
    }

    /// The id under which we want to receive it. Each side chooses its own, never 0.
    pub const fn local_id(self) -> u8 {
        self as u8 + 1
    }

    /// The extension that a peer means by an id of ours.
    pub fn from_local_id(id: u8) -> Option<Extension> {
        Extension::ALL.get(usize::from(id).checked_sub(1)?).copied()
    }

    fn from_name(name: &[u8]) -> Option<Extension> {
        Extension::ALL.into_iter().find(|extension| extension.name().as_bytes() == name)
    }
}

/// What a peer says of itself once both support extension messages. All of it is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// `m`: the ids under which the sender wants to receive extension messages; 0 turns one off. Names that
    /// we do not know are left out.
    pub ids: BTreeMap<Extension, u8>,
    /// `v`: the client's name and version, at most [`CLIENT_LEN_MAX`] characters and none that would
    /// disturb a terminal. Empty if unsaid.
    pub client: String,
    /// `reqq`: requests that the sender takes at once, never 0. See [`REQQ_DEFAULT`].
    pub reqq: Option<u32>,
    /// `p`: the port on which the sender listens, never 0.
    pub listen_port: Option<u16>,
    /// `e`: whether the sender prefers encrypted connections (MSE).
    pub prefers_encryption: Option<bool>,
    /// `yourip`: the address at which the sender sees us.
    pub your_ip: Option<IpAddr>,
    /// `ipv4`: an IPv4 address of the sender.
    pub ipv4: Option<Ipv4Addr>,
    /// `ipv6`: an IPv6 address of the sender.
    pub ipv6: Option<Ipv6Addr>,
    /// `upload_only`: whether the sender downloads nothing (any more) (BEP 21).
    pub upload_only: Option<bool>,
    /// `metadata_size`: bytes in the info dictionary (BEP 9), never 0. A claim: the limit on what to
    /// believe is up to whoever fetches it.
    pub metadata_size: Option<u32>,
}

impl ExtensionHandshake {
    /// The payload of the extension message with id [`EXTENSION_HANDSHAKE_ID`].
    pub fn encode(&self) -> Vec<u8> {
        bencode::write_dict(|mut e| {
            emit_some(&mut e, b"e", self.prefers_encryption.map(u8::from))?;
            emit_some(&mut e, b"ipv4", self.ipv4.map(|ip| AsString(ip.octets())))?;
            emit_some(&mut e, b"ipv6", self.ipv6.map(|ip| AsString(ip.octets())))?;
            let ids: BTreeMap<&str, u8> = self.ids.iter().map(|(ext, id)| (ext.name(), *id)).collect();
            e.emit_pair(b"m", ids)?;
            emit_some(&mut e, b"metadata_size", self.metadata_size)?;
            emit_some(&mut e, b"p", self.listen_port)?;
            emit_some(&mut e, b"reqq", self.reqq)?;
            emit_some(&mut e, b"upload_only", self.upload_only.map(u8::from))?;
            emit_some(&mut e, b"v", Some(self.client.as_str()).filter(|client| !client.is_empty()))?;
            emit_some(&mut e, b"yourip", self.your_ip.map(|ip| AsString(write_ip(ip))))
        })
    }

    /// Reads a payload. A field of the wrong type or out of its range counts as unsaid: clients get these
    /// wrong in many ways, and none is a reason to part.
    ///
    /// # Errors
    /// When the payload is not bencoded, or is nested or fragmented beyond any use.
    pub fn decode(payload: &[u8]) -> Result<ExtensionHandshake, BencodeError> {
        let document = parse(payload, &LIMITS)?;
        let root = document.root();
        let int = |key| root.get(key).and_then(Value::as_int);
        let bytes = |key| root.get(key).and_then(Value::as_bytes);
        let ids = root.get(b"m").and_then(Value::as_dict).map(|m| {
            let known = |(name, id): (_, Value)| {
                Some((Extension::from_name(name)?, u8::try_from(id.as_int()?).ok()?))
            };
            m.iter().filter_map(known).collect()
        });
        Ok(ExtensionHandshake {
            ids: ids.unwrap_or_default(),
            client: bytes(b"v").map(clean_name).unwrap_or_default(),
            reqq: int(b"reqq").filter(|&n| n > 0).map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            listen_port: int(b"p").and_then(|n| u16::try_from(n).ok()).filter(|&port| port > 0),
            prefers_encryption: int(b"e").map(|n| n != 0),
            your_ip: bytes(b"yourip").and_then(read_ip),
            ipv4: bytes(b"ipv4").and_then(|b| Some(Ipv4Addr::from(<[u8; 4]>::try_from(b).ok()?))),
            ipv6: bytes(b"ipv6").and_then(|b| Some(Ipv6Addr::from(<[u8; 16]>::try_from(b).ok()?))),
            upload_only: int(b"upload_only").map(|n| n != 0),
            metadata_size: int(b"metadata_size").and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0),
        })
    }
}

/// The payload of an [`Extension::UploadOnly`] message.
pub fn encode_upload_only(upload_only: bool) -> Vec<u8> {
    vec![u8::from(upload_only)]
}

/// Reads the payload of an [`Extension::UploadOnly`] message; `None` if it is empty.
pub fn decode_upload_only(payload: &[u8]) -> Option<bool> {
    payload.first().map(|&byte| byte != 0)
}

/// The payload of an [`Extension::DontHave`] message.
pub fn encode_piece(piece: PieceIndex) -> Vec<u8> {
    piece.0.to_be_bytes().to_vec()
}

/// Reads the payload of an [`Extension::DontHave`] message; `None` if it has another length.
pub fn decode_piece(payload: &[u8]) -> Option<PieceIndex> {
    payload.try_into().ok().map(|bytes| PieceIndex(u32::from_be_bytes(bytes)))
}

/// The payload of an [`Extension::WebFetching`] message: the first piece, and how many.
pub fn encode_pieces(pieces: &Range<u32>) -> Vec<u8> {
    [pieces.start, pieces.end - pieces.start].map(u32::to_be_bytes).concat()
}

/// Reads the payload of an [`Extension::WebFetching`] message; `None` if it has another length, or ends beyond all numbers.
pub fn decode_pieces(payload: &[u8]) -> Option<Range<u32>> {
    let (first, count) = payload.split_first_chunk()?;
    let (first, count) = (u32::from_be_bytes(*first), u32::from_be_bytes(count.try_into().ok()?));
    Some(first..first.checked_add(count)?)
}

/// A name that is safe to show: cut to size, without control characters, and without those that turn the
/// direction of the text around them.
fn clean_name(bytes: &[u8]) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|&c| !c.is_control() && !turns(c)).take(CLIENT_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_handshake() -> impl Strategy<Value = ExtensionHandshake> {
        let ids = prop::collection::btree_map(prop::sample::select(&Extension::ALL[..]), any::<u8>(), 0..5);
        let ip =
            prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::from), any::<Ipv6Addr>().prop_map(IpAddr::from)];
        let numbers =
            (prop::option::of(1..=u32::MAX), prop::option::of(1..=u16::MAX), prop::option::of(1..=u32::MAX));
        let ips = (prop::option::of(ip), any::<Option<Ipv4Addr>>(), any::<Option<Ipv6Addr>>());
        let flags = (any::<Option<bool>>(), any::<Option<bool>>());
        (ids, "[ -~µü]{0,64}", numbers, ips, flags).prop_map(
            |(
                ids,
                client,
                (reqq, listen_port, metadata_size),
                (your_ip, ipv4, ipv6),
                (upload_only, prefers_encryption),
            )| {
                ExtensionHandshake {
                    ipv4,
                    ipv6,
                    ids,
                    client,
                    reqq,
                    listen_port,
                    prefers_encryption,
                    your_ip,
                    upload_only,
                    metadata_size,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(sent in any_handshake()) {
            prop_assert_eq!(ExtensionHandshake::decode(&sent.encode()), Ok(sent));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ExtensionHandshake::decode(&bytes);
        }

        #[test]
        fn a_name_is_short_and_harmless(v in prop::collection::vec(any::<u8>(), 0..200)) {
            let name = clean_name(&v);
            prop_assert!(name.chars().count() <= CLIENT_LEN_MAX);
            prop_assert!(name.chars().all(|c| !c.is_control()));
        }
    }

    #[test]
    fn a_handshake_of_libtorrent() {
        let payload = b"d12:complete_agoi17e1:md11:lt_donthavei7e10:share_modei8e11:upload_onlyi3e\
            12:ut_holepunchi4e11:ut_metadatai2e6:ut_pexi1ee13:metadata_sizei1024e4:reqqi500e\
            11:upload_onlyi1e1:v16:libtorrent/2.0.96:yourip4:\x7f\0\0\x01e";
        let got = ExtensionHandshake::decode(payload).unwrap();
        let ids = [
            (Extension::DontHave, 7),
            (Extension::UploadOnly, 3),
            (Extension::Holepunch, 4),
            (Extension::Metadata, 2),
            (Extension::PeerExchange, 1),
        ];
        let expected = ExtensionHandshake {
            ids: ids.into(),
            client: "libtorrent/2.0.9".to_owned(),
            reqq: Some(500),
            listen_port: None,
            prefers_encryption: None,
            your_ip: Some(Ipv4Addr::LOCALHOST.into()),
            ipv4: None,
            ipv6: None,
            upload_only: Some(true),
            metadata_size: Some(1_024),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn fields_that_make_no_sense_count_as_unsaid() {
        let payloads: [&[u8]; 5] = [
            b"de",
            b"le",
            b"d1:mi1e1:p3:abc4:reqqi0e11:upload_only1:x1:vi7e6:yourip3:abce",
            b"d1:md6:ut_pexi256e11:ut_metadata1:1e13:metadata_sizei-5e1:pi65536ee",
            b"d1:p0:13:metadata_sizei20000000000e1:md6:ut_pexi-1eee",
        ];
        for payload in payloads {
            let got = ExtensionHandshake::decode(payload);
            assert_eq!(got, Ok(ExtensionHandshake::default()), "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn a_name_cannot_turn_the_text_around_it() {
        assert_eq!(clean_name("evil\u{202e}\x1b[2J µTorrent".as_bytes()), "evil[2J µTorrent");
    }

    #[test]
    fn what_is_not_bencoded_or_nests_without_end_is_an_error() {
        assert!(ExtensionHandshake::decode(b"").is_err());
        assert!(ExtensionHandshake::decode(b"d1:m").is_err());
        assert!(ExtensionHandshake::decode(&[b'l'; 5_000]).is_err());
        assert!(ExtensionHandshake::decode(&b"i1e".repeat(2_000)).is_err());
    }

    #[test]
    fn ids_are_distinct_and_names_in_order() {
        let ids = Extension::ALL.map(Extension::local_id);
        assert!(ids.is_sorted_by(|a, b| a < b) && ids[0] > EXTENSION_HANDSHAKE_ID);
        assert!(Extension::ALL.is_sorted_by(|a, b| a < b));
        assert!(Extension::ALL.map(Extension::name).is_sorted());
        for extension in Extension::ALL {
            assert_eq!(Extension::from_local_id(extension.local_id()), Some(extension));
        }
        assert_eq!(Extension::from_local_id(99), None);
    }

    #[test]
    fn small_messages_round_trip() {
        assert_eq!(decode_upload_only(&encode_upload_only(true)), Some(true));
        assert_eq!(decode_upload_only(&encode_upload_only(false)), Some(false));
        assert_eq!(decode_upload_only(b""), None);
        assert_eq!(decode_pieces(&encode_pieces(&(3..9))), Some(3..9));
        let no_pieces: [&[u8]; 4] = [b"", &[0; 7], &[0; 9], &[255; 8]];
        assert!(no_pieces.into_iter().all(|payload| decode_pieces(payload).is_none()));
        assert_eq!(decode_piece(&encode_piece(PieceIndex(258))), Some(PieceIndex(258)));
        assert_eq!(decode_piece(&[0; 3]), None);
    }
}
