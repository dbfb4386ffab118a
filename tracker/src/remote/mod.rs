//! A store that several trackers share, so that a peer that announces to one of them is told of by all, and
//! any of them may die.
//!
//! It is Redis. Each announce goes there and back once, together with others ([`link`]); the store expires
//! what nobody announces any more ([`commands`]). Beside it each tracker keeps what was announced to it in a
//! [`Store`](crate::store::Store) of its own, and answers from there while the shared one gives no answer.

mod address;
mod commands;
mod link;
mod recent;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::tracker::{AnnounceRequest, Event, ScrapeStats};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::address::{SharedStore, SharedStoreError};
use self::commands::{Announce, FamilyView, Scrape, Standing, Told};
pub(crate) use self::commands::{Earlier, View};
use self::link::{Failed, Job, Link};
use self::recent::{Look, Recent, SHARED_BY, choose};
use crate::store::Known;

/// Most requests that wait for the store. Who comes then is answered from memory.
const WAITING_MAX: usize = 16 * 1024;
/// Most peers in one command.
const PEERS_MAX: usize = 500;
/// A store that takes announces again has to do so for this long before we say so, and each complaint stands
/// for as long.
const STEADY: Duration = Duration::from_secs(10);

/// How it goes with the store that trackers share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SharedStoreStats {
    /// There is a connection to it.
    pub up: bool,
    /// Its keys: up to three for each torrent.
    pub keys: u32,
    /// How often the connection was lost, since the start.
    pub lost: u64,
    /// Requests that it refused, since the start.
    pub refused: u64,
    /// Announces and scrapes answered from this tracker's memory for want of its answer, since the start.
    pub from_memory: u64,
}

/// What the connection and those who ask share.
pub(crate) struct State {
    name: String,
    is_up: AtomicBool,
    keys: AtomicU32,
    lost: AtomicU64,
    refused: AtomicU64,
    from_memory: AtomicU64,
    /// Wakes who has something to tell the store when it is there again.
    came_up: Notify,
    said: Mutex<Said>,
    /// It has refused something lately.
    complains: AtomicBool,
}

/// What the log has heard.
#[derive(Default)]
struct Said {
    /// Why the store is not there.
    down: Option<String>,
    /// When something was last refused, and whether the log knows.
    refused_at: Option<Instant>,
}

impl State {
    fn new(name: String) -> State {
        State {
            name,
            is_up: AtomicBool::new(false),
            keys: AtomicU32::new(0),
            lost: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            from_memory: AtomicU64::new(0),
            came_up: Notify::new(),
            said: Mutex::default(),
            complains: AtomicBool::new(false),
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_keys(&self, keys: u32) {
        self.keys.store(keys, Ordering::Relaxed);
    }

    fn note_up(&self) {
        self.is_up.store(true, Ordering::Release);
        if self.said().down.take().is_some() {
            tracing::warn!("the store {} is there again", self.name);
        } else {
            tracing::info!("the store {} is there", self.name);
        }
        self.came_up.notify_one();
    }

    fn note_down(&self, reason: &str) {
        self.is_up.store(false, Ordering::Release);
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.say_down(reason);
    }

    fn say_down(&self, reason: &str) {
        self.said().down = Some(reason.to_owned());
        tracing::warn!(
            "the store {} is gone: {reason}; until it is back, answers come from memory",
            self.name
        );
    }

    /// The log hears of it once, and again if the store is there and does not let us in.
    fn note_still_down(&self, failed: &Failed) {
        let is_new = failed.refused && self.said().down.as_ref().is_none_or(|said| *said != failed.reason);
        if is_new {
            self.say_down(&failed.reason);
        } else {
            tracing::debug!("the store {} is still gone: {}", self.name, failed.reason);
        }
    }

    fn note_refused(&self, reason: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.complains.store(true, Ordering::Relaxed);
        if self.said().refused_at.replace(Instant::now()).is_none() {
            tracing::warn!(
                "the store {} refuses: {reason}; what it refuses is answered from memory",
                self.name
            );
        }
    }

    fn note_taken(&self) {
        if !self.complains.load(Ordering::Relaxed) {
            return;
        }
        let mut said = self.said();
        if said.refused_at.is_some_and(|at| at.elapsed() >= STEADY) {
            said.refused_at = None;
            self.complains.store(false, Ordering::Relaxed);
            tracing::warn!("the store {} refuses nothing any more", self.name);
        }
    }
}

/// What an announce is to the store besides the request.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// Where the peer is.
    pub addr: SocketAddr,
    /// How many peers to tell of.
    pub want: usize,
    /// It says for the first time that it has finished.
    pub completed: bool,
    /// It is not to be listed unless it is already.
    pub no_room: bool,
    pub timeout: Duration,
    pub view: View,
    pub random: u64,
}

/// What the store answers to an announce.
pub(crate) struct Answer {
    pub listed: bool,
    pub stats: ScrapeStats,
    pub peers: Vec<SocketAddr>,
    /// The store has named these peers just now.
    pub is_news: bool,
    /// For the next announce about that swarm.
    pub view: View,
}

/// The store, as soon as there is somebody who asks.
pub(crate) struct Unused {
    store: SharedStore,
    link: Option<Link>,
    state: Arc<State>,
}

impl Unused {
    /// Tries whether the store is there. If it is not, that is logged, and it is tried again later.
    ///
    /// # Errors
    /// When it is there and does not let us do what we have to.
    pub async fn open(store: SharedStore) -> Result<Unused, SharedStoreError> {
        let state = Arc::new(State::new(store.to_string()));
        let link = match Link::open(&store.client, &state).await {
            Ok(link) => Some(link),
            Err(Failed { reason, refused: true }) => {
                return Err(SharedStoreError::Refused { store: store.to_string(), reason });
            }
            Err(Failed { reason, .. }) => {
                state.say_down(&reason);
                None
            }
        };
        Ok(Unused { store, link, state })
    }

    pub fn is_up(&self) -> bool {
        self.link.is_some()
    }

    /// Keeps the connection on the runtime that it is called in.
    pub fn start(self) -> Remote {
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        self.state.is_up.store(self.link.is_some(), Ordering::Release);
        let task = tokio::spawn(link::keep(self.store.client, self.link, queue, self.state.clone()));
        let recent = Mutex::new(Recent::new(Instant::now()));
        Remote { jobs, state: self.state, recent, task }
    }
}

/// The store, for those who ask. The connection ends with it.
pub(crate) struct Remote {
    jobs: mpsc::Sender<Job>,
    state: Arc<State>,
    recent: Mutex<Recent>,
    task: JoinHandle<()>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Remote {
    /// Whether it is worth asking.
    pub fn is_up(&self) -> bool {
        self.state.is_up.load(Ordering::Acquire)
    }

    /// Done when the store has become reachable.
    pub async fn came_up(&self) {
        self.state.came_up.notified().await;
    }

    /// Whether it has as many keys as it may.
    pub fn is_full(&self, swarms_max: usize) -> bool {
        self.state.keys.load(Ordering::Relaxed) as usize >= swarms_max
    }

    /// An answer comes from memory.
    pub fn note_from_memory(&self) {
        self.state.from_memory.fetch_add(1, Ordering::Relaxed);
    }

    pub fn stats(&self) -> SharedStoreStats {
        let State { is_up, keys, lost, refused, from_memory, .. } = &*self.state;
        SharedStoreStats {
            up: is_up.load(Ordering::Relaxed),
            keys: keys.load(Ordering::Relaxed),
            lost: lost.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
            from_memory: from_memory.load(Ordering::Relaxed),
        }
    }

    /// Passes an announce on. Nothing if there is no answer.
    pub async fn announce(&self, request: &AnnounceRequest, terms: Terms) -> Option<Answer> {
        let Terms { addr, want, completed, no_room, timeout, view, random } = terms;
        let is_seed = request.left == 0;
        let leechers_only = is_seed && request.event != Some(Event::Started);
        let family = Family::of_ip(addr.ip());
        let part = (request.info_hash, family, leechers_only);
        let mut known = view;
        let is_shared = want > 0 && known.of(family).is_large() && request.event != Some(Event::Stopped);
        let look = match is_shared {
            true => self.recent().look(Instant::now(), part, want, addr, random),
            false => Look::Alone,
        };
        let announce = Announce {
            info_hash: request.info_hash,
            addr,
            standing: match request.event {
                Some(Event::Stopped) => Standing::Stops,
                _ if is_seed => Standing::Seed,
                _ => Standing::Leecher,
            },
            completed,
            no_room,
            want: match &look {
                Look::Named(_) => 0,
                Look::ForAll => want * SHARED_BY,
                Look::Alone => want,
            },
            leechers_only,
            timeout_s: timeout.as_secs(),
            view,
            random,
        };
        let told: Told = self.ask(|reply| Job::Announce(Box::new(announce), reply)).await?;
        let is_news = !matches!(look, Look::Named(_));
        let peers = match look {
            Look::Named(peers) => peers,
            Look::Alone => told.peers,
            Look::ForAll => {
                let peers = choose(&told.peers, want, addr, random);
                let mut swarm = told.view;
                let swarm = swarm.of(family);
                let others = swarm.peers.saturating_sub(if leechers_only { swarm.seeds } else { 1 });
                let is_all = told.peers.len() >= others as usize;
                let mut named = told.peers;
                // Others may be told of who asked.
                named.extend((told.listed && !leechers_only).then_some(addr));
                self.recent().keep(Instant::now(), part, named, is_all);
                peers
            }
        };
        Some(Answer { listed: told.listed, stats: told.stats, peers, is_news, view: told.view })
    }

    /// How large swarms are. Nothing if there is no answer.
    pub async fn scrape(&self, info_hashes: &[InfoHash], timeout: Duration) -> Option<Vec<ScrapeStats>> {
        let scrape = |&info_hash| Scrape { info_hash, timeout_s: timeout.as_secs() };
        let scrapes = info_hashes.iter().map(scrape).collect();
        self.ask(|reply| Job::Scrape(scrapes, reply)).await
    }

    /// Lists peers again that announced a while ago, and says how often their torrent was downloaded if the
    /// store does not know. Whether it did.
    pub async fn restore(&self, known: &Known, timeout: Duration) -> bool {
        let &Known { info_hash, downloaded, .. } = known;
        for peers in known.peers.chunks(PEERS_MAX).map(<[Earlier]>::to_vec) {
            let make = move |now_s, out: &mut redis::Pipeline| {
                commands::restore(&info_hash, &peers, now_s, timeout.as_secs(), out);
                commands::restore_downloaded(&info_hash, downloaded, timeout.as_secs(), out);
            };
            if self.ask(|reply| Job::Commands(Box::new(make), reply)).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Takes peers out, as far as there is room to ask for it: they end by themselves too.
    pub fn forget(&self, info_hash: InfoHash, peers: &[SocketAddr]) {
        for peers in peers.chunks(PEERS_MAX).map(<[SocketAddr]>::to_vec) {
            let make = move |_, out: &mut redis::Pipeline| commands::forget(&info_hash, &peers, out);
            let _ = self.jobs.try_send(Job::Commands(Box::new(make), oneshot::channel().0));
        }
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, commands::Refused>>) -> Job,
    ) -> Option<T> {
        if !self.is_up() {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(job(reply)).ok()?;
        answer.await.ok()?.ok()
    }
}

/// Announces and a scrape that change nothing and use the commands and keys of all others.
fn trial() -> (Vec<Announce>, Scrape) {
    let announce = |addr: SocketAddr, standing, leechers_only, peers| Announce {
        info_hash: InfoHash([0; 20]),
        addr,
        standing,
        completed: false,
        no_room: true,
        want: 1,
        leechers_only,
        timeout_s: 1,
        view: View { v4: FamilyView { peers, ..FamilyView::default() }, ..View::default() },
        random: 0,
    };
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 1));
    let announces = vec![
        announce(v4, Standing::Leecher, false, 0),
        announce(v6, Standing::Seed, true, 0),
        announce(v4, Standing::Stops, false, 1),
    ];
    (announces, Scrape { info_hash: InfoHash([0; 20]), timeout_s: 1 })
}
