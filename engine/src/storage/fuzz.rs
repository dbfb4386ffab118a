//! What fuzz targets give to the readers of states and journals, whose checksums fit whatever the bytes are.

use super::journal::{BODY_LEN, check_of, header, replay};
use super::state::{State, body_of, data_of, sealed};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;
use swarm_core::bencode::{Limits, parse};
use swarm_core::id::PieceIndex;
use swarm_core::metainfo::{Content, Create, Hashes, Info, Metainfo, SourceFile};

const PIECES: u32 = 10;

static INFO: LazyLock<Info> = LazyLock::new(|| {
    let file =
        |name: &str, length| SourceFile { path: vec![name.to_owned()], length, ..SourceFile::default() };
    let files = vec![file("a", 100_000), file("b", 50_000), file("c", 0)];
    let create = Create::new("t".to_owned(), Content::Folder(files), 16_384);
    let bytes = create.encode(Hashes::v1(&[7; 20 * PIECES as usize])).expect("a torrent");
    (*Metainfo::parse(&bytes).expect("a torrent").info).clone()
});

/// Bodies of states.
pub fn states() -> Vec<Vec<u8>> {
    let mut some = State::new(&INFO);
    some.have.insert(PieceIndex(2));
    some.in_doubt.insert(PieceIndex(7));
    some.partial.insert(PieceIndex(3), [0].into_iter().collect());
    some.boot_id = Some("boot".to_owned());
    let body = |state: &State| {
        let bytes = state.encode(Some(Path::new("/a")));
        let outer = parse(&bytes, &Limits::default()).expect("what we write");
        body_of(&outer).expect("what we write").to_vec()
    };
    vec![body(&State::new(&INFO)), body(&some)]
}

/// Reads a state of this body: it is written as one that says the same.
pub fn state(body: &[u8]) {
    data_of(&sealed(body));
    if let Some(state) = State::decode(&sealed(body), &INFO) {
        assert_eq!(State::decode(&state.encode(None), &INFO), Some(state));
    }
}

/// Reads a journal of these records: a piece is durable, written or in doubt, and no two of these.
pub fn journal(bodies: &[u8]) {
    let (record, mut check) = header(INFO.info_hash, 7);
    let mut bytes = record.to_vec();
    for body in bodies.chunks_exact(BODY_LEN) {
        check = check_of(&check, body);
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&check);
    }
    let files: Vec<u64> = INFO.files.iter().map(|file| file.length).collect();
    let replay = replay(&bytes[..], INFO.info_hash, 7, PIECES, &files);
    let unmarked = replay.unmarked.keys().copied();
    let pieces = replay.marked.iter().chain(unmarked).chain(replay.doubted.iter().copied());
    let mut seen = BTreeSet::new();
    pieces.for_each(|piece| assert!(piece.0 < PIECES && seen.insert(piece), "{piece:?}"));
    assert!(replay.stamps.keys().all(|file| file.idx() < files.len()));
}
