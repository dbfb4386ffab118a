//! What each method does: the parts with I/O.

use super::change::{self, Source};
use super::dialect::{Asked as _, Call, Code, Fault, Outcome, Params};
use super::fields::{self, Live, Needs, Scene, Torrents};
use super::ids::{Chosen, choose};
use super::kept::{RATE, kilobytes};
use super::session::{self, Facts};
use crate::adding;
use crate::api::App;
use crate::folders;
use crate::manager::now;
use crate::manager::operations::Files;
use crate::table::{Row, State, Summary};
use crate::torrents::book::What;
use crate::torrents::{CategoryEdit, Edit, Id, LabelsEdit, New, Place, Refusal};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use swarm_engine::{Data, METAINFO_LEN_MAX};

/// How many torrents are asked, or removed, at a time.
const AT_A_TIME: usize = 64;
/// How many torrents with peers are looked at to learn whether anybody has reached us.
const LOOKED_AT_MAX: usize = 100;

type Done = Result<Outcome<Torrents>, Fault>;

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        let code = match &refusal {
            Refusal::Invalid(_) | Refusal::NoMetadata => Code::Params,
            Refusal::Fetch(_) | Refusal::PrivateUrl { .. } => Code::Http,
            Refusal::Engine(_) | Refusal::Stopping => Code::Internal,
            _ => Code::System,
        };
        Fault::new(code, refusal.to_string())
    }
}

/// Carries a call out.
pub async fn carry_out(app: &App, call: &Call) -> Done {
    let params = &call.params;
    let values = match &*call.method {
        "torrent_get" => return torrent_get(app, call).await,
        "torrent_add" => torrent_add(app, params).await?,
        "torrent_set" => torrent_set(app, params).await?,
        "torrent_remove" => torrent_remove(app, params).await?,
        "torrent_start" => start(app, params, false).await?,
        "torrent_start_now" => start(app, params, true).await?,
        "torrent_stop" => {
            each(app, params, |_| Some(Edit { paused: Some(true), forced: Some(false), ..Edit::default() }))
                .await?
        }
        "torrent_verify" => each(app, params, |_| Some(Edit { recheck: true, ..Edit::default() })).await?,
        "torrent_reannounce" => torrent_reannounce(app, params).await?,
        "torrent_set_location" => set_location(app, params).await?,
        "torrent_rename_path" => rename(app, params).await?,
        "queue_move_top" => queue(app, params, Place::Top).await?,
        "queue_move_up" => queue(app, params, Place::Up).await?,
        "queue_move_down" => queue(app, params, Place::Down).await?,
        "queue_move_bottom" => queue(app, params, Place::Bottom).await?,
        "session_get" => facts(app, true).get(params),
        "session_set" => session_set(app, params).await?,
        "session_stats" => session_stats(app),
        "session_close" => session_close(app),
        "free_space" => free_space(app, params).await?,
        "port_test" => port_test(app, params).await?,
        "blocklist_update" => {
            return Err(Fault::new(
                Code::Blocklist,
                "the daemon reads its filter of addresses (ip-filter) again by itself, whenever the file changes",
            ));
        }
        "group_get" => group_get(app, params),
        "group_set" => group_set(app, params).await?,
        _ => return Err(Fault::of(Code::Method)),
    };
    Ok(Outcome::Values(values))
}

/// Whether a method only tells something: nobody wants that of a notification.
pub fn only_tells(method: &str) -> bool {
    matches!(
        method,
        "torrent_get" | "session_get" | "session_stats" | "free_space" | "port_test" | "group_get"
    )
}

fn chosen(app: &App, params: &Params) -> Chosen {
    choose(params, &app.table.read(), now())
}

async fn torrent_get(app: &App, call: &Call) -> Done {
    let mut params = std::borrow::Cow::Borrowed(&call.params);
    // Older servers take null for nothing said.
    if params.get("ids").is_some_and(Value::is_null) {
        params.to_mut().remove("ids");
    }
    let Chosen { rows, removed } = chosen(app, &params);
    let fields = fields::named(params.list("fields").map(Vec::as_slice).unwrap_or_default());
    if fields.is_empty() {
        return Err(Fault::params("no fields specified"));
    }
    let needs = Needs::of(&fields);
    let queue = if needs.queue { places(app) } else { BTreeMap::new() };
    let rules = app.rules.borrow().clone();
    let scene = Scene {
        now: now(),
        peers_max: app.session.facts().peers_max,
        goals: rules.goals,
        queue,
        kept: app.transmission.memory.torrents(),
    };
    let mut torrents = Vec::with_capacity(rows.len());
    let mut rows = rows.into_iter();
    while rows.len() > 0 {
        torrents.extend(join_all(rows.by_ref().take(AT_A_TIME).map(|row| look(row, needs))).await);
    }
    let is_table = params.text("format") == Some("table");
    Ok(Outcome::List(Torrents { dialect: call.dialect, is_table, fields, torrents, removed, scene }))
}

/// Asks the session about a torrent, as far as the table does not know.
async fn look(row: Row, needs: Needs) -> (Row, Live) {
    let wants_stats = needs.stats || needs.peers && row.summary.peers > 0;
    let Some(handle) = row.handle.clone().filter(|_| wants_stats || needs.files || needs.pieces) else {
        return (row, Live::default());
    };
    let stats = if wants_stats { handle.stats().await.ok() } else { None };
    let verified = if needs.files { handle.file_progress().await.ok().flatten() } else { None };
    let pieces = if needs.pieces { handle.pieces().await.ok().flatten() } else { None };
    (row, Live { stats, verified, pieces })
}

/// Each torrent's place in the queue.
fn places(app: &App) -> BTreeMap<Id, usize> {
    let table = app.table.read();
    let mut order: Vec<_> = table.iter().map(|row| (row.summary.position, row.summary.id)).collect();
    order.sort_unstable();
    order.into_iter().enumerate().map(|(place, (_, id))| (id, place)).collect()
}

/// Changes torrents each by itself, those that are to become alike together. One that cannot be changed does not keep back others.
async fn change(app: &App, edits: Vec<(Id, Edit)>) -> Result<Params, Fault> {
    let mut groups: Vec<(Edit, Vec<Id>)> = Vec::new();
    for (id, edit) in edits {
        match groups.last_mut().filter(|(last, _)| *last == edit) {
            Some((_, ids)) => ids.push(id),
            None => groups.push((edit, vec![id])),
        }
    }
    let mut fault = None;
    for (edit, ids) in groups.into_iter().filter(|(edit, _)| *edit != Edit::default()) {
        let Err(refusal) = app.manager.edit(ids.clone(), edit.clone()).await else { continue };
        if ids.len() == 1 {
            fault.get_or_insert(refusal);
            continue;
        }
        for id in ids {
            if let Err(refusal) = app.manager.edit(vec![id], edit.clone()).await {
                fault.get_or_insert(refusal);
            }
        }
    }
    match fault {
        // It went meanwhile, as it may at any time.
        Some(Refusal::NoSuchTorrent(_) | Refusal::Removing) | None => Ok(Params::new()),
        Some(refusal) => Err(refusal.into()),
    }
}

async fn each(app: &App, params: &Params, edit: fn(&Row) -> Option<Edit>) -> Result<Params, Fault> {
    let rows = chosen(app, params).rows;
    let edits = rows.iter().filter_map(|row| Some((row.summary.id, edit(row)?))).collect();
    change(app, edits).await
}

async fn start(app: &App, params: &Params, at_once: bool) -> Result<Params, Fault> {
    let rows = chosen(app, params).rows;
    let edit = Edit { paused: Some(false), forced: Some(at_once), ..Edit::default() };
    let starts = |row: &&Row| at_once || rests(&row.summary);
    let edits = rows.iter().filter(starts).map(|row| (row.summary.id, edit.clone())).collect();
    change(app, edits).await
}

/// Whether a torrent does not run, or will not when it has been moved. One that runs goes on as it is.
pub fn rests(summary: &Summary) -> bool {
    summary.paused || summary.state == State::Failed
}

async fn queue(app: &App, params: &Params, place: Place) -> Result<Params, Fault> {
    let ids = chosen(app, params).ids();
    if !ids.is_empty() {
        app.manager.edit(ids, Edit { position: Some(place), ..Edit::default() }).await?;
    }
    Ok(Params::new())
}

async fn torrent_set(app: &App, params: &Params) -> Result<Params, Fault> {
    let rows = chosen(app, params).rows;
    let peers_max = app.session.facts().peers_max;
    let mut edits = Vec::new();
    for row in &rows {
        let id = row.summary.id;
        let mut kept = app.transmission.memory.torrent(id);
        edits.push((id, change::edit(params, row, &mut kept, peers_max)?, kept));
    }
    {
        let table = app.table.read();
        edits.iter().for_each(|(id, _, kept)| app.transmission.memory.keep(*id, *kept, &table));
    }
    change(app, edits.into_iter().map(|(id, edit, _)| (id, edit)).collect()).await
}

async fn torrent_remove(app: &App, params: &Params) -> Result<Params, Fault> {
    let data = if params.flag("delete_local_data") == Some(true) { Data::Delete } else { Data::Keep };
    let ids = chosen(app, params).ids();
    let mut failed = None;
    for ids in ids.chunks(AT_A_TIME) {
        for done in join_all(ids.iter().map(|id| app.manager.remove(*id, data))).await {
            if let Err(refusal) = done
                && !matches!(refusal, Refusal::NoSuchTorrent(_) | Refusal::Removing)
            {
                failed.get_or_insert(refusal);
            }
        }
    }
    failed.map_or_else(|| Ok(Params::new()), |refusal| Err(refusal.into()))
}

async fn torrent_reannounce(app: &App, params: &Params) -> Result<Params, Fault> {
    for id in chosen(app, params).ids() {
        match app.manager.reannounce(id).await {
            Ok(()) | Err(Refusal::NoSuchTorrent(_)) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(Params::new())
}

async fn set_location(app: &App, params: &Params) -> Result<Params, Fault> {
    let location = params.text("location").ok_or_else(|| Fault::params("no location"))?;
    if !Path::new(location).is_absolute() {
        return Err(Fault::new(Code::NotAbsolute, "new location path is not absolute"));
    }
    let files = if params.flag("move") == Some(true) { Files::Move } else { Files::Leave };
    let rules = app.rules.borrow().clone();
    let dir = adding::folder(location.into(), rules).await?;
    for id in chosen(app, params).ids() {
        app.manager.move_to(id, dir.clone(), files).await?;
    }
    Ok(Params::new())
}

async fn rename(app: &App, params: &Params) -> Result<Params, Fault> {
    let rows = chosen(app, params).rows;
    let [row] = &rows[..] else {
        return Err(Fault::params("torrent_rename_path requires 1 torrent"));
    };
    let id = row.summary.id;
    let (path, name) = (params.text("path").unwrap_or_default(), params.text("name").unwrap_or_default());
    let values = json!({"id": id, "name": name, "path": path}).as_object().cloned().unwrap_or_default();
    match rename_to(app, row, path, name).await {
        Ok(()) => Ok(values),
        Err(fault) => Err(Fault { code: Code::System, result: values, ..fault }),
    }
}

async fn rename_to(app: &App, row: &Row, path: &str, name: &str) -> Result<(), Fault> {
    let id = row.summary.id;
    let to = change::renamed(path, name)?;
    app.manager.rename(id, path.to_owned(), to).await?;
    if !path.contains('/') {
        // It is what clients show, too.
        let name = Some((name != row.summary.own_name).then(|| name.to_owned()));
        app.manager.edit(vec![id], Edit { name, ..Edit::default() }).await?;
    }
    Ok(())
}

async fn torrent_add(app: &App, params: &Params) -> Result<Params, Fault> {
    let add = change::add(params, true, false)?;
    let new = match add.source {
        Source::Metainfo(bytes) => adding::of_bytes(bytes, add.options, app.terms()).await,
        Source::Path(path) => {
            let rules = app.rules.borrow().clone();
            let read = tokio::task::spawn_blocking(move || read_metainfo(&path, &rules)).await;
            let bytes = read.unwrap_or(Err(Refusal::Engine("a defect: it ended early".to_owned())))?;
            adding::of_bytes(bytes, add.options, app.terms()).await
        }
        Source::Link(link) => adding::of_source(&link, add.options, app.terms(), &app.session).await,
    };
    let mut new: New = new.map_err(|refusal| match refusal {
        Refusal::Invalid(text) => Fault::new(Code::Unrecognized, text),
        refusal => refusal.into(),
    })?;
    if let What::Metainfo(metainfo) = &new.what {
        let is_pad: Vec<bool> = metainfo.info.files.iter().map(|file| file.attr.pad).collect();
        new.options.priorities = change::priorities(params, &is_pad);
    }
    let (key, id) = match app.manager.add(new).await {
        Ok(id) => ("torrent_added", id),
        Err(Refusal::AlreadyAdded { id, .. }) => ("torrent_duplicate", id),
        Err(refusal) => return Err(refusal.into()),
    };
    let row = app.table.read().get(id).cloned().unwrap_or_default();
    let hash = row.summary.info_hash.as_deref().unwrap_or_default();
    let shown = json!({"id": id, "name": row.summary.name, "hash_string": hash});
    Ok(Params::from_iter([(key.to_owned(), shown)]))
}

/// A metainfo file on this machine: a plain file in a folder that may be used.
fn read_metainfo(path: &str, rules: &crate::config::Rules) -> Result<Vec<u8>, Refusal> {
    let path = folders::resolve(Some(Path::new(path)), &rules.dir, &rules.allow_dirs)?;
    let wrong = |error: std::io::Error| Refusal::Invalid(format!("{}: {error}", path.display()));
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        // Nothing that somebody has put in its place since, and no pipe that nobody writes to.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    }
    let file = options.open(&path).map_err(wrong)?;
    if !file.metadata().map_err(wrong)?.is_file() {
        return Err(Refusal::Invalid(format!("{}: is not a file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(METAINFO_LEN_MAX as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    Ok(bytes)
}

fn facts(app: &App, with_space: bool) -> Facts {
    let standing = app.standing.borrow().clone();
    let free = if with_space { space(&standing.configured.dir).ok().map(|(free, _)| free) } else { None };
    Facts {
        free,
        standing,
        session: app.session.facts(),
        session_id: app.transmission.session_id.clone(),
        state_dir: app.state_dir.clone(),
        peer_port: app.listening.first().map_or(0, |addr| addr.port()),
        kept: app.transmission.memory.session(),
    }
}

async fn session_set(app: &App, params: &Params) -> Result<Params, Fault> {
    let (edit, kept) = facts(app, false).set(params)?;
    if edit != Default::default() {
        app.manager.set_settings(edit).await?;
    }
    app.transmission.memory.keep_session(kept);
    Ok(Params::new())
}

fn session_stats(app: &App) -> Params {
    let table = app.table.read();
    let (mut active, mut count, mut down, mut up, mut ever) = (0, 0, 0, 0, (0, 0));
    for row in table.iter() {
        let summary = &row.summary;
        let rests = matches!(summary.state, State::Paused | State::Failed | State::Removing | State::Queued);
        active += usize::from(!rests);
        count += 1;
        (down, up) = (down + summary.rate_down, up + summary.rate_up);
        ever = (ever.0 + summary.bytes_down, ever.1 + summary.bytes_up);
    }
    let seconds = u64::try_from(now() - app.started_at).unwrap_or(0);
    let this = (app.counters.bytes_down.load(Relaxed), app.counters.bytes_up.load(Relaxed));
    let stats = |(down, up): (u64, u64)| json!({"downloaded_bytes": down, "uploaded_bytes": up, "files_added": count, "seconds_active": seconds, "session_count": 1});
    let values = json!({
        "active_torrent_count": active,
        "cumulative_stats": stats((ever.0.max(this.0), ever.1.max(this.1))),
        "current_stats": stats(this),
        "download_speed": down,
        "paused_torrent_count": count - active,
        "torrent_count": count,
        "upload_speed": up,
    });
    values.as_object().cloned().unwrap_or_default()
}

fn session_close(app: &App) -> Params {
    app.close.notify_one();
    Params::new()
}

async fn free_space(app: &App, params: &Params) -> Result<Params, Fault> {
    let path = session::space_of(params)?;
    let rules = app.rules.borrow().clone();
    let given = path.to_owned();
    let look = move || {
        let folder = folders::resolve(Some(&given), &rules.dir, &rules.allow_dirs)?;
        space(&folder).map_err(|error| Refusal::Engine(error.to_string()))
    };
    let found = tokio::task::spawn_blocking(look).await;
    let found = found.unwrap_or(Err(Refusal::Engine("a defect: it ended early".to_owned())));
    let (free, total) = found.as_ref().map_or((-1, -1), |(free, total)| (*free as i64, *total as i64));
    let values = json!({"path": path.to_string_lossy(), "size_bytes": free, "total_size": total});
    let values = values.as_object().cloned().unwrap_or_default();
    match found {
        Ok(_) => Ok(values),
        Err(refusal) => Err(Fault { code: Code::System, text: Some(refusal.to_string()), result: values }),
    }
}

/// Free bytes, and all bytes, of the file system that a folder is on.
#[cfg(unix)]
fn space(folder: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

#[cfg(not(unix))]
fn space(_: &Path) -> std::io::Result<(u64, u64)> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

/// Whether peers have reached us from elsewhere. Nobody is asked for it.
async fn port_test(app: &App, params: &Params) -> Result<Params, Fault> {
    let protocol = session::protocol(params)?;
    let handles: Vec<_> = {
        let table = app.table.read();
        let with_peers = table.iter().filter(|row| row.summary.peers > 0);
        with_peers.filter_map(|row| row.handle.clone()).take(LOOKED_AT_MAX).collect()
    };
    for handle in handles {
        let peers = handle.stats().await.map(|stats| stats.peer_list).unwrap_or_default();
        let reached = peers.iter().filter(|peer| peer.inbound).map(|peer| peer.addr.ip().to_canonical());
        let mut reached = reached
            .filter(|ip| !ip.is_loopback())
            .map(|ip| if matches!(ip, IpAddr::V4(_)) { "ipv4" } else { "ipv6" });
        if let Some(by) = reached.find(|by| protocol.is_none_or(|protocol| protocol == *by)) {
            return Ok(Params::from_iter([
                ("port_is_open".to_owned(), true.into()),
                ("ip_protocol".to_owned(), by.into()),
            ]));
        }
    }
    let text = "not known: no peer that is connected now has come by itself, and no web service is asked";
    let result =
        protocol.map(|protocol| ("ip_protocol".to_owned(), Value::from(protocol))).into_iter().collect();
    Err(Fault { code: Code::Http, text: Some(text.to_owned()), result })
}

/// Categories, which limits are shared in here.
fn group_get(app: &App, params: &Params) -> Params {
    // There are clients that say `group` for it.
    let named = |name: &str| match params.get("name").or(params.get("group")) {
        None => true,
        Some(Value::Array(names)) => names.is_empty() || names.iter().any(|one| one == name),
        Some(one) => one == name,
    };
    let labels = app.labels.borrow().clone();
    let groups = labels.categories.iter().filter(|(name, _)| named(name));
    let shown = groups.map(|(name, category)| {
        let (up, down) = (category.limits.upload_limit, category.limits.download_limit);
        json!({
            "honors_session_limits": true,
            "name": name,
            "speed_limit_down": down.map_or(0, kilobytes),
            "speed_limit_down_enabled": down.is_some(),
            "speed_limit_up": up.map_or(0, kilobytes),
            "speed_limit_up_enabled": up.is_some(),
        })
    });
    Params::from_iter([("group".to_owned(), shown.collect())])
}

async fn group_set(app: &App, params: &Params) -> Result<Params, Fault> {
    let name = params.text("name").unwrap_or_default().trim().to_owned();
    if name.is_empty() {
        return Err(Fault::params("No group name given"));
    }
    if params.flag("honors_session_limits") == Some(false) {
        return Err(Fault::params("limits of all torrents hold for those of a group, too"));
    }
    let known = app.labels.borrow().categories.get(&name).map(|category| category.limits);
    let now = known.unwrap_or_default();
    // A limit that does not count is not remembered.
    let set = |key: &str, on: &str, now| change::limit(params, [key, on], now, &mut 0, RATE);
    let edit = CategoryEdit {
        dir: None,
        upload_limit: set("speed_limit_up", "speed_limit_up_enabled", now.upload_limit),
        download_limit: set("speed_limit_down", "speed_limit_down_enabled", now.download_limit),
    };
    let edit = match known {
        Some(_) => LabelsEdit::EditCategory(name, edit),
        None => LabelsEdit::CreateCategory(name, edit),
    };
    app.manager.set_labels(edit).await?;
    Ok(Params::new())
}
