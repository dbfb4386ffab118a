//! Torrents of other programs, taken over: what they are, where their data is, and what was set of them. Their folders are only read. Data
//! stays where it is, and counts as far as it has been checked; what was not complete goes on. `qbittorrent` and `transmission` read what
//! those programs keep.

mod qbittorrent;
mod transmission;

use crate::config::Rules;
use crate::folders;
use crate::manager::commands::Handle;
use crate::torrents::book::{Past, What};
use crate::torrents::labels::{CategoryEdit, LabelsEdit, check_label};
use crate::torrents::{New, Options, Refusal};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use swarm_engine::bencode::{self, Limits, Value};
use swarm_engine::{FileIndex, Info, Layout, Metainfo, Source};

/// How long a file beside a metainfo file may be, in bytes.
const RESUME_LEN_MAX: usize = 64 << 20;
/// How many entries a folder may have.
const ENTRIES_MAX: usize = 100_000;

/// A program whose torrents are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// qBittorrent, with its resume data in files.
    QBittorrent,
    /// Transmission.
    Transmission,
}

impl From {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            From::QBittorrent => "qBittorrent",
            From::Transmission => "Transmission",
        }
    }
}

/// What is to be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Whose it is.
    pub from: From,
    /// The folder in which the program keeps its torrents.
    pub dir: PathBuf,
}

/// What has become of it.
#[derive(Debug)]
pub struct Report {
    /// Whose it was.
    pub from: From,
    /// The folder.
    pub dir: PathBuf,
    /// How many torrents were added.
    pub added: usize,
    /// How many were here already.
    pub known: usize,
    /// What was left out, and why.
    pub skipped: Vec<(String, String)>,
}

/// A torrent of another program.
#[derive(Debug)]
struct Entry {
    what: What,
    /// The folder that holds its file or folder.
    dir: PathBuf,
    options: Options,
    past: Past,
}

/// What is in such a folder.
#[derive(Debug, Default)]
struct Found {
    /// Files that name torrents, in the order in which they are to be added.
    files: Vec<PathBuf>,
    /// Categories and their folders.
    categories: BTreeMap<String, Option<PathBuf>>,
}

/// Takes over all that can be.
pub async fn run(import: &Import, manager: &Handle, rules: Arc<Rules>) -> Report {
    let Import { from, dir } = import.clone();
    let mut report = Report { from, dir: dir.clone(), added: 0, known: 0, skipped: Vec::new() };
    let found = blocking(move || match from {
        From::QBittorrent => qbittorrent::find(&dir),
        From::Transmission => transmission::find(&dir),
    });
    let Found { files, categories } = match found.await {
        Ok(found) => found,
        Err(why) => {
            report.skipped.push((import.dir.display().to_string(), why));
            return report;
        }
    };
    for (name, folder) in categories {
        if let Err(why) = add_category(name.clone(), folder, manager, &rules).await {
            report.skipped.push((format!("category {name}"), why.to_string()));
        }
    }
    for file in files {
        let label = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let rules = Arc::clone(&rules);
        let new = blocking(move || {
            let entry = match from {
                From::QBittorrent => qbittorrent::read(&file),
                From::Transmission => transmission::read(&file),
            };
            entry.and_then(|entry| new(entry, &rules))
        });
        let added = match new.await {
            Ok(new) => manager.add(new).await.map_err(|error| match error {
                Refusal::AlreadyAdded { .. } => None,
                error => Some(error.to_string()),
            }),
            Err(why) => Err(Some(why)),
        };
        match added {
            Ok(_) => report.added += 1,
            Err(None) => report.known += 1,
            Err(Some(why)) => report.skipped.push((label, why)),
        }
    }
    report
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("a defect: it ended early".to_owned()))
}

async fn add_category(
    name: String,
    folder: Option<PathBuf>,
    manager: &Handle,
    rules: &Arc<Rules>,
) -> Result<(), Refusal> {
    let rules = Arc::clone(rules);
    let resolved = blocking(move || {
        let resolve = |folder: PathBuf| folders::resolve(Some(&folder), &rules.dir, &rules.allow_dirs);
        folder.map(resolve).transpose().map_err(|error| error.to_string())
    });
    // Without its folder, it is a category all the same.
    let (dir, why) = match resolved.await {
        Ok(dir) => (dir, None),
        Err(why) => (None, Some(why)),
    };
    let edit = CategoryEdit { dir: Some(dir), ..CategoryEdit::default() };
    match manager.set_labels(LabelsEdit::CreateCategory(name, edit)).await {
        Ok(()) | Err(Refusal::CategoryExists(_)) => {}
        Err(error) => return Err(error),
    }
    why.map_or(Ok(()), |why| Err(Refusal::Invalid(format!("without its folder: {why}"))))
}

/// A torrent for the manager, if its folder may be used.
fn new(entry: Entry, rules: &Rules) -> Result<New, String> {
    let Entry { what, dir, mut options, past } = entry;
    if !dir.is_absolute() {
        return Err(format!("its folder is no absolute path: {}", dir.display()));
    }
    let dir =
        folders::resolve(Some(&dir), &rules.dir, &rules.allow_dirs).map_err(|error| error.to_string())?;
    let is_label = |label: &String| check_label(label).is_ok();
    options.category = options.category.filter(is_label);
    options.tags.retain(is_label);
    options.tags.sort();
    options.tags.dedup();
    Ok(New { what, dir, is_default_dir: false, options, past: Some(past) })
}

/// The files of a folder with this extension, sorted.
fn files_in(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) {
            files.push(path);
        }
        if files.len() > ENTRIES_MAX {
            return Err(format!("has more than {ENTRIES_MAX} torrents"));
        }
    }
    files.sort();
    Ok(files)
}

/// A file, if it is not too long.
fn bytes_of(path: &Path, len_max: usize) -> Result<Vec<u8>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    let read = file.take(len_max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("{name}: cannot be read: {error}"))?;
    if bytes.len() > len_max { Err(format!("{name}: is longer than {len_max} bytes")) } else { Ok(bytes) }
}

fn metainfo_of(bytes: &[u8]) -> Result<Arc<Metainfo>, String> {
    Metainfo::parse(bytes).map(Arc::new).map_err(|error| error.to_string())
}

/// What a magnet link adds.
fn link_of(text: &str) -> Result<What, String> {
    let text = text.trim().to_owned();
    let source: Source = text.parse().map_err(|error| format!("{text}: {error}"))?;
    let Source::Magnet(magnet) = &source else { return Err(format!("{text}: is no magnet link")) };
    let name = magnet.name.clone().unwrap_or_else(|| magnet.info_hash.to_string());
    Ok(What::Link { text, name, hashes: source.info_hashes() })
}

/// A file in bencoding, handed on.
fn with_bencoded<T>(path: &Path, read: impl FnOnce(Value<'_>) -> Result<T, String>) -> Result<T, String> {
    let bytes = bytes_of(path, RESUME_LEN_MAX)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let limits = Limits { input_len_max: RESUME_LEN_MAX, ..Limits::default() };
    let document = bencode::parse(&bytes, &limits).map_err(|error| format!("{name}: {error}"))?;
    read(document.root())
}

/// The folder that holds a torrent's file or folder, and the names that its files have there, where those are `paths` below `dir`, by the
/// index of a file, its whole path each. Files that are not among them have their own.
fn placed(info: &Info, dir: PathBuf, paths: &BTreeMap<usize, &str>) -> Result<(PathBuf, Layout), String> {
    let wrong = |path: &str| format!("{path}: is no path that a file of a torrent can have here");
    if info.single_file {
        let Some(path) = paths.get(&0) else { return Ok((dir, Layout::default())) };
        // Some programs make a folder for it.
        let (folder, name) = path.rsplit_once('/').map_or(("", *path), |(folder, name)| (folder, name));
        let is_plain = |part: &&str| !matches!(*part, "" | "." | "..");
        let folders: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        if path.starts_with('/') || !folders.iter().all(is_plain) {
            return Err(wrong(path));
        }
        let root = (name != info.name).then(|| name.to_owned());
        let layout = Layout::new(root, BTreeMap::new());
        return layout
            .apply(info)
            .map_err(|error| error.to_string())
            .map(|_| (folders.iter().fold(dir, |dir, part| dir.join(part)), layout));
    }
    let (mut root, mut files) = (None, BTreeMap::new());
    for (at, file) in info.files.iter().enumerate().filter(|(_, file)| !file.attr.pad) {
        let own = || file.path.join("/");
        let path = paths.get(&at).map_or_else(own, |path| (*path).to_owned());
        let (folder, below) = path.split_once('/').ok_or_else(|| wrong_folder(&path))?;
        if *root.get_or_insert_with(|| folder.to_owned()) != folder {
            return Err(wrong_folder(&path));
        }
        let below: Vec<String> = below.split('/').map(str::to_owned).collect();
        if below[..] != file.path[1..] {
            files.insert(FileIndex(u32::try_from(at).map_err(|_| wrong(&path))?), below);
        }
    }
    let layout = Layout::new(root.filter(|root| *root != info.name), files);
    layout.apply(info).map_err(|error| error.to_string())?;
    Ok((dir, layout))
}

fn wrong_folder(path: &str) -> String {
    format!("{path}: its files do not lie in one folder of their own")
}

fn natural(value: Option<Value<'_>>) -> u64 {
    value.and_then(Value::as_int).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn is_set(value: Option<Value<'_>>) -> bool {
    value.and_then(Value::as_int).is_some_and(|number| number != 0)
}

/// A time in seconds since 1970, if there is one.
fn time(value: Option<Value<'_>>) -> Option<i64> {
    value.and_then(Value::as_int).filter(|time| *time > 0)
}

fn path_of(value: Option<Value<'_>>) -> Option<PathBuf> {
    let bytes = value.and_then(Value::as_bytes).filter(|bytes| !bytes.is_empty())?;
    #[cfg(unix)]
    let path = PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes));
    #[cfg(not(unix))]
    let path = PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
    Some(path)
}

#[cfg(test)]
mod tests;
