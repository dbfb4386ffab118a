//! The swarm while it runs: processes, the tracker, faults.

use super::fault::Fault;
use super::material::Material;
use super::network::{Meeting, Network, start_tracker};
use super::origin::Origin;
use super::peer::{Peer, Role, State};
use super::plan::{Outcome, Plan};
use super::process::{Event, Message, Process};
use super::record::Record;
use super::view::View;
use crate::context::Context;
use crate::events::seconds;
use crate::exit::Failure;
use crate::interrupt::{Interrupt, Signal};
use crate::units;
use anyhow::{Context as _, Result, anyhow, bail};
use std::ffi::OsString;
use std::future::pending;
use std::path::Path;
use std::time::Duration;
use swarm_core::net::Family;
use swarm_engine::dht::Dht;
use swarm_tracker::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// How often the screen and the clock are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often progress gets events.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How much later than the downloaders the source comes.
const LATE: Duration = Duration::from_secs(3);
/// How long a made-up disk is full.
const DISK_FULL_SECONDS: u64 = 3;
/// How long processes may take to end cleanly.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the victim of [`Fault::KillPeer`] would take at least, so that there is time to kill it.
const KILL_WINDOW_SECONDS: u64 = 3;
/// How long the victim of [`Fault::SlowPeer`] takes, within limits that are slow for anyone.
const SLOW_SECONDS: u64 = 15;
const SLOW_RATE_MIN: u64 = 2 * 1024 * 1024;
const SLOW_RATE_MAX: u64 = 16 * 1024 * 1024;

/// A swarm that is running.
pub struct Swarm<'a> {
    cx: &'a mut Context,
    material: &'a Material,
    plan: &'a Plan,
    peers: Vec<Peer>,
    tracker: Option<Handle>,
    origin: Option<Origin>,
    /// What the DHT begins with.
    node: Option<Dht>,
    meeting: Meeting,
    /// From each process, with the number of its peer.
    messages: mpsc::UnboundedReceiver<(usize, Message)>,
    sender: mpsc::UnboundedSender<(usize, Message)>,
    view: View,
    /// When progress gets its next events.
    next_progress: Duration,
    start: Instant,
    tracker_down: Option<Duration>,
}

impl<'a> Swarm<'a> {
    /// Prepares everything below `scratch`; nothing runs but the tracker, if there is to be one.
    pub fn new(
        plan: &'a Plan,
        material: &'a Material,
        scratch: &Path,
        cx: &'a mut Context,
    ) -> Result<Swarm<'a>> {
        let network = Network::random()?;
        let (mut tracker, mut node) = (None, None);
        let meeting = if plan.trackerless {
            let dht = Dht::open(&[network.tracker()], None, false).context("no socket for the DHT")?;
            let addr = dht.local_addr(Family::V4).context("the DHT has no address")?;
            node = Some(dht);
            Meeting::Dht(addr)
        } else {
            let server = start_tracker(&network)?;
            let url = format!("http://{}/announce", server.local_addrs()[0]);
            tracker = Some(server);
            Meeting::Tracker(url)
        };
        let origin = match plan.web_seed {
            true => Some(Origin::start(network.origin(), &material.metainfo, &material.dir)?),
            false => None,
        };
        let peers = plan.line_up(material, scratch, &network);
        let (sender, messages) = mpsc::unbounded_channel();
        let view = View::new(&cx.console, &peers, material.len());
        Ok(Swarm {
            cx,
            material,
            plan,
            peers,
            tracker,
            origin,
            node,
            meeting,
            messages,
            sender,
            view,
            next_progress: Duration::ZERO,
            start: Instant::now(),
            tracker_down: None,
        })
    }

    /// Runs until every downloader is complete or has failed, or time is up. All processes have ended on
    /// return.
    pub async fn run(mut self, interrupt: &mut Interrupt) -> Result<Outcome> {
        self.start = Instant::now();
        let source = self.material.metainfo_path.to_string_lossy();
        let (tracker, node) = match &self.meeting {
            Meeting::Tracker(url) => (Some(&**url), None),
            Meeting::Dht(addr) => (None, Some(*addr)),
        };
        self.cx.record(&Record::LabStarted {
            source: &source,
            bytes_total: self.material.len(),
            peers: self.plan.peers,
            seeds: self.plan.seeds,
            faults: &self.plan.faults,
            tracker,
            node,
        });
        let node = self.node.take();
        let serve = async {
            match &node {
                Some(node) => node.run(|_| ()).await,
                None => pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            signal = interrupt.wait() => Err(interrupted(signal)),
            result = self.watch() => result,
            () = serve => Err(anyhow!("the DHT's node has ended")),
        };
        let elapsed = self.start.elapsed();
        let end = if result.is_ok() { Process::stop } else { Process::kill };
        self.end_all(end).await;
        self.view.finish();
        let origin_sent = self.origin.as_ref().map(Origin::sent);
        result.map(|()| Outcome { peers: self.peers, origin_sent, elapsed, tracker_down: self.tracker_down })
    }

    async fn watch(&mut self) -> Result<()> {
        let is_late = self.plan.faults.contains(&Fault::LateSeed);
        for number in 0..self.peers.len() {
            if !(is_late && matches!(self.peers[number].role, Role::Source | Role::Seed)) {
                self.start_peer(number)?;
            }
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let allowed = self.plan.timeout.unwrap_or_else(|| self.plan.allowance(self.material.len()));
        let deadline = self.start + allowed;
        while self.peers.iter().any(Peer::is_pending) {
            tokio::select! {
                biased;
                () = sleep_until(deadline) => self.give_up(allowed),
                _ = tick.tick() => self.on_tick()?,
                Some((number, message)) = self.messages.recv() => self.on_message(number, message)?,
            }
            self.take_tracker_down();
        }
        Ok(())
    }

    fn start_peer(&mut self, number: usize) -> Result<()> {
        let args = self.arguments(&self.peers[number]);
        let peer = &mut self.peers[number];
        let process = Process::start(&args, &peer.log, number, self.sender.clone())
            .with_context(|| peer.name.clone())?;
        peer.process = Some(process);
        peer.state = State::Running;
        peer.starts += 1;
        let record = Record::PeerStarted { peer: &peer.name, starts: peer.starts };
        self.cx.record(&record);
        Ok(())
    }

    fn arguments(&self, peer: &Peer) -> Vec<OsString> {
        let command = if peer.is_counted() { "get" } else { "seed" };
        let mut args = peer.arguments(command, &self.material.metainfo_path);
        args.extend(self.meeting.arguments().into_iter().map(OsString::from));
        if let Some(origin) = self.origin.as_ref().filter(|_| peer.is_counted()) {
            args.extend(["--web-seed".into(), OsString::from(&origin.url)]);
        }
        let mut add = |text: String| args.push(text.into());
        if self.plan.encrypt {
            add("--encryption=require".to_owned());
        }
        if self.plan.utp {
            add("--no-tcp".to_owned());
        }
        let len = self.material.len();
        match peer.role {
            Role::Downloader => add("--seed=forever".to_owned()),
            Role::Poisoner => add("--inject-poison".to_owned()),
            Role::Source | Role::Seed => {}
        }
        if peer.faults.contains(&Fault::SlowPeer) {
            let rate = (len / SLOW_SECONDS).clamp(SLOW_RATE_MIN, SLOW_RATE_MAX);
            add(format!("--max-down={rate}"));
            add(format!("--max-up={rate}"));
        } else if peer.faults.contains(&Fault::KillPeer) && peer.starts == 0 {
            add(format!("--max-down={}", (len / KILL_WINDOW_SECONDS).max(1)));
        }
        if peer.faults.contains(&Fault::DiskFull) && peer.starts == 0 {
            add(format!("--inject-disk-full={},{DISK_FULL_SECONDS}s", len / 3));
        }
        args
    }

    fn on_tick(&mut self) -> Result<()> {
        if self.start.elapsed() >= LATE {
            let late = |peer: &Peer| peer.state == State::Waiting;
            for number in (0..self.peers.len()).filter(|&n| late(&self.peers[n])).collect::<Vec<_>>() {
                self.start_peer(number)?;
            }
        }
        let elapsed = self.start.elapsed();
        self.view.show(&self.peers, self.tracker_state(), elapsed, &mut self.cx.console);
        if self.cx.console.is_json() && elapsed >= self.next_progress {
            self.next_progress = elapsed + PROGRESS_INTERVAL;
            for peer in self.peers.iter().filter(|peer| peer.is_counted()) {
                self.cx.record(&Record::progress(peer));
            }
        }
        Ok(())
    }

    /// How the tracker stands, in words, and whether peers have lost it.
    fn tracker_state(&self) -> (&'static str, bool) {
        match (&self.meeting, &self.tracker) {
            (Meeting::Dht(_), _) => ("no tracker", false),
            (Meeting::Tracker(_), Some(_)) => ("tracker up", false),
            (Meeting::Tracker(_), None) => ("tracker down", true),
        }
    }

    fn on_message(&mut self, number: usize, message: Message) -> Result<()> {
        match message {
            Message::Event(event) => self.on_event(number, event),
            Message::Ended(how) => self.on_ended(number, how)?,
        }
        Ok(())
    }

    fn on_event(&mut self, number: usize, event: Event) {
        let elapsed = self.start.elapsed();
        let peer = &mut self.peers[number];
        // The last events of a killed process do not count.
        if peer.state == State::Killed && !matches!(event, Event::Progress(_)) {
            return;
        }
        let before = (peer.state, peer.disk_full);
        if let Event::PeerBanned { address, reason } = &event {
            self.cx.record(&Record::PeerBanned { peer: &peer.name, address: *address, reason });
        }
        peer.on_event(event, elapsed);
        match (before, (peer.state, peer.disk_full)) {
            ((State::Running, _), (State::Complete, _)) => {
                self.cx.record(&Record::PeerComplete { peer: &peer.name, seconds: seconds(elapsed) });
                note(self.cx, &format!("{}: complete in {}", peer.name, units::duration(elapsed)));
            }
            ((_, false), (_, true)) => note(self.cx, &format!("{}: disk full", peer.name)),
            ((_, true), (_, false)) => note(self.cx, &format!("{}: the disk takes data again", peer.name)),
            _ => {}
        }
        let is_victim = peer.faults.contains(&Fault::KillPeer) && peer.starts == 1;
        let is_running = peer.state == State::Running && peer.progress.bytes_total > 0;
        if is_victim && is_running && peer.share() >= 1.0 / 3.0 {
            self.kill(number);
        }
    }

    fn kill(&mut self, number: usize) {
        let peer = &mut self.peers[number];
        peer.state = State::Killed;
        peer.begin(Fault::KillPeer, self.start.elapsed());
        if let Some(process) = &peer.process {
            process.kill();
        }
        self.cx
            .record(&Record::PeerKilled { peer: &peer.name, bytes_verified: peer.progress.bytes_verified });
        note(self.cx, &format!("{}: killed at {:.0} %", peer.name, peer.share() * 100.0));
    }

    fn on_ended(&mut self, number: usize, how: String) -> Result<()> {
        let peer = &mut self.peers[number];
        peer.bury();
        match (peer.state, peer.role) {
            (State::Killed, _) => {
                self.start_peer(number)?;
                note(self.cx, &format!("{}: started again", self.peers[number].name));
            }
            (_, Role::Source | Role::Seed) => {
                let why = peer.failure.take().unwrap_or(how);
                bail!("lab: the {} ended early: {why}", peer.name);
            }
            (State::Running | State::Complete, _) => {
                let why = peer.failure.take().unwrap_or(how);
                peer.state = State::Failed;
                note(self.cx, &format!("{}: failed: {why}", peer.name));
                peer.failure = Some(why);
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the tracker once everybody has announced, if that is one of the faults.
    fn take_tracker_down(&mut self) {
        if !self.plan.faults.contains(&Fault::TrackerDown) {
            return;
        }
        let announced = self.tracker.as_ref().map_or(0, |tracker| {
            let stats = tracker.stats();
            stats.seeds + stats.leechers
        });
        if announced >= self.peers.len()
            && let Some(tracker) = self.tracker.take()
        {
            tokio::spawn(tracker.stop());
            self.tracker_down = Some(self.start.elapsed());
            self.cx.record(&Record::TrackerStopped {});
            note(self.cx, "tracker: stopped");
        }
    }

    /// Time is up: peers that are not complete have failed.
    fn give_up(&mut self, allowed: Duration) {
        for peer in self.peers.iter_mut().filter(|peer| peer.is_pending()) {
            let waiting = peer.progress.waiting.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let percent = peer.share() * 100.0;
            let allowed = units::duration(allowed);
            peer.failure =
                Some(format!("had {percent:.0} % after {allowed}{waiting}; --timeout allows more"));
            peer.state = State::Failed;
        }
    }

    /// Ends all processes this way, and takes in their last events.
    async fn end_all(&mut self, end: fn(&Process)) {
        self.peers.iter().filter_map(|peer| peer.process.as_ref()).for_each(end);
        let all_ended = async {
            while self.peers.iter().any(|peer| peer.process.is_some()) {
                let Some((number, message)) = self.messages.recv().await else { return };
                let elapsed = self.start.elapsed();
                let peer = &mut self.peers[number];
                match message {
                    Message::Event(event @ Event::Stopped(_)) => {
                        peer.on_event(event, elapsed);
                        if peer.state != State::Failed {
                            peer.state = State::Ended;
                        }
                    }
                    Message::Ended(_) => peer.bury(),
                    Message::Event(_) => {}
                }
            }
        };
        // What takes longer is killed as it is dropped.
        let _ = timeout(END_TIMEOUT, all_ended).await;
        self.peers.iter_mut().for_each(Peer::bury);
    }
}

/// A line on what has just happened; where there are bars, they show it.
fn note(cx: &mut Context, line: &str) {
    if !cx.console.has_bars() {
        cx.console.note(line);
    }
}

/// Why the lab ended, if the user ended it.
pub fn interrupted(signal: Signal) -> anyhow::Error {
    Failure::new(signal.exit(), "lab: interrupted; everything is cleaned up").into()
}
