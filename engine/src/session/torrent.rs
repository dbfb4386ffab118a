//! A torrent on the network thread: the state machine, and who carries out what it wants.
//!
//! [`TorrentDriver`] holds the state that connections, disk results and trackers
//! act on, always by the same steps: borrow it, hand the input to the state machine,
//! drain its actions. Nothing here waits; tasks do.

use super::command::Command;
use super::connection::Connection;
use super::context::{Context, SessionEventSender};
use super::disk::{Disk, DiskResults, Scrubbing};
use super::event::{Event, State};
use super::events::EventSender;
use super::filter_state::What;
use super::handle::{Known, Phase};
use super::limit::Limit;
use super::options::{AddTorrent, Mode, Source};
use super::prepared::PreparedCache;
use super::progress::{Progress, Ready};
use super::rate_group::GroupLimits;
use super::readers::Readers;
use super::registry::Registry;
use super::relocation::Request as Relocate;
use super::running::RunningTorrent;
use super::verifying::CompletePieces;
use super::webseed::WebSources;
use crate::Error;
use crate::buffer::PieceBuffer;
use crate::id::TorrentId;
use crate::storage::{Storage, StorageError};
use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::bitfield::Bitfield;
use swarm_core::geometry::BLOCK_LEN;
use swarm_core::id::{InfoHash, PeerId, PeerKey, PieceIndex};
use swarm_core::metainfo::{HashTrees, Info, Metainfo};
use swarm_core::mse::Encryption;
use swarm_core::picker::Priority;
use swarm_core::proxy::Destination;
use swarm_core::time::Time;
use swarm_core::torrent::discovery::Origin;
use swarm_core::torrent::hashes::CHUNK;
use swarm_core::torrent::metadata::Content as CoreContent;
use swarm_core::torrent::{Action, Config, Event as CoreEvent, Torrent, Totals};
use swarm_core::tracker::announcer::Announcer;
use swarm_core::webseed::Fault;
use swarm_core::wire::{DecodeLimits, Message};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_local;

/// How many connected peers a torrent that starts again dials at once.
const RECONNECTED_MAX: usize = 100;

/// How many hashes of one layer are asked for at once; `None` in version 1.
fn hashes_asked_at_once(info: &Info) -> Option<u32> {
    info.info_hash_v2.map(|_| CHUNK.max(info.geometry.piece_len() / BLOCK_LEN))
}

/// One torrent on the network thread.
pub(crate) struct TorrentDriver {
    pub(crate) context: Rc<Context>,
    pub(super) info_hash: InfoHash,
    pub(super) options: Rc<AddTorrent>,
    /// The options as they have been changed since, for when it starts again.
    pub(super) changed: RefCell<Rc<AddTorrent>>,
    /// Which torrents the session has.
    pub(super) registry: Arc<Registry>,
    /// What is known of it.
    pub(super) known: Arc<Known>,
    /// What it holds, once that is known and checked.
    pub(super) content: OnceCell<Content>,
    /// The user has still to say which files are wanted.
    pub(super) is_held: Cell<bool>,
    /// Peers and trackers are tried.
    pub(super) is_begun: Cell<bool>,
    /// How many trackers are being asked.
    pub(super) announces: Cell<u32>,
    /// When trackers are to hear of it, if that has to wait.
    pub(super) announces_from: Cell<Option<Time>>,
    /// How far its data is checked.
    pub(super) progress: Progress,
    /// Its storage, from when it is opened on.
    pub(super) opened: OnceCell<Arc<dyn Storage>>,
    pub(super) upload: Limit,
    pub(super) download: Limit,
    /// Limits that it shares with others.
    pub(super) groups: RefCell<Box<[Rc<GroupLimits>]>>,
    pub(super) events: TorrentEvents,
    pub(super) phase: Arc<watch::Sender<Phase>>,
    /// What was transferred before it was paused or started again.
    pub(super) totals_before: Totals,
    pub(super) announcer: Rc<RefCell<Announcer>>,
    /// Peers to dial again: those that it had when it was paused or started again.
    reconnect: RefCell<Vec<SocketAddr>>,
    /// The DHT nodes that its metainfo names were asked.
    pub(super) has_joined: Cell<bool>,
    pub(super) disk_results: DiskResults,
    /// Pieces that wait for a worker.
    pub(super) complete: OnceCell<CompletePieces>,
    pub(super) inner: RefCell<Inner>,
    pub(super) scrubbing: OnceCell<Box<Scrubbing>>,
    /// Wakes the torrent's own task: its timer may have changed, or it is to end.
    pub(super) wake: Notify,
    pub(super) failure: RefCell<Option<Error>>,
    /// What the watcher was warned of.
    pub(super) warned: RefCell<BTreeSet<String>>,
    /// Whether everything wanted was there from the start.
    pub(super) was_complete: Cell<bool>,
    /// Jobs that workers do for this torrent.
    pub(super) jobs: Cell<usize>,
    /// Where its files are to be moved once it has ended.
    pub(super) relocation: RefCell<Option<Box<Relocate>>>,
    /// Web seeds that are not used any more, and why.
    pub(super) dropped_web_seeds: RefCell<BTreeMap<String, Fault>>,
    /// What we call ourselves.
    pub(super) peer_id: PeerId,
}

/// Tells of what happens to a torrent: to its own watchers and to the session's.
#[derive(Clone)]
pub(super) struct TorrentEvents {
    pub(super) id: TorrentId,
    pub(super) own: EventSender<Event>,
    pub(super) session: SessionEventSender,
}

impl TorrentEvents {
    pub(super) fn send(&self, event: Event) {
        self.own.send(&event);
        self.session.send(&(Some(self.id), event));
    }
}

/// What a torrent holds.
pub(super) struct Content {
    pub(super) metainfo: Arc<Metainfo>,
    pub(super) storage: Arc<dyn Storage>,
    /// The pieces that the wanted files need.
    /// Empty for a seed, which needs none.
    pub(super) needed: Bitfield,
    /// The priority of each file; `None`: all are wanted alike.
    pub(super) files: Option<Vec<Priority>>,
}

/// Where a torrent's task hears and speaks.
pub(super) struct Channels {
    pub(super) registry: Arc<Registry>,
    pub(super) commands: mpsc::UnboundedReceiver<Box<Command>>,
    pub(super) events: TorrentEvents,
    pub(super) phase: Arc<watch::Sender<Phase>>,
    pub(super) known: Arc<Known>,
    /// Where the files of a torrent that does not run are to be moved.
    pub(super) relocation: Option<Box<Relocate>>,
}

/// How a torrent's run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is over.
    Stop,
    /// It is over, and its files go.
    Delete,
    /// It waits until it is resumed.
    Pause,
    /// It starts again, with other options.
    Restart,
    /// Its files are moved, and it starts again.
    Relocate,
}

/// What a torrent takes along when it is paused or starts again.
pub(super) struct Carried {
    pub(super) peer_id: PeerId,
    pub(super) totals: Totals,
    pub(super) announcer: Rc<RefCell<Announcer>>,
    pub(super) readers: Readers,
    pub(super) reconnect: Vec<SocketAddr>,
    pub(super) dropped_web_seeds: BTreeMap<String, Fault>,
    pub(super) has_joined: bool,
}

/// What inputs change.
pub(crate) struct Inner {
    pub(crate) core: Torrent,
    pub(super) connections: BTreeMap<PeerKey, Connection>,
    pub(super) buffers: BTreeMap<PieceIndex, PieceBuffer>,
    pub(super) prepared: PreparedCache,
    pub(super) disk: Disk,
    pub(super) readers: Readers,
    pub(super) state: State,
    pub(super) web: WebSources,
    pub(super) next_key: u32,
    /// Whether the IP filter has blocked an address of a peer.
    pub(super) is_any_blocked: bool,
    /// Whether somebody has refused our handshake since a peer was connected last.
    pub(super) is_refused: bool,
}

impl TorrentDriver {
    /// A torrent of which no more is known than its info-hash.
    #[expect(
        clippy::boxed_local,
        reason = "the frame of a torrent's task has no room for it while the torrent runs"
    )]
    pub(super) fn new(
        context: Rc<Context>,
        options: Rc<AddTorrent>,
        info_hash: InfoHash,
        channels: &Channels,
        carried: Box<Carried>,
    ) -> TorrentDriver {
        let Carried { peer_id, totals, announcer, readers, reconnect, dropped_web_seeds, has_joined } =
            *carried;
        let seed = context.rng.borrow_mut().next_u64();
        let private = options.source.metainfo().is_some_and(|metainfo| metainfo.info.private);
        let mut config = Config::new(info_hash, peer_id, seed);
        config.info_hash_v2 = options.source.info_hashes().v2.map(Box::new);
        config.exchange = context.options.pex && !private;
        config.holepunch = !private && context.binding.proxy.is_none() && !context.utps.borrow().is_empty();
        config.canonical_priority = !private;
        config.prefers_encryption = context.options.encryption >= Encryption::Prefer;
        config.super_seeding = options.super_seeding;
        config.listen_port = context.listening.first().map(SocketAddr::port);
        config.tells_own_ips = context.binding.proxy.is_none();
        config.peers_max = options.peers_max.max(1);
        config.peers_wanted = config.peers_wanted.min(config.peers_max);
        let mut core = Torrent::without_metadata(config);
        for ip in context.listening.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()) {
            core.handle_listening(ip);
        }
        core.set_pressure(context.now(), context.pressure.get());
        core.set_ip_filter(context.now(), context.peer_filter());
        core.handle_mapped_port(context.mapped_port.get());

        TorrentDriver {
            info_hash,
            upload: Limit::new(options.upload_limit),
            download: Limit::new(options.download_limit),
            groups: RefCell::new(context.rate_groups.of(&options.rate_groups)),
            registry: Arc::clone(&channels.registry),
            known: Arc::clone(&channels.known),
            content: OnceCell::new(),
            changed: RefCell::new(Rc::clone(&options)),
            totals_before: totals,
            announcer,
            reconnect: RefCell::new(reconnect),
            has_joined: Cell::new(has_joined),
            is_held: Cell::new(options.hold),
            is_begun: Cell::new(false),
            announces: Cell::new(0),
            announces_from: Cell::new(None),
            progress: Progress::default(),
            opened: OnceCell::new(),
            events: channels.events.clone(),
            phase: Arc::clone(&channels.phase),
            disk_results: DiskResults::default(),
            complete: OnceCell::new(),
            inner: RefCell::new(Inner {
                core,
                connections: BTreeMap::new(),
                buffers: BTreeMap::new(),
                prepared: PreparedCache::default(),
                disk: Disk::default(),
                readers,
                state: State::Checking,
                web: WebSources::default(),
                next_key: 0,
                is_any_blocked: false,
                is_refused: false,
            }),
            scrubbing: OnceCell::new(),
            wake: Notify::new(),
            failure: RefCell::new(None),
            warned: RefCell::default(),
            was_complete: Cell::new(false),
            jobs: Cell::new(0),
            relocation: RefCell::default(),
            dropped_web_seeds: RefCell::new(dropped_web_seeds),
            peer_id,
            options,
            context,
        }
    }

    /// The torrent's data is known and checked: from now on it has pieces.
    pub(super) fn on_data_ready(self: &Rc<Self>, metainfo: &Arc<Metainfo>, ready: Ready) {
        let Ready { storage, have, damaged, mut needed, files, partial } = ready;
        // Others may have completed files since they were looked at.
        let is_behind = self.progress.looked_at.get() != self.context.completed.count();
        if self.options.mode == Mode::Seed {
            needed = Bitfield::empty(0);
        }
        if self.options.recheck {
            Rc::make_mut(&mut self.changed.borrow_mut()).recheck = false;
        }
        if self.options.found.is_some() {
            Rc::make_mut(&mut self.changed.borrow_mut()).found = None;
        }
        let (info, now) = (&metainfo.info, self.context.now());
        let geometry = &info.geometry;
        let (have_count, pieces) = (have.count(), have.len());
        let content = CoreContent {
            metadata: metainfo.info_bytes.clone(),
            geometry: geometry.clone(),
            have,
            padding: info.padding.clone(),
            hashes: HashTrees::of(info),
            private: info.private,
        };
        let metainfo = Arc::clone(metainfo);
        storage.set_mending(self.changed.borrow().scrub.is_some());
        let mendable = storage.mendable();
        let _ = self.content.set(Content { metainfo: Arc::clone(&metainfo), storage, needed, files });
        self.emit(Event::Started { have: have_count, pieces });
        self.with(|inner| {
            inner.core.set_pressure(now, self.context.pressure.get());
            inner.core.handle_metadata(now, content);
            if !mendable.is_empty() {
                inner.disk.unchecked().mending.extend(mendable);
            }
            self.set_priorities(inner);
            for (piece, blocks) in partial {
                let padding = metainfo.info.padding.blocks_in(geometry, piece);
                let buffer = PieceBuffer::with_padding(geometry, piece, padding.into_iter());
                inner.buffers.insert(piece, buffer.with_spilled(&blocks));
                inner.core.restore_blocks(piece, &blocks);
            }
            inner.core.handle_pieces_damaged(now, damaged.iter());
            inner.core.set_order(self.changed.borrow().order);
            self.move_windows(inner, 0..0);
            self.serve_readers(inner);
            self.start_web_seeds(inner);
            if have_count > 0 {
                self.note_complete(None);
            }
            if have_count < pieces {
                self.look_at_bad_files_later(inner, now);
            }
            // Whatever is complete already is none of the events. A seed is, whatever it lacks.
            if inner.core.is_complete() || self.options.mode == Mode::Seed {
                self.was_complete.set(true);
                self.finish(inner);
            }
        });
        self.wake_connections();
        self.context.torrents.note_content(self.info_hash);
        if is_behind && RunningTorrent::is_downloading(&**self) {
            self.context.completed.note_newcomer(self.info_hash);
        }
    }

    /// What it holds.
    ///
    /// # Panics
    /// If nothing is known of that, when it has no pieces either.
    pub(super) fn content(&self) -> &Content {
        self.content.get().expect("a torrent with pieces")
    }

    /// Whether it is known to be private.
    pub(super) fn is_private(&self) -> bool {
        let metainfo = self.known.metainfo.get().or(self.known.incomplete.get());
        metainfo.is_some_and(|metainfo| metainfo.info.private)
    }

    /// What connections may be sent.
    pub(crate) fn decode_limits(&self) -> DecodeLimits {
        let limits = match self.content.get() {
            Some(content) => DecodeLimits::for_pieces(content.metainfo.info.geometry.pieces()),
            None => DecodeLimits::default(),
        };
        match self.known.metainfo.get().or(self.known.incomplete.get()) {
            Some(metainfo) => match hashes_asked_at_once(&metainfo.info) {
                Some(hashes) => limits.with_hashes(hashes),
                None => limits,
            },
            // It may be of version 2.
            None => limits.with_hashes(CHUNK),
        }
    }

    /// The first things that happen: peers and trackers are tried.
    pub(super) fn begin(self: &Rc<Self>) {
        let now = self.context.now();
        self.is_begun.set(true);
        self.warn_of_blocked(&self.changed.borrow().peers);
        self.start_announcing();
        self.limits_changed();
        let unverifiable = self.options.source.metainfo().filter(|metainfo| !metainfo.info.can_verify());
        self.with(|inner| {
            unverifiable.into_iter().for_each(|metainfo| self.want_layers(inner, Arc::clone(metainfo)));
            inner.core.handle_addresses(now, &self.changed.borrow().peers, Origin::User);
            inner.core.handle_addresses(now, &self.reconnect.take(), Origin::Found);
        });
        if let Source::Magnet(magnet) = &self.options.source {
            for (host, port) in &magnet.peers {
                spawn_local(Rc::clone(self).look_up(Destination::new(host, *port)));
            }
        }
        self.drive_announcer();
        self.note_announces();
    }

    /// Hands an input to the state machine and carries out what it wants.
    pub(crate) fn with<R>(self: &Rc<Self>, input: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.borrow_mut();
        let timer = inner.core.poll_timeout();
        let result = input(&mut inner);
        self.drain(&mut inner);
        let blocked = inner.core.take_addresses_blocked();
        inner.is_any_blocked |= blocked > 0;
        self.context.on_blocked(What::Address, blocked);
        // The torrent's own task sleeps until what was due first.
        let next = inner.core.poll_timeout();
        if next.is_some_and(|next| timer.is_none_or(|timer| next < timer)) {
            self.wake.notify_one();
        }
        result
    }

    pub(super) fn drain(self: &Rc<Self>, inner: &mut RefMut<'_, Inner>) {
        loop {
            while let Some(action) = inner.core.poll_action() {
                self.act(inner, action);
            }
            let Some(event) = inner.core.poll_event() else { return };
            match event {
                CoreEvent::PieceVerified(piece) => {
                    self.emit(Event::PieceVerified(piece));
                    self.read_waiting(inner, piece);
                }
                CoreEvent::PieceFailed(piece) => self.emit(Event::PieceFailed(piece)),
                CoreEvent::PeerBanned { addr, reason } => {
                    self.emit(Event::PeerBanned { addr, reason });
                }
                CoreEvent::PeerLeft { addr, bytes_down, bytes_up } => {
                    self.emit(Event::PeerLeft { addr, bytes_down, bytes_up });
                }
                CoreEvent::Holepunched { addr, relay } => {
                    tracing::info!(%addr, %relay, "met by holepunching");
                    self.emit(Event::Holepunched { addr, relay });
                }
                CoreEvent::HolepunchFailed { addr, relay, failure } => {
                    tracing::info!(%addr, %relay, "holepunching failed: {failure}");
                    self.emit(Event::HolepunchFailed { addr, relay, failure });
                }
                CoreEvent::WebSeedFault { seed, file_start, fault, penalty } => {
                    self.on_web_seed_fault(inner, seed, file_start, fault, penalty);
                }
                CoreEvent::HashesContradict(piece) => {
                    self.fail(StorageError::contradiction(&self.content().metainfo.info, piece).into());
                }
                CoreEvent::Completed => self.finish(inner),
                CoreEvent::MetadataReceived(bytes) => self.on_metadata(inner, &bytes),
                CoreEvent::PieceLayersReceived(layers) => self.on_layers(layers),
                CoreEvent::PieceLayersMissing => self.go_on_without_v2(),
                _ => {}
            }
        }
    }

    fn act(self: &Rc<Self>, inner: &mut Inner, action: Action) {
        match action {
            Action::Send { peer, message } => {
                inner.connections.get_mut(&peer).into_iter().for_each(|connection| connection.send(&message));
            }
            Action::BroadcastHave(piece) => {
                for connection in inner.connections.values_mut().filter(|connection| !connection.is_closing())
                {
                    connection.send(&Message::Have(piece));
                }
            }
            Action::Upload(peer) => {
                if let Some(connection) = inner.connections.get(&peer) {
                    connection.wake.notify_one();
                }
            }
            Action::Close { peer, reason } => {
                inner
                    .connections
                    .get_mut(&peer)
                    .into_iter()
                    .for_each(|connection| connection.close(reason.clone()));
            }
            Action::Connect(dial) => {
                spawn_local(Rc::clone(self).dial(dial));
            }
            Action::VerifyPiece { piece, digests } => self.complete_piece(inner, piece, digests),
            Action::CheckPiece(piece) => self.suspect(piece),
            Action::HashLeaves { first, pieces } => self.hash_leaves(first, pieces),
            Action::DropBlocks { piece, blocks } => {
                inner.buffers.get_mut(&piece).into_iter().for_each(|buffer| buffer.forget(&blocks));
            }
            Action::HashBlocks(piece) => self.hash_blocks(piece),
            Action::KeepBlocks { piece, blocks } => Self::keep_blocks(inner, piece, &blocks),
            Action::Fetch { id, seed, blocks } => self.start_fetch(inner, id, seed, blocks),
            Action::CancelFetch(id) => self.cancel_fetch(inner, id),
            Action::DropPiece(piece) => {
                inner.buffers.remove(&piece);
                inner.disk.forget(piece);
            }
        }
    }

    /// The session's or the torrent's limits have changed.
    pub(crate) fn limits_changed(self: &Rc<Self>) {
        let (now, limit) = (self.context.now(), self.download_limit());
        self.with(|inner| inner.core.set_download_limit(now, limit));
        self.wake_connections();
    }

    /// The torrent's own task: time, disk results, commands and trackers, until it is stopped or fails.
    pub(super) async fn run(
        self: &Rc<Self>,
        commands: &mut mpsc::UnboundedReceiver<Box<Command>>,
    ) -> Result<Next, Error> {
        let mut next = None;
        let mut alone = false;
        let mut opening = None;
        let mut scrub = None;
        while next.is_none() && self.failure.borrow().is_none() {
            if self.is_done_with_metadata() {
                break;
            }
            if opening.is_none() {
                opening = self.to_open().map(|metainfo| Box::pin(Rc::clone(self).open(metainfo)));
            }
            if scrub.is_none() && self.is_to_be_scrubbed() {
                scrub = Some(Box::pin(Rc::clone(self).scrub()));
            }
            let deadline = self.next_deadline();
            tokio::select! {
                () = self.wake.notified() => {}
                () = async { opening.as_mut().expect("it is there").await }, if opening.is_some() => {
                    opening = None;
                }
                () = async { scrub.as_mut().expect("it is there").await }, if scrub.is_some() => scrub = None,
                result = self.disk_results.next() => {
                    self.on_disk_result(result);
                    while let Some(result) = self.disk_results.try_next() {
                        self.on_disk_result(result);
                    }
                    self.context.on_memory_freed();
                }
                command = commands.recv(), if !alone => match command {
                    Some(command) => next = self.on_command(*command),
                    // Nobody holds a handle any more: the torrent goes on by itself.
                    None => alone = true,
                },
                () = tokio::time::sleep_until(deadline) => {
                    let now = self.context.now();
                    self.with(|inner| inner.core.handle_timeout(now));
                }
            }
            self.drive_announcer();
            self.sync_if_due();
            self.retry_disk_if_due();
            self.look_at_bad_files_if_due();
        }
        drop(scrub);
        if let Some(opening) = opening {
            self.progress.abort();
            opening.await;
        }
        let next = next.unwrap_or(Next::Stop);
        self.remember_peers();
        Box::pin(self.shut_down(next)).await?;
        Ok(next)
    }

    /// Whether nothing but the metadata was wanted, and it is here.
    fn is_done_with_metadata(&self) -> bool {
        self.options.mode == Mode::Metadata && self.known.metainfo.get().is_some()
    }

    /// The torrent whose data is to be opened now, if any is.
    pub(super) fn to_open(&self) -> Option<Arc<Metainfo>> {
        let is_open = self.content.get().is_some() || self.is_held.get();
        self.known.metainfo.get().filter(|_| !is_open && self.options.mode != Mode::Metadata).cloned()
    }

    /// Opens the data of a torrent that was known by its link only. Its connections go on meanwhile.
    async fn open(self: Rc<Self>, metainfo: Arc<Metainfo>) {
        match self.prepare_data(&metainfo, None).await {
            _ if self.progress.is_aborted() => {}
            Ok(ready) => self.on_data_ready(&metainfo, ready),
            Err(error) => self.fail(error),
        }
    }

    fn next_deadline(&self) -> tokio::time::Instant {
        let inner = self.inner.borrow();
        let announcer = self.announces_from.get().or_else(|| self.announcer.borrow().poll_timeout());
        let times = [inner.core.poll_timeout(), announcer, inner.disk.poll_timeout()];
        self.context.instant(times.into_iter().flatten().min().unwrap_or(Time::MAX))
    }

    /// If it starts again, it is with the peers that it has.
    fn remember_peers(&self) {
        let inner = self.inner.borrow();
        self.reconnect.borrow_mut().extend(inner.core.known_peers().take(RECONNECTED_MAX));
    }

    /// What is left of it is for the next run.
    pub(super) fn carry(&self) -> Carried {
        let mut inner = self.inner.borrow_mut();
        Carried {
            peer_id: self.peer_id,
            totals: self.totals(&inner.core),
            announcer: Rc::clone(&self.announcer),
            readers: std::mem::take(&mut inner.readers),
            reconnect: self.reconnect.take(),
            dropped_web_seeds: self.dropped_web_seeds.take(),
            has_joined: self.has_joined.get(),
        }
    }
}
