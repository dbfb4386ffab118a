//! From a torrent that was added to one that runs: opening its storage, checking what is in doubt, reserving space.

use super::announce::announcer;
use super::command::Command;
use super::context::Context;
use super::event::{Event, State};
use super::events::EventSender;
use super::handle::{self, Known, Phase, TorrentHandle};
use super::options::{AddTorrent, Mode, Source};
use super::pausing::paused;
use super::progress::{Progress, Ready};
use super::readers::Readers;
use super::registry::Registry;
use super::relocating::relocate;
use super::running::RunningTorrent;
use super::services::resolve;
use super::storing::SPACE_RETRY;
use super::torrent::{Carried, Channels, Inner, Next, TorrentDriver, TorrentEvents};
use crate::error::{Error, OptionError};
use crate::hash::Lane;
use crate::id::TorrentId;
use crate::storage::bulk::run_of;
use crate::storage::{self, OpenOptions, Storage, StorageError, Trust};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use swarm_core::bitfield::Bitfield;
use swarm_core::dht::MutableTorrentLink;
use swarm_core::id::{InfoHash, PieceIndex};
use swarm_core::metainfo::{Info, Metainfo};
use swarm_core::picker::Priority;
use swarm_core::time::{Duration, Time};
use swarm_core::torrent::Totals;
use swarm_core::tracker::access::UrlOrigin;
use swarm_core::tracker::announcer::Announcer;
use swarm_core::wire::peer_id;
use tokio::sync::{SemaphorePermit, mpsc, watch};
use tokio::task::spawn_local;

/// How often the progress of a check is reported.
const CHECK_EVENT_INTERVAL: Duration = Duration::from_millis(200);

/// How much a worker checks until it tells, in bytes, though there are lanes for more: others wait for the disk too.
const CHECKED_AT_ONCE_MAX: u32 = 128 << 20;

/// How many files that cannot be read are named.
const UNREADABLE_REPORTED_MAX: usize = 100;

/// Starts a torrent's task and returns its handle.
pub(super) fn spawn(
    context: Rc<Context>,
    id: TorrentId,
    options: AddTorrent,
    registry: &Arc<Registry>,
) -> TorrentHandle {
    let (commands, inbox) = mpsc::unbounded_channel();
    let events = TorrentEvents { id, own: EventSender::default(), session: context.events.clone() };
    let phase = Arc::new(watch::Sender::new(Phase::Running { complete: false }));
    let dir = (!options.dir.as_os_str().is_empty()).then(|| options.dir.clone());
    let known = Arc::new(Known { dir: Mutex::new(dir), ..Known::default() });
    if let Some(metainfo) = options.source.metainfo().filter(|metainfo| metainfo.info.can_verify()) {
        let _ = known.metainfo.set(Arc::clone(metainfo));
    }
    if options.source.metainfo().is_none() && options.source.info_hash().is_some() {
        let _ = known.info_hashes.set(Box::new(options.source.info_hashes()));
    }
    let handle = TorrentHandle::new(handle::Inner {
        id,
        known: Arc::clone(&known),
        commands,
        events: events.own.downgrade(),
        first: Mutex::new(Some(events.own.subscribe_unclaimed())),
        phases: phase.subscribe(),
    });
    let channels = Channels {
        registry: Arc::clone(registry),
        commands: inbox,
        events: events.clone(),
        phase: Arc::clone(&phase),
        known: Arc::clone(&known),
        relocation: None,
    };
    let registry = Arc::clone(registry);
    let task = spawn_local(start(Rc::clone(&context), Rc::new(options), channels));
    spawn_local(async move {
        let result = match task.await {
            Ok(result) => result,
            Err(panic) => {
                let named = known.info_hashes.get().map_or_else(|| known.info_hashes(), |hashes| **hashes);
                let name = named.swarms().next();
                let torrent = name.and_then(|name| context.torrents.remove(name));
                if let Some(torrent) = torrent {
                    torrent.abandon();
                }
                Err(Error::Defect(panic.to_string()))
            }
        };
        registry.remove(id);
        events.send(match &result {
            Ok(()) => Event::Stopped,
            Err(error) => Event::Failed(error.clone()),
        });
        phase.send_replace(Phase::Ended(result));
    });
    handle
}

/// Runs a torrent to its end, through every pause.
pub(super) async fn start(
    context: Rc<Context>,
    mut options: Rc<AddTorrent>,
    mut channels: Channels,
) -> Result<(), Error> {
    let (mut last_stats, mut opened) = (None, None);
    if let Source::Mutable(link) = &options.source {
        let link = link.clone();
        let found = Box::pin(resolve_unless_paused(&context, &link, &mut options, &mut channels)).await?;
        let Some(found) = found else { return Ok(()) };
        channels.registry.claim(found.into(), channels.events.id)?;
        let _ = channels.known.info_hashes.set(Box::new(found.into()));
        Rc::make_mut(&mut options).source = found.into();
    }
    // It keeps this one as its name in the session, whatever others it turns out to have.
    let Some(info_hash) = options.source.info_hash() else { return Err(Error::Stopped) };
    // In a box, so that it takes no room while the torrent runs.
    let mut carried = Box::new(first(&context, &options, info_hash));
    loop {
        let mut next = Next::Restart;
        if options.paused {
            let info = options.source.metainfo().map(|metainfo| &*metainfo.info);
            let mut stats = last_stats.take().unwrap_or_else(|| Box::new(Progress::default().stats(info)));
            stats.state = State::Paused;
            channels.events.send(Event::Paused);
            next = Next::Pause;
            while next == Next::Pause {
                next = Box::pin(paused(&mut options, &stats, &mut carried.readers, &mut channels)).await;
                if next == Next::Relocate {
                    next = Box::pin(relocate(
                        &context,
                        &mut options,
                        &stats,
                        &mut carried.readers,
                        &mut channels,
                    ))
                    .await;
                    opened = None;
                    // It is resumed, or waits for that.
                    next = if next == Next::Restart && options.paused { Next::Pause } else { next };
                }
            }
        }
        if next == Next::Restart {
            channels.phase.send_replace(Phase::Running { complete: false });
            name_trackers(&mut carried.announcer.borrow_mut(), context.now(), &options);
            let torrent = TorrentDriver::new(Rc::clone(&context), options, info_hash, &channels, carried);
            let torrent = Rc::new(torrent);
            let ended = run(&torrent, &mut channels.commands).await;
            // Whoever still holds the torrent holds no reader.
            carried = Box::new(torrent.carry());
            next = ended?;
            last_stats =
                matches!(next, Next::Pause | Next::Relocate).then(|| Box::new(torrent.stats_at_rest()));
            options = Rc::clone(&torrent.changed.borrow());
            opened = torrent.opened.get().cloned().or(opened);
            channels.relocation = torrent.relocation.take();
            if let Some(metainfo) = channels.known.metainfo.get() {
                Rc::make_mut(&mut options).source = Arc::clone(metainfo).into();
            }
        }
        if next == Next::Relocate {
            let stats = last_stats.take().unwrap_or_default();
            next =
                Box::pin(relocate(&context, &mut options, &stats, &mut carried.readers, &mut channels)).await;
            opened = None;
            last_stats = Some(stats);
        }
        match next {
            Next::Stop => return Ok(()),
            Next::Delete => {
                return delete(&context, &options, opened).await;
            }
            Next::Pause | Next::Restart | Next::Relocate => {}
        }
    }
}

/// What has become of a torrent's trackers while it did not run.
fn name_trackers(announcer: &mut Announcer, now: Time, options: &AddTorrent) {
    if let Some(tiers) = &options.tiers {
        announcer.handle_trackers(now, tiers);
    }
    announcer.handle_more_trackers(now, &options.trackers, UrlOrigin::Typed);
    announcer.handle_more_trackers(now, &options.trackers_found, UrlOrigin::Metainfo);
}

/// Deletes what is known to be the torrent's. What has not run is opened for that: saved state says what was verified.
async fn delete(
    context: &Context,
    options: &AddTorrent,
    opened: Option<Arc<dyn Storage>>,
) -> Result<(), Error> {
    let (metainfo, custom) = (options.source.metainfo().cloned(), options.storage.clone());
    let open = match &metainfo {
        Some(metainfo) if opened.is_none() && options.mode != Mode::Metadata => {
            let files = options.files.resolve(metainfo.info.files.len())?;
            Some(open_options(context, options, &metainfo.info, files.as_deref()))
        }
        _ => None,
    };
    let delete = move || -> Result<(), StorageError> {
        let storage = match (opened, open, metainfo) {
            (Some(storage), _, _) => storage,
            (None, Some(open), Some(metainfo)) => {
                let (storage, _) = storage::open(&metainfo, custom, open)?;
                storage.close()?;
                storage
            }
            _ => return Ok(()),
        };
        storage.delete()
    };
    Ok(context.on_worker(Lane::Transfer, delete).await??)
}

/// How the torrent's files are opened.
fn open_options(
    context: &Context,
    options: &AddTorrent,
    info: &Info,
    files: Option<&[Priority]>,
) -> OpenOptions {
    let mode = match options.mode {
        Mode::Seed => storage::Mode::Seed,
        Mode::Download | Mode::Metadata => {
            let wanted = |each: &[Priority]| each.iter().map(|file| *file != Priority::SKIP).collect();
            storage::Mode::Download { wanted: files.map(wanted) }
        }
    };
    OpenOptions {
        state_dir: context.options.state_dir.clone(),
        trust: match &options.found {
            Some(report) if report.is_of(info) => Trust::Found(Arc::clone(report)),
            Some(_) => Trust::Nothing,
            None if options.recheck => Trust::Nothing,
            None => Trust::State,
        },
        overwrite: options.overwrite,
        handles: Arc::clone(&context.handles),
        #[cfg(feature = "__hooks")]
        budget: options.space.clone(),
        layout: options.layout.clone(),
        ..OpenOptions::new(options.dir.clone(), mode)
    }
}

/// Runs a torrent until it ends or is to start again. One whose metainfo is known dials nobody before its data is known and checked.
async fn run(
    torrent: &Rc<TorrentDriver>,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) -> Result<Next, Error> {
    let context = &torrent.context;
    if let Some(metainfo) = &torrent.to_open()
        && let Some(over) = Box::pin(prepare(torrent, commands, metainfo)).await
    {
        return over;
    }
    context.torrents.insert(torrent.info_hash, Rc::clone(torrent) as Rc<dyn RunningTorrent>);
    torrent.begin();
    torrent.join_swarms();
    let result = torrent.run(commands).await;
    // What is still looked for elsewhere is of no use.
    torrent.progress.abort();
    // Unless it was the same as another one.
    let left = torrent.swarms().filter(|&swarm| context.torrents.get(swarm).is_none());
    let left: Vec<InfoHash> = left.collect();
    torrent.lsd().iter().for_each(|lsd| left.iter().for_each(|&swarm| lsd.remove(swarm)));
    result
}

/// Makes a torrent's data ready, unless its run ends before that.
async fn prepare(
    torrent: &Rc<TorrentDriver>,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
    metainfo: &Arc<Metainfo>,
) -> Option<Result<Next, Error>> {
    // In a box of its own, so that a torrent that waits for its turn takes little room.
    let mut preparing = Box::pin(async {
        let turn = torrent.progress.unless_aborted(torrent.context.opens.acquire()).await?.ok();
        Box::pin(torrent.prepare_data(metainfo, turn)).await
    });
    let over = tokio::select! {
        prepared = &mut preparing => match prepared {
            Ok(ready) if torrent.options.check_only => return Some(Box::pin(torrent.rest_checked(ready)).await),
            Ok(ready) => {
                torrent.on_data_ready(metainfo, ready);
                return None;
            }
            Err(error) => Err(error),
        },
        next = Box::pin(commanded(torrent, commands)) => {
            torrent.progress.abort();
            let _ = preparing.as_mut().await;
            Ok(next)
        }
    };
    drop(preparing);
    Some(Box::pin(torrent.abandon_data()).await.and(over))
}

/// Takes commands until one ends the run.
async fn commanded(
    torrent: &Rc<TorrentDriver>,
    commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
) -> Next {
    loop {
        let Some(command) = commands.recv().await else { std::future::pending().await };
        if let Some(next) = torrent.on_command(*command) {
            return next;
        }
    }
}

/// Tells jobs on workers to stop once it is dropped.
#[derive(Default)]
struct StopsJobs(Arc<AtomicBool>);

impl Drop for StopsJobs {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a torrent begins with.
fn first(context: &Context, options: &AddTorrent, info_hash: InfoHash) -> Carried {
    let mut rng = context.rng.borrow_mut().fork();
    let peer_id = peer_id(&mut rng);
    let announcer = Rc::new(RefCell::new(announcer(context, options, info_hash, peer_id, rng)));
    Carried {
        peer_id,
        totals: Totals::default(),
        announcer,
        readers: Readers::default(),
        reconnect: Vec::new(),
        dropped_web_seeds: Default::default(),
        has_joined: false,
    }
}

/// Finds out which torrent a link stands for now, in the time in which it is not paused. `None` if it is to stop.
async fn resolve_unless_paused(
    context: &Context,
    link: &MutableTorrentLink,
    options: &mut Rc<AddTorrent>,
    channels: &mut Channels,
) -> Result<Option<InfoHash>, Error> {
    let (mut stats, mut readers) = (Progress::default().stats(None), Readers::default());
    loop {
        let is_paused = options.paused;
        stats.state = if is_paused { State::Paused } else { State::Queued };
        if is_paused {
            channels.events.send(Event::Paused);
        }
        tokio::select! {
            found = resolve(context, link), if !is_paused => return found.map(Some),
            next = paused(options, &stats, &mut readers, channels) => {
                if next == Next::Relocate {
                    Box::pin(relocate(context, options, &stats, &mut readers, channels)).await;
                }
                if matches!(next, Next::Stop | Next::Delete) {
                    return Ok(None);
                }
            }
        }
    }
}

impl TorrentDriver {
    /// Opens the storage, for which it has this `turn`, checks what is in doubt, and reserves space.
    pub(super) async fn prepare_data(
        &self,
        metainfo: &Arc<Metainfo>,
        turn: Option<SemaphorePermit<'_>>,
    ) -> Result<Ready, Error> {
        let (context, options, events) = (&*self.context, &self.options, &self.events);
        let info = &metainfo.info;
        let files = self.changed.borrow().files.resolve(info.files.len())?;
        self.progress.set_files(info, files.as_deref());
        let (piece_len, buffer_len) = (info.geometry.piece_len(), context.pool.limit_bytes());
        if options.storage.is_some() && 2 * u64::from(piece_len) > buffer_len as u64 {
            return Err(OptionError::BufferTooSmall { piece_len, buffer_len }.into());
        }
        let open = open_options(context, options, info, files.as_deref());
        let opening = || {
            let (metainfo, custom, open) = (Arc::clone(metainfo), options.storage.clone(), open.clone());
            move || storage::open(&metainfo, custom, open)
        };
        let (storage, opened) = self.until_it_fits(opening).await?;
        drop(turn);
        let _ = self.opened.set(Arc::clone(&storage));
        self.known.set_location(storage.location());
        for warning in &opened.warnings {
            events.send(Event::Warning(warning.clone()));
        }
        opened.have.iter().for_each(|piece| self.progress.add(info, piece));
        let mut damaged = opened.damaged;
        let mut have = self.check(info, &storage, opened.have.clone(), &opened.recheck, &mut damaged).await?;
        let is_to_be_filled =
            options.mode == Mode::Download && !options.check_only && opened.needed.has_other_than(&have);
        let reusable = match is_to_be_filled {
            true => self.find_reusable(info, &storage).await?,
            false => None,
        };
        if is_to_be_filled {
            let reserving = || {
                let storage = Arc::clone(&storage);
                move || storage.reserve()
            };
            self.until_it_fits(reserving).await?;
        }
        if let Some(reusable) = reusable {
            have = self.reuse(info, &storage, have, reusable, &mut damaged).await?;
        }
        if options.mode == Mode::Seed {
            for &file in &opened.absent {
                let path = info.files[file.idx()].path.join("/");
                events.send(Event::Warning(format!("{path}: the file is missing or too short")));
            }
            if have.count() == 0 && !have.is_empty() {
                let path = storage.path();
                return Err(Error::NothingToSeed { path });
            }
        }
        // What is there by now needs no blocks any more.
        let partial = opened.partial.into_iter().filter(|(piece, _)| !have.has(*piece)).collect();
        if options.storage.is_some() {
            damaged = Bitfield::empty(damaged.len());
        }
        Ok(Ready { storage, have, damaged, needed: opened.needed, files, partial })
    }

    /// Checks the pieces that are in doubt, several at a time, once it is this torrent's turn. Those that are bad are added to `damaged`.
    pub(super) async fn check(
        &self,
        info: &Info,
        storage: &Arc<dyn Storage>,
        mut have: Bitfield,
        recheck: &Bitfield,
        damaged: &mut Bitfield,
    ) -> Result<Bitfield, Error> {
        let (context, events, progress) = (&*self.context, &self.events, &self.progress);
        let of = recheck.count();
        if of == 0 {
            return Ok(have);
        }
        let _turn = progress.unless_aborted(context.checks.acquire()).await?;
        progress.checking.set(true);
        events.send(Event::Checking { done: 0, of });
        let (tx, mut rx) = mpsc::unbounded_channel();
        let pieces: Vec<PieceIndex> = recheck.iter().collect();
        let threads = context.workers.at_once();
        let at_once = run_of(info, of, threads).min(CHECKED_AT_ONCE_MAX / info.geometry.piece_len()).max(1);
        let mut parts = pieces.chunks(at_once as usize);
        // What is under way stops when this does.
        let over = StopsJobs::default();
        let submit = |part: &[PieceIndex]| {
            let (storage, tx, part) = (Arc::clone(storage), tx.clone(), part.to_vec());
            let over = Arc::clone(&over.0);
            let check = move || {
                let goes_on = || !over.load(Ordering::Relaxed);
                let results = catch_unwind(AssertUnwindSafe(|| storage.check_pieces(&part, &goes_on)));
                let _ = tx.send(results.map(|results| part.into_iter().zip(results)));
            };
            context.workers.submit(Lane::Check, check);
        };
        parts.by_ref().take(threads + 1).for_each(submit);
        let mut reported_at = context.now();
        let mut unreadable = BTreeSet::new();
        let mut checked = None;
        for done in 1..=of {
            let (piece, result) = loop {
                if progress.is_aborted() {
                    return Err(Error::Stopped);
                }
                if let Some(next) = checked.as_mut().and_then(Iterator::next) {
                    break next;
                }
                let Some(part) = progress.unless_aborted(rx.recv()).await? else {
                    return Err(Error::Stopped);
                };
                checked = Some(part.map_err(|_| Error::panicked())?);
                parts.next().into_iter().for_each(submit);
            };
            let is_right = match result {
                // What cannot be read is not there; the rest may be.
                Err(ref error @ StorageError::Io { ref path, ref source, .. })
                    if !error.is_too_many_files() =>
                {
                    if unreadable.len() < UNREADABLE_REPORTED_MAX && unreadable.insert(path.clone()) {
                        let warning = format!("{}: cannot be read: {source}", path.display());
                        events.send(Event::Warning(warning));
                    }
                    false
                }
                Err(error) if error.may_pass() => {
                    let again = || {
                        let storage = Arc::clone(storage);
                        move || storage.check_piece(piece)
                    };
                    self.until_it_fits(again).await?
                }
                result => result?,
            };
            if is_right {
                have.insert(piece);
                progress.add(info, piece);
            } else {
                damaged.insert(piece);
            }
            if context.now().since(reported_at) >= CHECK_EVENT_INTERVAL || done == of {
                reported_at = context.now();
                events.send(Event::Checking { done, of });
            }
        }
        Ok(have)
    }

    /// Does something on a worker, and again for as long as the disk is full or there are no descriptors.
    pub(super) async fn until_it_fits<
        R: Send + 'static,
        J: FnOnce() -> Result<R, StorageError> + Send + 'static,
    >(
        &self,
        job: impl Fn() -> J,
    ) -> Result<R, Error> {
        let mut stalled = false;
        loop {
            match self.context.on_worker(Lane::Check, job()).await? {
                Err(error) if error.is_no_space() || error.is_too_many_files() => {
                    if !std::mem::replace(&mut stalled, true) {
                        self.emit(Event::DiskStalled { error: Arc::new(error) });
                    }
                    self.progress.unless_aborted(tokio::time::sleep(SPACE_RETRY)).await?;
                }
                done => {
                    if stalled && done.is_ok() {
                        self.emit(Event::DiskResumed);
                    }
                    return Ok(done?);
                }
            }
        }
    }

    /// It was only to be found out what is there. What is complete gets its final names.
    async fn rest_checked(&self, ready: Ready) -> Result<Next, Error> {
        let Ready { storage, have, needed, .. } = ready;
        let is_complete = self.options.mode == Mode::Download && !needed.has_other_than(&have);
        let rest = move || {
            let finished = if is_complete { storage.finish().map(|_| ()) } else { Ok(()) };
            storage.abandon();
            finished
        };
        self.context.on_worker(Lane::Transfer, rest).await??;
        self.events.send(Event::Started { have: have.count(), pieces: have.len() });
        let mut changed = self.changed.borrow_mut();
        let changed = Rc::make_mut(&mut changed);
        (changed.check_only, changed.recheck, changed.found) = (false, false, None);
        changed.paused = true;
        Ok(Next::Pause)
    }

    /// It does not run, and leaves nothing in anybody's way.
    pub(super) async fn abandon_data(&self) -> Result<(), Error> {
        let Some(storage) = self.opened.get().cloned() else { return Ok(()) };
        self.context.on_worker(Lane::Transfer, move || storage.abandon()).await
    }

    /// The torrent turns out to be private: it is between the trackers and their peers (BEP 27).
    pub(super) fn keep_private(&self, inner: &mut Inner) {
        inner.core.handle_private(self.context.now());
        self.announcer.borrow_mut().handle_private();
        for swarm in self.swarms() {
            self.lsd().iter().for_each(|lsd| lsd.remove(swarm));
            self.dht().iter().for_each(|dht| dht.forget(swarm));
        }
    }
}
