//! The swarm while it runs: processes, the tracker, faults.

use super::fault::{Fault, assign};
use super::interrupted;
use super::material::Material;
use super::peer::{Peer, Role, State, arguments};
use super::process::{News, Process, Said};
use super::record::Record;
use super::view::{Rendezvous, View};
use crate::context::Context;
use crate::interrupt::Interrupt;
use crate::units;
use anyhow::{Context as _, Result, anyhow, bail};
use std::ffi::OsString;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use swarm_core::net::Family;
use swarm_engine::dht::Dht;
use swarm_tracker::{Config, Handle, Server};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// How often clients are to announce: peers that come and go are noticed quickly.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// How long the tracker waits for requests under way when it goes.
const TRACKER_STOP_TIMEOUT: Duration = Duration::from_millis(100);
/// How often the screen and the clock are looked at.
const TICK: Duration = Duration::from_millis(100);
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
/// What is always allowed for, and the rate at which even a slow machine moves all copies together, in bytes/s.
const TIMEOUT_BASE: Duration = Duration::from_secs(60);
const RATE_EXPECTED_MIN: u64 = 4 * 1024 * 1024;

/// What a swarm is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Downloaders.
    pub peers: usize,
    /// Seeds besides the source.
    pub seeds: usize,
    /// What goes wrong, each once.
    pub faults: Vec<Fault>,
    /// How long everything may take; scaled to the size if not given.
    pub timeout: Option<Duration>,
    /// Peers find each other by a DHT of their own instead of a tracker.
    pub trackerless: bool,
}

/// Where peers find each other.
#[derive(Clone, Debug)]
pub enum Meeting {
    /// The tracker of this URL.
    Tracker(String),
    /// The DHT that this node leads into.
    Dht(SocketAddr),
}

/// A swarm that is running.
pub struct Swarm<'a> {
    cx: &'a mut Context,
    material: &'a Material,
    plan: &'a Plan,
    peers: Vec<Peer>,
    tracker: Option<Handle>,
    /// What the DHT begins with.
    node: Option<Dht>,
    meeting: Meeting,
    news: mpsc::UnboundedReceiver<(usize, News)>,
    /// What each process sends its news to.
    teller: mpsc::UnboundedSender<(usize, News)>,
    view: View,
    start: Instant,
    tracker_down: Option<Duration>,
}

/// A swarm that has run.
pub struct Ran {
    /// Its peers, the source first.
    pub peers: Vec<Peer>,
    /// From the first start to the last completion.
    pub elapsed: Duration,
    /// When the tracker went away, if that was before everybody was complete.
    pub tracker_down: Option<Duration>,
}

impl<'a> Swarm<'a> {
    /// Prepares everything below `scratch`; nothing runs but the tracker, if there is to be one.
    pub fn new(
        plan: &'a Plan,
        material: &'a Material,
        scratch: &Path,
        cx: &'a mut Context,
    ) -> Result<Swarm<'a>> {
        let net = Net::random()?;
        let (mut tracker, mut node) = (None, None);
        let meeting = if plan.trackerless {
            let dht = Dht::open(&[net.tracker()], None, false).context("no socket for the DHT")?;
            let addr = dht.local_addr(Family::V4).context("the DHT has no address")?;
            node = Some(dht);
            Meeting::Dht(addr)
        } else {
            let server = start_tracker(&net)?;
            let url = format!("http://{}/announce", server.local_addrs()[0]);
            tracker = Some(server);
            Meeting::Tracker(url)
        };
        let peers = line_up(plan, material, scratch, &net);
        let (teller, news) = mpsc::unbounded_channel();
        let view = View::new(&cx.console, &peers, material.len());
        Ok(Swarm {
            cx,
            material,
            plan,
            peers,
            tracker,
            node,
            meeting,
            news,
            teller,
            view,
            start: Instant::now(),
            tracker_down: None,
        })
    }

    /// Runs until every downloader is complete or has failed, or time is up. All processes have ended on return.
    ///
    /// # Errors
    /// When the user interrupts, or the source does not work.
    pub async fn run(mut self, interrupt: &mut Interrupt) -> Result<Ran> {
        self.start = Instant::now();
        let source = self.material.metainfo_path.to_string_lossy();
        self.cx.record(&Record::LabStarted {
            source: &source,
            bytes_total: self.material.len(),
            peers: self.plan.peers,
            seeds: self.plan.seeds,
            faults: &self.plan.faults,
            tracker: match &self.meeting {
                Meeting::Tracker(url) => Some(url),
                Meeting::Dht(_) => None,
            },
            node: match self.meeting {
                Meeting::Dht(addr) => Some(addr),
                Meeting::Tracker(_) => None,
            },
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
        result.map(|()| Ran { peers: self.peers, elapsed, tracker_down: self.tracker_down })
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
        let allowed = self.plan.timeout.unwrap_or_else(|| allowance(self.material.len(), self.plan));
        let deadline = self.start + allowed;
        while self.peers.iter().any(Peer::is_pending) {
            tokio::select! {
                biased;
                () = sleep_until(deadline) => self.give_up(allowed),
                _ = tick.tick() => self.on_tick()?,
                Some((number, news)) = self.news.recv() => self.on_news(number, news)?,
            }
            self.take_tracker_down();
        }
        Ok(())
    }

    fn start_peer(&mut self, number: usize) -> Result<()> {
        let args = self.arguments(&self.peers[number]);
        let peer = &mut self.peers[number];
        let process = Process::start(&args, &peer.log, number, self.teller.clone())
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
        let mut args = arguments(command, &self.material.metainfo_path, peer, &self.meeting);
        let mut add = |text: String| args.push(text.into());
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
        if let Some(line) = self.view.show(&self.peers, self.rendezvous(), elapsed) {
            self.cx.console.note(&line);
        }
        if self.cx.console.is_json() && self.view.is_json_due(elapsed) {
            for peer in self.peers.iter().filter(|peer| peer.is_counted()) {
                self.cx.record(&Record::progress(peer));
            }
        }
        Ok(())
    }

    /// How the place stands where peers find each other.
    fn rendezvous(&self) -> Rendezvous {
        match (&self.meeting, &self.tracker) {
            (Meeting::Dht(_), _) => Rendezvous::Dht,
            (Meeting::Tracker(_), Some(_)) => Rendezvous::TrackerUp,
            (Meeting::Tracker(_), None) => Rendezvous::TrackerDown,
        }
    }

    fn on_news(&mut self, number: usize, news: News) -> Result<()> {
        match news {
            News::Said(said) => self.on_said(number, said),
            News::Ended(how) => self.on_ended(number, how)?,
        }
        Ok(())
    }

    fn on_said(&mut self, number: usize, said: Said) {
        let elapsed = self.start.elapsed();
        let peer = &mut self.peers[number];
        // What a killed process has said in its last moment does not count.
        if peer.state == State::Killed && !matches!(said, Said::Progress(_)) {
            return;
        }
        let before = (peer.state, peer.disk_full);
        if let Said::PeerBanned { address, reason } = &said {
            self.cx.record(&Record::PeerBanned { peer: &peer.name, address: *address, reason });
        }
        peer.note(said, elapsed);
        match (before, (peer.state, peer.disk_full)) {
            ((State::Running, _), (State::Complete, _)) => {
                self.cx.record(&Record::PeerComplete { peer: &peer.name, seconds: elapsed.as_secs_f64() });
                tell(self.cx, &format!("{}: complete in {}", peer.name, units::duration(elapsed)));
            }
            ((_, false), (_, true)) => tell(self.cx, &format!("{}: disk full", peer.name)),
            ((_, true), (_, false)) => tell(self.cx, &format!("{}: the disk takes data again", peer.name)),
            _ => {}
        }
        let is_victim = peer.faults.contains(&Fault::KillPeer) && peer.starts == 1;
        if is_victim
            && peer.state == State::Running
            && peer.progress.bytes_total > 0
            && peer.share() >= 1.0 / 3.0
        {
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
        tell(self.cx, &format!("{}: killed at {:.0} %", peer.name, peer.share() * 100.0));
    }

    fn on_ended(&mut self, number: usize, how: String) -> Result<()> {
        let peer = &mut self.peers[number];
        peer.bury();
        match (peer.state, peer.role) {
            (State::Killed, _) => {
                self.start_peer(number)?;
                tell(self.cx, &format!("{}: started again", self.peers[number].name));
            }
            (_, Role::Source | Role::Seed) => {
                let why = peer.failure.take().unwrap_or(how);
                bail!("lab: the {} ended early: {why}", peer.name);
            }
            (State::Running | State::Complete, _) => {
                let why = peer.failure.take().unwrap_or(how);
                peer.state = State::Failed;
                tell(self.cx, &format!("{}: failed: {why}", peer.name));
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
            tell(self.cx, "tracker: stopped");
        }
    }

    /// Time is up: whoever is not complete has failed.
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

    /// Ends all processes this way, and takes in what they say of themselves at the end.
    async fn end_all(&mut self, end: fn(&Process)) {
        self.peers.iter().filter_map(|peer| peer.process.as_ref()).for_each(end);
        let all_ended = async {
            while self.peers.iter().any(|peer| peer.process.is_some()) {
                let Some((number, news)) = self.news.recv().await else { return };
                let elapsed = self.start.elapsed();
                let peer = &mut self.peers[number];
                match news {
                    News::Said(said @ Said::Stopped(_)) => {
                        peer.note(said, elapsed);
                        if peer.state != State::Failed {
                            peer.state = State::Ended;
                        }
                    }
                    News::Ended(_) => peer.bury(),
                    News::Said(_) => {}
                }
            }
        };
        // Whoever takes longer is killed as its process is dropped.
        let _ = timeout(END_TIMEOUT, all_ended).await;
        self.peers.iter_mut().for_each(Peer::bury);
    }
}

fn start_tracker(net: &Net) -> Result<Handle> {
    let config = Config {
        interval: ANNOUNCE_INTERVAL,
        min_interval: ANNOUNCE_INTERVAL / 2,
        limits: swarm_tracker::Limits { stop_timeout: TRACKER_STOP_TIMEOUT, ..Default::default() },
        ..Config::default()
    };
    Ok(Server::bind(config, &[net.tracker()])?.spawn())
}

/// A line on what has just happened; where there are bars, they show it.
fn tell(cx: &mut Context, line: &str) {
    if !cx.console.has_bars() {
        cx.console.note(line);
    }
}

/// How long distributing so many bytes may take.
fn allowance(len: u64, plan: &Plan) -> Duration {
    let copies = (plan.peers + plan.seeds + 1) as u64;
    TIMEOUT_BASE + Duration::from_secs(len.saturating_mul(copies) / RATE_EXPECTED_MIN)
}

/// All peers, none of them started: the source, the other seeds, the downloaders, then whoever poisons.
fn line_up(plan: &Plan, material: &Material, scratch: &Path, net: &Net) -> Vec<Peer> {
    let mut peers = Vec::new();
    let mut add = |name: String, role: Role| {
        let dir = match role {
            Role::Downloader => scratch.join(name.replace(' ', "-")),
            Role::Source | Role::Seed | Role::Poisoner => material.dir.clone(),
        };
        let log = scratch.join(name.replace(' ', "-") + ".log");
        peers.push(Peer::new(name, role, net.peer(peers.len()), dir, log));
    };
    add("source".to_owned(), Role::Source);
    (1..=plan.seeds).for_each(|n| add(format!("seed {n}"), Role::Seed));
    let first = 1 + plan.seeds;
    (1..=plan.peers).for_each(|n| add(format!("peer {n}"), Role::Downloader));
    if plan.faults.contains(&Fault::CorruptPeer) {
        add("poisoner".to_owned(), Role::Poisoner);
    }
    for (peer, faults) in peers[first..].iter_mut().zip(assign(&plan.faults, plan.peers)) {
        peer.faults = faults;
    }
    peers
}

/// The addresses of one lab: a network of its own within 127.0.0.0/8, so that two labs do not meet.
struct Net([u8; 2]);

impl Net {
    fn random() -> Result<Net> {
        let random = getrandom::u64().context("cannot get random bytes")?;
        let [a, b, ..] = random.to_le_bytes();
        // Away from 127.0.x.y, where other programs live.
        Ok(Net([a.max(1), b]))
    }

    /// The address of the `n`th peer, from 0.
    fn peer(&self, n: usize) -> SocketAddr {
        self.addr(n as u8 + 1)
    }

    fn tracker(&self) -> SocketAddr {
        self.addr(254)
    }

    fn addr(&self, last: u8) -> SocketAddr {
        let [a, b] = self.0;
        // Elsewhere only 127.0.0.1 exists unless somebody has set up more.
        let ip = if cfg!(target_os = "linux") { Ipv4Addr::new(127, a, b, last) } else { Ipv4Addr::LOCALHOST };
        SocketAddr::new(IpAddr::V4(ip), 0)
    }
}
