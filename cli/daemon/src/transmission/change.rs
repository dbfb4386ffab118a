//! What clients want changed, as the manager is told of it. No I/O here.

use super::dialect::{Asked as _, Code, Fault, Params, whole};
use super::fields::mode;
use super::kept::{Kept, RATE, Unit};
use super::parts::{self, HIGH, LOW, NORMAL};
use crate::adding::AddOptions;
use crate::table::{Row, Summary};
use crate::torrents::goals::{Goal, GoalWord};
use crate::torrents::{Edit, Place};
use serde_json::Value;
use std::path::Path;

/// What `torrent_set` means for one torrent. `kept` is what was remembered of it, and is after that.
pub fn edit(params: &Params, row: &Row, kept: &mut Kept, peers_max: usize) -> Result<Edit, Fault> {
    refuse(params, peers_max)?;
    let summary = &*row.summary;
    let mut edit = Edit {
        sequential: params.flag("sequential_download"),
        tags: params.list("labels").map(|list| labels(list)).transpose()?,
        category: params
            .text("group")
            .map(|name| Some(name.trim().to_owned()).filter(|name| !name.is_empty())),
        position: params
            .whole("queue_position")
            .map(|at| Place::At(u32::try_from(at.max(0)).unwrap_or(u32::MAX))),
        ..Edit::default()
    };
    edit.download_limit =
        limit(params, ["download_limit", "download_limited"], summary.download_limit, &mut kept.down, RATE);
    edit.upload_limit =
        limit(params, ["upload_limit", "upload_limited"], summary.upload_limit, &mut kept.up, RATE);
    goals(params, summary, kept, &mut edit)?;
    let mut shown: Vec<u8> = parts::files(row).map(|file| file.priority).collect();
    choose_files(params, &mut shown, true)?;
    let changed = parts::files(row).zip(&shown).filter(|(file, priority)| file.priority != **priority);
    edit.priorities = changed.map(|(file, priority)| (file.index as u32, *priority)).collect();
    if let Some(wanted) = new_tiers(params, row)? {
        tell_tiers(wanted, row, &mut edit);
    }
    Ok(edit)
}

/// What cannot be had here is told, and nothing else done, unless it is so anyway.
fn refuse(params: &Params, peers_max: usize) -> Result<(), Fault> {
    let no = |what: &str| {
        Err(Fault::params(format!("{what} cannot be set here: this daemon has nothing like it")))
    };
    if params.whole("bandwidth_priority").is_some_and(|priority| priority != 0) {
        return no("a torrent's bandwidth priority");
    }
    if params.whole("peer_limit").is_some_and(|limit| limit != peers_max as i64) {
        return no("a torrent's limit of peers");
    }
    if params.flag("honors_session_limits") == Some(false) {
        return no("that limits of all torrents do not hold for one");
    }
    if params.whole("sequential_download_from_piece").is_some_and(|piece| piece != 0) {
        return no("a first piece of a sequential download");
    }
    Ok(())
}

/// A value and whether it counts, of which one may be left out.
pub fn limit(
    params: &Params,
    keys: [&str; 2],
    now: Option<u64>,
    kept: &mut u64,
    unit: Unit,
) -> Option<Option<u64>> {
    let value = params.whole(keys[0]).map(|value| u64::try_from(value).unwrap_or(0));
    let counts = params.flag(keys[1]);
    if value.is_none() && counts.is_none() {
        return None;
    }
    // In its place, until it counts again.
    *kept = value.or(now.map(unit.shown)).unwrap_or(*kept);
    let is_limited = counts.unwrap_or(now.is_some());
    match (is_limited, value, now) {
        (false, _, _) => Some(None),
        (true, None, Some(now)) => Some(Some(now)),
        (true, _, _) => Some(Some((unit.meant)(*kept))),
    }
}

fn goals(params: &Params, summary: &Summary, kept: &mut Kept, edit: &mut Edit) -> Result<(), Fault> {
    let ratio = params.number("seed_ratio_limit");
    let ratio_mode = params.whole("seed_ratio_mode");
    if ratio.is_some() || ratio_mode.is_some() {
        if let Some(Goal::Value(now)) = summary.ratio_limit {
            kept.ratio = now;
        }
        kept.ratio = ratio.map(|ratio| ratio.max(0.0)).unwrap_or(kept.ratio);
        let mode = ratio_mode.unwrap_or(mode(summary.ratio_limit).into());
        edit.ratio_limit = Some(goal("seed_ratio_mode", mode, kept.ratio)?);
    }
    let minutes = params.whole("seed_idle_limit");
    let idle_mode = params.whole("seed_idle_mode");
    if minutes.is_some() || idle_mode.is_some() {
        if let Some(Goal::Value(now)) = summary.seed_time_limit {
            kept.minutes = now.div_ceil(60);
        }
        kept.minutes = minutes.map(|minutes| u64::try_from(minutes).unwrap_or(0)).unwrap_or(kept.minutes);
        let mode = idle_mode.unwrap_or(mode(summary.seed_time_limit).into());
        edit.seed_time_limit = Some(goal("seed_idle_mode", mode, kept.minutes.saturating_mul(60))?);
    }
    Ok(())
}

fn goal<T>(key: &str, mode: i64, value: T) -> Result<Goal<T>, Fault> {
    match mode {
        0 => Ok(Goal::Word(GoalWord::Default)),
        1 => Ok(Goal::Value(value)),
        2 => Ok(Goal::Word(GoalWord::None)),
        _ => Err(Fault::params(format!("{key}: {mode} is not 0 (as configured), 1 (its own) or 2 (none)"))),
    }
}

/// Texts of labels; what is no text is passed over.
fn labels(list: &[Value]) -> Result<Vec<String>, Fault> {
    let mut labels = Vec::new();
    for label in list.iter().filter_map(Value::as_str).map(str::trim) {
        if label.is_empty() {
            return Err(Fault::params("labels cannot be empty"));
        }
        if label.contains(',') {
            return Err(Fault::params("labels cannot contain comma (,) character"));
        }
        labels.push(label.to_owned());
    }
    Ok(labels)
}

/// Changes the priorities of files as clients count them: first which are wanted, then how much. An empty list means all.
fn choose_files(params: &Params, shown: &mut [u8], is_strict: bool) -> Result<(), Fault> {
    let each = |key: &str, shown: &mut [u8], change: fn(u8) -> u8| {
        let Some(list) = params.list(key) else { return Ok(()) };
        if list.is_empty() {
            shown.iter_mut().for_each(|priority| *priority = change(*priority));
        }
        for index in list.iter().filter_map(whole) {
            match usize::try_from(index).ok().and_then(|index| shown.get_mut(index)) {
                Some(priority) => *priority = change(*priority),
                None if is_strict => return Err(Fault::of(Code::FileIndex)),
                None => {}
            }
        }
        Ok(())
    };
    each("files_unwanted", shown, |_| 0)?;
    each("files_wanted", shown, |now| if now == 0 { NORMAL } else { now })?;
    // What is not wanted stays so.
    each("priority_high", shown, |now| if now == 0 { 0 } else { HIGH })?;
    each("priority_low", shown, |now| if now == 0 { 0 } else { LOW })?;
    each("priority_normal", shown, |now| if now == 0 { 0 } else { NORMAL })
}

/// The trackers that a torrent is to have, if they are to be others.
fn new_tiers(params: &Params, row: &Row) -> Result<Option<Vec<Vec<String>>>, Fault> {
    if let Some(text) = params.text("tracker_list") {
        return tiers_of(text).map(Some);
    }
    let before = row.tiers.to_vec();
    let mut tiers = before.clone();
    let keys = ["tracker_add", "tracker_remove", "tracker_replace"];
    if keys.iter().all(|key| params.list(key).is_none()) {
        return Ok(None);
    }
    for url in params.list("tracker_add").into_iter().flatten().filter_map(Value::as_str).map(str::trim) {
        if !tiers.iter().flatten().any(|known| known == url) {
            tiers.push(vec![url.to_owned()]);
        }
    }
    let removed: Vec<i64> = params.list("tracker_remove").into_iter().flatten().filter_map(whole).collect();
    tiers.iter_mut().for_each(|urls| urls.retain(|url| !removed.contains(&parts::tracker_id(url))));
    // A list of numbers and URLs in turn, or of pairs of them.
    let flat: Vec<&Value> = params
        .list("tracker_replace")
        .into_iter()
        .flatten()
        .flat_map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice))
        .collect();
    for pair in flat.chunks_exact(2) {
        let (Some(id), Some(by)) = (whole(pair[0]), pair[1].as_str()) else { continue };
        let urls = tiers.iter_mut().flatten().filter(|url| parts::tracker_id(url) == id);
        urls.for_each(|url| *url = by.trim().to_owned());
    }
    tiers.retain(|urls| !urls.is_empty());
    match tiers == before {
        true => Err(Fault::of(Code::AnnounceList)),
        false => Ok(Some(tiers)),
    }
}

/// Tiers of a text with a URL on each line and an empty line between tiers.
pub fn tiers_of(text: &str) -> Result<Vec<Vec<String>>, Fault> {
    let mut tiers = vec![Vec::new()];
    for line in text.lines().map(str::trim) {
        match (line.is_empty(), tiers.last_mut()) {
            (true, Some(last)) if !last.is_empty() => tiers.push(Vec::new()),
            (false, Some(_)) if !line.contains("://") => return Err(Fault::of(Code::TrackerList)),
            (false, Some(last)) => last.push(line.to_owned()),
            _ => {}
        }
    }
    tiers.retain(|urls| !urls.is_empty());
    Ok(tiers)
}

/// Some more, or all of them anew.
fn tell_tiers(wanted: Vec<Vec<String>>, row: &Row, edit: &mut Edit) {
    match wanted.strip_prefix(&row.tiers[..]) {
        Some(added) if added.iter().all(|urls| urls.len() == 1) => edit.trackers = added.concat(),
        _ => edit.tiers = Some(wanted),
    }
}

/// The whole path of a file or folder that gets this name.
pub fn renamed(path: &str, name: &str) -> Result<String, Fault> {
    if name.is_empty() || name.contains('/') || path.is_empty() {
        return Err(Fault::new(Code::System, "Invalid argument"));
    }
    Ok(path.rsplit_once('/').map_or_else(|| name.to_owned(), |(folder, _)| format!("{folder}/{name}")))
}

/// A torrent to add: by what, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    pub source: Source,
    pub options: AddOptions,
}

/// What a torrent is added by.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The metainfo file itself.
    Metainfo(Vec<u8>),
    /// The path of one on this machine.
    Path(String),
    /// A link, an info-hash or a URL.
    Link(String),
}

/// What `torrent_add` means. `starts`: whether torrents start unless told otherwise.
pub fn add(params: &Params, starts: bool, sequential: bool) -> Result<Add, Fault> {
    let filename = params.text("filename").unwrap_or_default().trim();
    let metainfo = params.text("metainfo").unwrap_or_default();
    let source = if !filename.is_empty() {
        if Path::new(filename).is_absolute() {
            Source::Path(filename.to_owned())
        } else {
            Source::Link(filename.to_owned())
        }
    } else if !metainfo.is_empty() {
        Source::Metainfo(decode(metainfo)?)
    } else {
        return Err(Fault::params("no filename or metainfo specified"));
    };
    let dir = params.text("download_dir").filter(|dir| !dir.is_empty());
    if dir.is_some_and(|dir| !Path::new(dir).is_absolute()) {
        return Err(Fault::new(Code::NotAbsolute, "download directory path is not absolute"));
    }
    let options = AddOptions {
        dir: dir.map(Into::into),
        paused: params.flag("paused").unwrap_or(!starts),
        sequential: params.flag("sequential_download").unwrap_or(sequential),
        tags: params.list("labels").map(|list| labels(list)).transpose()?.unwrap_or_default(),
        ..AddOptions::default()
    };
    Ok(Add { source, options })
}

/// The bytes of base64, with or without breaks in it.
fn decode(text: &str) -> Result<Vec<u8>, Fault> {
    use base64::Engine as _;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let has_breaks = text.bytes().any(|byte| byte.is_ascii_whitespace());
    let decoded = match has_breaks {
        true => LENIENT.decode(text.split_ascii_whitespace().collect::<String>()),
        false => LENIENT.decode(text),
    };
    decoded.map_err(|_| Fault::of(Code::Unrecognized))
}

/// The priorities that a new torrent's files get, if any were chosen. `is_pad` tells of each file whether clients do not see it. What does
/// not exist is passed over.
pub fn priorities(params: &Params, is_pad: &[bool]) -> Option<Vec<u8>> {
    let mut shown = vec![NORMAL; is_pad.iter().filter(|is_pad| !**is_pad).count()];
    choose_files(params, &mut shown, false).ok()?;
    if shown.iter().all(|priority| *priority == NORMAL) {
        return None;
    }
    let mut shown = shown.into_iter();
    Some(is_pad.iter().map(|is_pad| if *is_pad { NORMAL } else { shown.next().unwrap_or(NORMAL) }).collect())
}
