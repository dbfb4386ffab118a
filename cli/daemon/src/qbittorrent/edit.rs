//! What is done with torrents.

use super::labels::by;
use super::{Answer, Ask, Fault, details, ids, named, one, rows, several};
use crate::manager::operations::Files;
use crate::table::Row;
use crate::torrents::edit::Place;
use crate::torrents::goals::GoalWord;
use crate::torrents::{Edit, Goal, Id, TrackerEdit};
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use swarm_engine::Data;

/// How many torrents are removed or moved at a time.
const AT_A_TIME: usize = 32;

/// Answers a request.
pub async fn answer(name: &str, ask: &Ask) -> Result<Answer, Fault> {
    let edit = async |edit: Edit| {
        ask.app.manager.edit(ids(&several(ask, "hashes")?), edit).await?;
        Ok(Answer::Done)
    };
    let plain = Edit::default;
    match name {
        "start" | "resume" => edit(Edit { paused: Some(false), forced: Some(false), ..plain() }).await,
        "stop" | "pause" => edit(Edit { paused: Some(true), ..plain() }).await,
        "setForceStart" => {
            let forced = ask.form.flag("value").ok_or_else(|| Fault::missing("value"))?;
            edit(Edit { paused: Some(false), forced: Some(forced), ..plain() }).await
        }
        "recheck" => edit(Edit { recheck: true, ..plain() }).await,
        "delete" => delete(ask).await,
        "reannounce" => {
            for row in several(ask, "hashes")? {
                // It may be gone by now.
                let _ = ask.app.manager.reannounce(row.summary.id).await;
            }
            Ok(Answer::Done)
        }
        "increasePrio" => place(ask, Place::Up).await,
        "decreasePrio" => place(ask, Place::Down).await,
        "topPrio" => place(ask, Place::Top).await,
        "bottomPrio" => place(ask, Place::Bottom).await,
        "uploadLimit" => limits(ask, |row| row.summary.upload_limit),
        "downloadLimit" => limits(ask, |row| row.summary.download_limit),
        "setUploadLimit" => edit(Edit { upload_limit: Some(limit(ask)?), ..plain() }).await,
        "setDownloadLimit" => edit(Edit { download_limit: Some(limit(ask)?), ..plain() }).await,
        "setShareLimits" => edit(share_limits(ask)?).await,
        "toggleSequentialDownload" => {
            toggle(ask, |row| row.summary.sequential, |on| Edit { sequential: Some(on), ..plain() }).await
        }
        "toggleFirstLastPiecePrio" => {
            toggle(ask, |row| row.summary.first_last, |on| Edit { first_last: Some(on), ..plain() }).await
        }
        "setLocation" => set_location(ask, "hashes", "location").await,
        "setSavePath" => set_location(ask, "id", "path").await,
        // There is no other folder for what is not complete, and folders do not follow categories. Seeds decide by themselves what
        // they show to whom.
        "setDownloadPath" => Err(Fault::conflict("there is no folder of its own for incomplete torrents")),
        "setAutoManagement" if ask.form.flag("enable") == Some(false) => Ok(Answer::Done),
        "setAutoManagement" => Err(Fault::conflict("folders of torrents do not follow their categories")),
        "setSuperSeeding" => Ok(Answer::Done),
        _ => of_one(name, ask).await,
    }
}

/// Answers a request about one torrent.
async fn of_one(name: &str, ask: &Ask) -> Result<Answer, Fault> {
    match name {
        "rename" => {
            let row = one(ask)?;
            let name = ask.form.some("name").ok_or_else(|| Fault::conflict("Incorrect torrent name"))?;
            change(ask, &row, Edit { name: Some(Some(name.to_owned())), ..Edit::default() }).await
        }
        "renameFile" => {
            let row = one(ask)?;
            let (from, to) = names(ask, &row)?;
            if details::files_of(&row).iter().all(|(_, path)| *path != from) {
                return Err(Fault::conflict("there is no such file"));
            }
            ask.app.manager.rename(row.summary.id, from, to).await?;
            Ok(Answer::Done)
        }
        "renameFolder" => {
            let row = one(ask)?;
            let (from, to) = (ask.form.need("oldPath")?, ask.form.need("newPath")?);
            ask.app.manager.rename(row.summary.id, from.to_owned(), to.to_owned()).await?;
            Ok(Answer::Done)
        }
        "filePrio" => file_priorities(ask).await,
        "addTrackers" => {
            let urls = ask.form.list("urls", '\n').map(str::to_owned).collect();
            change(ask, &one(ask)?, Edit { trackers: urls, ..Edit::default() }).await
        }
        "editTracker" => edit_tracker(ask).await,
        "removeTrackers" => remove_trackers(ask).await,
        "addPeers" => add_peers(ask).await,
        "addWebSeeds" => {
            let urls = ask.form.list("urls", '|').map(decoded).collect();
            change(ask, &one(ask)?, Edit { web_seeds: urls, ..Edit::default() }).await
        }
        "editWebSeed" => {
            let row = one(ask)?;
            let (from, to) = (ask.form.need("origUrl")?, ask.form.need("newUrl")?);
            web_seeds_are_there(&row, &[from.to_owned()])?;
            let (gone, new) = (vec![from.to_owned()], vec![to.to_owned()]);
            change(ask, &row, Edit { web_seeds: new, web_seeds_removed: gone, ..Edit::default() }).await
        }
        "removeWebSeeds" => {
            let row = one(ask)?;
            let gone: Vec<String> = ask.form.list("urls", '|').map(decoded).collect();
            // Those that are not there are gone already.
            let gone = gone.into_iter().filter(|url| row.web_seeds.contains(url)).collect();
            change(ask, &row, Edit { web_seeds_removed: gone, ..Edit::default() }).await
        }
        _ => Err(Fault::not_found()),
    }
}

async fn change(ask: &Ask, row: &Row, edit: Edit) -> Result<Answer, Fault> {
    ask.app.manager.edit(vec![row.summary.id], edit).await?;
    Ok(Answer::Done)
}

/// Lists of URLs of web seeds have each of them encoded once more.
fn decoded(url: &str) -> String {
    percent_encoding::percent_decode_str(url).decode_utf8_lossy().into_owned()
}

async fn delete(ask: &Ask) -> Result<Answer, Fault> {
    let data = match ask.form.flag("deleteFiles") {
        Some(true) => Data::Delete,
        Some(false) => Data::Keep,
        None => return Err(Fault::missing("deleteFiles")),
    };
    let manager = &ask.app.manager;
    let all = futures_util::stream::iter(ids(&several(ask, "hashes")?));
    let mut removed = all.map(|id| manager.remove(id, data)).buffer_unordered(AT_A_TIME);
    let mut first_fault = None;
    while let Some(removed) = removed.next().await {
        if let Err(refusal) = removed {
            first_fault.get_or_insert(refusal);
        }
    }
    match first_fault {
        // Somebody else was faster.
        None | Some(crate::torrents::Refusal::NoSuchTorrent(_)) => Ok(Answer::Done),
        Some(refusal) => Err(refusal.into()),
    }
}

async fn place(ask: &Ask, place: Place) -> Result<Answer, Fault> {
    if !super::prefs::has_queue(&ask.app.standing.borrow().clone()) {
        return Err(Fault::conflict("Torrent queueing must be enabled"));
    }
    let mut rows = several(ask, "hashes")?;
    rows.sort_by_key(|row| row.summary.position);
    let ids = ids(&rows);
    ask.app.manager.edit(ids, Edit { position: Some(place), ..Edit::default() }).await?;
    Ok(Answer::Done)
}

fn limits(ask: &Ask, of: impl Fn(&Row) -> Option<u64>) -> Result<Answer, Fault> {
    let rows = several(ask, "hashes")?;
    let limits = rows.iter().filter_map(|row| Some((row.summary.info_hash.clone()?, of(row).unwrap_or(0))));
    Answer::json(&limits.collect::<BTreeMap<_, _>>())
}

/// A limit of a request; what is not above 0 lifts it.
fn limit(ask: &Ask) -> Result<Option<u64>, Fault> {
    let limit = ask.form.whole("limit")?.ok_or_else(|| Fault::missing("limit"))?;
    Ok(u64::try_from(limit).ok().filter(|limit| *limit > 0))
}

/// A goal: -2 is what holds for all, -1 is none.
pub fn goal<T>(number: f64, value: impl Fn(f64) -> T) -> Goal<T> {
    match number {
        n if n >= 0.0 => Goal::Value(value(n)),
        n if n <= -2.0 => Goal::Word(GoalWord::Default),
        _ => Goal::Word(GoalWord::None),
    }
}

/// Minutes as seconds.
pub fn seconds(minutes: f64) -> u64 {
    (minutes * 60.0) as u64
}

fn share_limits(ask: &Ask) -> Result<Edit, Fault> {
    let ratio = ask.form.number("ratioLimit")?;
    let minutes = ask.form.number("seedingTimeLimit")?;
    if ratio.is_none() && minutes.is_none() {
        return Err(Fault::missing("ratioLimit"));
    }
    Ok(Edit {
        ratio_limit: ratio.map(|ratio| goal(ratio, |ratio| ratio)),
        seed_time_limit: minutes.map(|minutes| goal(minutes, seconds)),
        ..Edit::default()
    })
}

/// Turns a switch of each torrent over.
async fn toggle(
    ask: &Ask,
    is_on: impl Fn(&Row) -> bool,
    edit: impl Fn(bool) -> Edit,
) -> Result<Answer, Fault> {
    let _alone = ask.app.qbittorrent.edits.lock().await;
    for (was_on, ids) in by(&several(ask, "hashes")?, is_on) {
        ask.app.manager.edit(ids, edit(!was_on)).await?;
    }
    Ok(Answer::Done)
}

async fn set_location(ask: &Ask, hashes: &str, field: &str) -> Result<Answer, Fault> {
    let rows = several(ask, hashes)?;
    let given = PathBuf::from(ask.form.need(field)?);
    let rules = ask.app.rules.borrow().clone();
    let dir = match crate::adding::folder(given.clone(), rules).await {
        Ok(dir) => dir,
        Err(refusal) => {
            let is_there = tokio::fs::metadata(&given).await.is_ok();
            return Err(Fault::of_folder(refusal, is_there));
        }
    };
    for row in rows.iter().filter(|row| row.summary.dir != dir) {
        ask.app.manager.move_to(row.summary.id, dir.clone(), Files::Move).await?;
    }
    Ok(Answer::Done)
}

/// The old and the new path of a file: by paths, or by its number as before 4.3.3.
fn names(ask: &Ask, row: &Row) -> Result<(String, String), Fault> {
    if let (Some(from), Some(to)) = (ask.form.some("oldPath"), ask.form.some("newPath")) {
        return Ok((from.to_owned(), to.to_owned()));
    }
    let number = ask.form.whole("id")?.ok_or_else(|| Fault::missing("oldPath"))?;
    let files = details::files_of(row);
    let file = usize::try_from(number).ok().and_then(|number| files.get(number));
    let (_, from) = file.ok_or_else(|| Fault::conflict("there is no such file"))?;
    let name = ask.form.need("name")?;
    let to = from.rsplit_once('/').map_or_else(|| name.to_owned(), |(folder, _)| format!("{folder}/{name}"));
    Ok((from.clone(), to))
}

async fn file_priorities(ask: &Ask) -> Result<Answer, Fault> {
    let row = one(ask)?;
    let priority = match ask.form.whole("priority")?.ok_or_else(|| Fault::missing("priority"))? {
        0 => 0,
        1 => 4,
        6 => 6,
        7 => 7,
        _ => return Err(Fault::invalid("priority: is 0, 1, 6 or 7")),
    };
    let files = details::files_of(&row);
    if files.is_empty() {
        return Err(Fault::conflict("its metadata is not here yet"));
    }
    let mut priorities = BTreeMap::new();
    for number in ask.form.need("id")?.split('|') {
        let number: usize = number.trim().parse().map_err(|_| Fault::invalid("id: is no number"))?;
        let (index, _) = files.get(number).ok_or_else(|| Fault::conflict("there is no such file"))?;
        priorities.insert(*index, priority);
    }
    change(ask, &row, Edit { priorities, ..Edit::default() }).await
}

async fn edit_tracker(ask: &Ask) -> Result<Answer, Fault> {
    let row = one(ask)?;
    let (url, with) = (ask.form.need("origUrl")?.to_owned(), ask.form.need("newUrl")?.to_owned());
    let has = |url: &String| row.tiers.iter().flatten().any(|known| known == url);
    if !has(&url) {
        return Err(Fault::conflict(format!("{url}: the torrent has no such tracker")));
    }
    if url != with && has(&with) {
        return Err(Fault::conflict(format!("{with}: the torrent has it already")));
    }
    let edits = vec![TrackerEdit::Replace { url, with }];
    change(ask, &row, Edit { tracker_edits: edits, ..Edit::default() }).await
}

async fn remove_trackers(ask: &Ask) -> Result<Answer, Fault> {
    let wanted: Vec<String> = ask.form.list("urls", '|').map(str::to_owned).collect();
    let hash = ask.form.need("hash")?;
    let found = named(rows(&ask.app), hash);
    if found.is_empty() && hash != "*" && hash != "all" {
        return Err(Fault::not_found());
    }
    let mut any = false;
    for row in &found {
        let has = |url: &&String| row.tiers.iter().flatten().any(|known| known == *url);
        let gone = wanted.iter().filter(has).map(|url| TrackerEdit::Remove { url: url.clone() });
        let tracker_edits: Vec<_> = gone.collect();
        if !tracker_edits.is_empty() {
            any = true;
            change(ask, row, Edit { tracker_edits, ..Edit::default() }).await?;
        }
    }
    if any { Ok(Answer::Done) } else { Err(Fault::conflict("the torrent has no such tracker")) }
}

fn web_seeds_are_there(row: &Row, urls: &[String]) -> Result<(), Fault> {
    match urls.iter().find(|url| !row.web_seeds.contains(*url)) {
        Some(url) => Err(Fault::conflict(format!("{url}: the torrent has no such web seed"))),
        None => Ok(()),
    }
}

async fn add_peers(ask: &Ask) -> Result<Answer, Fault> {
    let given: Vec<&str> = ask.form.list("peers", '|').collect();
    let peers: Vec<SocketAddr> = given
        .iter()
        .filter_map(|peer| peer.parse().ok())
        .filter(|peer: &SocketAddr| peer.port() != 0)
        .collect();
    if peers.is_empty() {
        return Err(Fault(StatusCode::BAD_REQUEST, "No valid peers were specified".to_owned()));
    }
    let mut told = Map::new();
    for row in several(ask, "hashes")? {
        let id: Id = row.summary.id;
        let edit = Edit { peers: peers.clone(), ..Edit::default() };
        let added = if ask.app.manager.edit(vec![id], edit).await.is_ok() { peers.len() } else { 0 };
        let count = json!({"added": added, "failed": given.len() - added});
        told.insert(row.summary.info_hash.clone().unwrap_or_default(), count);
    }
    Answer::json(&Value::Object(told))
}
