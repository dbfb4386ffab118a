//! What `seed` and `get` have in common: one torrent in one session, watched until it has done what it is there for.

use crate::app::Context;
use crate::events::{Moved, Record, seconds_since};
use crate::exit::{Exit, Failure, one_line, printable};
use crate::interrupt::{Interrupt, Signal};
use crate::network::NetworkArgs;
use crate::progress::{self, BAR_INTERVAL, LINE_INTERVAL, TransferBar};
use crate::source::{self, Link};
use crate::units;
use anyhow::{Context as _, Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::future::pending;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use swarm_core::metainfo::{Magnet, Metainfo};
use swarm_engine::{
    AddTorrent, Event, Files, Mode, Session, Source, SpaceBudget, State, TorrentHandle, TorrentStats, Waiting,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

/// How often a torrent is looked at, and scripts are told of its progress.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// How many peers that have left are remembered with what they had part in.
const PEERS_LEFT_MAX: usize = 10_000;

/// When to stop once everything is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SeedUntil {
    /// At once.
    Complete,
    /// When interrupted.
    Interrupted,
    /// When this many times the size has been uploaded.
    Ratio(f64),
    /// After this time.
    Elapsed(Duration),
}

/// Which files are wanted, once it is known which there are.
pub type Choose = Box<dyn Fn(&Metainfo) -> Result<Files>>;

/// What the user wants beside what the session is told.
pub struct Plan {
    /// The folder of the data.
    pub dir: PathBuf,
    /// Whether to download or to seed.
    pub mode: Mode,
    /// Which files to download.
    pub choose: Choose,
    /// When to stop.
    pub until: SeedUntil,
    /// How long a full disk is waited for.
    pub space_wait: Option<Duration>,
    /// Whether missing pieces are an error from the start.
    pub needs_all: bool,
    /// A disk that is full for a while: its budget, and how long until it is lifted.
    pub made_up_disk: Option<(Arc<SpaceBudget>, Duration)>,
}

impl Plan {
    /// All files, seeded until interrupted.
    pub fn seed(dir: PathBuf, mode: Mode) -> Plan {
        Plan {
            dir,
            mode,
            choose: Box::new(|_| Ok(Files::all())),
            until: SeedUntil::Interrupted,
            space_wait: None,
            needs_all: false,
            made_up_disk: None,
        }
    }
}

/// The torrent that a command is about.
pub struct Begun {
    /// What it is.
    pub source: Source,
    /// What to call it until its metadata is there.
    label: String,
    /// The session, if it took one to find out.
    session: Option<Session>,
}

/// Starts a session as the user wants it, and tells where peers can reach it.
fn start(network: &NetworkArgs, cx: &mut Context) -> Result<Session> {
    let session = network.start_session()?;
    cx.record(&Record::Listening { addresses: session.listen_addrs() });
    Ok(session)
}

/// Tells that the command begins, and reads SOURCE.
pub async fn begin(
    source: &OsStr,
    dir: &Path,
    network: &NetworkArgs,
    cx: &mut Context,
    interrupt: &mut Interrupt,
) -> Result<Begun> {
    cx.record(&Record::Started { source: &source.to_string_lossy(), dir: &dir.to_string_lossy() });
    if let Some(warning) = network.state_dir_warning() {
        cx.warn(&warning);
    }
    if network.state_dir().is_none() && !network.no_state {
        cx.warn("there is no home folder for state, so all complete data is checked at each start; --state-dir names one");
    }
    let options = network.session_options();
    let source = tokio::select! {
        source = source::open(source, &options) => source?,
        signal = interrupt.wait() => return Err(interrupted(signal, &source.to_string_lossy())),
    };
    match source {
        source::Source::Metainfo(metainfo) => {
            Ok(Begun { source: Arc::<Metainfo>::from(metainfo).into(), label: String::new(), session: None })
        }
        source::Source::Link(link) => {
            let session = start(network, cx)?;
            let label = link.label();
            let magnet = tokio::select! {
                magnet = resolve(link, &session, cx) => magnet,
                signal = interrupt.wait() => Err(interrupted(signal, &label)),
            };
            match magnet {
                Ok(magnet) => Ok(Begun { source: magnet.into(), label, session: Some(session) }),
                Err(error) => {
                    session.stop().await;
                    Err(error)
                }
            }
        }
    }
}

/// The torrent that a link names; of a mutable torrent, the DHT knows which one that is.
async fn resolve(link: Link, session: &Session, cx: &mut Context) -> Result<Magnet> {
    let label = link.label();
    let magnet = match link {
        Link::Magnet(magnet) => magnet,
        Link::Pointer(pointer) => {
            cx.console.note(&format!("{label}: resolving the mutable torrent in the DHT"));
            let info_hash = session.resolve(pointer).await.with_context(|| label.clone())?;
            cx.console.note(&format!("{label}: resolved to {info_hash}"));
            Magnet::new(info_hash)
        }
    };
    cx.console.note(&format!("{label}: fetching metadata"));
    Ok(magnet)
}

/// Gets the metadata of a link from peers, for as long as the user wants to wait.
pub async fn fetch_metadata(
    link: Link,
    limit: Option<Duration>,
    network: &NetworkArgs,
    cx: &mut Context,
    interrupt: &mut Interrupt,
) -> Result<Metainfo> {
    let session = network.start_session()?;
    let label = link.label();
    let too_late = at(limit.map(|limit| Instant::now() + limit));
    let fetched = async {
        let magnet = resolve(link, &session, cx).await?;
        let torrent = session.add(network.apply(AddTorrent::metadata(magnet))).await?;
        let mut watch = Watch::new(torrent.clone(), Plan::seed(PathBuf::new(), Mode::Metadata), network, cx);
        watch.label = label.clone();
        let result = watch.follow(interrupt).await;
        watch.bar.finish();
        result?;
        Ok(Metainfo::clone(&*torrent.metadata().await?))
    };
    let fetched = tokio::select! {
        fetched = fetched => fetched,
        () = too_late => {
            let limit = humantime::format_duration(limit.unwrap_or_default());
            Err(Failure::new(Exit::Runtime, format!("{label}: not found within {limit}")).into())
        }
    };
    session.stop().await;
    fetched
}

/// Transfers the torrent in a session of its own. The session has ended, and its state is saved, on return.
pub async fn run(
    begun: Begun,
    mut torrent: AddTorrent,
    plan: Plan,
    network: &NetworkArgs,
    cx: &mut Context,
    interrupt: &mut Interrupt,
) -> Result<Exit> {
    let mut path = PathBuf::new();
    let dir = plan.dir.clone();
    match &begun.source {
        Source::Metainfo(metainfo) => {
            tell_metadata(metainfo, cx);
            torrent = torrent.files((plan.choose)(metainfo)?);
            path = dir.join(&metainfo.info.name);
        }
        _ => torrent = torrent.hold(true),
    }
    let session = match begun.session {
        Some(session) => session,
        None => start(network, cx)?,
    };
    let torrent = session.add(network.apply(torrent)).await?;
    let mut watch = Watch::new(torrent, plan, network, cx);
    watch.addresses = session.listen_addrs().to_vec();
    (watch.label, watch.dir, watch.path) = (begun.label, dir, path);
    let result = watch.follow(interrupt).await;
    watch.bar.finish();
    session.stop().await;
    result
}

/// Tells what the torrent is.
fn tell_metadata(metainfo: &Metainfo, cx: &mut Context) {
    let info = &metainfo.info;
    let files = info.files.iter().filter(|file| !file.attr.pad).count();
    cx.record(&Record::Metadata {
        name: &info.name,
        info_hash_v1: info.info_hash.to_string(),
        piece_length: info.geometry.piece_len(),
        pieces: info.geometry.pieces(),
        total_size: info.payload_len(),
        files,
    });
    let (size, count) = (units::size(info.payload_len()), units::count(files, "file"));
    cx.console.note(&format!("{}: {size} in {count}", printable(&info.name)));
    for warning in &metainfo.warnings {
        cx.warn(warning);
    }
}

/// Passes a command's result on; if it is a failure, scripts get it as their last event.
pub fn end(result: Result<Exit>, cx: &mut Context) -> Result<Exit> {
    if let Err(error) = &result {
        cx.record(&Record::Failed { kind: Exit::of(error).kind(), message: &one_line(error) });
    }
    result
}

/// Why it ended, if the user ended it.
pub fn interrupted(signal: Signal, what: &str) -> Error {
    Failure::new(signal.exit(), format!("{what}: interrupted; the same command again goes on from here"))
        .into()
}

/// The same for a download, with what is kept of it.
fn kept(signal: Signal, path: &str, stats: &TorrentStats) -> Error {
    let total = units::size(stats.bytes_total);
    // A disk that takes nothing does not take the blocks of unfinished pieces either.
    let is_stalled = matches!(stats.waiting, Some(Waiting::Disk(_)));
    let unverified = if is_stalled { 0 } else { stats.bytes_unverified };
    let amount = match (stats.bytes_verified, unverified) {
        (0, 0) => format!("nothing of {total} came yet"),
        (verified, 0) => format!("{} of {total} kept", units::size(verified)),
        (verified, unverified) => {
            let all = units::size(verified + unverified);
            format!("{all} of {total} kept, {} of it verified", units::size(verified))
        }
    };
    let message = format!("{path}: interrupted, {amount}; the same command again goes on from here");
    Failure::new(signal.exit(), message).into()
}

/// Watches one torrent.
struct Watch<'a> {
    cx: &'a mut Context,
    torrent: TorrentHandle,
    plan: Plan,
    /// What to call it until its metadata is there.
    label: String,
    dir: PathBuf,
    path: PathBuf,
    /// Where peers can reach us.
    addresses: Vec<SocketAddr>,
    bar: TransferBar,
    tick_interval: Duration,
    /// What came from and went to peers that have left, by address.
    left: BTreeMap<SocketAddr, (u64, u64)>,
    /// How many pieces of existing data have been checked, of how many.
    checking: Option<(u32, u32)>,
    /// Existing data is known.
    is_started: bool,
    /// Everything wanted is there.
    is_complete: bool,
    /// How often progress gets a line.
    line_interval: Duration,
    /// When progress gets its next line.
    line_at: Instant,
    /// When the disk has been full for too long.
    give_up_at: Option<Instant>,
    /// When the made-up disk has space again.
    lift_at: Option<Instant>,
    /// When enough has been seeded.
    stop_at: Option<Instant>,
}

/// Whether to go on.
type Step = ControlFlow<Result<Exit>>;

const GO_ON: Step = ControlFlow::Continue(());

fn fail(exit: Exit, message: String) -> Step {
    ControlFlow::Break(Err(Failure::new(exit, message).into()))
}

impl<'a> Watch<'a> {
    fn new(torrent: TorrentHandle, plan: Plan, network: &NetworkArgs, cx: &'a mut Context) -> Watch<'a> {
        let bar = TransferBar::new(&cx.console);
        let line_interval = network.tuning.progress_interval.unwrap_or(LINE_INTERVAL);
        Watch {
            cx,
            torrent,
            plan,
            label: String::new(),
            dir: PathBuf::new(),
            path: PathBuf::new(),
            addresses: Vec::new(),
            bar,
            tick_interval: network.tuning.progress_interval.unwrap_or(TICK_INTERVAL),
            left: BTreeMap::new(),
            checking: None,
            is_started: false,
            is_complete: false,
            line_interval,
            line_at: Instant::now() + line_interval,
            give_up_at: None,
            lift_at: None,
            stop_at: None,
        }
    }

    async fn follow(&mut self, interrupt: &mut Interrupt) -> Result<Exit> {
        let mut events = self.torrent.events();
        let mut tick = self.ticker();
        loop {
            let step = tokio::select! {
                // In this order: a flood of events keeps neither the user nor progress waiting.
                biased;
                signal = interrupt.wait() => self.on_signal(signal).await,
                () = at(self.give_up_at) => self.on_no_space(),
                () = at(self.lift_at) => self.lift(),
                () = at(self.stop_at) => self.stopped("duration", Exit::Done).await,
                _ = tick.tick() => self.on_tick().await,
                event = events.next() => match event {
                    Some(event) => self.on_event(event, &mut tick).await,
                    None => ControlFlow::Break(Err(swarm_engine::Error::Stopped.into())),
                },
            };
            if let ControlFlow::Break(result) = step {
                return result;
            }
        }
    }

    fn ticker(&self) -> Interval {
        let period = if self.cx.console.has_bars() { BAR_INTERVAL } else { self.tick_interval };
        let mut tick = interval(period);
        // Progress is never told more often than this.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    }

    async fn on_event(&mut self, event: Event, tick: &mut Interval) -> Step {
        match event {
            Event::MetadataReceived => return self.on_metadata(),
            Event::Checking { done, of } => {
                self.bar.checking(done, of);
                self.checking = Some((done, of));
            }
            Event::Started { have, pieces } => {
                tick.reset_immediately();
                return self.on_started(have, pieces);
            }
            Event::PieceFailed(piece) => {
                self.cx.record(&Record::PieceFailed { piece: piece.0 });
            }
            Event::PeerBanned { addr, reason } => {
                if self.plan.mode != Mode::Metadata {
                    self.cx.record(&Record::PeerBanned { address: addr, reason: &reason.to_string() });
                }
                self.cx.console.note(&format!("{addr}: banned: {reason}"));
            }
            Event::PeerLeft { addr, bytes_down, bytes_up }
                if bytes_down + bytes_up > 0 && self.left.len() < PEERS_LEFT_MAX =>
            {
                add(&mut self.left, addr, bytes_down, bytes_up);
            }
            Event::Warning(message) => self.cx.warn(&message),
            // For people, both are in the log.
            Event::FileChanged { path } => self.cx.record(&Record::FileChanged { path: &path }),
            Event::DataBad { path, pieces } => self.cx.record(&Record::DataBad { path: &path, pieces }),
            Event::DiskStalled { error } => self.on_disk_stalled(&error.to_string(), error.is_no_space()),
            Event::DiskResumed => {
                self.give_up_at = None;
                self.cx.record(&Record::DiskResumed);
                self.cx.console.note("the disk takes data again");
            }
            Event::Completed => return self.on_completed().await,
            Event::Failed(error) => {
                let label = self.label.clone();
                let is_known = self.torrent.metainfo().is_some();
                let error = Error::from(error);
                return ControlFlow::Break(Err(if is_known { error } else { error.context(label) }));
            }
            Event::Stopped => return ControlFlow::Break(Err(swarm_engine::Error::Stopped.into())),
            _ => {}
        }
        GO_ON
    }

    /// It is known now what the link leads to.
    fn on_metadata(&mut self) -> Step {
        if self.plan.mode == Mode::Metadata {
            return ControlFlow::Break(Ok(Exit::Done));
        }
        let Some(metainfo) = self.torrent.metainfo() else { return GO_ON };
        self.path = self.dir.join(&metainfo.info.name);
        tell_metadata(&metainfo, self.cx);
        match (self.plan.choose)(&metainfo) {
            Ok(files) => match self.torrent.set_files(files) {
                Ok(()) => GO_ON,
                Err(error) => ControlFlow::Break(Err(error.into())),
            },
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    fn on_started(&mut self, have: u32, pieces: u32) -> Step {
        self.is_started = true;
        self.cx.record(&Record::Checked { pieces_have: have, pieces });
        if self.plan.needs_all && have < pieces {
            let message = format!(
                "{}: {} of {pieces} pieces are missing or damaged; `swarm verify` tells in which files, \
                 --partial seeds the others",
                self.path.display(),
                pieces - have,
            );
            return fail(Exit::Data, message);
        }
        if !self.cx.console.has_bars() {
            self.cx.console.note(&format!("{have} of {pieces} pieces are here"));
        }
        GO_ON
    }

    fn on_disk_stalled(&mut self, reason: &str, is_full: bool) {
        self.cx.record(&Record::DiskStalled { reason, full: is_full });
        let next = if is_full { "waiting until there is" } else { "trying again now and then" };
        self.cx.console.note(&format!("{}; {next}", printable(reason)));
        self.bar.explain(reason);
        let now = Instant::now();
        self.give_up_at = self.plan.space_wait.filter(|_| is_full).map(|wait| now + wait);
        self.lift_at = self.plan.made_up_disk.as_ref().map(|(_, wait)| now + *wait);
    }

    fn lift(&mut self) -> Step {
        self.lift_at = None;
        if let Some((disk, _)) = self.plan.made_up_disk.take() {
            disk.lift();
        }
        GO_ON
    }

    fn on_no_space(&mut self) -> Step {
        let waited = units::duration(self.plan.space_wait.unwrap_or_default());
        fail(Exit::Destination, format!("{}: no space came free within {waited}", self.path.display()))
    }

    async fn on_completed(&mut self) -> Step {
        self.is_complete = true;
        let path = self.path.to_string_lossy();
        if self.plan.mode == Mode::Seed {
            let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
            self.cx.console.note(&format!("seeding {} on {}", printable(&path), addresses.join(" and ")));
        } else {
            let moved = self.moved().await;
            let seconds = seconds_since(self.cx.start);
            if self.plan.until == SeedUntil::Complete {
                self.bar.finish();
            }
            self.cx.record(&Record::Complete { path: &path, seconds, moved: &moved });
            self.cx.console.say(&complete_line(&path, moved.bytes_down, self.cx.start.elapsed()));
        }
        match self.plan.until {
            SeedUntil::Complete => return ControlFlow::Break(Ok(Exit::Done)),
            SeedUntil::Elapsed(time) => self.stop_at = Some(Instant::now() + time),
            SeedUntil::Interrupted | SeedUntil::Ratio(_) => {}
        }
        GO_ON
    }

    async fn on_tick(&mut self) -> Step {
        // Once it has ended, a torrent has nothing to tell.
        let Ok(stats) = self.torrent.stats().await else { return GO_ON };
        if stats.state == State::Metadata {
            self.tell_search(&stats);
            return GO_ON;
        }
        if !self.is_started {
            if let Some((done, of)) = self.checking.filter(|_| !self.is_started && self.is_line_due()) {
                self.cx.console.note(&format!("checking existing data: {done} of {of} pieces"));
            }
            return GO_ON;
        }
        self.bar.show(&stats);
        if self.cx.console.is_json() {
            self.cx.record(&Record::progress(&stats));
        } else if self.is_line_due() {
            // Of a seed that nobody asks there is nothing to say.
            if self.is_complete && stats.rate_up == 0 && stats.rate_down == 0 {
                return self.until_ratio(&stats).await;
            }
            self.cx.console.note(&printable(&progress::summary(&stats)));
        }
        self.until_ratio(&stats).await
    }

    /// How the search for the metadata goes.
    fn tell_search(&mut self, stats: &TorrentStats) {
        self.bar.fetching(&self.label, stats);
        let waiting = stats.waiting.as_ref().map(ToString::to_string);
        // `show` prints one object only.
        if self.plan.mode != Mode::Metadata {
            self.cx.record(&Record::Fetching { peers: stats.peers, waiting });
        }
        if self.is_line_due() {
            self.cx.console.note(&format!("{}: {}", self.label, progress::fetching(stats)));
        }
    }

    /// Whether those who see no bar are to get a line now; if so, the next one comes later.
    fn is_line_due(&mut self) -> bool {
        let is_due = !self.cx.console.has_bars() && Instant::now() >= self.line_at;
        if is_due {
            self.line_at = Instant::now() + self.line_interval;
        }
        is_due
    }

    /// Ends seeding if enough has been sent.
    async fn until_ratio(&mut self, stats: &TorrentStats) -> Step {
        match self.plan.until {
            SeedUntil::Ratio(ratio) if self.is_complete && is_reached(ratio, stats) => {
                self.stopped("ratio", Exit::Done).await
            }
            _ => GO_ON,
        }
    }

    async fn on_signal(&mut self, signal: Signal) -> Step {
        self.cx.console.note("stopping; once more to stop at once");
        if self.is_complete || self.plan.mode == Mode::Seed {
            return self.stopped(signal.reason(), signal.exit_of_service()).await;
        }
        if self.torrent.metainfo().is_none() {
            return ControlFlow::Break(Err(interrupted(signal, &self.label)));
        }
        let path = self.path.to_string_lossy();
        ControlFlow::Break(Err(match self.stats().await {
            Some(stats) => kept(signal, &path, &stats),
            None => interrupted(signal, &path),
        }))
    }

    /// Seeding ends, for this reason.
    async fn stopped(&mut self, reason: &str, exit: Exit) -> Step {
        let moved = self.moved().await;
        let seconds = seconds_since(self.cx.start);
        self.cx.record(&Record::Stopped { reason, seconds, moved: &moved });
        let total = self.stats().await.map_or(0, |stats| stats.bytes_total);
        let shared = progress::shared(moved.bytes_up, moved.bytes_down, total).join(", ");
        let (path, time) = (self.path.to_string_lossy(), units::duration(self.cx.start.elapsed()));
        self.cx.console.say(&format!("{}: {shared} in {time}", printable(&path)));
        ControlFlow::Break(Ok(exit))
    }

    async fn stats(&self) -> Option<TorrentStats> {
        if self.is_started { self.torrent.stats().await.ok() } else { None }
    }

    /// What has been moved, by peers that have left and peers that are here.
    async fn moved(&self) -> Moved {
        let Some(stats) = self.stats().await else { return Moved::default() };
        let mut peers = self.left.clone();
        for peer in stats.peer_list.iter().filter(|peer| peer.bytes_down + peer.bytes_up > 0) {
            add(&mut peers, peer.listen_addr.unwrap_or(peer.addr), peer.bytes_down, peer.bytes_up);
        }
        Moved::new(stats.totals, peers)
    }
}

fn add(peers: &mut BTreeMap<SocketAddr, (u64, u64)>, addr: SocketAddr, bytes_down: u64, bytes_up: u64) {
    let sums = peers.entry(addr).or_default();
    *sums = (sums.0 + bytes_down, sums.1 + bytes_up);
}

/// Waits until then; for ever, if there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

fn is_reached(ratio: f64, stats: &TorrentStats) -> bool {
    stats.totals.bytes_up as f64 >= ratio * stats.bytes_total as f64
}

fn complete_line(path: &str, bytes_down: u64, elapsed: Duration) -> String {
    let path = printable(path);
    if bytes_down == 0 {
        return format!("{path}: complete, nothing was missing");
    }
    let rate = units::rate((bytes_down as f64 / elapsed.as_secs_f64()) as u64);
    format!("{path}: complete, {} in {} ({rate})", units::size(bytes_down), units::duration(elapsed))
}
