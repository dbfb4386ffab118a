//! Reading the file tree of version 2 (BEP 52).

use super::entry::{Spelling, read_attr, read_length, read_link};
use super::warnings::Warnings;
use super::{FILES_MAX, FileAttr, FileEntry, MetainfoError, PATH_DEPTH_MAX};
use crate::bencode::{Dict, Value};
use crate::merkle::{NO_LEAF, Node};

/// What the paths of all files together may take, in bytes: their names, and so much for each. In a tree a folder is named once, however many
/// files lie in it, so that a short file can mean very long paths; in version 1 each path is written out.
const PATHS_LEN_MAX: usize = 64 * 1024 * 1024;
const NAME_COST: usize = 16;

/// A file of the tree.
pub(super) struct TreeFile<'a> {
    /// The path below the torrent's folder as its maker wrote it.
    pub(super) raw: Vec<&'a [u8]>,
    /// The file, with safe path components below the torrent's folder.
    pub(super) entry: FileEntry,
}

/// All files of a tree, in its order.
pub(super) struct FileTree<'a> {
    pub(super) files: Vec<TreeFile<'a>>,
    /// Whether the torrent is one file rather than a folder.
    pub(super) is_single: bool,
}

/// Reads the files of `tree`, whose offsets are left at 0. `name` goes in front of their paths, unless the tree is a single file: one that
/// is alone in its tree, if it is not known to be in a folder from version 1.
pub(super) fn read<'a>(
    tree: Value<'a>,
    name: &str,
    is_folder: bool,
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Result<FileTree<'a>, MetainfoError> {
    let root = tree.as_dict().ok_or_else(|| field(&[], "a dictionary"))?;
    let mut files = Vec::new();
    let mut path: Vec<&[u8]> = Vec::new();
    // Folders that have been entered, each with what is left of it.
    let mut open: Vec<_> = vec![root.iter()];
    let mut paths_len = 0;
    while let Some(folder) = open.last_mut() {
        let Some((key, value)) = folder.next() else {
            open.pop();
            path.pop();
            continue;
        };
        path.push(key);
        if key.is_empty() {
            return Err(field(&path, "a name: a file cannot have others beside it"));
        }
        let dict = value.as_dict().ok_or_else(|| field(&path, "a dictionary"))?;
        match file_of(dict) {
            Some(_) if files.len() == FILES_MAX => return Err(MetainfoError::TooManyFiles(FILES_MAX + 1)),
            Some(properties) => {
                paths_len += path.iter().map(|name| name.len() + NAME_COST).sum::<usize>();
                if paths_len > PATHS_LEN_MAX {
                    return Err(MetainfoError::PathsTooLong);
                }
                files.push(read_file(properties, &path, name, spelling, warnings)?);
                path.pop();
            }
            None if path.len() >= PATH_DEPTH_MAX => return Err(MetainfoError::PathTooDeep(files.len())),
            None => open.push(dict.iter()),
        }
    }
    let is_single = !is_folder && matches!(&files[..], [file] if file.raw.len() == 1);
    match &mut files[..] {
        [] => return Err(MetainfoError::NoFiles),
        [file] if is_single => drop(file.entry.path.remove(0)),
        _ => {}
    }
    Ok(FileTree { files, is_single })
}

/// What is said of a file, if the entry is one and not a folder: it stands under the empty key, alone.
fn file_of(entry: Dict<'_>) -> Option<Value<'_>> {
    let mut entries = entry.iter();
    let only = entries.next().filter(|(key, _)| key.is_empty());
    only.filter(|_| entries.next().is_none()).map(|(_, properties)| properties)
}

fn read_file<'a>(
    properties: Value<'a>,
    raw: &[&'a [u8]],
    name: &str,
    spelling: Spelling,
    warnings: &mut Warnings,
) -> Result<TreeFile<'a>, MetainfoError> {
    let dict = properties.as_dict().ok_or_else(|| field(raw, "a dictionary"))?;
    let (mut attr, mut length, mut root, mut symlink_path) = (None, None, None, None);
    for (key, value) in dict.iter() {
        match key {
            b"attr" => attr = Some(value),
            b"length" => length = Some(value),
            b"pieces root" => root = value.as_bytes(),
            b"symlink path" => symlink_path = value.as_list(),
            _ => {}
        }
    }
    let attr = read_attr(attr);
    if attr.pad {
        return Err(field(raw, "a file: version 2 has no padding"));
    }
    let length = read_length(attr, length).ok_or_else(|| field(raw, "a file with a length"))?;
    let pieces_root = match length {
        0 => None,
        _ => Some(
            read_root(root).ok_or_else(|| field(raw, "a file with `pieces root`: 32 bytes, not all zero"))?,
        ),
    };
    let names = raw.iter().map(|name| spelling.sanitise(name));
    let path: Vec<String> = std::iter::once(name.to_owned()).chain(names).collect();
    if !path[1..].iter().map(String::as_bytes).eq(raw.iter().copied()) {
        warnings.add(|| format!("{:?} becomes {:?}", printed(raw), path[1..].join("/")));
    }
    let symlink_target = read_link(attr, symlink_path, &path, spelling, warnings);
    Ok(TreeFile {
        raw: raw.to_vec(),
        entry: FileEntry {
            path,
            length,
            offset: 0,
            attr: FileAttr { pad: false, ..attr },
            symlink_target,
            pieces_root,
        },
    })
}

fn read_root(root: Option<&[u8]>) -> Option<Node> {
    root?.try_into().ok().filter(|root| *root != NO_LEAF)
}

fn printed(path: &[&[u8]]) -> String {
    String::from_utf8_lossy(&path.join(&b'/')).into_owned()
}

fn field(path: &[&[u8]], expected: &'static str) -> MetainfoError {
    let path = path.iter().map(|name| format!("/{}", name.escape_ascii()));
    MetainfoError::Field { field: format!("info.file tree{}", path.collect::<String>()), expected }
}
