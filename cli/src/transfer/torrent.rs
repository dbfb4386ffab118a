//! One torrent of a command: what its events lead to, until it has done what it is there for.

use super::plan::{Plan, SeedUntil};
use super::stream::{self, Stream};
use super::words;
use crate::context::Context;
use crate::events::{About, Progress, Record, Traffic, seconds};
use crate::exit::{self, Exit, printable};
use crate::interrupt::Signal;
use crate::progress;
use crate::selection::listed;
use crate::units;
use anyhow::Result;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use swarm_core::id::FileIndex;
use swarm_core::metainfo::{Magnet, Metainfo};
use swarm_engine::{
    Event, Files, SpaceBudget, State, TorrentHandle, TorrentId, TorrentStats, WebSeedPenalty,
};
use tokio::time::Instant;

/// How many peers that have left are remembered with what they had part in.
const PEERS_LEFT_MAX: usize = 10_000;

/// What all torrents of a command share.
pub struct Shared<'a> {
    pub cx: &'a mut Context,
    pub plan: Plan,
    /// Whether there are several torrents.
    pub is_batch: bool,
    /// Where peers can reach us.
    pub addresses: Vec<SocketAddr>,
    /// What the gateway does for us, once that is known.
    pub reach: Option<String>,
}

pub type Step = ControlFlow<Result<Exit>>;

pub const GO_ON: Step = ControlFlow::Continue(());

fn fail(exit: Exit, message: String) -> Step {
    ControlFlow::Break(exit::fail(exit, message))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// SOURCE is read, or a mutable torrent looked up.
    Opening,
    /// The metadata of a link is fetched.
    Metadata,
    /// Existing data is checked, or space reserved.
    Checking,
    Running,
}

pub struct Torrent {
    pub about: About,
    /// What to call it: SOURCE, then the link's name, then its own.
    pub name: String,
    /// The link that led to it.
    pub link: Option<Magnet>,
    pub handle: Option<TorrentHandle>,
    pub path: PathBuf,
    pub phase: Phase,
    /// As it was last looked at.
    pub progress: Progress,
    /// How many pieces of existing data have been checked, of how many.
    pub checking: Option<(u32, u32)>,
    pub is_complete: bool,
    /// Why the disk takes nothing, and whether because it is full.
    pub disk: Option<(String, bool)>,
    /// Whether another SOURCE led to the same torrent first.
    pub is_double: bool,
    pub outcome: Option<Result<Exit>>,
    /// What came from and went to peers that have left, by address.
    left: BTreeMap<SocketAddr, (u64, u64)>,
    /// When something came last.
    pub came_at: Instant,
    /// When the disk has been full for too long.
    give_up_at: Option<Instant>,
    /// The simulated limit of the disk, and when it is lifted.
    budget: Option<Arc<SpaceBudget>>,
    lift_at: Option<Instant>,
    /// What is served to players.
    stream: Option<Stream>,
    /// When enough has been seeded.
    stop_at: Option<Instant>,
    /// Whether it was looked at since the last tick.
    pub skips_tick: bool,
}

impl Torrent {
    /// The torrent that SOURCE names.
    pub fn new(source: String) -> Torrent {
        Torrent {
            name: printable(&source),
            about: About { source: Some(source), info_hash: None },
            link: None,
            handle: None,
            path: PathBuf::new(),
            phase: Phase::Opening,
            progress: Progress::default(),
            checking: None,
            is_complete: false,
            disk: None,
            is_double: false,
            outcome: None,
            left: BTreeMap::new(),
            came_at: Instant::now(),
            give_up_at: None,
            budget: None,
            lift_at: None,
            stream: None,
            stop_at: None,
            skips_tick: false,
        }
    }

    pub fn id(&self) -> Option<TorrentId> {
        self.handle.as_ref().map(TorrentHandle::id)
    }

    /// The limit of the disk that the user wants simulated.
    pub fn budget(&mut self, plan: &Plan) -> Option<Arc<SpaceBudget>> {
        self.budget = plan.simulated_disk.map(|(bytes, _)| Arc::new(SpaceBudget::new(bytes)));
        self.budget.clone()
    }

    /// The earliest time at which [`on_deadline`](Self::on_deadline) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        [self.give_up_at, self.lift_at, self.stop_at].into_iter().flatten().min()
    }

    pub async fn on_deadline(&mut self, shared: &mut Shared<'_>) -> Step {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        if is_due(self.give_up_at) {
            let waited = units::duration(shared.plan.space_wait.unwrap_or_default());
            let message = format!("{}: no space came free within {waited}", self.path.display());
            return fail(Exit::Destination, message);
        }
        if is_due(self.lift_at) {
            self.lift_at = None;
            self.budget.take().into_iter().for_each(|budget| budget.lift());
        }
        if is_due(self.stop_at) {
            return self.stopped("duration", Exit::Done, shared).await;
        }
        GO_ON
    }

    pub async fn on_event(&mut self, event: Event, shared: &mut Shared<'_>) -> Step {
        match event {
            Event::MetadataReceived => return self.on_metadata(shared),
            Event::Checking { done, of } => self.checking = Some((done, of)),
            Event::Reused { bytes, bytes_total, bytes_cloned, from } => {
                let from: Vec<_> = from.iter().map(|path| path.to_string_lossy().into_owned()).collect();
                let record = Record::Reused { bytes, bytes_total, bytes_cloned, from: &from };
                shared.cx.record_about(&self.about, &record);
                self.note(shared, &printable(&words::reused(bytes, bytes_total, &from)));
            }
            Event::Started { have, pieces } => return self.on_started(have, pieces, shared),
            Event::PieceFailed(piece) => {
                shared.cx.record_about(&self.about, &Record::PieceFailed { piece: piece.0 });
            }
            Event::PeerBanned { addr, reason } => {
                let record = Record::PeerBanned { address: addr, reason: &reason.to_string() };
                shared.cx.record_about(&self.about, &record);
                self.note(shared, &format!("{addr}: banned: {reason}"));
            }
            Event::Holepunched { addr, relay } => {
                shared.cx.record_about(&self.about, &Record::Holepunched { address: addr, relay });
            }
            Event::HolepunchFailed { addr, relay, failure } => {
                let reason = failure.to_string();
                let record = Record::HolepunchFailed { address: addr, relay, reason: &reason };
                shared.cx.record_about(&self.about, &record);
            }
            Event::PeerLeft { addr, bytes_down, bytes_up }
                if bytes_down + bytes_up > 0 && self.left.len() < PEERS_LEFT_MAX =>
            {
                add(&mut self.left, addr, bytes_down, bytes_up);
            }
            Event::Warning(message) => self.warn(shared, &message),
            Event::WebSeedFault { url, file, fault, penalty } => {
                self.on_web_seed_fault(shared, &url, file.as_deref(), &fault.to_string(), penalty);
            }
            Event::FileChanged { path, .. } => {
                shared.cx.record_about(&self.about, &Record::FileChanged { path: &path });
                self.note(
                    shared,
                    &format!("{path}: changed by another program; checked again before it is sent"),
                );
            }
            Event::DataBad { path, pieces, refetched, .. } => {
                shared.cx.record_about(&self.about, &Record::DataBad { path: &path, pieces, refetched });
                let of = if pieces == 1 { "1 piece is".to_owned() } else { format!("{pieces} pieces are") };
                let next = match refetched {
                    true => "downloaded again",
                    false => "no longer offered until the right file is back",
                };
                self.note(shared, &format!("{path}: {of} bad, and {next}"));
            }
            Event::DataMended { path, piece, .. } => {
                shared.cx.record_about(&self.about, &Record::DataMended { path: &path, piece: piece.0 });
                self.note(shared, &format!("{path}: piece {piece} was bad, and has been downloaded again"));
            }
            Event::DiskStalled { error } => {
                self.on_disk_stalled(words::of_storage(&error), error.is_no_space(), shared);
            }
            Event::DiskResumed => {
                (self.give_up_at, self.disk) = (None, None);
                shared.cx.record_about(&self.about, &Record::DiskResumed);
                self.note(shared, "the disk takes data again");
            }
            Event::Completed => return self.on_completed(shared).await,
            Event::Failed(error) => {
                let is_known = self.handle.as_ref().is_some_and(|handle| handle.metainfo().is_some());
                let error = words::failure(error);
                return ControlFlow::Break(Err(match is_known {
                    true => error,
                    false => error.context(self.name.clone()),
                }));
            }
            Event::Stopped => return ControlFlow::Break(Err(swarm_engine::Error::Stopped.into())),
            _ => {}
        }
        GO_ON
    }

    /// It is known what the torrent is: which of its files are wanted?
    pub fn on_metainfo(&mut self, metainfo: &Metainfo, shared: &mut Shared<'_>) -> Result<Files> {
        let info = &metainfo.info;
        (self.name, self.about.info_hash) = (printable(&info.name), Some(info.info_hash));
        self.path = shared.plan.dir_of(info).join(&info.name);
        let files = listed(&info.files).count();
        let record = Record::Metadata {
            source: self.about.source.as_deref().unwrap_or_default(),
            name: &info.name,
            info_hash_v1: info.info_hash_v1().map(|hash| hash.to_string()),
            info_hash_v2: info.info_hash_v2.map(|hash| hash.to_string()),
            piece_length: info.geometry.piece_len(),
            pieces: info.geometry.pieces(),
            total_size: info.payload_len(),
            files,
        };
        shared.cx.record_about(&self.about, &record);
        let (size, count) = (units::size(info.payload_len()), units::count(files, "file"));
        shared.cx.console.note(&format!("{}: {size} in {count}", self.name));
        metainfo.warnings.iter().for_each(|warning| self.warn(shared, warning));
        shared.plan.expect_folder(info, self.handle.is_some())?;
        let Some(wanted) = shared.plan.selection.wanted(metainfo, self.link.as_ref())? else {
            return Ok(Files::all());
        };
        let wanted = (0..).map(FileIndex).zip(wanted).filter(|(_, is_wanted)| *is_wanted);
        Ok(Files::only(wanted.map(|(file, _)| file)))
    }

    fn on_metadata(&mut self, shared: &mut Shared<'_>) -> Step {
        if shared.plan.is_metadata() {
            return ControlFlow::Break(Ok(Exit::Done));
        }
        let Some(handle) = self.handle.clone() else { return GO_ON };
        let Some(metainfo) = handle.metainfo() else { return GO_ON };
        self.came_at = Instant::now();
        let files = self.on_metainfo(&metainfo, shared);
        match files.and_then(|files| Ok(handle.set_files(files)?)) {
            Ok(()) => GO_ON,
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    fn on_started(&mut self, have: u32, pieces: u32, shared: &mut Shared<'_>) -> Step {
        self.phase = Phase::Running;
        self.came_at = Instant::now();
        shared.cx.record_about(&self.about, &Record::Checked { pieces_have: have, pieces });
        if shared.plan.needs_all && have < pieces {
            let message = format!(
                "{}: {} of {pieces} pieces are missing or damaged; `swarm verify` lists the files, \
                 --partial seeds the others",
                self.path.display(),
                pieces - have,
            );
            return fail(Exit::Data, message);
        }
        if !shared.cx.console.has_bars() {
            self.note(shared, &format!("{have} of {pieces} pieces are here"));
        }
        if shared.plan.stream && self.stream.is_none() {
            return self.start_stream(shared);
        }
        GO_ON
    }

    /// Tells where a file can be played.
    fn start_stream(&mut self, shared: &mut Shared<'_>) -> Step {
        let Some(handle) = self.handle.clone() else { return GO_ON };
        let Some(metainfo) = handle.metainfo() else { return GO_ON };
        let started = shared
            .plan
            .selection
            .wanted(&metainfo, self.link.as_ref())
            .and_then(|wanted| stream::start(&handle, wanted.as_deref()));
        match started {
            Ok(Some(stream)) => {
                let Stream { address, path, .. } = &stream;
                shared.cx.record_about(&self.about, &Record::Stream { path, address });
                shared.cx.console.say(&format!("{} plays at {address}", printable(path)));
                self.stream = Some(stream);
                GO_ON
            }
            Ok(None) => GO_ON,
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    fn on_disk_stalled(&mut self, reason: String, is_full: bool, shared: &mut Shared<'_>) {
        shared.cx.record_about(&self.about, &Record::DiskStalled { reason: &reason, full: is_full });
        let next = if is_full { "waiting until there is" } else { "retrying" };
        self.note(shared, &format!("{}; {next}", printable(&reason)));
        self.disk = Some((reason, is_full));
        let now = Instant::now();
        self.give_up_at = shared.plan.space_wait.filter(|_| is_full).map(|wait| now + wait);
        self.lift_at = shared.plan.simulated_disk.map(|(_, wait)| now + wait);
    }

    async fn on_completed(&mut self, shared: &mut Shared<'_>) -> Step {
        self.is_complete = true;
        let path = self.path.to_string_lossy().into_owned();
        if shared.plan.is_seed() {
            let addresses: Vec<String> = shared.addresses.iter().map(ToString::to_string).collect();
            let line = format!("seeding {} on {}", printable(&path), addresses.join(" and "));
            shared.cx.console.note(&line);
        } else {
            let traffic = self.traffic().await;
            let elapsed = shared.cx.start.elapsed();
            let record = Record::Complete { path: &path, seconds: seconds(elapsed), traffic: &traffic };
            shared.cx.record_about(&self.about, &record);
            shared.cx.console.say(&complete_line(&path, traffic.bytes_down, elapsed));
        }
        match shared.plan.until {
            SeedUntil::Complete => return ControlFlow::Break(Ok(Exit::Done)),
            SeedUntil::Elapsed(time) => self.stop_at = Some(Instant::now() + time),
            SeedUntil::Interrupted | SeedUntil::Ratio(_) => {}
        }
        GO_ON
    }

    /// Looks at how it stands, and prints that for scripts.
    pub async fn on_tick(&mut self, shared: &mut Shared<'_>) -> Step {
        let before = self.progress.bytes_down;
        let Some(handle) = &self.handle else { return self.on_stall(shared) };
        // A torrent that has ended has no figures.
        let Ok(stats) = handle.stats().await else { return GO_ON };
        self.progress = progress_of(&stats, shared.reach.as_deref());
        let is_checking = matches!(stats.state, State::Queued | State::Checking) && self.disk.is_none();
        if self.progress.bytes_down > before || is_checking || self.is_complete {
            self.came_at = Instant::now();
        }
        self.about.info_hash = handle.info_hashes().v1;
        match (stats.state, self.phase) {
            // The DHT does not know yet which torrent it is.
            (State::Metadata, _) if self.about.info_hash.is_none() => {}
            (State::Metadata, _) => {
                self.phase = Phase::Metadata;
                let (peers, waiting) = (self.progress.peers, self.progress.waiting.clone());
                shared.cx.record_about(&self.about, &Record::Fetching { peers, waiting });
            }
            (_, Phase::Running) => {
                shared.cx.record_about(&self.about, &Record::Progress(&self.progress));
                if let SeedUntil::Ratio(ratio) = shared.plan.until
                    && self.is_complete
                    && self.progress.bytes_up as f64 >= ratio * self.progress.bytes_total as f64
                {
                    return self.stopped("ratio", Exit::Done, shared).await;
                }
            }
            _ => self.phase = Phase::Checking,
        }
        self.on_stall(shared)
    }

    /// Gives up if nothing has come for too long.
    fn on_stall(&self, shared: &Shared<'_>) -> Step {
        let Some(limit) = shared.plan.stall_timeout.filter(|&limit| self.came_at.elapsed() >= limit) else {
            return GO_ON;
        };
        let why = match (&self.disk, &self.progress.waiting) {
            (Some((reason, _)), _) => reason.clone(),
            (None, Some(why)) => why.clone(),
            (None, None) if self.phase == Phase::Opening => "nothing was found".to_owned(),
            (None, None) => "peers send nothing".to_owned(),
        };
        let is_full = self.disk.as_ref().is_some_and(|(_, is_full)| *is_full);
        let exit = if is_full { Exit::Destination } else { Exit::Data };
        let limit = humantime::format_duration(limit);
        fail(exit, format!("{}: nothing came for {limit}: {why}", self.label()))
    }

    /// What to call it in an error: its path, or the link that it is known by.
    fn label(&self) -> String {
        if self.path.as_os_str().is_empty() { self.name.clone() } else { self.path.display().to_string() }
    }

    pub async fn on_signal(&mut self, signal: Signal, shared: &mut Shared<'_>) -> Step {
        if self.handle.is_some() && (self.is_complete || shared.plan.is_seed()) {
            return self.stopped(signal.reason(), signal.exit_of_service(), shared).await;
        }
        let kept = self.stats().await.map(|stats| kept(&progress_of(&stats, None), self.disk.is_some()));
        let kept = kept.map_or(String::new(), |kept| format!(", {kept}"));
        let what = self.label();
        fail(signal.exit(), format!("{what}: interrupted{kept}; the same command again goes on from here"))
    }

    /// Seeding ends, for this reason.
    async fn stopped(&mut self, reason: &str, exit: Exit, shared: &mut Shared<'_>) -> Step {
        let traffic = self.traffic().await;
        let elapsed = shared.cx.start.elapsed();
        let record = Record::Stopped { reason, seconds: seconds(elapsed), traffic: &traffic };
        shared.cx.record_about(&self.about, &record);
        let Progress { bytes_up, bytes_down, bytes_total, .. } = self.progress;
        let parts = progress::shared(bytes_up, bytes_down, bytes_total).join(", ");
        let (path, time) = (self.path.to_string_lossy(), units::duration(elapsed));
        shared.cx.console.say(&format!("{}: {parts} in {time}", printable(&path)));
        ControlFlow::Break(Ok(exit))
    }

    /// How it stands, once it runs.
    async fn stats(&self) -> Option<TorrentStats> {
        let handle = self.handle.as_ref().filter(|_| self.phase == Phase::Running)?;
        handle.stats().await.ok()
    }

    /// What has been received and sent, by peers that have left and peers that are here.
    async fn traffic(&mut self) -> Traffic {
        let Some(stats) = self.stats().await else { return Traffic::default() };
        self.progress = progress_of(&stats, None);
        let mut peers = self.left.clone();
        for peer in stats.peer_list.iter().filter(|peer| peer.bytes_down + peer.bytes_up > 0) {
            add(&mut peers, peer.listen_addr.unwrap_or(peer.addr), peer.bytes_down, peer.bytes_up);
        }
        Traffic::new(stats.totals, peers, &stats.web_seeds)
    }

    fn on_web_seed_fault(
        &self,
        shared: &mut Shared<'_>,
        url: &str,
        file: Option<&str>,
        reason: &str,
        penalty: WebSeedPenalty,
    ) {
        let (name, retry_in, next) = match penalty {
            WebSeedPenalty::InOrder => ("in_order", None, "it is asked for one file at a time from now on"),
            WebSeedPenalty::Paused(wait) => ("paused", Some(wait), "it is tried again in"),
            WebSeedPenalty::Dropped => ("dropped", None, "it is not used any more"),
            WebSeedPenalty::FilePaused(wait) => ("file_paused", Some(wait), "the file is tried again in"),
            WebSeedPenalty::FileDropped => ("file_dropped", None, "the file is not fetched there any more"),
        };
        let record = Record::WebSeedFault {
            url,
            file,
            reason,
            penalty: name,
            retry_in: retry_in.map(|wait| wait.as_secs_f64()),
        };
        shared.cx.record_about(&self.about, &record);
        let what = file.map(|file| format!(", {file}")).unwrap_or_default();
        let wait = retry_in.map(|wait| format!(" {}", units::duration(wait))).unwrap_or_default();
        let line = format!("web seed {url}{what}: {reason}; {next}{wait}");
        self.note(shared, &printable(&line));
    }

    /// A line for people, with the torrent's name if there are several.
    fn note(&self, shared: &mut Shared<'_>, line: &str) {
        let line = if shared.is_batch { format!("{}: {line}", self.name) } else { line.to_owned() };
        shared.cx.console.note(&line);
    }

    fn warn(&self, shared: &mut Shared<'_>, message: &str) {
        let label = if shared.is_batch { format!("{}: ", self.name) } else { String::new() };
        shared.cx.warn_about(&self.about, &label, message);
    }
}

fn progress_of(stats: &TorrentStats, reach: Option<&str>) -> Progress {
    Progress {
        reach: reach.map(str::to_owned),
        bytes_total: stats.bytes_total,
        bytes_verified: stats.bytes_verified,
        bytes_unverified: stats.bytes_unverified,
        pieces_have: stats.pieces_have,
        pieces: stats.pieces,
        rate_down: stats.rate_down,
        rate_up: stats.rate_up,
        bytes_down: stats.totals.bytes_down,
        bytes_up: stats.totals.bytes_up,
        bytes_wasted: stats.totals.bytes_wasted,
        peers: stats.peers,
        seeds: stats.seeds,
        waiting: stats.waiting.as_ref().map(|waiting| words::of_waiting(waiting, reach)),
    }
}

fn add(peers: &mut BTreeMap<SocketAddr, (u64, u64)>, addr: SocketAddr, bytes_down: u64, bytes_up: u64) {
    let sums = peers.entry(addr).or_default();
    *sums = (sums.0 + bytes_down, sums.1 + bytes_up);
}

/// How much of an interrupted download is kept.
fn kept(progress: &Progress, is_stalled: bool) -> String {
    let total = units::size(progress.bytes_total);
    // A disk that takes nothing does not take the blocks of unfinished pieces either.
    let unverified = if is_stalled { 0 } else { progress.bytes_unverified };
    match (progress.bytes_verified, unverified) {
        (0, 0) => format!("nothing of {total} came yet"),
        (verified, 0) => format!("{} of {total} kept", units::size(verified)),
        (verified, unverified) => {
            let all = units::size(verified + unverified);
            format!("{all} of {total} kept, {} of it verified", units::size(verified))
        }
    }
}

fn complete_line(path: &str, bytes_down: u64, elapsed: Duration) -> String {
    let path = printable(path);
    if bytes_down == 0 {
        return format!("{path}: complete, nothing was missing");
    }
    let rate = units::rate((bytes_down as f64 / elapsed.as_secs_f64()) as u64);
    format!("{path}: complete, {} in {} ({rate})", units::size(bytes_down), units::duration(elapsed))
}
