//! What qBittorrent keeps: in `BT_backup`, for each torrent, a `.torrent` file and a `.fastresume` file (of libtorrent, with fields of its own
//! whose names begin with `qBt-`); categories in `categories.json` beside its settings.

use super::{
    Entry, Found, bytes_of, files_in, is_set, link_of, metainfo_of, natural, path_of, placed, time,
    with_bencoded,
};
use crate::torrents::book::{Past, What};
use crate::torrents::goals::{Goal, GoalWord};
use crate::torrents::{Options, Totals};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use swarm_engine::bencode::Value;
use swarm_engine::{Info, Layout, METAINFO_LEN_MAX};

/// Where `categories.json` may be, as seen from `BT_backup`: beside it, in a profile, and where it is on Linux.
const CATEGORIES: [&str; 4] = [
    "categories.json",
    "../categories.json",
    "../../config/categories.json",
    "../../../../.config/qBittorrent/categories.json",
];
/// What it appends to the names of files that are not complete, if it is told to.
const UNFINISHED: &str = ".!qB";
/// How long that file may be, in bytes.
const CATEGORIES_LEN_MAX: usize = 4 << 20;

/// What is in `BT_backup`, or in the folder around it.
pub fn find(dir: &Path) -> Result<Found, String> {
    let inner = dir.join("BT_backup");
    let dir = if inner.is_dir() { inner } else { dir.to_owned() };
    let files = files_in(&dir, &["fastresume"])?;
    if files.is_empty() && dir.with_file_name("torrents.db").exists() {
        return Err(
            "its torrents are in a database; have qBittorrent keep resume data in files first".to_owned()
        );
    }
    let is_there = |path: &PathBuf| path.is_file();
    let categories = CATEGORIES.iter().map(|path| dir.join(path)).find(is_there);
    let categories = categories.map_or_else(|| Ok(BTreeMap::new()), |path| categories_of(&path))?;
    Ok(Found { files: in_order(&dir, files), categories })
}

/// The order of its queue first, then by name.
fn in_order(dir: &Path, files: Vec<PathBuf>) -> Vec<PathBuf> {
    let queue = bytes_of(&dir.join("queue"), CATEGORIES_LEN_MAX).unwrap_or_default();
    let queue = String::from_utf8_lossy(&queue);
    let places: BTreeMap<&str, usize> = queue.lines().enumerate().map(|(at, id)| (id.trim(), at)).collect();
    let mut files = files;
    files.sort_by_key(|path| {
        let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        places.get(id).copied().unwrap_or(usize::MAX)
    });
    files
}

fn categories_of(path: &Path) -> Result<BTreeMap<String, Option<PathBuf>>, String> {
    let bytes = bytes_of(path, CATEGORIES_LEN_MAX)?;
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|error| format!("categories.json: {error}"))?;
    let folder = |value: &serde_json::Value| {
        let path = value["save_path"].as_str().filter(|path| !path.is_empty());
        path.map(PathBuf::from)
    };
    Ok(json.iter().map(|(name, value)| (name.clone(), folder(value))).collect())
}

/// A torrent, by its `.fastresume` file.
pub fn read(path: &Path) -> Result<Entry, String> {
    with_bencoded(path, |resume| {
        let torrent = path.with_extension("torrent");
        let what = if torrent.exists() {
            What::Metainfo(metainfo_of(&bytes_of(&torrent, METAINFO_LEN_MAX)?)?)
        } else {
            link(path)?
        };
        entry(what, resume)
    })
}

/// Where its files are: a path for each, empty if it has its own.
fn names(info: &Info, dir: PathBuf, list: Option<Value<'_>>) -> Result<(PathBuf, Layout), String> {
    let list = list.and_then(Value::as_list).into_iter().flat_map(|list| list.iter());
    let mut paths = BTreeMap::new();
    for (at, path) in list.enumerate() {
        let path = path.as_str().ok_or("the path of a file is no text (mapped_files)")?;
        if path.ends_with(UNFINISHED) {
            return Err(format!(
                "{path}: have qBittorrent give unfinished files their own names first (append {UNFINISHED} extension)"
            ));
        }
        if at >= info.files.len() {
            return Err("it has more paths than files (mapped_files)".to_owned());
        }
        if !path.is_empty() {
            paths.insert(at, path);
        }
    }
    placed(info, dir, &paths)
}

/// A torrent whose metadata had not come: its file is named by its info-hash.
fn link(path: &Path) -> Result<What, String> {
    let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    link_of(&format!("magnet:?xt=urn:btih:{id}"))
}

fn entry(what: What, resume: Value<'_>) -> Result<Entry, String> {
    if resume.as_dict().is_none() {
        return Err("is no dictionary".to_owned());
    }
    let get = |key: &str| resume.get(key.as_bytes());
    let dir = path_of(get("save_path")).or_else(|| path_of(get("qBt-savePath")));
    let dir = dir.ok_or("names no folder (save_path)")?;
    let (dir, layout) = match &what {
        What::Metainfo(metainfo) => names(&metainfo.info, dir, get("mapped_files"))?,
        What::Link { .. } => (dir, Layout::default()),
    };
    let text =
        |key: &str| get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let list = |key: &str| get(key).and_then(Value::as_list).into_iter().flat_map(|list| list.iter());
    let limit = |key: &str| Some(natural(get(key))).filter(|limit| *limit > 0);
    // libtorrent pauses and resumes by itself what it manages.
    let is_managed = is_set(get("auto_managed"));
    let is_paused = is_set(get("paused")) && !is_managed;
    let priorities: Vec<u8> = list("file_priority")
        .map(|one| u8::try_from(natural(Some(one))).map_or(7, |one| one.min(7)))
        .collect();
    let files = match &what {
        What::Metainfo(metainfo) => Some(metainfo.info.files.len()),
        What::Link { .. } => None,
    };
    let tiers = tiers(list("trackers"));
    let options = Options {
        // What is neither paused nor managed was forced.
        forced: !is_paused && !is_managed && get("auto_managed").is_some(),
        paused: is_paused,
        sequential: is_set(get("sequential_download")),
        first_last: is_set(get("qBt-firstLastPiecePriority")),
        name: text("qBt-name"),
        priorities: Some(priorities)
            .filter(|each| files == Some(each.len()) && each.iter().any(|one| *one != 4)),
        upload_limit: limit("upload_rate_limit"),
        download_limit: limit("download_rate_limit"),
        ratio_limit: ratio_limit(get("qBt-ratioLimit")),
        seed_time_limit: seed_time_limit(get("qBt-seedingTimeLimit")),
        category: text("qBt-category"),
        tags: list("qBt-tags").filter_map(Value::as_str).map(str::to_owned).collect(),
        tiers: match &what {
            What::Metainfo(metainfo) => Some(tiers).filter(|tiers| *tiers != metainfo.trackers),
            What::Link { .. } => None,
        },
        ..Options::default()
    };
    let pieces = get("pieces").and_then(Value::as_bytes).unwrap_or_default();
    let is_complete = !pieces.is_empty() && pieces.iter().all(|piece| piece & 1 == 1);
    let added_at = time(get("added_time"));
    let bytes_down = natural(get("total_downloaded"));
    // What it has received lies under the final names. Where it has received nothing, whatever lies there may be somebody else's.
    let has_some = bytes_down > 0 || pieces.iter().any(|piece| piece & 1 == 1);
    let completed_at = time(get("completed_time")).or(added_at.filter(|_| is_complete));
    let past = Past {
        layout,
        added_at,
        completed_at,
        is_unfinished: has_some && !is_complete && (completed_at.is_none() || !pieces.is_empty()),
        totals: Totals {
            bytes_down,
            bytes_up: natural(get("total_uploaded")),
            seconds_active: natural(get("active_time")),
            seconds_seeding: natural(get("seeding_time")),
        },
    };
    Ok(Entry { what, dir, options, past })
}

fn tiers<'a>(list: impl Iterator<Item = Value<'a>>) -> Vec<Vec<String>> {
    let tier = |tier: Value<'a>| {
        let urls = tier.as_list().into_iter().flat_map(|urls| urls.iter());
        urls.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    list.map(tier).filter(|tier| !tier.is_empty()).collect()
}

/// In thousandths; -2 is as configured, -1 none.
fn ratio_limit(value: Option<Value<'_>>) -> Goal<f64> {
    match value.and_then(Value::as_int) {
        Some(-1_000) => Goal::Word(GoalWord::None),
        Some(limit) if limit >= 0 => Goal::Value(limit as f64 / 1_000.0),
        _ => Goal::Default,
    }
}

/// In minutes; -2 is as configured, -1 none.
fn seed_time_limit(value: Option<Value<'_>>) -> Goal<u64> {
    match value.and_then(Value::as_int) {
        Some(-1) => Goal::Word(GoalWord::None),
        Some(limit) => {
            u64::try_from(limit).map_or(Goal::Default, |limit| Goal::Value(limit.saturating_mul(60)))
        }
        None => Goal::Default,
    }
}
