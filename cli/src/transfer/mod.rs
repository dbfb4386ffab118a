//! What `seed`, `get` and `show --fetch` share: torrents in one session on one port, each watched until it
//! has done what it is there for.

mod plan;
mod stream;
mod torrent;
mod view;
mod words;

pub use self::plan::{Plan, SeedUntil, folder_of, parent_of};

use self::torrent::{Phase, Shared, Step, Torrent};
use self::view::{Tally, View};
use crate::context::Context;
use crate::events::{About, Progress, Record, seconds};
use crate::exit::{Exit, fail, one_line};
use crate::interrupt::{Interrupt, Signal};
use crate::network::NetworkArgs;
use crate::source::{self, Link};
use crate::{progress, units};
use anyhow::{Context as _, Result};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::future::pending;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;
use swarm_core::id::InfoHash;
use swarm_core::metainfo::Metainfo;
use swarm_engine::{Event, Files, Mode, Session, SessionEvents, Source, State, TorrentId, Transport};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

/// How often torrents are looked at, and progress gets its events.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// How many SOURCEs are read at the same time.
const OPENING_MAX: usize = 8;

/// Transfers the torrents that these SOURCEs name in a session of their own. It has ended, and state is
/// saved, on return.
pub async fn run(sources: &[OsString], plan: Plan, network: &NetworkArgs, cx: &mut Context) -> Result<Exit> {
    let mut interrupt = Interrupt::install()?;
    let listed: Vec<_> = sources.iter().flat_map(|source| source::listed(source)).collect();
    let is_batch = source::may_be_several(sources);
    let mut transfers = Transfers::new(listed.len(), is_batch, plan, network, cx);
    for (source, found) in listed {
        let n = transfers.begin(&source);
        match found {
            Ok(()) => transfers.unopened.push_back((n, source)),
            Err(error) => transfers.end(n, Err(error)),
        }
    }
    transfers.warn_of_state_dir();
    let result = transfers.run(&mut interrupt).await;
    transfers.finish(result).await
}

/// Transfers a torrent whose metainfo is known, as [`run`] does.
pub async fn run_one(
    metainfo: Metainfo,
    source: &OsString,
    plan: Plan,
    network: &NetworkArgs,
    cx: &mut Context,
    interrupt: &mut Interrupt,
) -> Result<Exit> {
    let mut transfers = Transfers::new(1, false, plan, network, cx);
    let n = transfers.begin(source);
    transfers.warn_of_state_dir();
    let result = match transfers.on_metainfo(n, metainfo).await {
        Ok(()) => transfers.run(interrupt).await,
        Err(error) => Err(error),
    };
    transfers.finish(result).await
}

/// Gets the metadata of a link from peers, for as long as the user wants to wait.
pub async fn fetch_metadata(
    link: Link,
    limit: Option<Duration>,
    network: &NetworkArgs,
    cx: &mut Context,
    interrupt: &mut Interrupt,
) -> Result<Metainfo> {
    let label = link.label();
    let too_late = at(limit.map(|limit| Instant::now() + limit));
    let mut transfers = Transfers::new(1, false, Plan::new(Mode::Metadata, PathBuf::new()), network, cx);
    transfers.torrents.push(Torrent::new(label.clone()));
    let fetch = async {
        transfers.on_link(0, link).await?;
        transfers.run(interrupt).await
    };
    let result = tokio::select! {
        result = fetch => result,
        () = too_late => {
            let limit = humantime::format_duration(limit.unwrap_or_default());
            fail(Exit::Runtime, format!("{label}: not found within {limit}"))
        }
    };
    let metadata = transfers.torrents[0].handle.as_ref().and_then(|handle| handle.metainfo());
    transfers.stop().await;
    result?;
    transfers.outcome(0)?;
    Ok(Metainfo::clone(&*metadata.context("a defect in the engine")?))
}

struct Transfers<'a> {
    shared: Shared<'a>,
    network: &'a NetworkArgs,
    torrents: Vec<Torrent>,
    /// SOURCEs that are not read yet, by the numbers of their torrents.
    unopened: VecDeque<(usize, OsString)>,
    /// SOURCEs that are being read.
    opening: JoinSet<(usize, Result<source::Source>)>,
    /// Started when the first torrent needs it.
    session: Option<Session>,
    events: Option<SessionEvents>,
    view: View,
    tick: Interval,
}

impl<'a> Transfers<'a> {
    fn new(
        torrents: usize,
        is_batch: bool,
        plan: Plan,
        network: &'a NetworkArgs,
        cx: &'a mut Context,
    ) -> Transfers<'a> {
        let progress_interval = network.tuning.progress_interval;
        let view = View::new(&cx.console, torrents, progress_interval);
        let looks = progress_interval.unwrap_or(TICK_INTERVAL);
        let mut tick = interval(if cx.console.has_bars() { view.interval() } else { looks });
        // Progress never gets its events more often than this.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Transfers {
            shared: Shared { cx, plan, is_batch, addresses: Vec::new(), reach: None },
            network,
            torrents: Vec::new(),
            unopened: VecDeque::new(),
            opening: JoinSet::new(),
            session: None,
            events: None,
            view,
            tick,
        }
    }

    /// Prints that it starts with this SOURCE; gives the number of its torrent.
    fn begin(&mut self, source: &OsString) -> usize {
        let source = source.to_string_lossy();
        let record = Record::Started { source: &source, dir: &self.shared.plan.dir.to_string_lossy() };
        self.shared.cx.record(&record);
        self.torrents.push(Torrent::new(source.into_owned()));
        self.torrents.len() - 1
    }

    fn warn_of_state_dir(&mut self) {
        let (network, cx) = (self.network, &mut *self.shared.cx);
        if let Some(warning) = network.state_dir_warning() {
            cx.warn(&warning);
        }
        if network.state_dir().is_none() && !network.no_state {
            cx.warn("there is no home folder for state, so all complete data is checked at each start; --state-dir names one");
        }
    }

    /// Until all torrents have ended.
    ///
    /// # Errors
    /// What ends all of them.
    async fn run(&mut self, interrupt: &mut Interrupt) -> Result<()> {
        while self.torrents.iter().any(|torrent| torrent.outcome.is_none()) {
            self.open_more();
            let running = self.torrents.iter().filter(|torrent| torrent.outcome.is_none());
            let deadline = running.filter_map(Torrent::deadline).min();
            tokio::select! {
                // In this order: a flood of events keeps neither the user nor progress waiting.
                biased;
                signal = interrupt.wait() => self.on_signal(signal).await,
                () = at(deadline) => self.on_deadline().await,
                _ = self.tick.tick() => self.on_tick().await,
                Some(opened) = self.opening.join_next() => {
                    let (n, source) = opened.context("a defect in the command")?;
                    self.on_source(n, source).await?;
                }
                event = next(&mut self.events) => {
                    let (id, event) = event.ok_or(swarm_engine::Error::Stopped)?;
                    self.on_event(id, event).await;
                }
            }
        }
        Ok(())
    }

    /// The numbers of torrents that have not ended.
    fn running(&self) -> Vec<usize> {
        (0..self.torrents.len()).filter(|&n| self.torrents[n].outcome.is_none()).collect()
    }

    fn open_more(&mut self) {
        while self.opening.len() < OPENING_MAX {
            let Some((n, source)) = self.unopened.pop_front() else { return };
            let options = self.network.session_options();
            self.torrents[n].came_at = Instant::now();
            self.opening.spawn(async move {
                let opened = async { source::open(&source, &options?).await };
                (n, opened.await)
            });
        }
    }

    /// Starts the session as the user wants it, if it is not there yet, and prints where peers can reach it.
    fn start_session(&mut self) -> Result<()> {
        if self.session.is_none() {
            let session = self.network.start_session()?;
            self.shared.addresses = session.listen_addrs().to_vec();
            self.shared.cx.record(&Record::Listening { addresses: &self.shared.addresses });
            self.events = Some(session.events());
            self.session = Some(session);
        }
        Ok(())
    }

    async fn on_source(&mut self, n: usize, source: Result<source::Source>) -> Result<()> {
        match source {
            _ if self.torrents[n].outcome.is_some() => Ok(()),
            Ok(source::Source::Metainfo(metainfo)) => self.on_metainfo(n, *metainfo).await,
            Ok(source::Source::Link(link)) => self.on_link(n, link).await,
            Err(error) => {
                self.end(n, Err(error));
                Ok(())
            }
        }
    }

    async fn on_metainfo(&mut self, n: usize, metainfo: Metainfo) -> Result<()> {
        if self.end_double(n, metainfo.info.info_hash) {
            return Ok(());
        }
        match self.torrents[n].on_metainfo(&metainfo, &mut self.shared) {
            Ok(files) => self.add(n, metainfo.into(), files).await,
            Err(error) => {
                self.end(n, Err(error));
                Ok(())
            }
        }
    }

    async fn on_link(&mut self, n: usize, link: Link) -> Result<()> {
        let torrent = &mut self.torrents[n];
        torrent.name = link.label();
        let (source, next) = match link {
            Link::Mutable(link) => (link.into(), "resolving the mutable torrent in the DHT"),
            Link::Magnet(magnet) => {
                torrent.link = Some(magnet.clone());
                if self.end_double(n, magnet.info_hash) {
                    return Ok(());
                }
                self.torrents[n].about.info_hash = Some(magnet.info_hash);
                (magnet.into(), "fetching metadata")
            }
        };
        self.start_session()?;
        self.shared.cx.console.note(&format!("{}: {next}", self.torrents[n].name));
        self.add(n, source, Files::all()).await
    }

    /// Ends a torrent that another SOURCE has led to already; false if there is none.
    fn end_double(&mut self, n: usize, info_hash: InfoHash) -> bool {
        let same = self.torrents.iter().find(|torrent| torrent.about.info_hash == Some(info_hash));
        let Some(same) = same else { return false };
        self.end_as_double(n, same.name.clone());
        true
    }

    /// Ends a torrent that turned out to be the same as another one of this command; false if that is none.
    fn end_double_of(&mut self, n: usize, other: TorrentId) -> bool {
        let Some(same) = self.torrents.iter().find(|torrent| torrent.id() == Some(other)) else {
            return false;
        };
        self.end_as_double(n, same.name.clone());
        true
    }

    fn end_as_double(&mut self, n: usize, same: String) {
        self.view.finish(n);
        let warning = format!("{}: is the same torrent as {same}", self.torrents[n].name);
        self.shared.cx.warn(&warning);
        self.torrents[n].is_double = true;
        self.torrents[n].outcome = Some(Ok(Exit::Done));
    }

    async fn add(&mut self, n: usize, source: Source, files: Files) -> Result<()> {
        self.start_session()?;
        let space = self.torrents[n].budget(&self.shared.plan);
        let torrent = self.shared.plan.torrent(source, files, space, self.network);
        let Some(session) = &self.session else { return Ok(()) };
        match session.add(torrent).await {
            Ok(handle) => self.torrents[n].handle = Some(handle),
            Err(error) => self.end(n, Err(error.into())),
        }
        Ok(())
    }

    async fn on_event(&mut self, id: Option<TorrentId>, event: Event) {
        if let Event::Missed { .. } = event {
            return self.on_missed().await;
        }
        if id.is_none() {
            return self.on_session_event(event);
        }
        let is_it = |torrent: &Torrent| torrent.outcome.is_none() && torrent.id() == id;
        let Some(n) = self.torrents.iter().position(is_it) else { return };
        if let Event::Failed(swarm_engine::Error::AlreadyAdded { id: other, .. }) = &event
            && self.end_double_of(n, *other)
        {
            return;
        }
        let is_start = matches!(event, Event::Started { .. });
        let mut step = self.torrents[n].on_event(event, &mut self.shared).await;
        if is_start && step.is_continue() {
            step = self.torrents[n].on_tick(&mut self.shared).await;
            // The next tick is a whole one later, for this torrent.
            match self.shared.is_batch {
                true => self.torrents[n].skips_tick = true,
                false => self.tick.reset(),
            }
        }
        self.take(n, step);
    }

    /// What concerns no torrent alone.
    fn on_session_event(&mut self, event: Event) {
        let cx = &mut *self.shared.cx;
        let is_told = !self.shared.plan.is_metadata();
        match event {
            Event::Warning(warning) => cx.warn(&warning),
            Event::IpFilterLoaded { ranges, bad_lines } if is_told => {
                cx.record(&Record::IpFilter { ranges, bad_lines });
                cx.console.note(&format!("the IP filter blocks {}", units::count(ranges, "range")));
            }
            Event::PortMapped { transport, port, method, ip, external_port } if is_told => {
                let (name, method) = (transport.to_string().to_lowercase(), method.to_string());
                let (address, transport_name) = (ip, &name);
                cx.record(&Record::PortMapped {
                    transport: transport_name,
                    port,
                    method: &method,
                    address,
                    external_port,
                });
                if transport == Transport::Tcp {
                    self.shared.reach = Some(format!("port {external_port} mapped ({method})"));
                    let at = ip.map_or_else(String::new, |ip| format!(" of {ip}"));
                    let line = format!("the gateway passes on port {external_port}{at} by {method}");
                    self.shared.cx.console.note(&line);
                }
            }
            Event::PortNotMapped { transport, port, reason } if is_told => {
                let name = transport.to_string().to_lowercase();
                cx.record(&Record::PortNotMapped { transport: &name, port, reason: &reason });
                if transport == Transport::Tcp {
                    self.shared.reach = Some(words::NOT_MAPPED.to_owned());
                }
            }
            Event::IpFilterBlocked { incoming, addresses, trackers } if is_told => {
                cx.record(&Record::IpFilterBlocked { incoming, addresses, trackers });
            }
            _ => {}
        }
    }

    /// We were too slow, perhaps since nobody read our output: whatever has happened shows in how the torrents stand.
    async fn on_missed(&mut self) {
        for n in self.running() {
            let Some(handle) = self.torrents[n].handle.clone() else { continue };
            let mut events = Vec::new();
            match handle.stats().await {
                Ok(stats) => {
                    if self.torrents[n].phase == Phase::Metadata && handle.metainfo().is_some() {
                        events.push(Event::MetadataReceived);
                    }
                    let is_open = matches!(stats.state, State::Downloading | State::Seeding);
                    if is_open && self.torrents[n].phase != Phase::Running {
                        events.push(Event::Started { have: stats.pieces_have, pieces: stats.pieces });
                    }
                    if stats.state == State::Seeding && !self.torrents[n].is_complete {
                        events.push(Event::Completed);
                    }
                }
                Err(_) => events.push(handle.ended().await.map_or_else(Event::Failed, |()| Event::Stopped)),
            }
            for event in events {
                let step = self.torrents[n].on_event(event, &mut self.shared).await;
                self.take(n, step);
            }
        }
    }

    async fn on_tick(&mut self) {
        for n in self.running() {
            if !std::mem::take(&mut self.torrents[n].skips_tick) {
                let step = self.torrents[n].on_tick(&mut self.shared).await;
                self.take(n, step);
            }
        }
        self.view.show(&self.torrents, &mut self.shared.cx.console);
    }

    async fn on_deadline(&mut self) {
        for n in self.running() {
            let step = self.torrents[n].on_deadline(&mut self.shared).await;
            self.take(n, step);
        }
    }

    async fn on_signal(&mut self, signal: Signal) {
        self.shared.cx.console.note("stopping; once more to stop at once");
        for n in self.running() {
            let step = self.torrents[n].on_signal(signal, &mut self.shared).await;
            self.take(n, step);
        }
    }

    fn take(&mut self, n: usize, step: Step) {
        if let ControlFlow::Break(result) = step {
            self.end(n, result);
        }
    }

    /// A torrent has ended. If there are others its error is printed at once, and it leaves the session.
    fn end(&mut self, n: usize, result: Result<Exit>) {
        let torrent = &mut self.torrents[n];
        self.view.finish(n);
        if self.shared.is_batch {
            if let Err(error) = &result {
                self.shared.cx.console.error(&one_line(error));
            }
            if let Some(handle) = torrent.handle.clone() {
                tokio::spawn(async move { handle.stop().await });
            }
        }
        torrent.outcome = Some(match self.shared.is_batch {
            true => self.shared.cx.end(&torrent.about, result),
            false => result,
        });
    }

    /// Ends the session. State is saved on return.
    async fn stop(&mut self) {
        self.view.finish_all();
        self.opening.shutdown().await;
        if let Some(session) = self.session.take() {
            session.stop().await;
        }
    }

    fn outcome(&mut self, n: usize) -> Result<Exit> {
        self.torrents[n].outcome.take().unwrap_or(Ok(Exit::Done))
    }

    /// Ends the session, and prints how it all went.
    async fn finish(mut self, result: Result<()>) -> Result<Exit> {
        self.stop().await;
        let about = if self.shared.is_batch { About::default() } else { self.torrents[0].about.clone() };
        match result {
            Err(error) => self.shared.cx.end(&about, Err(error)),
            Ok(()) if self.shared.is_batch => Ok(self.summarize()),
            Ok(()) => {
                let outcome = self.outcome(0);
                self.shared.cx.end(&about, outcome)
            }
        }
    }

    /// The exit status of all, and how many have got how far.
    fn summarize(&mut self) -> Exit {
        let exits = self.torrents.iter().filter_map(|torrent| torrent.outcome.as_ref());
        let exits = exits.map(|outcome| outcome.as_ref().map_or_else(Exit::of, |&exit| exit));
        let worst = exits.max_by_key(|&exit| exit as u8).unwrap_or(Exit::Done);
        let Tally { torrents, complete, failed, progress } = Tally::of(&self.torrents);
        let Progress { bytes_down, bytes_up, .. } = progress;
        let cx = &mut *self.shared.cx;
        let (seconds, status) = (seconds(cx.start.elapsed()), worst as u8);
        cx.record(&Record::Summary { torrents, complete, failed, seconds, bytes_down, bytes_up, status });
        let counts = format!("{}: {complete} complete, {failed} failed", units::count(torrents, "torrent"));
        let traffic = progress::shared(bytes_up, bytes_down, 0).join(", ");
        cx.console.say(&format!("{counts}; {traffic} in {}", units::duration(cx.start.elapsed())));
        worst
    }
}

/// The next event of the session, once there is one; `None` if the session has ended.
async fn next(events: &mut Option<SessionEvents>) -> Option<(Option<TorrentId>, Event)> {
    match events {
        Some(events) => events.next().await,
        None => pending().await,
    }
}

/// Waits until then; for ever, if there is no such time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
