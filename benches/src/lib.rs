//! What the benchmarks share: made-up torrents of a given size.

use swarm_core::metainfo::{Content, Create, Hashes, SourceFile};

/// A metainfo file of this many pieces and files, with hashes of nothing in particular.
///
/// # Panics
/// If no torrent can have these numbers.
pub fn metainfo(pieces: u32, files: u32) -> Vec<u8> {
    let piece_length = 1 << 20;
    let total = u64::from(pieces) * u64::from(piece_length);
    let each = total / u64::from(files);
    let file = |i: u32| SourceFile {
        path: vec![format!("folder {}", i % 97), format!("file {i:06}.bin")],
        length: if i == 0 { total - each * u64::from(files - 1) } else { each },
        attr: Default::default(),
        symlink_target: None,
    };
    let create =
        Create::new("made up".to_owned(), Content::Folder((0..files).map(file).collect()), piece_length);
    create.encode(Hashes::v1(&vec![7; pieces as usize * 20])).expect("a valid torrent")
}
