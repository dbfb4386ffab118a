//! Reading the info dictionary.

use super::path::{PathRules, PathTable};
use super::piece_hashes::PieceHashes;
use super::warnings::Warnings;
use super::{FILES_MAX, FileAttr, FileEntry, Info, MetainfoError, PATH_DEPTH_MAX, padding_of};
use crate::bencode::{self, Dict, Limits, List, Value};
use crate::geometry::{BLOCK_LEN, Geometry};
use crate::id::{FileIndex, InfoHash};
use encoding_rs::Encoding;
use sha1::{Digest, Sha1};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Info {
    /// Reads an info dictionary that came without its metainfo file, as from a peer (BEP 9). The info-hash is
    /// that of these very bytes; comparing it with the wanted one is the caller's part.
    ///
    /// # Errors
    /// When the bytes are not an info dictionary, one that contradicts itself, or one that exceeds a limit.
    pub fn parse(bytes: &[u8]) -> Result<Info, MetainfoError> {
        let document = bencode::parse(bytes, &Limits::default())?;
        let dict = document.root().as_dict().ok_or_else(|| field("info", "a dictionary"))?;
        read(dict, bytes, &bytes.into(), Spelling::of(PathRules::native()), &mut Warnings::default())
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
        let raw = lists.into_iter().flat_map(|list| list.iter()).map(|file| raw_file_path(name, file));
        let raw: Vec<Vec<&[u8]>> = match self.single_file {
            true => vec![vec![name]],
            false => raw.collect(),
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

/// How a torrent's names are read.
#[derive(Clone, Copy)]
pub(super) struct Spelling {
    rules: PathRules,
    /// Of names that are not UTF-8, as files from before that was the rule say.
    encoding: Option<&'static Encoding>,
}

impl Spelling {
    /// Names in UTF-8 that suit these rules.
    pub(super) fn of(rules: PathRules) -> Spelling {
        Spelling { rules, encoding: None }
    }

    /// Names in the encoding that a metainfo file's `encoding` says, if it is one.
    pub(super) fn with_encoding(self, label: Option<&[u8]>) -> Spelling {
        // "CP936" and its like are no labels of the standard that browsers follow.
        let of_page = |number: &[u8]| match number {
            b"932" => Some(encoding_rs::SHIFT_JIS),
            b"936" => Some(encoding_rs::GBK),
            b"949" => Some(encoding_rs::EUC_KR),
            b"950" => Some(encoding_rs::BIG5),
            number => Encoding::for_label(&[b"windows-", number].concat()),
        };
        let encoding = label.and_then(|label| {
            let upper = label.to_ascii_uppercase();
            let page = upper.strip_prefix(b"CP").or_else(|| upper.strip_prefix(b"MS"));
            Encoding::for_label(label).or_else(|| of_page(page?))
        });
        Spelling { encoding: encoding.filter(|&encoding| encoding != encoding_rs::UTF_8), ..self }
    }

    /// A name as it is meant; bytes that the encoding does not have are left as they are.
    pub(super) fn decode(self, raw: &[u8]) -> Cow<'_, [u8]> {
        let decoded = self
            .encoding
            .filter(|_| !raw.is_ascii())
            .and_then(|encoding| encoding.decode_without_bom_handling_and_without_replacement(raw));
        decoded.map_or(Cow::Borrowed(raw), |text| Cow::Owned(text.into_owned().into_bytes()))
    }
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

    /// Refuses what has no v1 part. A hybrid has all that v1 needs, whatever else it has.
    fn check_version(&self) -> Result<(), MetainfoError> {
        let version = self.meta_version.and_then(Value::as_int).unwrap_or(1);
        if !(1..=2).contains(&version) {
            return Err(MetainfoError::UnknownVersion(version));
        }
        let is_v2 = version == 2 || self.file_tree.is_some();
        if is_v2 && self.pieces.is_none() { Err(MetainfoError::V2Only) } else { Ok(()) }
    }
}

/// Reads the info dictionary `dict`, whose bytes as found are `raw`; `kept` is a copy of them to keep.
pub(super) fn read(
    dict: Dict<'_>,
    raw: &[u8],
    kept: &Arc<[u8]>,
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Result<Info, MetainfoError> {
    let keys = Keys::of(dict);
    keys.check_version()?;
    let name = read_name(&keys, spelling, warnings)?;
    let (files, single_file) = match keys.files {
        Some(list) => {
            let list = list.as_list().ok_or_else(|| field("info.files", "a list"))?;
            let piece_length = keys.piece_length.and_then(unsigned).unwrap_or_default();
            (read_files(list, &name, piece_length, spelling, warnings)?, false)
        }
        None => (vec![read_single(&keys, &name)?], true),
    };
    let total = files.last().map_or(0, |file| file.offset + file.length);
    let geometry = read_geometry(&keys, total, warnings)?;
    Ok(Info {
        info_hash: InfoHash(Sha1::digest(raw).into()),
        name,
        geometry,
        piece_hashes: read_pieces(&keys, raw, kept, geometry)?,
        padding: padding_of(&files),
        files,
        single_file,
        private: read_private(&keys, warnings),
        source: keys.source.and_then(|value| warnings.text(value, "info.source")),
    })
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
    Ok(FileEntry { path: vec![name.to_owned()], length, offset: 0, attr, symlink_target: None })
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
    kept: &Arc<[u8]>,
    geometry: Geometry,
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

const UNSIGNED: &str = "an integer from zero up";

fn unsigned(value: Value<'_>) -> Option<u64> {
    value.as_int().and_then(|int| u64::try_from(int).ok())
}

fn read_attr(value: Option<Value<'_>>) -> FileAttr {
    FileAttr::from_letters(value.and_then(Value::as_bytes).unwrap_or_default())
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
    // A link takes no part of the torrent's bytes, whatever its length says (BEP 47).
    let length = if attr.symlink { Some(0) } else { length.and_then(unsigned) };
    let length = length.ok_or_else(|| field(at(".length"), UNSIGNED))?;
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
    let mut symlink_target = None;
    if attr.symlink {
        symlink_target = symlink_path.and_then(raw_path).and_then(|raw| read_target(raw, spelling));
        if symlink_target.is_none() {
            warnings.add(|| {
                let link = path[1..].join("/");
                format!("file {index}: the link {link:?} leads nowhere in the torrent's folder: left out")
            });
        }
    }
    Ok(FileEntry { path, length, offset, attr, symlink_target })
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

/// The components of a path as they are, if it has any and all of them are byte strings.
fn raw_path<'a>(list: List<'a>) -> Option<impl Iterator<Item = &'a [u8]> + Clone> {
    let is_path = list.iter().next().is_some() && list.iter().all(|name| name.as_bytes().is_some());
    is_path.then(|| list.iter().filter_map(Value::as_bytes))
}

/// A link's target below the torrent's folder; `None` for one that leads out of it, or that cannot be named.
fn read_target<'a>(raw: impl Iterator<Item = &'a [u8]>, spelling: Spelling) -> Option<Vec<String>> {
    let rules = spelling.rules;
    let is_plain = |name: &[u8]| {
        let is_split = rules == PathRules::WINDOWS && name.contains(&b'\\');
        !is_split && PathRules::UNIX.sanitise(name).as_bytes() == name
    };
    let raw: Vec<Cow<'_, [u8]>> = raw.map(|name| spelling.decode(name)).collect();
    let all_plain = raw.len() < PATH_DEPTH_MAX && raw.iter().all(|name| is_plain(name));
    all_plain.then(|| raw.iter().map(|name| rules.sanitise(name)).collect())
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
