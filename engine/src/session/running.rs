//! The torrents that run, as far as the rest of the session has to do with them.

use crate::Error;
use crate::id::TorrentId;
use crate::net::handshake::{Opened, Ours};
use crate::storage::{Lengths, Location, ReuseSources, Sibling};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use swarm_core::admission::{self, Holder};
use swarm_core::id::{InfoHash, PeerKey, PieceIndex};
use swarm_core::ip_filter::IpFilter;
use swarm_core::mse::ObfuscatedHash;
use swarm_core::time::Time;
use swarm_core::torrent::Pressure;
use swarm_core::torrent::discovery::Origin;

/// A running torrent. None of this may be called while the torrent is being changed, but for [`RunningTorrent::pressure_changed`].
pub(super) trait RunningTorrent {
    fn id(&self) -> TorrentId;
    fn is_private(&self) -> bool;
    /// Whether peers are connected, web seeds asked, or unfinished pieces in memory. Once it begins, [`RunningTorrents::note_active`] is told.
    fn is_active(&self) -> bool;
    fn is_complete(&self) -> bool;
    /// Whether it wants data and has nobody to ask.
    fn needs_peers(&self) -> bool;
    /// How long its files are, if they are known.
    fn lengths(&self) -> Lengths;
    /// Whether files of others may hold what it lacks.
    fn is_downloading(&self) -> bool;
    /// Takes what these have of what it lacks.
    fn take_from(self: Rc<Self>, sources: ReuseSources) -> Pin<Box<dyn Future<Output = ()>>>;
    /// Where its files are, if they are known.
    fn location(&self) -> Option<Location>;
    /// What it says in handshakes.
    fn ours(&self) -> Ours;
    /// A peer has dialled it.
    fn connected(self: Rc<Self>, opened: Opened);
    fn handle_addresses(self: Rc<Self>, addrs: &[SocketAddr], origin: Origin);
    /// Our own addresses have changed.
    fn addresses_changed(&self);
    /// The gateway passes on what comes for the external port, or for none; peers of IPv4 reach us at `ours`.
    fn port_mapped(self: Rc<Self>, external_port: Option<u16>, ours: u16);
    fn limits_changed(self: Rc<Self>);
    fn set_ip_filter(self: Rc<Self>, filter: Arc<IpFilter>);
    fn pressure_changed(self: Rc<Self>, pressure: Pressure);
    /// Memory is full, and none comes free by itself.
    fn spill_if_full(&self);
    /// Whether it gives memory back soon: something is being written, or moves to disk from now on.
    fn frees_memory(&self) -> bool;
    /// The partial piece that is the smallest loss, if some may be dropped: whether blocks come for it, and its bytes in memory.
    fn droppable_piece(&self, now: Time) -> Option<(bool, usize, PieceIndex)>;
    fn drop_piece(self: Rc<Self>, piece: PieceIndex);
    /// What each connection is good for.
    fn holders(&self, now: Time) -> Vec<Holder<PeerKey>>;
    /// Closes a connection: one of another torrent needs its place more.
    fn evict(self: Rc<Self>, key: PeerKey);
    /// It turns out to be the same as another torrent, and ends with this error. Where to find its peers.
    fn end_as(&self, error: Error) -> Vec<SocketAddr>;
    /// Its task has ended by a defect: its connections end too.
    fn abandon(&self);
}

/// The running torrents by the info-hashes that are their names in the session.
#[derive(Default)]
pub(super) struct RunningTorrents {
    by_hash: RefCell<BTreeMap<InfoHash, Rc<dyn RunningTorrent>>>,
    /// The other info-hashes of hybrid torrents, and those above.
    others: RefCell<BTreeMap<InfoHash, InfoHash>>,
    /// The same the other way round.
    others_of: RefCell<BTreeMap<InfoHash, Vec<InfoHash>>>,
    /// How encrypted handshakes name them.
    obfuscated: RefCell<BTreeMap<ObfuscatedHash, InfoHash>>,
    /// The names of those that are active, or were since somebody asked.
    active: RefCell<BTreeSet<InfoHash>>,
    /// The names of those that were downloading when that was looked at last.
    downloads: RefCell<BTreeSet<InfoHash>>,
    /// How long the files of each are: beside the torrents, of which few are looked at for them.
    lengths: RefCell<BTreeMap<InfoHash, Lengths>>,
}

impl RunningTorrents {
    pub(super) fn insert(&self, info_hash: InfoHash, torrent: Rc<dyn RunningTorrent>) {
        self.obfuscated.borrow_mut().insert(ObfuscatedHash::of(info_hash), info_hash);
        self.by_hash.borrow_mut().insert(info_hash, torrent);
        self.note_content(info_hash);
    }

    /// The torrent of this name, if it runs, may know by now what it holds, and what it lacks.
    pub(super) fn note_content(&self, name: InfoHash) {
        let Some(torrent) = self.by_hash.borrow().get(&name).cloned() else { return };
        self.lengths.borrow_mut().insert(name, torrent.lengths());
        if torrent.is_downloading() {
            self.note_download(name);
        }
    }

    /// The torrent of this name lacks something.
    pub(super) fn note_download(&self, name: InfoHash) {
        self.downloads.borrow_mut().insert(name);
    }

    /// The torrent of this name goes by these info-hashes too.
    pub(super) fn insert_others(&self, name: InfoHash, others: impl Iterator<Item = InfoHash>) {
        for other in others.filter(|&other| other != name) {
            self.obfuscated.borrow_mut().insert(ObfuscatedHash::of(other), other);
            let before = self.others.borrow_mut().insert(other, name);
            let mut others_of = self.others_of.borrow_mut();
            before
                .and_then(|before| others_of.get_mut(&before))
                .into_iter()
                .for_each(|all| all.retain(|of| *of != other));
            others_of.entry(name).or_default().push(other);
        }
    }

    pub(super) fn remove(&self, name: InfoHash) -> Option<Rc<dyn RunningTorrent>> {
        let mut obfuscated = self.obfuscated.borrow_mut();
        // Another torrent may go by that name by now, which turned out to be the same.
        if !self.others.borrow().contains_key(&name) {
            obfuscated.remove(&ObfuscatedHash::of(name));
        }
        for other in self.others_of.borrow_mut().remove(&name).unwrap_or_default() {
            obfuscated.remove(&ObfuscatedHash::of(other));
            self.others.borrow_mut().remove(&other);
        }
        self.lengths.borrow_mut().remove(&name);
        self.downloads.borrow_mut().remove(&name);
        self.active.borrow_mut().remove(&name);
        self.by_hash.borrow_mut().remove(&name)
    }

    /// The one that goes by this info-hash.
    pub(super) fn get(&self, info_hash: InfoHash) -> Option<Rc<dyn RunningTorrent>> {
        let name = self.others.borrow().get(&info_hash).copied().unwrap_or(info_hash);
        self.by_hash.borrow().get(&name).cloned()
    }

    /// The info-hash that an encrypted handshake names.
    pub(super) fn revealed(&self, hash: ObfuscatedHash) -> Option<InfoHash> {
        self.obfuscated.borrow().get(&hash).copied()
    }

    /// The session ends: torrents are kept by nobody but their tasks.
    pub(super) fn clear(&self) {
        self.obfuscated.borrow_mut().clear();
        self.others.borrow_mut().clear();
        self.others_of.borrow_mut().clear();
        self.lengths.borrow_mut().clear();
        self.downloads.borrow_mut().clear();
        self.active.borrow_mut().clear();
        self.by_hash.borrow_mut().clear();
    }

    /// The torrent of this name has got a peer, or asks a web seed.
    pub(super) fn note_active(&self, name: InfoHash) {
        self.active.borrow_mut().insert(name);
    }

    /// Those that are active, or were since this was asked last. The others are not looked at: they may be many.
    pub(super) fn active(&self) -> Vec<TorrentId> {
        let mut ids = Vec::new();
        self.retain(&self.active, &self.downloads, |torrent| {
            ids.push(torrent.id());
            torrent.is_active()
        });
        ids
    }

    /// The names of those that download.
    pub(super) fn downloading(&self) -> Vec<InfoHash> {
        self.retain(&self.downloads, &self.active, |torrent| torrent.is_downloading());
        self.downloads.borrow().iter().copied().collect()
    }

    /// How long the files of one are.
    pub(super) fn lengths_of(&self, name: InfoHash) -> Lengths {
        self.lengths.borrow().get(&name).copied().unwrap_or_default()
    }

    /// Leaves the names of some torrents. The others, unless they are among the `busy` by the other set, are told of memory no more.
    fn retain(
        &self,
        names: &RefCell<BTreeSet<InfoHash>>,
        others: &RefCell<BTreeSet<InfoHash>>,
        mut is_one: impl FnMut(&Rc<dyn RunningTorrent>) -> bool,
    ) {
        let mut gone = Vec::new();
        {
            let (torrents, others) = (self.by_hash.borrow(), others.borrow());
            names.borrow_mut().retain(|name| {
                let Some(torrent) = torrents.get(name) else { return false };
                let stays = is_one(torrent);
                gone.extend((!stays && !others.contains(name)).then(|| Rc::clone(torrent)));
                stays
            });
        }
        gone.into_iter().for_each(|torrent| torrent.pressure_changed(Pressure::None));
    }

    /// Those that download or have peers: the others hold no memory of the session's.
    pub(super) fn busy(&self) -> Vec<Rc<dyn RunningTorrent>> {
        let torrents = self.by_hash.borrow();
        let names = self.active.borrow();
        names.union(&self.downloads.borrow()).filter_map(|name| torrents.get(name).cloned()).collect()
    }

    /// All of them. They may come and go meanwhile.
    pub(super) fn all(&self) -> Vec<Rc<dyn RunningTorrent>> {
        self.by_hash.borrow().values().cloned().collect()
    }

    /// Where the files of other torrents are that may have some of these lengths.
    pub(super) fn siblings_of(&self, name: InfoHash, wanted: &Lengths) -> Vec<Sibling> {
        let (torrents, lengths) = (self.by_hash.borrow(), self.lengths.borrow());
        let others = lengths.iter().filter(|(other, lengths)| **other != name && lengths.may_meet(wanted));
        let locations =
            others.filter_map(|(other, lengths)| Some((torrents.get(other)?.location()?, *lengths)));
        locations.map(|(location, lengths)| Sibling { location, files: None, lengths }).collect()
    }

    /// The connection that is evicted for a newcomer from this address, if there are `peers_max` in all.
    pub(super) fn evicted_for(
        &self,
        newcomer: IpAddr,
        now: Time,
        peers_max: usize,
    ) -> Option<(InfoHash, PeerKey)> {
        // Not all torrents, of which thousands may have no connection: anybody may come, again and again.
        let (torrents, active) = (self.by_hash.borrow(), self.active.borrow());
        let holders = active.iter().flat_map(|&info_hash| {
            let holders = torrents.get(&info_hash).map(|torrent| torrent.holders(now));
            let holders = holders.into_iter().flatten();
            holders.map(move |Holder { key, ip, standing, useful_at }| Holder {
                key: (info_hash, key),
                ip,
                standing,
                useful_at,
            })
        });
        admission::evicted_for(newcomer, &holders.collect::<Vec<_>>(), peers_max)
    }
}
