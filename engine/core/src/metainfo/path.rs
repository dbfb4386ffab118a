//! Names that are safe to write to disk.
//!
//! A torrent's paths come from a stranger and end as files on the user's disk. So every component is made
//! a plain name that no filesystem gives a meaning of its own, and every path is made unique. What is
//! ordinary stays exactly as it is, since a download must be the same tree as its source: on Unix that
//! includes `con`, `foo:bar`, `x\y`, control characters, a trailing dot, and `Readme` beside `README`,
//! all of which real trees hold. [`PathRules`] says what is ordinary where.
//!
//! Names may hold control characters: escape them before they reach a terminal.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use unicode_normalization::UnicodeNormalization;

/// How long a path component may be, in bytes of UTF-8. What common filesystems allow.
pub const COMPONENT_LEN_MAX: usize = 255;

/// How many bytes after a name's last dot still count as its extension, which survives shortening.
const EXTENSION_LEN_MAX: usize = 16;

/// The longest ` (n)` that makes a name unique, in bytes.
const SUFFIX_LEN_MAX: usize = " (4294967295)".len();

/// Which names are ordinary, and which are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRules {
    /// Whether Windows's separators, reserved names and reserved characters are to be avoided.
    windows_names: bool,
    /// Whether names that differ only in case or in Unicode normalisation are the same file.
    folds_names: bool,
    /// How long a name may be, in bytes of UTF-8.
    len_max: usize,
}

/// What file systems with short names leave room for: eCryptfs 143 bytes, gocryptfs and EncFS some 175.
const SHORT_LEN_MAX: usize = 140;

impl PathRules {
    /// Any name that is not empty, `.` or `..` and holds neither `/` nor NUL; names are the same if their
    /// bytes are.
    pub const UNIX: PathRules =
        PathRules { windows_names: false, folds_names: false, len_max: COMPONENT_LEN_MAX };
    /// As on Unix, but names that differ only in case or in Unicode normalisation are the same.
    pub const MACOS: PathRules =
        PathRules { windows_names: false, folds_names: true, len_max: COMPONENT_LEN_MAX };
    /// As on macOS, and without Windows's reserved names (`CON`, `NUL.txt`), reserved characters, and
    /// trailing dots and spaces.
    pub const WINDOWS: PathRules =
        PathRules { windows_names: true, folds_names: true, len_max: COMPONENT_LEN_MAX };
    /// As on Windows, and none longer than 140 bytes.
    pub const SHORT: PathRules = PathRules { len_max: SHORT_LEN_MAX, ..PathRules::WINDOWS };

    /// The rules of the system that this is compiled for.
    pub const fn native() -> PathRules {
        if cfg!(windows) {
            PathRules::WINDOWS
        } else if cfg!(target_vendor = "apple") {
            PathRules::MACOS
        } else {
            PathRules::UNIX
        }
    }

    /// Whether a name can be used as it is.
    pub fn is_safe(self, name: &str) -> bool {
        self.sanitise(name.as_bytes()) == name
    }

    /// The nearest safe name: UTF-8, never empty, `.` or `..`, at most [`COMPONENT_LEN_MAX`] bytes, and
    /// without anything that the system gives a meaning. Safe names come back unchanged.
    pub fn sanitise(self, raw: &[u8]) -> String {
        let mut name = String::from_utf8_lossy(raw).into_owned();
        if name.contains(|c| self.is_reserved_char(c)) {
            name = name.replace(|c| self.is_reserved_char(c), "_");
        }
        if name.is_empty() {
            name.push('_');
        }
        if name == "." || name == ".." {
            name = name.replace('.', "_");
        }
        if self.windows_names {
            name = without_trailing(name);
            if is_windows_device(&name) {
                name.insert(0, '_');
            }
        }
        if name.len() > self.len_max {
            let (stem, extension) = split_extension(&name);
            name = format!("{}{extension}", cut(stem, self.len_max - extension.len()));
            if self.windows_names {
                name = without_trailing(name);
            }
        }
        name
    }

    fn is_reserved_char(self, c: char) -> bool {
        match c {
            '/' | '\0' => true,
            '\\' | '<' | '>' | ':' | '"' | '|' | '?' | '*' => self.windows_names,
            _ => self.windows_names && c.is_control(),
        }
    }

    /// What is equal for names that are the same file.
    pub(super) fn fold(self, name: &str) -> Cow<'_, str> {
        if !self.folds_names || (name.is_ascii() && !name.bytes().any(|b| b.is_ascii_uppercase())) {
            return Cow::Borrowed(name);
        }
        // Through upper case, so that letters with two lower cases (σ, ς) are one.
        let upper = name.nfc().flat_map(char::to_uppercase);
        Cow::Owned(upper.flat_map(char::to_lowercase).nfc().collect())
    }
}

/// Windows silently drops dots and spaces from the end of a name.
fn without_trailing(name: String) -> String {
    let kept = name.trim_end_matches(['.', ' ']).len();
    let dropped = name.len() - kept;
    if dropped == 0 { name } else { format!("{}{}", &name[..kept], "_".repeat(dropped)) }
}

/// Whether Windows would open a device by this name, whatever its extension.
fn is_windows_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let upper = stem.to_ascii_uppercase();
    if matches!(&*upper, "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$") {
        return true;
    }
    let number = upper.strip_prefix("COM").or_else(|| upper.strip_prefix("LPT"));
    number.is_some_and(|n| {
        matches!(n.chars().next(), Some('0'..='9' | '¹' | '²' | '³')) && n.chars().count() == 1
    })
}

/// The longest start of `name` that has at most `len` bytes.
fn cut(name: &str, len: usize) -> &str {
    let end = (0..=len.min(name.len())).rev().find(|&at| name.is_char_boundary(at));
    &name[..end.unwrap_or(0)]
}

/// A name's stem, and its extension with the dot, or nothing where there is none or a long one.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= EXTENSION_LEN_MAX => name.split_at(at),
        _ => (name, ""),
    }
}

/// An index into [`PathTable::folders`].
type FolderIndex = u32;

/// A folder as it is on disk.
struct Folder<'p> {
    parent: FolderIndex,
    name: Cow<'p, str>,
}

/// Gives each file of a torrent a path of its own.
///
/// Two files of one name, and a file that is a folder of another, are told apart as `name (2).ext`, in the
/// order in which they come. Folders that are the same under the rules take the first one's spelling. Time
/// and memory grow with the number of components, whatever the names: each number is tried once.
pub(super) struct PathTable<'p> {
    rules: PathRules,
    /// The first is the torrent's own.
    folders: Vec<Folder<'p>>,
    /// Folders by the name that the torrent gives them, folded.
    by_name: HashMap<(FolderIndex, Cow<'p, str>), FolderIndex>,
    /// The folded names, of files and of folders, that are on disk already.
    taken: HashSet<(FolderIndex, Cow<'p, str>)>,
    /// The next number to try for a name that is taken.
    next_number: HashMap<(FolderIndex, String), u32>,
    /// Where the last file is. Most files are where the one before them is.
    last: Place<'p>,
}

/// A folder as the torrent calls it.
#[derive(Clone, Copy)]
struct Place<'p> {
    path: &'p [String],
    folder: FolderIndex,
    /// Whether it is called so on disk, too.
    is_as_given: bool,
}

impl<'p> PathTable<'p> {
    /// An empty torrent under these rules, about to get so many files.
    pub(super) fn new(rules: PathRules, files: usize) -> PathTable<'p> {
        PathTable {
            rules,
            folders: vec![Folder { parent: 0, name: Cow::Borrowed("") }],
            by_name: HashMap::new(),
            taken: HashSet::with_capacity(files),
            next_number: HashMap::new(),
            last: Place { path: &[], folder: 0, is_as_given: true },
        }
    }

    /// Takes the place of a file, given as safe components below the torrent's folder. Returns the components
    /// to use instead, if these are not free.
    pub(super) fn place(&mut self, path: &'p [String]) -> Option<Vec<String>> {
        let (file, folders) = path.split_last()?;
        if self.last.path != folders {
            self.last = self.enter(folders);
        }
        let Place { folder, is_as_given, .. } = self.last;
        let name = self.take(folder, file);
        if is_as_given && name == *file {
            return None;
        }
        let mut path = vec![name.into_owned()];
        let mut at = folder;
        while at != 0 {
            let Folder { parent, name } = &self.folders[at as usize];
            path.push(name.to_string());
            at = *parent;
        }
        path.reverse();
        Some(path)
    }

    /// Where something that the torrent calls by this path is on disk. A name that the torrent does not have
    /// stays what it is.
    pub(super) fn locate(&self, path: &[String]) -> Vec<String> {
        let mut at = Some(0);
        let step = |name: &String| {
            at = at.and_then(|at| self.by_name.get(&(at, self.rules.fold(name))).copied());
            at.map_or_else(|| name.clone(), |at| self.folders[at as usize].name.to_string())
        };
        path.iter().map(step).collect()
    }

    /// The folder that the torrent calls by this path; made if it is not there yet.
    fn enter(&mut self, path: &'p [String]) -> Place<'p> {
        let mut place = Place { path, folder: 0, is_as_given: true };
        for name in path {
            let key = (place.folder, self.rules.fold(name));
            place.folder = match self.by_name.get(&key) {
                Some(&folder) => folder,
                None => {
                    let on_disk = self.take(place.folder, name);
                    let folder = self.folders.len() as FolderIndex;
                    self.folders.push(Folder { parent: place.folder, name: on_disk });
                    self.by_name.insert(key, folder);
                    folder
                }
            };
            place.is_as_given &= self.folders[place.folder as usize].name == *name;
        }
        place
    }

    /// Takes a free name in a folder: this one, or one with a number.
    fn take(&mut self, folder: FolderIndex, name: &'p str) -> Cow<'p, str> {
        if self.taken.insert((folder, self.rules.fold(name))) {
            return Cow::Borrowed(name);
        }
        let (stem, extension) = split_extension(name);
        // Stems are cut to one length whatever the number, so that all names with the same candidates share a
        // counter and no candidate is tried twice.
        let stem = cut(stem, self.rules.len_max - SUFFIX_LEN_MAX - extension.len());
        let counter = (folder, self.rules.fold(&format!("{stem}/{extension}")).into_owned());
        let number = self.next_number.entry(counter).or_insert(2);
        loop {
            let candidate = format!("{stem} ({number}){extension}");
            *number += 1;
            let folded = self.rules.fold(&candidate).into_owned();
            if self.taken.insert((folder, Cow::Owned(folded))) {
                return Cow::Owned(candidate);
            }
        }
    }
}

#[cfg(test)]
mod tests;
