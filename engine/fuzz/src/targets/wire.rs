//! What peers say to each other.

use crate::Target;
use crate::input::Input;
use crate::memory::bounded;
use std::net::SocketAddr;
use swarm_core::id::{BlockRef, InfoHash, PeerId, PieceIndex};
use swarm_core::merkle::HashRange;
use swarm_core::wire::decode::message_len;
use swarm_core::wire::exchange::EXCHANGED_MAX;
use swarm_core::wire::extension::{
    Extension, ExtensionHandshake, decode_piece, decode_pieces, decode_upload_only, encode_piece,
    encode_pieces, encode_upload_only,
};
use swarm_core::wire::holepunch::{Holepunch, HolepunchError};
use swarm_core::wire::message::Hashes;
use swarm_core::wire::{
    DecodeLimits, Decoded, HANDSHAKE_LEN, Handshake, Message, MetadataMessage, PeerExchange, PeerFlags,
    Reserved, client_name, decode, piece_header,
};

pub(super) const MESSAGES: Target = Target { name: "messages", run: messages, seeds: streams, runs: 100_000 };
pub(super) const HANDSHAKE: Target =
    Target { name: "handshake", run: handshake, seeds: handshakes, runs: 50_000 };
pub(super) const EXTENSIONS: Target =
    Target { name: "extensions", run: extensions, seeds: extension_payloads, runs: 100_000 };

/// The first byte says which limits there are; the rest is a stream.
fn messages(input: &[u8]) {
    let mut input = Input(input);
    let limits = match input.below(4) {
        0 => DecodeLimits::default(),
        1 => DecodeLimits::for_pieces(20),
        2 => DecodeLimits::for_pieces(20).with_hashes(512),
        _ => DecodeLimits::default().with_hashes(16),
    };
    let mut stream = input.0;
    loop {
        check_cuts(stream, &limits);
        let decoded = bounded(stream.len(), 3, || decode(stream, &limits));
        let Ok(Some((decoded, len))) = decoded else { break };
        let mut again = Vec::new();
        let skipped = match &decoded {
            Decoded::Message(message) => {
                message.encode(&mut again);
                assert_eq!(message.encoded_len(), len);
                0
            }
            Decoded::Block(block) => {
                again.extend_from_slice(&piece_header(*block));
                block.len as usize
            }
        };
        assert_eq!(again, stream[..len], "{decoded:?}");
        stream = stream.get(len + skipped..).unwrap_or_default();
    }
}

/// However much of it has come: a message comes when it is whole, an error stays, and how long the message will be is known before.
fn check_cuts(stream: &[u8], limits: &DecodeLimits) {
    let whole = decode(stream, limits);
    let end = match &whole {
        Ok(Some((_, len))) => *len,
        _ => stream.len(),
    };
    let mut failed = None;
    // All of them in short messages, and a part of those in long ones.
    for cut in (0..end).filter(|cut| *cut < 100 || end - cut < 10) {
        match decode(&stream[..cut], limits) {
            Ok(None) => {
                assert_eq!(failed, None, "{cut}: an error has gone away");
                if let (Some(len), Ok(Some(_))) = (message_len(&stream[..cut]), &whole) {
                    assert_eq!(len, end);
                }
            }
            Ok(Some(_)) => panic!("{cut}: more of it comes"),
            Err(error) => {
                assert_eq!(Err(error), whole, "{cut}");
                failed = Some(error);
            }
        }
    }
}

fn streams() -> Vec<Vec<u8>> {
    let block = BlockRef { piece: PieceIndex(3), begin: 16_384, len: 16_384 };
    let range = HashRange { pieces_root: [7; 32], base_layer: 0, index: 4, length: 2, proof_layers: 3 };
    let extended = |payload: Vec<u8>| Message::Extended { id: 1, payload };
    let all = [
        Message::KeepAlive,
        Message::Choke,
        Message::Have(PieceIndex(7)),
        Message::Bitfield(vec![1, 2, 3]),
        Message::Request(block),
        Message::Cancel(block),
        Message::Port(6881),
        Message::HaveAll,
        Message::Reject(block),
        Message::AllowedFast(PieceIndex(1)),
        extended(b"d1:md11:ut_metadatai3eee".to_vec()),
        Message::HashRequest(Box::new(range)),
        Message::Hashes(Box::new(Hashes { range, hashes: vec![[1; 32]; 4] })),
        Message::HashReject(Box::new(range)),
    ];
    let mut stream = Vec::new();
    all.iter().for_each(|message| message.encode(&mut stream));
    let mut with_block = piece_header(BlockRef { len: 5, ..block }).to_vec();
    with_block.extend_from_slice(b"block\0\0\0\x01\x02");
    let with_limits = |limits: u8, stream: &[u8]| [&[limits], stream].concat();
    (0..4).flat_map(|limits| [with_limits(limits, &stream), with_limits(limits, &with_block)]).collect()
}

/// The info-hash is there before the peer id, and nothing changes with what follows.
fn handshake(input: &[u8]) {
    let whole = Handshake::decode(input);
    for cut in 0..input.len().min(HANDSHAKE_LEN + 2) {
        let part = Handshake::decode(&input[..cut]);
        match (part, whole) {
            (Ok(None), _) => assert!(cut < HANDSHAKE_LEN),
            (part, whole) => assert_eq!(part, whole, "{cut}"),
        }
        let front = Handshake::decode_front(&input[..cut]);
        assert_eq!(
            front.map(|front| front.map(|(hash, _)| hash)),
            Handshake::decode_info_hash(&input[..cut])
        );
    }
    if let Ok(Some(handshake)) = whole {
        assert_eq!(handshake.encode(), input[..HANDSHAKE_LEN]);
        assert!(!client_name(&handshake.peer_id).contains(char::is_control));
    }
}

fn handshakes() -> Vec<Vec<u8>> {
    let reserved = Reserved::FAST | Reserved::EXTENSION | Reserved::V2;
    let of =
        |id: &[u8; 20]| Handshake { reserved, info_hash: InfoHash([7; 20]), peer_id: PeerId(*id) }.encode();
    let ids = [b"-SW0100-abcdefghijkl", b"M7-2-2--\0\0\0\0\0\0\0\0\0\0\0\0", b"exbc\x08\x01abcdabcdabcdab"];
    ids.map(|id| of(id).to_vec()).to_vec()
}

/// The same bytes as each kind of extension message.
fn extensions(input: &[u8]) {
    if let Ok(hello) = bounded(input.len(), 32, || ExtensionHandshake::decode(input)) {
        assert!(
            !hello.client.contains(char::is_control) && hello.reqq != Some(0) && hello.listen_port != Some(0)
        );
        assert_eq!(ExtensionHandshake::decode(&hello.encode()), Ok(hello));
    }
    if let Ok(Some(message)) = bounded(input.len(), 32, || MetadataMessage::decode(input)) {
        assert_eq!(MetadataMessage::decode(&message.encode()), Ok(Some(message)));
    }
    if let Ok(exchange) = bounded(input.len(), 32, || PeerExchange::decode(input)) {
        assert!(exchange.added.len().max(exchange.dropped.len()) <= EXCHANGED_MAX);
        let again = PeerExchange::decode(&exchange.encode()).expect("what we write");
        // Those of IPv4 go first.
        let mut sorted = exchange;
        sorted.added.sort_by_key(|(addr, _)| addr.is_ipv6());
        sorted.dropped.sort_by_key(SocketAddr::is_ipv6);
        assert_eq!(again, sorted);
    }
    if let Some(holepunch) = Holepunch::decode(input) {
        assert_eq!(Holepunch::decode(&holepunch.encode()), Some(holepunch));
    }
    if let Some(piece) = decode_piece(input) {
        assert_eq!(encode_piece(piece), input);
    }
    if let Some(pieces) = decode_pieces(input) {
        assert_eq!(encode_pieces(&pieces), input);
    }
    if let Some(upload_only) = decode_upload_only(input) {
        assert_eq!(decode_upload_only(&encode_upload_only(upload_only)), Some(upload_only));
    }
}

fn extension_payloads() -> Vec<Vec<u8>> {
    let addrs: [SocketAddr; 2] = [([1, 2, 3, 4], 5).into(), ([7u16; 8], 6).into()];
    let hello = ExtensionHandshake {
        ids: Extension::ALL.map(|extension| (extension, 3)).into(),
        client: "Client 1.0".to_owned(),
        reqq: Some(500),
        listen_port: Some(6881),
        prefers_encryption: Some(true),
        your_ip: Some([9, 8, 7, 6].into()),
        ipv4: Some([1, 1, 1, 1].into()),
        ipv6: Some([2u16; 8].into()),
        upload_only: Some(false),
        metadata_size: Some(31_235),
    };
    let exchange =
        PeerExchange { added: addrs.map(|addr| (addr, PeerFlags::SEED)).to_vec(), dropped: addrs.to_vec() };
    vec![
        hello.encode(),
        exchange.encode(),
        MetadataMessage::Request(1).encode(),
        MetadataMessage::Data { piece: 0, total_size: 4, bytes: b"abcd" }.encode(),
        MetadataMessage::Reject(2).encode(),
        Holepunch::Rendezvous(addrs[0]).encode(),
        Holepunch::Connect(addrs[1]).encode(),
        Holepunch::Error(addrs[0], HolepunchError::NotConnected).encode(),
        encode_piece(PieceIndex(9)),
        encode_pieces(&(3..7)),
        encode_upload_only(true),
    ]
}
