//! What the session is told: whatever differs between what a torrent is to be and what it was told last.

use super::{Live, Manager};
use crate::torrents::book::Torrent;
use crate::torrents::{Id, Record, addresses};
use std::net::SocketAddr;
use std::sync::Arc;
use swarm_engine::{
    AddTorrent, Error, Files, Metainfo, Order, Priority, RateGroup, Source, TorrentHandle, UrlOrigin,
};

/// A torrent in the session, as it was told to be.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) handle: TorrentHandle,
    paused: bool,
    /// It was added by a link, and waits for which files are wanted.
    held: bool,
    sequential: bool,
    first_last: bool,
    upload_limit: Option<u64>,
    download_limit: Option<u64>,
    groups: Vec<RateGroup>,
    priorities: Option<Vec<u8>>,
    recheck: bool,
    trackers: usize,
    web_seeds: usize,
    tiers: Option<Vec<Vec<String>>>,
    all_web_seeds: Option<Vec<String>>,
    peers: usize,
}

impl Manager {
    /// Has the session do what a torrent is to do.
    pub(super) async fn tell(&mut self, id: Id) {
        let Some(torrent) = self.book.get(id) else { return };
        let (is_removed, moves) = (torrent.record.removing.is_some(), torrent.record.moving.is_some());
        if is_removed || moves {
            // It begins once its check has ended.
            return match self.end_check(id) {
                true => {}
                false if is_removed => self.remove_data(id),
                false => self.move_files(id),
            };
        }
        if self.live.get(&id).is_some_and(|live| live.is_apart) {
            return;
        }
        if self.check_beside(id) {
            let told = self.live.get_mut(&id).and_then(|live| live.told.as_mut());
            return told.into_iter().for_each(Told::rest);
        }
        let Some(torrent) = self.book.get(id) else { return };
        let runs = self.runs.contains(&id);
        let live = self.live.entry(id).or_default();
        match &mut live.told {
            Some(told) => {
                let groups = self.groups.of(torrent);
                if told.groups != groups {
                    told.handle.set_rate_groups(groups.clone());
                    told.groups = groups;
                }
                // What is to run again is looked at again: its folder may be another by now. So is a link's when it is known what it holds.
                let is_to_write = told.paused || told.held && torrent.metainfo.is_some();
                if runs && is_to_write && !self.may_use_folder(id).await {
                    return;
                }
                self.update(id, runs);
            }
            None if runs => self.add_to_session(id).await,
            None => {}
        }
    }

    async fn add_to_session(&mut self, id: Id) {
        if !self.may_use_folder(id).await {
            return;
        }
        let Some(torrent) = self.book.get(id) else { return };
        let groups = self.groups.of(torrent);
        let added = match add_torrent(torrent).map(|add| add.rate_groups(groups.clone())) {
            Ok(add) => self.session.add((self.prepare.0)(add)).await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let live = self.live.entry(id).or_default();
        match added {
            Ok(handle) => {
                self.by_engine.insert(handle.id(), id);
                // The session's events are enough: nobody takes these, which would be kept for whoever asks first.
                drop(handle.events());
                // Beside those of the configuration.
                handle.add_peers(torrent.record.options.peers.iter().copied());
                live.before = torrent.record.totals;
                live.state = swarm_engine::State::Queued;
                live.told = Some(Told::new(handle, &torrent.record, groups));
            }
            Err(error) => {
                live.failure = Some(error);
                self.turns_due.insert(id);
            }
        }
    }

    fn update(&mut self, id: Id, runs: bool) {
        let (Some(torrent), Some(live)) = (self.book.get(id), self.live.get_mut(&id)) else { return };
        if let Some(told) = &mut live.told {
            update(told, torrent, runs);
        }
    }

    /// The torrent is not in the session any more.
    pub(super) fn forget_told(&mut self, id: Id) {
        let told = self.live.get_mut(&id).and_then(|live: &mut Live| live.told.take());
        if let Some(told) = told {
            self.by_engine.remove(&told.handle.id());
        }
    }
}

impl Told {
    fn new(handle: TorrentHandle, record: &Record, groups: Vec<RateGroup>) -> Told {
        let options = &record.options;
        Told {
            handle,
            paused: false,
            held: record.link.is_some(),
            sequential: options.sequential,
            first_last: options.first_last,
            upload_limit: options.upload_limit,
            download_limit: options.download_limit,
            groups,
            priorities: options.priorities.clone(),
            recheck: options.recheck,
            trackers: options.trackers.len(),
            web_seeds: options.web_seeds.len(),
            tiers: options.tiers.clone(),
            all_web_seeds: options.all_web_seeds.clone(),
            peers: options.peers.len(),
        }
    }

    /// It leaves its swarm.
    fn rest(&mut self) {
        if !std::mem::replace(&mut self.paused, true) {
            self.handle.pause();
        }
    }
}

fn update(told: &mut Told, torrent: &Torrent, runs: bool) {
    let options = &torrent.record.options;
    let handle = &told.handle;
    if std::mem::replace(&mut told.upload_limit, options.upload_limit) != options.upload_limit {
        handle.set_upload_limit(options.upload_limit);
    }
    if std::mem::replace(&mut told.download_limit, options.download_limit) != options.download_limit {
        handle.set_download_limit(options.download_limit);
    }
    if std::mem::replace(&mut told.sequential, options.sequential) != options.sequential {
        handle.set_order(order(options.sequential));
    }
    if std::mem::replace(&mut told.first_last, options.first_last) != options.first_last {
        handle.set_first_last(options.first_last);
    }
    if told.tiers != options.tiers
        && let Some(tiers) = &options.tiers
    {
        handle.set_trackers(tiers.iter().cloned());
        told.tiers.clone_from(&options.tiers);
    }
    if told.all_web_seeds != options.all_web_seeds
        && let Some(urls) = &options.all_web_seeds
    {
        handle.set_web_seeds(urls);
        told.all_web_seeds.clone_from(&options.all_web_seeds);
    }
    let trackers = options.trackers.get(told.trackers..).unwrap_or_default();
    if !trackers.is_empty() {
        handle.add_trackers_from(UrlOrigin::Metainfo, trackers);
    }
    let web_seeds = options.web_seeds.get(told.web_seeds..).unwrap_or_default();
    if !web_seeds.is_empty() {
        handle.add_web_seeds_from(UrlOrigin::Metainfo, web_seeds);
    }
    let peers: &[SocketAddr] = options.peers.get(told.peers..).unwrap_or_default();
    if !peers.is_empty() {
        handle.add_peers(peers.iter().copied());
    }
    (told.trackers, told.web_seeds, told.peers) =
        (options.trackers.len(), options.web_seeds.len(), options.peers.len());
    // A link's files are chosen once it is known which there are, and that they may be written where they are to go.
    let may_write = runs && torrent.metainfo.is_some() && torrent.conflict.is_none();
    let is_released = told.held && may_write;
    if is_released || !told.held && told.priorities != options.priorities {
        told.held = false;
        told.priorities = options.priorities.clone();
        // Their number was checked when they were planned.
        let _ = handle.set_files(files(options.priorities.as_deref()));
    }
    if options.recheck && !std::mem::replace(&mut told.recheck, true) {
        handle.recheck();
    }
    told.recheck = options.recheck;
    match (told.paused, runs) {
        (false, false) => handle.pause(),
        (true, true) => handle.resume(),
        _ => {}
    }
    told.paused = !runs;
}

/// A torrent for the session. What users have added over the API counts as if the metainfo named it: it may lead to fewer places than what
/// stands in the configuration.
pub(super) fn add_torrent(torrent: &Torrent) -> Result<AddTorrent, String> {
    let record = &torrent.record;
    let options = &record.options;
    let source = source(torrent)?;
    let add = match options.seed {
        true => AddTorrent::seed(source, &record.dir),
        false => AddTorrent::download(source, &record.dir),
    };
    Ok(add
        .hold(record.link.is_some())
        .files(files(options.priorities.as_deref()))
        .order(order(options.sequential))
        .first_last(options.first_last)
        .layout(record.layout.clone())
        .upload_limit(options.upload_limit)
        .download_limit(options.download_limit)
        .overwrite(options.overwrite)
        .recheck(options.recheck))
}

/// What the session knows a torrent by.
pub(super) fn source(torrent: &Torrent) -> Result<Source, String> {
    let options = &torrent.record.options;
    let is_edited = !options.trackers.is_empty()
        || !options.web_seeds.is_empty()
        || options.tiers.is_some()
        || options.all_web_seeds.is_some();
    let link = torrent.record.link.as_deref();
    let metainfo = torrent.metainfo.as_deref();
    let tiers = || addresses::tiers(options, metainfo, link);
    let web_seeds = || addresses::web_seeds(options, metainfo, link);
    if let Some(metainfo) = &torrent.metainfo {
        return Ok(match is_edited {
            true => {
                Metainfo { trackers: tiers(), web_seeds: web_seeds(), ..Metainfo::clone(metainfo) }.into()
            }
            false => Arc::clone(metainfo).into(),
        });
    }
    let link = link.ok_or("neither its metainfo nor a link is known")?;
    let source: Source = link.parse().map_err(|error| format!("{link}: {error}"))?;
    Ok(match source {
        Source::Magnet(mut magnet) => {
            magnet.trackers = tiers().into_iter().flatten().collect();
            magnet.web_seeds = web_seeds();
            Source::Magnet(magnet)
        }
        other => other,
    })
}

fn files(priorities: Option<&[u8]>) -> Files {
    priorities.map_or_else(Files::all, |each| Files::priorities(each.iter().copied().map(Priority)))
}

fn order(sequential: bool) -> Order {
    if sequential { Order::Sequential } else { Order::RarestFirst }
}

/// What to say of an error that ended a torrent.
pub fn said(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
