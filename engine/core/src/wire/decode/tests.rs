use super::*;
use crate::wire::piece_header;
use proptest::prelude::*;

fn any_block() -> impl Strategy<Value = BlockRef> {
    any::<(u32, u32, u32)>().prop_map(|(piece, begin, len)| BlockRef { piece: PieceIndex(piece), begin, len })
}

fn any_range() -> impl Strategy<Value = HashRange> {
    any::<(Node, u32, u32, u32, u32)>().prop_map(|(pieces_root, base_layer, index, length, proof_layers)| {
        HashRange { pieces_root, base_layer, index, length, proof_layers }
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let piece = any::<u32>().prop_map(PieceIndex);
    prop_oneof![
        Just(Message::KeepAlive),
        Just(Message::Choke),
        Just(Message::Unchoke),
        Just(Message::Interested),
        Just(Message::NotInterested),
        piece.clone().prop_map(Message::Have),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Message::Bitfield),
        any_block().prop_map(Message::Request),
        any_block().prop_map(Message::Cancel),
        any::<u16>().prop_map(Message::Port),
        piece.clone().prop_map(Message::Suggest),
        Just(Message::HaveAll),
        Just(Message::HaveNone),
        any_block().prop_map(Message::Reject),
        piece.prop_map(Message::AllowedFast),
        any_range().prop_map(|range| Message::HashRequest(Box::new(range))),
        any_range().prop_map(|range| Message::HashReject(Box::new(range))),
        (any_range(), prop::collection::vec(any::<Node>(), 1..20))
            .prop_map(|(range, hashes)| Message::Hashes(Box::new(Hashes { range, hashes }))),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(id, payload)| Message::Extended { id, payload }),
    ]
}

fn any_decoded() -> impl Strategy<Value = Decoded> {
    let block = any_block().prop_map(|b| BlockRef { len: 1 + b.len % BLOCK_LEN_MAX, ..b });
    prop_oneof![4 => any_message().prop_map(Decoded::Message), 1 => block.prop_map(Decoded::Block)]
}

fn encode(decoded: &Decoded) -> Vec<u8> {
    let mut out = Vec::new();
    match decoded {
        Decoded::Message(message) => message.encode(&mut out),
        Decoded::Block(block) => out.extend_from_slice(&piece_header(*block)),
    }
    out
}

/// Bytes that look like messages more often than noise does: a small length, an id, a body.
fn message_like() -> impl Strategy<Value = Vec<u8>> {
    (0u32..40, any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(len, id, body)| {
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.push(id % 24);
        bytes.extend(body);
        bytes
    })
}

fn header(len: u32, id: u8) -> [u8; 5] {
    let [a, b, c, d] = len.to_be_bytes();
    [a, b, c, d, id]
}

const UNKNOWN: DecodeLimits = DecodeLimits { bitfield_len: None, hashes: Some(512) };
/// Of a torrent of version 1.
const V1: DecodeLimits = DecodeLimits { bitfield_len: None, hashes: None };

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(sent in any_decoded(), after in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut bytes = encode(&sent);
        let len = bytes.len();
        bytes.extend(after);
        prop_assert_eq!(decode(&bytes, &UNKNOWN), Ok(Some((sent, len))));
    }

    #[test]
    fn byte_by_byte_equals_at_once(sent in prop::collection::vec(any_message(), 0..20)) {
        let stream: Vec<u8> = sent.iter().flat_map(|m| encode(&Decoded::Message(m.clone()))).collect();
        let (mut buf, mut received) = (Vec::new(), Vec::new());
        for byte in stream {
            buf.push(byte);
            if let Some((message, used)) = decode(&buf, &UNKNOWN).unwrap() {
                // Nothing was waiting: a message comes with its last byte, not later.
                prop_assert_eq!(used, buf.len());
                buf.clear();
                received.push(message);
            }
        }
        prop_assert!(buf.is_empty());
        prop_assert!(received.into_iter().eq(sent.into_iter().map(Decoded::Message)));
    }

    #[test]
    fn nothing_panics_or_takes_more_than_there_is(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), message_like()],
        bitfield_len in prop::option::of(any::<u32>()),
        hashes in prop::option::of(any::<u32>()),
    ) {
        if let Ok(Some((decoded, used))) = decode(&bytes, &DecodeLimits { bitfield_len, hashes }) {
            prop_assert!(used <= bytes.len());
            prop_assert_eq!(encode(&decoded), &bytes[..used]);
        }
    }

    #[test]
    fn a_refusal_needs_five_bytes_and_stays(bytes in message_like()) {
        let whole = decode(&bytes, &UNKNOWN);
        let head = decode(&bytes[..5], &UNKNOWN);
        prop_assert_eq!(whole.clone().err(), head.err());
    }
}

#[test]
fn every_kind_has_its_limit() {
    let refused = |len, id| decode(&header(len, id), &UNKNOWN).unwrap_err();
    let accepted = |len, id| assert_eq!(decode(&header(len, id), &UNKNOWN), Ok(None));
    assert_eq!(refused(2, id::CHOKE), WireError::BadLength { message: "choke", len: 2 });
    assert_eq!(refused(4, id::HAVE), WireError::BadLength { message: "have", len: 4 });
    assert_eq!(refused(14, id::REQUEST), WireError::BadLength { message: "request", len: 14 });

    accepted(9 + BLOCK_LEN_MAX, id::PIECE);
    let overlong = WireError::TooLong { message: "piece", len: 10 + BLOCK_LEN_MAX, max: 9 + BLOCK_LEN_MAX };
    assert_eq!(refused(10 + BLOCK_LEN_MAX, id::PIECE), overlong);
    assert_eq!(refused(9, id::PIECE), WireError::BadLength { message: "piece", len: 9 });

    accepted(2 + EXTENDED_LEN_MAX, id::EXTENDED);
    assert!(matches!(refused(3 + EXTENDED_LEN_MAX, id::EXTENDED), WireError::TooLong { .. }));
    assert!(matches!(refused(1, id::EXTENDED), WireError::BadLength { .. }));

    accepted(1 + BITFIELD_LEN_MAX, id::BITFIELD);
    assert_eq!(refused(20, 19), WireError::UnknownMessage { id: 19 });
    for id in [id::HASH_REQUEST, id::HASHES, id::HASH_REJECT] {
        assert_eq!(decode(&header(81, id), &V1), Err(WireError::UnknownMessage { id }), "version 1");
    }
    assert_eq!(refused(48, id::HASH_REQUEST), WireError::BadLength { message: "hash request", len: 48 });
    assert_eq!(refused(50, id::HASH_REJECT), WireError::BadLength { message: "hash reject", len: 50 });
}

#[test]
fn a_length_beyond_every_limit_is_refused_before_the_id() {
    let error = decode(&[0xff; 4], &UNKNOWN).unwrap_err();
    assert_eq!(error.to_string(), "message of 4294967295 bytes is longer than 524289");
    assert!(decode(&(MESSAGE_LEN_MAX + 1).to_be_bytes(), &UNKNOWN).is_err());
    // A torrent so large that its own bitfield is longer must still work.
    let large = DecodeLimits::for_pieces(u32::MAX);
    assert_eq!(decode(&header(1 + (1 << 29), id::BITFIELD), &large), Ok(None));
}

#[test]
fn a_bitfield_has_the_length_of_its_torrent() {
    let limits = DecodeLimits::for_pieces(17);
    let bitfield = |bytes: &[u8]| {
        let mut out = Vec::new();
        Message::Bitfield(bytes.to_vec()).encode(&mut out);
        decode(&out[..5], &limits)
    };
    assert_eq!(bitfield(&[0; 3]), Ok(None));
    assert_eq!(bitfield(&[0; 2]), Err(WireError::BadLength { message: "bitfield", len: 3 }));
    assert_eq!(bitfield(&[0; 4]), Err(WireError::BadLength { message: "bitfield", len: 5 }));
}

#[test]
fn a_block_is_its_header_alone() {
    let block = BlockRef { piece: PieceIndex(7), begin: 32_768, len: 16_384 };
    let mut out = Vec::new();
    out.extend_from_slice(&piece_header(block));
    assert_eq!(out, [0, 0, 0x40, 9, 7, 0, 0, 0, 7, 0, 0, 0x80, 0]);
    assert_eq!(decode(&out[..12], &UNKNOWN), Ok(None));
    assert_eq!(decode(&out, &UNKNOWN), Ok(Some((Decoded::Block(block), PIECE_HEADER_LEN))));
}

#[test]
fn known_bytes_of_each_form() {
    let bytes = |m: Message| encode(&Decoded::Message(m));
    assert_eq!(bytes(Message::KeepAlive), [0, 0, 0, 0]);
    assert_eq!(bytes(Message::Unchoke), [0, 0, 0, 1, 1]);
    assert_eq!(bytes(Message::Have(PieceIndex(258))), [0, 0, 0, 5, 4, 0, 0, 1, 2]);
    assert_eq!(bytes(Message::Port(6881)), [0, 0, 0, 3, 9, 0x1a, 0xe1]);
    assert_eq!(bytes(Message::Bitfield(vec![0xf0])), [0, 0, 0, 2, 5, 0xf0]);
    assert_eq!(bytes(Message::Extended { id: 3, payload: b"de".to_vec() }), [0, 0, 0, 4, 20, 3, b'd', b'e']);
}

#[test]
fn hashes_are_as_many_as_may_be_asked_for() {
    let longest = 49 + 32 * (512 + 32);
    let of = |len| decode(&header(len, id::HASHES), &UNKNOWN);
    assert_eq!(of(longest), Ok(None));
    assert_eq!(
        of(longest + 32),
        Err(WireError::TooLong { message: "hashes", len: longest + 32, max: longest })
    );
    for len in [1, 49, 80, 82, longest - 1] {
        assert_eq!(of(len), Err(WireError::BadLength { message: "hashes", len }), "{len}");
    }
    let all = DecodeLimits { hashes: Some(u32::MAX), ..UNKNOWN };
    assert_eq!(decode(&header(49 + 32 * (HASHES_MAX + 32), id::HASHES), &all), Ok(None));
    assert!(decode(&header(49 + 32 * (HASHES_MAX + 33), id::HASHES), &all).is_err());
    let small = DecodeLimits::for_pieces(8).with_hashes(HASHES_MAX);
    assert_eq!(decode(&header(49 + 32 * (HASHES_MAX + 32), id::HASHES), &small), Ok(None));
}
