//! Reading the info dictionary.

use super::entry::{Spelling, UNSIGNED, raw_path, read_attr, read_length, read_link, unsigned};
use super::layers::{self, Hashes};
use super::path::{PathRules, PathTable};
use super::piece_hashes::PieceHashes;
use super::tree::{self, FileTree};
use super::warnings::Warnings;
use super::{FILES_MAX, FileAttr, FileEntry, Format, Info, MetainfoError, PATH_DEPTH_MAX, padding_of};
use crate::bencode::{self, Dict, Limits, List, Value};
use crate::geometry::{BLOCK_LEN, Geometry};
use crate::id::{FileIndex, InfoHash, InfoHashV2};
use bytes::Bytes;
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::borrow::Cow;
use std::collections::BTreeMap;

impl Info {
    /// Reads an info dictionary that came without its metainfo file, as from a peer (BEP 9). The info-hash is
    /// that of these very bytes; comparing it with the wanted one is the caller's part.
    ///
    /// # Errors
    /// When the bytes are not an info dictionary, one that contradicts itself, or one that exceeds a limit.
    pub fn parse(bytes: &[u8]) -> Result<Info, MetainfoError> {
        let document = bencode::parse(bytes, &Limits::default())?;
        let dict = document.root().as_dict().ok_or_else(|| field("info", "a dictionary"))?;
        let spelling = Spelling::of(PathRules::native());
        let mut info = read(dict, bytes, &Bytes::copy_from_slice(bytes), spelling, &mut Warnings::default())?;
        layers::read(&mut info, None, Hashes::Kept)?;
        Ok(info)
    }

    /// The paths in an info dictionary as its maker wrote them, of those files whose names are others here; the torrent's name first.
    /// For servers that have the files under those names.
    pub fn renamed_paths(&self, info_bytes: &[u8]) -> BTreeMap<FileIndex, Vec<Vec<u8>>> {
        let Ok(document) = bencode::parse(info_bytes, &Limits::default()) else { return BTreeMap::new() };
        let Some(dict) = document.root().as_dict() else { return BTreeMap::new() };
        let keys = Keys::of(dict);
        let utf8 = keys.name_utf8.filter(|name| name.as_str().is_some());
        let Some(name) = utf8.or(keys.name).and_then(Value::as_bytes) else { return BTreeMap::new() };
        let lists = keys.files.and_then(Value::as_list);
        let listed = lists.into_iter().flat_map(|list| list.iter()).map(|file| raw_file_path(name, file));
        let raw: Vec<Vec<&[u8]>> = match (self.format(), keys.file_tree) {
            (Format::V2, Some(tree)) => {
                let rules = Spelling::of(PathRules::native());
                let tree = tree::read(tree, &self.name, false, rules, &mut Warnings::default());
                let root = if self.single_file { None } else { Some(name) };
                let files = tree.into_iter().flat_map(|tree| tree.files);
                files.map(|file| root.into_iter().chain(file.raw).collect()).collect()
            }
            _ if self.single_file => vec![vec![name]],
            _ => listed.collect(),
        };
        let all = self.files.iter().zip(raw).zip(0..);
        all.filter(|((file, raw), _)| !file.path.iter().map(String::as_bytes).eq(raw.iter().copied()))
            .map(|((_, raw), index)| (FileIndex(index), raw.into_iter().map(<[u8]>::to_vec).collect()))
            .collect()
    }

    /// The same torrent with names that suit a system of these rules. What is ordinary there keeps its name, and the same
    /// torrent and rules give the same names each time.
    pub fn renamed(&self, rules: PathRules) -> Info {
        let mut info = self.clone();
        info.name = rules.sanitise(self.name.as_bytes());
        for file in &mut info.files {
            let name = |name: &String| rules.sanitise(name.as_bytes());
            file.path = file.path.iter().map(name).collect();
            // Without the torrent's name, as it is when it is read.
            file.symlink_target =
                file.symlink_target.as_ref().map(|path| path[1..].iter().map(name).collect());
        }
        if !info.single_file {
            settle_paths(&mut info.files, rules, &mut Warnings::default());
        }
        info
    }
}

fn field(field: impl Into<String>, expected: &'static str) -> MetainfoError {
    MetainfoError::Field { field: field.into(), expected }
}

/// The keys of an info dictionary that we know, found in one pass.
#[derive(Default)]
struct Keys<'a> {
    attr: Option<Value<'a>>,
    file_tree: Option<Value<'a>>,
    files: Option<Value<'a>>,
    length: Option<Value<'a>>,
    meta_version: Option<Value<'a>>,
    name: Option<Value<'a>>,
    name_utf8: Option<Value<'a>>,
    piece_length: Option<Value<'a>>,
    pieces: Option<Value<'a>>,
    private: Option<Value<'a>>,
    source: Option<Value<'a>>,
}

impl<'a> Keys<'a> {
    fn of(dict: Dict<'a>) -> Keys<'a> {
        let mut keys = Keys::default();
        for (key, value) in dict.iter() {
            let slot = match key {
                b"attr" => &mut keys.attr,
                b"file tree" => &mut keys.file_tree,
                b"files" => &mut keys.files,
                b"length" => &mut keys.length,
                b"meta version" => &mut keys.meta_version,
                b"name" => &mut keys.name,
                b"name.utf-8" => &mut keys.name_utf8,
                b"piece length" => &mut keys.piece_length,
                b"pieces" => &mut keys.pieces,
                b"private" => &mut keys.private,
                b"source" => &mut keys.source,
                _ => continue,
            };
            *slot = Some(value);
        }
        keys
    }

    /// Which versions it is for. A file tree without a version, which nobody writes, is passed over where version 1 is there.
    fn format(&self) -> Result<Format, MetainfoError> {
        let version = self.meta_version.and_then(Value::as_int).unwrap_or(1);
        match (version, self.pieces) {
            (1, _) => Ok(Format::V1),
            (2, None) => Ok(Format::V2),
            (2, Some(_)) => Ok(Format::Hybrid),
            _ => Err(MetainfoError::UnknownVersion(version)),
        }
    }
}

/// Reads the info dictionary `dict`, whose bytes as found are `raw`; `kept` is a copy of them to keep, or nothing if the hashes in it
/// are not to be kept.
pub(super) fn read(
    dict: Dict<'_>,
    raw: &[u8],
    kept: &Bytes,
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Result<Info, MetainfoError> {
    let keys = Keys::of(dict);
    let format = keys.format()?;
    let mut name = read_name(&keys, spelling, warnings)?;
    let tree = match format.has_v2() {
        true => {
            let tree = keys.file_tree.ok_or_else(|| field("info.file tree", "a dictionary"))?;
            Some(tree::read(tree, &name, keys.files.is_some(), spelling, warnings)?)
        }
        false => None,
    };
    let (files, single_file, geometry) = match &tree {
        Some(tree) if !format.has_v1() => read_v2(&keys, tree, &mut name, spelling, warnings)?,
        tree => read_v1(&keys, tree.as_ref(), &name, spelling, warnings)?,
    };
    check_roots(&files)?;
    let info_hash_v2 = format.has_v2().then(|| InfoHashV2(Sha256::digest(raw).into()));
    let info_hash = match info_hash_v2 {
        Some(hash) if !format.has_v1() => hash.truncated(),
        _ => InfoHash(Sha1::digest(raw).into()),
    };
    Ok(Info {
        info_hash,
        info_hash_v2,
        name,
        piece_hashes: match format.has_v1() {
            true => Some(read_pieces(&keys, raw, kept, &geometry)?),
            false => None,
        },
        piece_nodes: None,
        geometry,
        padding: padding_of(&files),
        files,
        single_file,
        private: read_private(&keys, warnings),
        source: keys.source.and_then(|value| warnings.text(value, "info.source")),
    })
}

type Files = (Vec<FileEntry>, bool, Geometry);

/// Reads the files of version 1. Those of a hybrid get the roots of their trees.
fn read_v1(
    keys: &Keys<'_>,
    tree: Option<&FileTree<'_>>,
    name: &str,
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Result<Files, MetainfoError> {
    let (mut files, single_file) = match keys.files {
        Some(list) => {
            let list = list.as_list().ok_or_else(|| field("info.files", "a list"))?;
            let piece_length = keys.piece_length.and_then(unsigned).unwrap_or_default();
            (read_files(list, name, piece_length, spelling, warnings)?, false)
        }
        None => (vec![read_single(keys, name)?], true),
    };
    let total = files.last().map_or(0, |file| file.offset + file.length);
    let geometry = read_geometry(keys, total, warnings)?;
    if let Some(tree) = tree {
        check_v2_piece_len(&geometry)?;
        join_halves(keys, &mut files, single_file, tree, &geometry)?;
    }
    Ok((files, single_file, geometry))
}

/// Reads the files of version 2 alone. A single file's own name is also the torrent's.
fn read_v2(
    keys: &Keys<'_>,
    tree: &FileTree<'_>,
    name: &mut String,
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Result<Files, MetainfoError> {
    let piece_len =
        keys.piece_length.and_then(unsigned).ok_or_else(|| field("info.piece length", UNSIGNED))?;
    let mut files: Vec<FileEntry> = tree.files.iter().map(|file| file.entry.clone()).collect();
    let geometry = Geometry::of_files(files.iter().map(|file| file.length), piece_len)?;
    check_v2_piece_len(&geometry)?;
    let mut offset = 0u64;
    for file in &mut files {
        file.offset = offset;
        offset += file.length.next_multiple_of(piece_len);
    }
    match tree.is_single {
        true => name.clone_from(&files[0].path[0]),
        false => settle_paths(&mut files, spelling.rules, warnings),
    }
    Ok((files, tree.is_single, geometry))
}

fn check_v2_piece_len(geometry: &Geometry) -> Result<(), MetainfoError> {
    let len = geometry.piece_len();
    let is_fine = len.is_power_of_two() && len >= BLOCK_LEN;
    if is_fine { Ok(()) } else { Err(MetainfoError::PieceLengthV2(len)) }
}

/// Checks that both halves of a hybrid describe the same files in the same pieces, and gives the files of the first the roots of the
/// second. There may be padding after the last file or not.
fn join_halves(
    keys: &Keys<'_>,
    files: &mut [FileEntry],
    single_file: bool,
    tree: &FileTree<'_>,
    geometry: &Geometry,
) -> Result<(), MetainfoError> {
    let piece_len = u64::from(geometry.piece_len());
    let raw_name = keys.name_utf8.or(keys.name).and_then(Value::as_bytes).unwrap_or_default();
    let lists = keys.files.and_then(Value::as_list);
    let mut raws = lists.into_iter().flat_map(|list| list.iter()).map(|file| raw_file_path(&[], file));
    let mut of_tree = tree.files.iter();
    let mut pieces = 0;
    for file in files {
        let raw = raws.next().unwrap_or_else(|| vec![&[], raw_name]);
        if file.attr.pad {
            continue;
        }
        let path = file.path.join("/");
        let differs = |why: &str| MetainfoError::HalvesDiffer(format!("{path:?} {why}"));
        let other = of_tree.next().ok_or_else(|| differs("is missing in version 2"))?;
        if raw[1..] != other.raw[..] {
            let name = String::from_utf8_lossy(&other.raw.join(&b'/')).into_owned();
            return Err(differs(&format!("is {name:?} in version 2")));
        }
        if file.length != other.entry.length || file.attr.symlink != other.entry.attr.symlink {
            return Err(differs("has another length or kind in version 2"));
        }
        if file.length > 0 && file.offset != pieces * piece_len {
            return Err(differs("does not begin with a piece"));
        }
        pieces += file.length.div_ceil(piece_len);
        file.pieces_root = other.entry.pieces_root;
    }
    if let Some(other) = of_tree.next() {
        let name = String::from_utf8_lossy(&other.raw.join(&b'/')).into_owned();
        return Err(MetainfoError::HalvesDiffer(format!("{name:?} is missing in version 1")));
    }
    if single_file != tree.is_single {
        return Err(MetainfoError::HalvesDiffer("one is a folder, the other a file".to_owned()));
    }
    if pieces != u64::from(geometry.pieces()) {
        return Err(MetainfoError::HalvesDiffer("version 1 has pieces of padding alone".to_owned()));
    }
    Ok(())
}

/// A root stands for one file, whose length says how many hashes lie below it. Peers are asked for these once for each root.
fn check_roots(files: &[FileEntry]) -> Result<(), MetainfoError> {
    let mut by_root: Vec<&FileEntry> = files.iter().filter(|file| file.pieces_root.is_some()).collect();
    by_root.sort_by_key(|file| file.pieces_root);
    let is_same = |pair: &&[&FileEntry]| pair[0].pieces_root == pair[1].pieces_root;
    match by_root.windows(2).filter(is_same).find(|pair| pair[0].length != pair[1].length) {
        Some(pair) => Err(MetainfoError::SameRoot(pair[0].path.join("/"), pair[1].path.join("/"))),
        None => Ok(()),
    }
}

fn read_name(keys: &Keys<'_>, spelling: Spelling, warnings: &mut Warnings) -> Result<String, MetainfoError> {
    let utf8 = keys.name_utf8.and_then(Value::as_str).map(str::as_bytes);
    let legacy = || Some(spelling.decode(keys.name?.as_bytes()?));
    let raw = utf8.map(Cow::Borrowed).or_else(legacy).ok_or_else(|| field("info.name", "a byte string"))?;
    let name = spelling.rules.sanitise(&raw);
    if name.as_bytes() != &*raw {
        warnings.add(|| format!("the torrent's name \"{}\" becomes {name:?}", raw.escape_ascii()));
    }
    Ok(name)
}

fn read_single(keys: &Keys<'_>, name: &str) -> Result<FileEntry, MetainfoError> {
    let length = keys.length.and_then(unsigned).ok_or_else(|| field("info.length", UNSIGNED))?;
    // One file can be neither padding nor a link to another.
    let attr = FileAttr { pad: false, symlink: false, ..read_attr(keys.attr) };
    Ok(FileEntry {
        path: vec![name.to_owned()],
        length,
        offset: 0,
        attr,
        symlink_target: None,
        pieces_root: None,
    })
}

fn read_geometry(keys: &Keys<'_>, total: u64, warnings: &mut Warnings) -> Result<Geometry, MetainfoError> {
    let length = keys.piece_length.and_then(unsigned).ok_or_else(|| field("info.piece length", UNSIGNED))?;
    let geometry = Geometry::new(total, length)?;
    if !length.is_multiple_of(u64::from(BLOCK_LEN)) {
        warnings.add(|| format!("the piece length {length} is not a multiple of 16 KiB"));
    }
    Ok(geometry)
}

fn read_pieces(
    keys: &Keys<'_>,
    raw: &[u8],
    kept: &Bytes,
    geometry: &Geometry,
) -> Result<PieceHashes, MetainfoError> {
    let pieces =
        keys.pieces.and_then(Value::as_bytes).ok_or_else(|| field("info.pieces", "a byte string"))?;
    if !pieces.len().is_multiple_of(20) {
        return Err(MetainfoError::PiecesLength(pieces.len()));
    }
    let (found, expected) = (pieces.len() / 20, geometry.pieces());
    if found as u64 != u64::from(expected) {
        return Err(MetainfoError::PieceCount { found, expected });
    }
    if kept.is_empty() {
        return Ok(PieceHashes::within(kept, 0..0));
    }
    // Both lie in the same buffer.
    let start = pieces.as_ptr().addr() - raw.as_ptr().addr();
    Ok(PieceHashes::within(kept, start..start + pieces.len()))
}

/// In doubt a torrent is private: a peer address that leaks cannot be taken back.
fn read_private(keys: &Keys<'_>, warnings: &mut Warnings) -> bool {
    let Some(value) = keys.private else { return false };
    value.as_int().map_or_else(
        || {
            warnings.add(|| "`info.private` is not an integer: taken for private".to_owned());
            true
        },
        |int| int != 0,
    )
}

/// Reads all files, and gives each its place below the torrent's folder `name`.
fn read_files(
    list: List<'_>,
    name: &str,
    piece_length: u64,
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Result<Vec<FileEntry>, MetainfoError> {
    let mut files = Vec::new();
    let mut offset = 0u64;
    for (index, value) in list.iter().enumerate() {
        if index == FILES_MAX {
            return Err(MetainfoError::TooManyFiles(list.iter().count()));
        }
        let mut file = read_file(value, index, name, offset, spelling, warnings)?;
        offset = offset.checked_add(file.length).ok_or(MetainfoError::TotalTooLong)?;
        // Padding fills a piece up: what ends elsewhere only has the name.
        let is_plain = !file.attr.symlink && !file.attr.executable;
        let fills_up = offset.checked_rem(piece_length) == Some(0);
        file.attr.pad |= file.has_padding_name() && is_plain && fills_up;
        files.push(file);
    }
    if files.is_empty() {
        return Err(MetainfoError::NoFiles);
    }
    settle_paths(&mut files, spelling.rules, warnings);
    Ok(files)
}

fn read_file(
    value: Value<'_>,
    index: usize,
    name: &str,
    offset: u64,
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Result<FileEntry, MetainfoError> {
    let at = |key| format!("info.files[{index}]{key}");
    let dict = value.as_dict().ok_or_else(|| field(at(""), "a dictionary"))?;
    let (mut attr, mut length, mut path, mut path_utf8, mut symlink_path) = (None, None, None, None, None);
    for (key, value) in dict.iter() {
        match key {
            b"attr" => attr = Some(value),
            b"length" => length = Some(value),
            b"path" => path = value.as_list(),
            b"path.utf-8" => path_utf8 = value.as_list(),
            b"symlink path" => symlink_path = value.as_list(),
            _ => {}
        }
    }
    let attr = read_attr(attr);
    let length = read_length(attr, length).ok_or_else(|| field(at(".length"), UNSIGNED))?;
    let utf8 = path_utf8.filter(|list| list.iter().all(|name| name.as_str().is_some())).and_then(raw_path);
    let raw: Vec<Cow<'_, [u8]>> = match utf8 {
        Some(raw) => raw.map(Cow::Borrowed).collect(),
        None => {
            let raw = path.and_then(raw_path);
            let raw = raw.ok_or_else(|| field(at(".path"), "a list of at least one byte string"))?;
            raw.map(|name| spelling.decode(name)).collect()
        }
    };
    let depth = 1 + raw.len();
    if depth > PATH_DEPTH_MAX {
        return Err(MetainfoError::PathTooDeep(index));
    }
    let mut path = Vec::with_capacity(depth);
    path.push(name.to_owned());
    path.extend(raw.iter().map(|name| spelling.rules.sanitise(name)));
    if !attr.pad && !path[1..].iter().map(String::as_bytes).eq(raw.iter().map(|name| &**name)) {
        warnings.add(|| {
            let raw = raw.join(&b'/');
            format!("file {index}: {:?} becomes {:?}", String::from_utf8_lossy(&raw), path[1..].join("/"))
        });
    }
    let symlink_target = read_link(attr, symlink_path, &path, spelling, warnings);
    Ok(FileEntry { path, length, offset, attr, symlink_target, pieces_root: None })
}

/// The path of a file as it is, below the torrent's name.
fn raw_file_path<'a>(name: &'a [u8], file: Value<'a>) -> Vec<&'a [u8]> {
    let (mut path, mut utf8) = (None, None);
    for (key, value) in file.as_dict().into_iter().flat_map(|dict| dict.iter()) {
        match key {
            b"path" => path = value.as_list(),
            b"path.utf-8" => utf8 = value.as_list(),
            _ => {}
        }
    }
    let components = utf8.or(path).and_then(raw_path).into_iter().flatten();
    std::iter::once(name).chain(components).collect()
}

/// Makes the paths of all files that are written to disk unique, and lets links follow what was renamed.
fn settle_paths(files: &mut [FileEntry], rules: PathRules, warnings: &mut Warnings) {
    let mut table = PathTable::new(rules, files.len());
    let mut renamed: Vec<(usize, Vec<String>)> = Vec::new();
    for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.is_padding_for_sure()) {
        renamed.extend(table.place(&file.path[1..]).map(|path| (index, path)));
    }
    let links: Vec<(usize, Vec<String>)> = files
        .iter()
        .enumerate()
        .filter_map(|(index, file)| Some((index, table.locate(file.symlink_target.as_ref()?))))
        .collect();
    for (index, mut target) in links {
        target.insert(0, files[index].path[0].clone());
        files[index].symlink_target = Some(target);
    }
    for (index, path) in renamed {
        let file = &mut files[index];
        warnings.add(|| {
            let (from, to) = (file.path[1..].join("/"), path.join("/"));
            format!("file {index}: {from:?} is taken, becomes {to:?}")
        });
        file.path.truncate(1);
        file.path.extend(path);
    }
}
