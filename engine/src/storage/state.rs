//! What is known about a torrent's files from one run to the next.
//!
//! A bencoded dictionary inside a bencoded dictionary with its SHA-1, replaced atomically. It holds enough to know which
//! pieces can be trusted and to notice when the files have changed since; a state that is damaged in any way
//! is as good as none.

use super::error::StorageError;
use super::sys::Stamp;
use super::table::Partial;
use super::tree::{Access, Found, Tree};
use crate::hash::sha1;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use swarm_core::bencode::{Document, Limits, parse, write_dict};
use swarm_core::bitfield::Bitfield;
use swarm_core::id::{InfoHash, PieceIndex};
use swarm_core::metainfo::Info;

/// The format. Others are ignored, and everything is checked.
const VERSION: i64 = 1;

/// The largest state that is read, in bytes: more than two million files need.
const STATE_LEN_MAX: u64 = 64 << 20;

/// Bytes of a stamp.
const STAMP_LEN: usize = 24;

/// What is known of one torrent at one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) info_hash: InfoHash,
    /// The journal that goes on from this state has the same number.
    pub(super) generation: u64,
    /// Pieces that are durable, if the files are what they were.
    pub(super) have: Bitfield,
    /// Pieces that were written, but perhaps lost since.
    pub(super) in_doubt: Bitfield,
    /// What each file looked like; `None` for one that may be written, and for what is not there.
    pub(super) stamps: Vec<Option<Stamp>>,
    /// Whether each file's bytes are in the part file.
    pub(super) in_part_file: Vec<bool>,
    /// Whether each file is complete under its final name, if it still looks as it did, even where the pieces at its
    /// edges are not there.
    pub(super) verified: Vec<bool>,
    pub(super) partial: Partial,
    /// Pieces that have rotted, and are to be fetched again.
    pub(super) rotten: Bitfield,
    /// Where a scrub goes on.
    pub(super) scrubbed: PieceIndex,
    /// See [`super::sys::boot_id`].
    pub(super) boot_id: Option<String>,
    /// Whether the download was stopped cleanly.
    pub(super) is_clean: bool,
}

/// What was found where a state should be.
#[derive(Debug)]
// Made once for each torrent that is opened, and taken apart at once.
#[allow(clippy::large_enum_variant)]
pub(super) enum Loaded {
    Nothing,
    /// Something else, or damaged.
    Unusable,
    State(State),
}

impl State {
    /// Nothing is known.
    pub(super) fn new(info: &Info) -> State {
        State {
            info_hash: info.info_hash,
            generation: 0,
            have: Bitfield::empty(info.geometry.pieces()),
            in_doubt: Bitfield::empty(info.geometry.pieces()),
            stamps: vec![None; info.files.len()],
            in_part_file: vec![false; info.files.len()],
            verified: vec![false; info.files.len()],
            partial: Partial::new(),
            rotten: Bitfield::empty(info.geometry.pieces()),
            scrubbed: PieceIndex(0),
            boot_id: None,
            is_clean: true,
        }
    }

    /// Reads what is at `path` below `tree`.
    pub(super) fn load(tree: &Tree, path: &[impl AsRef<str>], info: &Info) -> Result<Loaded, StorageError> {
        if tree.find(path)? == Found::Nothing {
            return Ok(Loaded::Nothing);
        }
        let file = tree.open(path, Access::Read)?;
        let mut bytes = Vec::new();
        let read = file.take(STATE_LEN_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|e| StorageError::io(&tree.path_of(path), "read", e))?;
        if bytes.len() as u64 > STATE_LEN_MAX {
            return Ok(Loaded::Unusable);
        }
        Ok(State::decode(&bytes, info).map_or(Loaded::Unusable, Loaded::State))
    }

    /// Puts the state at `path` below `tree`, in the place of one that may be there, so that at any moment there is
    /// either the old one or the new.
    /// `data` is where the torrent's file or folder is, if the state is not beside it.
    pub(super) fn save(
        &self,
        tree: &Tree,
        folder: &[String],
        name: &str,
        data: Option<&Path>,
    ) -> Result<(), StorageError> {
        let at = |name: &str| folder.iter().cloned().chain([name.to_owned()]).collect::<Vec<String>>();
        let (new, old) = (at(&format!("{name}.new")), at(name));
        tree.remove(&new)?;
        let bytes = self.encode(data);
        let mut file = tree.open(&new, Access::Create)?;
        let written = file.write_all(&bytes).and_then(|()| file.sync_all());
        written.map_err(|e| StorageError::space(&tree.path_of(&new), "write", bytes.len() as u64, e))?;
        tree.rename(&new, &old, true)?;
        tree.sync_dir(folder)
    }

    pub(super) fn encode(&self, data: Option<&Path>) -> Vec<u8> {
        let stamps: Vec<u8> = self.stamps.iter().flat_map(|stamp| stamp_bytes(*stamp)).collect();
        let files = self.in_part_file.iter().zip(&self.verified);
        let files: Vec<u8> = files
            .map(|(&in_part_file, &verified)| u8::from(in_part_file) | u8::from(verified) << 1)
            .collect();
        let boot_id = self.boot_id.as_deref().unwrap_or_default();
        let generation = self.generation.to_le_bytes();
        let body = write_dict(|mut e| {
            e.emit_pair_with(b"boot id", |e| e.emit_bytes(boot_id.as_bytes()))?;
            e.emit_pair(b"clean", i64::from(self.is_clean))?;
            if let Some(data) = data {
                e.emit_pair_with(b"data", |e| e.emit_bytes(data.as_os_str().as_encoded_bytes()))?;
            }
            e.emit_pair_with(b"files", |e| e.emit_bytes(&files))?;
            e.emit_pair_with(b"generation", |e| e.emit_bytes(&generation))?;
            e.emit_pair_with(b"have", |e| e.emit_bytes(&self.have.to_wire()))?;
            e.emit_pair_with(b"in doubt", |e| e.emit_bytes(&self.in_doubt.to_wire()))?;
            e.emit_pair_with(b"info hash", |e| e.emit_bytes(&self.info_hash.0))?;
            if !self.partial.is_empty() {
                e.emit_pair_with(b"partial", |e| e.emit_bytes(&encode_partial(&self.partial)))?;
            }
            if self.rotten.count() > 0 {
                e.emit_pair_with(b"rotten", |e| e.emit_bytes(&self.rotten.to_wire()))?;
            }
            if self.scrubbed.0 > 0 {
                e.emit_pair(b"scrubbed", i64::from(self.scrubbed.0))?;
            }
            e.emit_pair_with(b"stamps", |e| e.emit_bytes(&stamps))?;
            e.emit_pair(b"version", VERSION)
        });
        sealed(&body)
    }

    /// `None` for anything but a state of this format whose sizes fit the torrent, if it is this torrent's.
    pub(super) fn decode(bytes: &[u8], info: &Info) -> Option<State> {
        let outer = parse(bytes, &Limits::default()).ok()?;
        let body = parse(body_of(&outer)?, &Limits::default()).ok()?;
        let int = |key: &[u8]| body.root().get(key)?.as_int();
        let bytes = |key: &[u8]| body.root().get(key)?.as_bytes();
        if int(b"version")? != VERSION {
            return None;
        }
        let info_hash = InfoHash(bytes(b"info hash")?.try_into().ok()?);
        if info_hash != info.info_hash {
            return Some(State { info_hash, ..State::new(info) });
        }
        let pieces = info.geometry.pieces();
        let (stamps, files) = (bytes(b"stamps")?, bytes(b"files")?);
        if stamps.len() != info.files.len() * STAMP_LEN || files.len() != info.files.len() {
            return None;
        }
        Some(State {
            info_hash,
            generation: u64::from_le_bytes(bytes(b"generation")?.try_into().ok()?),
            have: Bitfield::from_wire(bytes(b"have")?, pieces)?,
            in_doubt: Bitfield::from_wire(bytes(b"in doubt")?, pieces)?,
            stamps: stamps.chunks_exact(STAMP_LEN).map(stamp_of_bytes).collect(),
            in_part_file: files.iter().map(|flags| flags & 1 != 0).collect(),
            verified: files.iter().map(|flags| flags & 2 != 0).collect(),
            partial: bytes(b"partial").map_or(Some(Partial::new()), |bytes| decode_partial(bytes, info))?,
            rotten: bytes(b"rotten")
                .map_or(Some(Bitfield::empty(pieces)), |bytes| Bitfield::from_wire(bytes, pieces))?,
            scrubbed: PieceIndex(u32::try_from(int(b"scrubbed").unwrap_or(0)).ok()?),
            boot_id: Some(str::from_utf8(bytes(b"boot id")?).ok()?.to_owned()).filter(|id| !id.is_empty()),
            is_clean: int(b"clean")? != 0,
        })
    }
}

/// The outer dictionary of this body.
pub(super) fn sealed(body: &[u8]) -> Vec<u8> {
    write_dict(|mut e| {
        e.emit_pair_with(b"body", |e| e.emit_bytes(body))?;
        e.emit_pair_with(b"sha1", |e| e.emit_bytes(&sha1([body])))
    })
}

/// What is in the outer dictionary, unless it is damaged.
pub(super) fn body_of<'a>(outer: &'a Document<'_>) -> Option<&'a [u8]> {
    let body = outer.root().get(b"body")?.as_bytes()?;
    (outer.root().get(b"sha1")?.as_bytes()? == sha1([body])).then_some(body)
}

/// Where the data of any torrent is, by the state that these bytes are.
pub(super) fn data_of(bytes: &[u8]) -> Option<PathBuf> {
    let outer = parse(bytes, &Limits::default()).ok()?;
    let body = parse(body_of(&outer)?, &Limits::default()).ok()?;
    let data = body.root().get(b"data")?.as_bytes()?;
    #[cfg(unix)]
    let data: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(data);
    #[cfg(not(unix))]
    let data = str::from_utf8(data).ok()?;
    Some(PathBuf::from(data)).filter(|path| path.is_absolute())
}

/// No stamp is all zeros: a file has an inode or a time.
fn stamp_bytes(stamp: Option<Stamp>) -> [u8; STAMP_LEN] {
    let mut bytes = [0; STAMP_LEN];
    if let Some(stamp) = stamp {
        bytes[..8].copy_from_slice(&stamp.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&stamp.mtime_ns.to_le_bytes());
        bytes[16..].copy_from_slice(&stamp.ino.to_le_bytes());
    }
    bytes
}

/// The number of each piece, how many bytes follow, and the indices of its blocks as bits.
fn encode_partial(partial: &Partial) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (piece, blocks) in partial {
        let mut bits = vec![0_u8; blocks.last().map_or(0, |last| *last as usize / 8 + 1)];
        blocks.iter().for_each(|&block| bits[block as usize / 8] |= 1 << (block % 8));
        bytes.extend_from_slice(&piece.0.to_le_bytes());
        bytes.extend_from_slice(&(bits.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&bits);
    }
    bytes
}

fn decode_partial(mut bytes: &[u8], info: &Info) -> Option<Partial> {
    let mut partial = Partial::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let (piece, (bits, rest)) = (PieceIndex(word(0)), rest.split_at_checked(word(4) as usize)?);
        if !info.geometry.contains(piece) {
            return None;
        }
        let blocks = (0..info.geometry.blocks_in(piece).min(bits.len() as u32 * 8))
            .filter(|block| bits[*block as usize / 8] & 1 << (block % 8) != 0);
        partial.insert(piece, blocks.collect());
        bytes = rest;
    }
    bytes.is_empty().then_some(partial)
}

fn stamp_of_bytes(bytes: &[u8]) -> Option<Stamp> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let stamp = Stamp { len: word(0), mtime_ns: word(8) as i64, ino: word(16) };
    (stamp != Stamp { len: 0, mtime_ns: 0, ino: 0 }).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{Content, info_of};
    use proptest::prelude::*;
    use swarm_core::id::PieceIndex;

    fn info() -> Info {
        info_of("t", 16_384, &[("a", Content::Random(100_000)), ("b", Content::Random(50_000))]).0
    }

    fn sample(info: &Info) -> State {
        let mut state = State::new(info);
        state.have.insert(PieceIndex(2));
        state.in_doubt.insert(PieceIndex(7));
        state.stamps[1] = Some(Stamp { len: 50_000, mtime_ns: -1, ino: u64::MAX });
        state.in_part_file[0] = true;
        state.verified[1] = true;
        state.rotten.insert(PieceIndex(3));
        state.scrubbed = PieceIndex(4);
        state.boot_id = Some("abc".to_owned());
        state.generation = u64::MAX;
        state.is_clean = false;
        state
    }

    #[test]
    fn comes_back_as_it_was() {
        let info = info();
        for state in [State::new(&info), sample(&info)] {
            assert_eq!(State::decode(&state.encode(None), &info), Some(state));
        }
    }

    #[test]
    fn tells_another_torrent_and_refuses_another_shape() {
        let info = info();
        let bytes = sample(&info).encode(Some(Path::new("/a/b")));
        let other = Info { info_hash: InfoHash([9; 20]), ..info.clone() };
        assert_eq!(State::decode(&bytes, &other).unwrap().info_hash, info.info_hash);
        let fewer = Info { files: info.files[..1].to_vec(), ..info };
        assert_eq!(State::decode(&bytes, &fewer), None);
    }

    proptest! {
        #[test]
        fn any_damage_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<bool>()) {
            let info = info();
            let mut bytes = sample(&info).encode(Some(Path::new("/a/b")));
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
            prop_assert_eq!(State::decode(&bytes, &info), None);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(State::decode(&bytes, &info()), None);
        }
    }

    #[test]
    fn is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, info) = (Tree::new(dir.path().to_owned()), info());
        let folder = ["sub".to_owned()];
        tree.make_dir(&folder).unwrap();
        let path = ["sub", "state"];
        assert!(matches!(State::load(&tree, &path, &info), Ok(Loaded::Nothing)));
        for state in [sample(&info), State::new(&info)] {
            state.save(&tree, &folder, "state", None).unwrap();
            assert!(matches!(State::load(&tree, &path, &info), Ok(Loaded::State(s)) if s == state));
        }
        assert_eq!(tree.list(&folder).unwrap(), ["state"]);
        std::fs::write(dir.path().join("sub/state"), b"junk").unwrap();
        assert!(matches!(State::load(&tree, &path, &info), Ok(Loaded::Unusable)));
    }
}
