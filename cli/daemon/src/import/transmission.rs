//! What Transmission keeps: a folder `torrents` with `.torrent` and `.magnet` files, and a folder `resume` with a `.resume` file for each, in
//! bencoding. Names of keys have changed with its versions: `added-date`, `added_date` and `addedDate` are the same.

use super::{
    Entry, Found, bytes_of, files_in, is_set, link_of, metainfo_of, natural, path_of, placed, time,
    with_bencoded,
};
use crate::torrents::book::{Past, What};
use crate::torrents::goals::{Goal, GoalWord};
use crate::torrents::{Options, Totals};
use std::collections::BTreeMap;
use std::path::Path;
use swarm_engine::bencode::Value;
use swarm_engine::{FileIndex, Info, Layout, METAINFO_LEN_MAX};

/// What it appends to the names of files that are not complete, unless it is told not to.
const UNFINISHED: &str = ".part";
/// How long a `.magnet` file may be, in bytes.
const MAGNET_LEN_MAX: usize = 64 * 1024;

/// What is in its folder.
pub fn find(dir: &Path) -> Result<Found, String> {
    let files = files_in(&dir.join("torrents"), &["torrent", "magnet"])
        .map_err(|error| format!("its folder torrents {error}"))?;
    Ok(Found { files, categories: BTreeMap::new() })
}

/// A torrent, by its file in `torrents`.
pub fn read(path: &Path) -> Result<Entry, String> {
    let what = match path.extension().is_some_and(|extension| extension == "magnet") {
        true => link_of(&String::from_utf8_lossy(&bytes_of(path, MAGNET_LEN_MAX)?))?,
        false => What::Metainfo(metainfo_of(&bytes_of(path, METAINFO_LEN_MAX)?)?),
    };
    let name = path.with_extension("resume");
    let name = name.file_name().ok_or("has no name")?;
    let resume = path.parent().and_then(Path::parent).map(|dir| dir.join("resume").join(name));
    with_bencoded(&resume.ok_or("lies in no folder")?, |resume| entry(what, resume))
}

/// A dictionary's values, by keys that are written in one way.
fn fields<'a>(value: Value<'a>) -> BTreeMap<String, Value<'a>> {
    let fields = value.as_dict().into_iter().flat_map(|dict| dict.iter().collect::<Vec<_>>());
    fields.map(|(key, value)| (plain(key), value)).collect()
}

/// `added-date`, `added_date` and `addedDate` as `addeddate`.
fn plain(key: &[u8]) -> String {
    let letters = key.iter().filter(|byte| !matches!(byte, b'-' | b'_'));
    letters.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

fn entry(what: What, resume: Value<'_>) -> Result<Entry, String> {
    let fields = fields(resume);
    let get = |key: &str| fields.get(key).copied();
    let list = |key: &str| get(key).and_then(Value::as_list).into_iter().flat_map(|list| list.iter());
    let metainfo = match &what {
        What::Metainfo(metainfo) => Some(metainfo),
        What::Link { .. } => None,
    };
    let names: Vec<&str> = list("files").map(|name| name.as_str().unwrap_or_default()).collect();
    let own_name = metainfo.map(|metainfo| metainfo.info.name.as_str());
    let name = get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let done_at = time(get("donedate"));
    let dir = path_of(get("destination")).ok_or("names no folder (destination)")?;
    // What is not complete may lie apart.
    let apart = path_of(get("incompletedir")).filter(|_| done_at.is_none());
    let root =
        names.iter().find_map(|path| path.split('/').next().filter(|root| !root.is_empty())).or(own_name);
    let dir = match apart {
        Some(apart) if root.is_some_and(|root| apart.join(root).exists()) => apart,
        _ => dir,
    };
    let (dir, layout) = match metainfo {
        Some(metainfo) => placed(&metainfo.info, dir, &paths(&metainfo.info, &names)?)?,
        None => (dir, Layout::default()),
    };
    let bytes_down = natural(get("downloaded"));
    let past = Past {
        layout: layout.clone(),
        added_at: time(get("addeddate")),
        completed_at: done_at,
        is_unfinished: is_unfinished(get("progress"), bytes_down, done_at.is_some()),
        totals: Totals {
            bytes_down,
            bytes_up: natural(get("uploaded")),
            seconds_active: natural(get("downloadingtimeseconds")) + natural(get("seedingtimeseconds")),
            seconds_seeding: natural(get("seedingtimeseconds")),
        },
    };
    if let Some(metainfo) = metainfo.filter(|_| past.is_unfinished) {
        expect_own_names(&metainfo.info, &dir, &layout)?;
    }
    let files = metainfo.map_or(0, |metainfo| metainfo.info.files.len());
    // What it is called may differ from what its file or folder is.
    let root = layout.root().or(own_name);
    let options = Options {
        name: name.filter(|name| root.is_some() && Some(*name) != root).map(str::to_owned),
        paused: is_set(get("paused")),
        sequential: is_set(get("sequentialdownload")),
        priorities: priorities(list("dnd").collect(), list("priority").collect(), files),
        upload_limit: limit(get("speedlimitup")),
        download_limit: limit(get("speedlimitdown")),
        ratio_limit: ratio_limit(get("ratiolimit")),
        tags: list("labels").filter_map(Value::as_str).map(str::to_owned).collect(),
        ..Options::default()
    };
    Ok(Entry { what, dir, options, past })
}

/// Whether files that are not complete have their own names.
fn expect_own_names(info: &Info, dir: &Path, layout: &Layout) -> Result<(), String> {
    for at in 0..u32::try_from(info.files.len()).unwrap_or(u32::MAX) {
        let Some(path) = layout.path_of(info, FileIndex(at)) else { continue };
        let mut path = path.iter().fold(dir.to_owned(), |path, name| path.join(name)).into_os_string();
        path.push(UNFINISHED);
        if Path::new(&path).symlink_metadata().is_ok() {
            let path = path.to_string_lossy();
            return Err(format!(
                "{path}: take {UNFINISHED} off the end of its unfinished files' names first"
            ));
        }
    }
    Ok(())
}

/// Whether it has some of its data and not all, as far as it knows: the blocks that it has are "all", "none" or bits.
fn is_unfinished(progress: Option<Value<'_>>, bytes_down: u64, is_done: bool) -> bool {
    let progress = progress.map(fields).unwrap_or_default();
    let blocks = ["blocks", "have"].iter().find_map(|key| progress.get(*key)?.as_bytes());
    match blocks {
        Some(b"all") => false,
        // Where it has received nothing, whatever lies there may be somebody else's.
        Some(b"none") => bytes_down > 0,
        Some(_) => true,
        None => bytes_down > 0 && !is_done,
    }
}

/// The paths of files by their indices; those that are empty are the files' own. Some versions count pad files, some do not.
fn paths<'a>(info: &Info, names: &[&'a str]) -> Result<BTreeMap<usize, &'a str>, String> {
    let is_on_disk = |at: &usize| !info.files[*at].attr.pad;
    let indices: Vec<usize> = match names.len() == info.files.len() {
        true => (0..info.files.len()).collect(),
        false => (0..info.files.len()).filter(is_on_disk).collect(),
    };
    if !names.is_empty() && names.len() != indices.len() {
        return Err(format!("it has {} paths for {} files", names.len(), indices.len()));
    }
    let named = indices.into_iter().zip(names.iter().copied());
    Ok(named.filter(|(_, path)| !path.is_empty()).collect())
}

/// Of files that are not wanted, and of those of higher (1) and lower (-1) priority.
fn priorities(unwanted: Vec<Value<'_>>, priority: Vec<Value<'_>>, files: usize) -> Option<Vec<u8>> {
    let one = |file: usize| {
        if unwanted.get(file).is_some_and(|one| is_set(Some(*one))) {
            return 0;
        }
        match priority.get(file).and_then(|one| one.as_int()) {
            Some(priority) if priority > 0 => 7,
            Some(priority) if priority < 0 => 1,
            _ => 4,
        }
    };
    let is_given = [&unwanted, &priority].iter().any(|list| list.len() == files);
    let each: Vec<u8> = (0..files).map(one).collect();
    Some(each).filter(|each| is_given && each.iter().any(|one| *one != 4))
}

/// Its own limit, if it is in use.
fn limit(value: Option<Value<'_>>) -> Option<u64> {
    let fields = fields(value?);
    let rate = natural(fields.get("speedbps").copied());
    (is_set(fields.get("usespeedlimit").copied()) && rate > 0).then_some(rate)
}

/// Mode 0 is as configured, 1 its own, 2 none.
fn ratio_limit(value: Option<Value<'_>>) -> Goal<f64> {
    let Some(value) = value else { return Goal::Default };
    let fields = fields(value);
    let ratio = fields.get("ratiolimit").and_then(|ratio| ratio.as_str()?.parse::<f64>().ok());
    match (fields.get("ratiomode").and_then(|mode| mode.as_int()), ratio) {
        (Some(2), _) => Goal::Word(GoalWord::None),
        (Some(1), Some(ratio)) if ratio.is_finite() && ratio >= 0.0 => Goal::Value(ratio),
        _ => Goal::Default,
    }
}
