//! Published examples of what the protocol computes, collected in the folder that `SWARM_CORPORA` names. Without it these
//! tests have nothing to do, and say so.

use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use swarm_core::id::InfoHash;
use swarm_core::merkle;
use swarm_core::metainfo::decode_base32;
use swarm_core::mse::Cipher;
use swarm_core::net::peer_priority;
use swarm_core::tracker::announce::AnnounceRequest;
use swarm_core::wire::extension::{EXTENSION_HANDSHAKE_ID, Extension, ExtensionHandshake};
use swarm_core::wire::fast::allowed_fast_set;
use swarm_core::wire::{DecodeLimits, Decoded, Message, decode};
use swarm_engine::hash::lanes::{Algorithm as _, Sha256Lanes, hash_many};
use swarm_engine::hash::sha1;

/// Those of the DHT are tested beside it, in the core.
const TESTED: [&str; 11] = [
    "base32",
    "bep40_priority",
    "bep42",
    "bep44",
    "bep5_packets",
    "bep6_allowed_fast",
    "merkle",
    "querystring",
    "rc4",
    "sha1",
    "sha256",
];

fn corpora() -> Option<PathBuf> {
    let folder = std::env::var_os("SWARM_CORPORA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: SWARM_CORPORA names no folder with examples");
    }
    folder
}

fn tables() -> Option<Value> {
    let path = corpora()?.join("vectors.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(serde_json::from_str(&text).expect("vectors.json is JSON"))
}

fn cases(table: &str) -> Vec<Value> {
    let Some(tables) = tables() else { return Vec::new() };
    let cases = tables[table]["cases"].as_array().cloned().unwrap_or_default();
    assert!(!cases.is_empty(), "{table} has no cases");
    cases
}

fn hex(value: &Value) -> [u8; 20] {
    decode_hex(value.as_str().expect("digits")).try_into().expect("20 bytes")
}

fn decode_hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

#[test]
fn every_table_is_tested() {
    let Some(tables) = tables() else { return };
    for name in tables.as_object().expect("tables by name").keys() {
        assert!(TESTED.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn sha1_digests() {
    for case in cases("sha1") {
        let part = case["s"].as_str().expect("text").as_bytes();
        let times = case["n"].as_u64().expect("a number") as usize;
        assert_eq!(sha1(std::iter::repeat_n(part, times)), hex(&case["h"]), "{case}");
    }
}

#[test]
fn sha256_digests() {
    for case in cases("sha256") {
        let part = match case["s"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => decode_hex(case["hex"].as_str().expect("digits")),
        };
        let bytes = part.repeat(case["n"].as_u64().expect("a number") as usize);
        let digest = Sha256Lanes::choice();
        let digests = hash_many::<Sha256Lanes>(digest, &[vec![&bytes[..]]]);
        assert_eq!(digests[0][..], decode_hex(case["h"].as_str().expect("digits")), "{case}");
        assert_eq!(merkle::leaf(&bytes), digests[0]);
    }
}

/// The roots of files' hash trees.
#[test]
fn pieces_roots() {
    for case in cases("merkle") {
        let len = case["length"].as_u64().expect("a number");
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let leaves: Vec<merkle::Node> = bytes.chunks(16_384).map(merkle::leaf).collect();
        let root = merkle::root(&leaves, 0, merkle::Tree::new(len, 16_384).height());
        assert_eq!(root[..], decode_hex(case["root"].as_str().expect("digits")), "{case}");
    }
}

/// The keystream from where encrypted connections begin.
#[test]
fn rc4_keystreams() {
    for case in cases("rc4") {
        let bytes = |key: &str| decode_hex(case[key].as_str().expect("digits"));
        let mut keystream = vec![0; 4096 - 1024 + 16];
        Cipher::new(&bytes("key")).apply(&mut keystream);
        assert_eq!(keystream[..16], bytes("at1024"), "{case}");
        assert_eq!(keystream[4096 - 1024..], bytes("at4096"), "{case}");
    }
}

#[test]
fn base_32() {
    for case in cases("base32") {
        let text = |i: usize| case[i].as_str().expect("text");
        assert_eq!(decode_base32(text(0)).as_deref(), Some(text(1).as_bytes()), "{case}");
    }
}

#[test]
fn allowed_fast_sets() {
    for case in cases("bep6_allowed_fast") {
        let ip = case["ip"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
        let [pieces, count] = ["pieces", "k"].map(|key| case[key].as_u64().expect("a number") as u32);
        let set = allowed_fast_set(ip, InfoHash(hex(&case["infohash"])), pieces, count as usize);
        let set: Vec<u64> = set.iter().map(|piece| piece.0.into()).collect();
        let expected: Vec<u64> =
            case["set"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
        assert_eq!(set.len(), expected.len(), "{case}");
        assert!(expected.iter().all(|piece| set.contains(piece)), "{case}: {set:?}");
    }
}

#[test]
fn priorities_of_peers() {
    for case in cases("bep40_priority") {
        let [a, b] = ["a", "b"].map(|key| {
            let ip = case[key].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
            SocketAddr::new(ip, 6881)
        });
        let priority = case["crc"].as_str().and_then(|crc| u32::from_str_radix(crc, 16).ok());
        assert_eq!(Some(peer_priority(a, b)), priority, "{case}");
    }
}

#[test]
fn info_hashes_in_announces() {
    for case in cases("querystring") {
        let info_hash = case["encoded_one_form"].as_str().expect("a query");
        let query = format!("{info_hash}&peer_id=abcdefghijklmnopqrst&port=1");
        let request = AnnounceRequest::parse_query(query.as_bytes()).expect("an announce");
        assert_eq!(request.info_hash.0, hex(&case["info_hash"]), "{case}");
        // More may be percent-encoded than has to be, so ours is compared by what it means.
        let ours = AnnounceRequest::parse_query(request.to_query().as_bytes()).expect("an announce");
        assert_eq!(ours.info_hash, request.info_hash);
    }
}

#[test]
fn a_captured_extension_handshake() {
    let Some(folder) = corpora() else { return };
    let bytes = fs::read(folder.join("wire/extended-handshake.bin")).expect("the capture");
    let decoded = decode(&bytes, &DecodeLimits::default()).expect("a message");
    let Some((Decoded::Message(Message::Extended { id: EXTENSION_HANDSHAKE_ID, payload }), _)) = decoded
    else {
        panic!("{decoded:?}");
    };
    let hello = ExtensionHandshake::decode(&payload).expect("bencoded");
    assert_eq!(hello.client, "qBittorrent/4.4.0alpha1");
    assert_eq!((hello.reqq, hello.metadata_size), (Some(500), Some(138_876)));
    let ids = [Extension::DontHave, Extension::UploadOnly, Extension::Metadata, Extension::PeerExchange];
    assert_eq!(ids.map(|extension| hello.ids.get(&extension).copied()), [7, 3, 2, 1].map(Some));
}
