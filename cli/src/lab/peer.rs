//! What the lab knows of each peer.

use super::fault::Fault;
use super::process::{Event, Process};
use crate::events::{Progress, Traffic};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has the data from the start, and is the one whose share is reported.
    Source,
    /// Has the data from the start too.
    Seed,
    /// Downloads, and counts.
    Downloader,
    /// Sends corrupt blocks.
    Poisoner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    Running,
    /// About to be started again.
    Killed,
    /// Has everything, and seeds on.
    Complete,
    /// Has ended incomplete.
    Failed,
    /// Has ended as it should.
    Ended,
}

#[derive(Debug)]
pub struct Peer {
    pub name: String,
    pub role: Role,
    /// Where it listens; port 0 until it has chosen one.
    pub addr: SocketAddr,
    /// The folder that it downloads into or seeds from.
    pub dir: PathBuf,
    pub log: PathBuf,
    pub faults: Vec<Fault>,
    pub state: State,
    pub process: Option<Process>,
    pub starts: u32,
    /// How the process stands that runs now.
    pub progress: Progress,
    pub disk_full: bool,
    /// Its faults that have happened so far, each with the time that the swarm had run when it began.
    pub began: BTreeMap<Fault, Duration>,
    /// From the lab's first transfer to completion.
    pub completed_in: Option<Duration>,
    pub failure: Option<String>,
    pub banned: BTreeMap<SocketAddr, String>,
    pub pieces_failed: u64,
    /// Received and sent by all its processes that have ended.
    pub traffic: Traffic,
}

impl Peer {
    pub fn new(name: String, role: Role, addr: SocketAddr, dir: PathBuf, log: PathBuf) -> Peer {
        Peer {
            name,
            role,
            addr,
            dir,
            log,
            faults: Vec::new(),
            state: State::Waiting,
            process: None,
            starts: 0,
            progress: Progress::default(),
            disk_full: false,
            began: BTreeMap::new(),
            completed_in: None,
            failure: None,
            banned: BTreeMap::new(),
            pieces_failed: 0,
            traffic: Traffic::default(),
        }
    }

    /// Whether its copy counts.
    pub fn is_counted(&self) -> bool {
        self.role == Role::Downloader
    }

    /// Whether it may still become complete.
    pub fn is_pending(&self) -> bool {
        self.is_counted() && matches!(self.state, State::Waiting | State::Running | State::Killed)
    }

    /// The share of the data that it has, from 0 to 1.
    pub fn share(&self) -> f64 {
        match self.is_counted() && !matches!(self.state, State::Complete | State::Ended) {
            true => self.progress.bytes_verified as f64 / self.progress.bytes_total.max(1) as f64,
            false => 1.0,
        }
    }

    /// Takes in an event of its process. What it leads to for others is left to the caller.
    pub fn on_event(&mut self, event: Event, elapsed: Duration) {
        match event {
            Event::Listening { addresses } => {
                if let Some(&addr) = addresses.first() {
                    self.addr = addr;
                }
            }
            Event::Progress(progress) => self.progress = progress,
            Event::PieceFailed {} => self.pieces_failed += 1,
            Event::PeerBanned { address, reason } => {
                self.banned.insert(address, reason);
            }
            Event::DiskStalled {} => {
                self.disk_full = true;
                self.begin(Fault::DiskFull, elapsed);
            }
            Event::DiskResumed {} => self.disk_full = false,
            Event::Complete {} if self.is_counted() => {
                self.state = State::Complete;
                self.completed_in = Some(elapsed);
                self.begin(Fault::SlowPeer, Duration::ZERO);
            }
            Event::Stopped(traffic) => {
                self.progress = Progress::default();
                self.add(traffic);
            }
            Event::Failed { message } => self.failure = Some(message),
            Event::Complete {} | Event::Other => {}
        }
    }

    /// A fault happens, if it is one of this peer's; the first time counts.
    pub fn begin(&mut self, fault: Fault, elapsed: Duration) {
        if self.faults.contains(&fault) {
            self.began.entry(fault).or_insert(elapsed);
        }
    }

    /// Its process has ended. Unless its last event had its totals, as that of a killed one has not, its last
    /// progress is all that is known.
    pub fn bury(&mut self) {
        self.process = None;
        let Progress { bytes_down, bytes_up, bytes_wasted, .. } = std::mem::take(&mut self.progress);
        self.add(Traffic { bytes_down, bytes_up, bytes_wasted, ..Traffic::default() });
    }

    fn add(&mut self, traffic: Traffic) {
        self.traffic.bytes_down += traffic.bytes_down;
        self.traffic.bytes_up += traffic.bytes_up;
        self.traffic.bytes_wasted += traffic.bytes_wasted;
        self.traffic.bytes_corrupt += traffic.bytes_corrupt;
        self.traffic.peers.extend(traffic.peers);
        self.traffic.web_seeds.extend(traffic.web_seeds);
    }

    /// What it sent to the peer that listens at this address.
    pub fn sent_to(&self, addr: SocketAddr) -> u64 {
        self.traffic.peers.iter().filter(|peer| peer.address == addr).map(|peer| peer.bytes_up).sum()
    }

    /// What it received from web seeds.
    pub fn bytes_of_web_seeds(&self) -> u64 {
        self.traffic.web_seeds.iter().map(|seed| seed.bytes_down).sum()
    }

    /// One or two words on what it is doing.
    pub fn state_word(&self) -> &'static str {
        match self.state {
            State::Waiting if self.role == Role::Downloader => "starting",
            State::Waiting => "comes later",
            State::Killed => "killed",
            State::Failed => "failed",
            State::Complete => "complete",
            State::Ended => "ended",
            State::Running if self.disk_full => "disk full",
            State::Running if self.role == Role::Poisoner => "poisons",
            State::Running if self.role != Role::Downloader => "seeds",
            State::Running if self.starts > 1 => "restarted",
            State::Running if self.progress.bytes_total == 0 => "starting",
            State::Running if self.progress.waiting.is_some() => "waits",
            State::Running if self.faults.contains(&Fault::SlowPeer) => "slow line",
            State::Running => "downloads",
        }
    }

    /// Arguments for its process that all roles share: `command`, the torrent, its place in the network.
    pub fn arguments(&self, command: &str, metainfo: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![command.into(), metainfo.into()];
        if command == "get" {
            args.push("--output".into());
        }
        args.push(self.dir.clone().into());
        let listen = self.addr.to_string();
        // No state: the lab leaves nothing behind, and everything is checked.
        args.extend(
            ["--json", "--no-state", "--no-tracker", "--proxy", "none", "--listen", &listen]
                .map(OsString::from),
        );
        let tuning = ["--announce-interval-min=1s", "--progress-interval=100ms", "--workers=2"];
        args.extend(tuning.map(OsString::from));
        args
    }
}
