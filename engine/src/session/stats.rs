//! A torrent at one moment, for those who watch.

use super::event::{PeerStats, State, TorrentStats, TrackerStats, Waiting, WebSeedStats, WebSeedStatus};
use super::options::{Mode, Source};
use super::torrent::{Inner, TorrentDriver};
use std::sync::Arc;
use swarm_core::peer::Peer;
use swarm_core::time::Time;
use swarm_core::torrent::metadata::METADATA_LEN_MAX;
use swarm_core::torrent::{Torrent, Totals};
use swarm_core::tracker::announcer::{Announcer, TrackerStatus};
use swarm_core::wire::client_name;

impl TorrentDriver {
    /// What has been transferred since the torrent was added.
    pub(super) fn totals(&self, core: &Torrent) -> Totals {
        self.totals_before.plus(core.totals())
    }

    pub(super) fn stats(&self) -> TorrentStats {
        let now = self.context.now();
        let inner = self.inner.borrow();
        let core = &inner.core;
        let Some(content) = self.content.get() else { return self.stats_before(&inner, now) };
        // What a seed has is all that it wants.
        let needed = (self.options.mode != Mode::Seed).then_some(&content.needed);
        let (bytes_total, bytes_verified) = self.progress.count(&content.metainfo.info, needed, core.have());
        let (rate_down, rate_up) = core.rates(now);
        let state = match inner.state {
            State::Checking if core.is_complete() => State::Seeding,
            State::Checking => State::Downloading,
            state => state,
        };
        TorrentStats {
            state,
            bytes_total,
            bytes_verified,
            bytes_unverified: core.bytes_unverified(),
            pieces: core.geometry().pieces(),
            pieces_have: core.have().count(),
            rate_down,
            rate_up,
            peers: core.peers().count(),
            seeds: core.peers().filter(|p| p.have().is_full()).count(),
            totals: self.totals(core),
            waiting: self.waiting(&inner, rate_down),
            peer_list: core.peers().map(|peer| peer_stats(peer, now)).collect(),
            trackers: trackers(&self.announcer.borrow(), now),
            web_seeds: self.web_seed_stats(&inner, now),
        }
    }

    /// For each file, how many of its bytes are in verified pieces, once its data is known.
    pub(super) fn file_progress(&self) -> Option<Vec<u64>> {
        let info = &self.content.get()?.metainfo.info;
        let inner = self.inner.borrow();
        let mut files = vec![0; info.files.len()];
        for piece in inner.core.have().iter() {
            info.segments(piece).for_each(|segment| files[segment.file.idx()] += segment.len);
        }
        Some(files)
    }

    /// The same once its connections have ended.
    pub(super) fn stats_at_rest(&self) -> TorrentStats {
        TorrentStats {
            rate_down: 0,
            rate_up: 0,
            peers: 0,
            seeds: 0,
            waiting: None,
            peer_list: Vec::new(),
            trackers: Vec::new(),
            ..self.stats()
        }
    }

    /// The same before its data is known and checked.
    fn stats_before(&self, inner: &Inner, now: Time) -> TorrentStats {
        let metainfo = self.known.metainfo.get();
        let is_known = metainfo.is_some();
        let stats = self.progress.stats(metainfo.map(|metainfo| &*metainfo.info));
        TorrentStats {
            state: if is_known { stats.state } else { State::Metadata },
            totals: self.totals(&inner.core),
            peers: inner.core.peers().count(),
            waiting: if is_known { None } else { self.waiting_for_metadata(inner) },
            peer_list: inner.core.peers().map(|peer| peer_stats(peer, now)).collect(),
            trackers: trackers(&self.announcer.borrow(), now),
            ..stats
        }
    }

    /// Why no metadata comes, if none does.
    fn waiting_for_metadata(&self, inner: &Inner) -> Option<Waiting> {
        if let Some((len, peers)) = inner.core.metadata_too_long() {
            return Some(Waiting::MetadataTooLong { len, limit: METADATA_LEN_MAX, peers });
        }
        if inner.core.wants_layers() && inner.core.peers().next().is_some() {
            return Some(Waiting::PieceHashes);
        }
        if inner.core.peers().next().is_some() {
            return (!inner.core.is_metadata_offered()).then_some(Waiting::NoMetadata);
        }
        Some(self.context.proxy_error().map_or_else(|| self.no_peers(inner), Waiting::Proxy))
    }

    /// The web seed that serves, or is the nearest to it.
    fn best_web_seed(&self, inner: &Inner) -> Option<(String, WebSeedStatus)> {
        let rank = |status: &WebSeedStatus| match status {
            WebSeedStatus::Fetching => 0,
            WebSeedStatus::Paused { .. } => 1,
            WebSeedStatus::Lost { .. } => 2,
            WebSeedStatus::Idle => 3,
            _ => 4,
        };
        let web_seeds = self.web_seed_stats(inner, self.context.now()).into_iter();
        web_seeds.min_by_key(|seed| rank(&seed.status)).map(|WebSeedStats { url, status, .. }| (url, status))
    }

    /// Why there are no peers, and no web seed serves.
    fn no_source(&self, inner: &Inner) -> Waiting {
        match self.best_web_seed(inner) {
            None => self.no_peers(inner),
            // Whoever might name peers says more than a web seed that is out of use for good.
            Some((url, status @ WebSeedStatus::Dropped(_))) => match self.no_peers(inner) {
                Waiting::NobodyToAsk { .. } => Waiting::WebSeed { url, status },
                other => other,
            },
            Some((url, status)) => Waiting::WebSeed { url, status },
        }
    }

    /// Why nothing comes, if no connected peer has anything.
    fn nothing_useful(&self, inner: &Inner) -> Waiting {
        match self.best_web_seed(inner) {
            None | Some((_, WebSeedStatus::Idle)) => Waiting::NothingUseful,
            Some((url, status)) => Waiting::WebSeedBesidePeers { url, status },
        }
    }

    /// Why there are no peers.
    fn no_peers(&self, inner: &Inner) -> Waiting {
        let names_peers = match &self.options.source {
            Source::Magnet(magnet) => !magnet.peers.is_empty(),
            _ => false,
        };
        let (known, failed) = inner.core.addresses_known_and_failed();
        if known == 0 && inner.is_any_blocked {
            return Waiting::Filtered;
        }
        let announcer = self.announcer.borrow();
        let trackers = || announcer.trackers().map(|tracker| tracker.status);
        let asks = trackers().any(|status| !matches!(status, TrackerStatus::Unsupported(_)));
        let is_named = names_peers || !self.options.peers.is_empty();
        if !asks && self.dht().is_none() && !is_named {
            return Waiting::NobodyToAsk { local: self.lsd().is_some() };
        }
        let serves = trackers().any(|status| status == TrackerStatus::Working);
        let failure = trackers().find_map(|status| match status {
            TrackerStatus::Failed(why) => Some(Waiting::Tracker(why)),
            _ => None,
        });
        let options = &self.context.options;
        match failure.filter(|_| !serves) {
            Some(failure) => failure,
            None if failed < known => Waiting::NoPeers,
            None if inner.is_refused => Waiting::Refused { encryption: options.encryption },
            None if known > 0 => Waiting::Unreachable { addresses: known, only_utp: !options.tcp },
            None => Waiting::NoPeers,
        }
    }

    /// Why nothing moves, if something should.
    fn waiting(&self, inner: &Inner, rate_down: u64) -> Option<Waiting> {
        if let Some(error) = inner.disk.stalled_by() {
            return Some(Waiting::Disk(Arc::clone(error)));
        }
        let core = &inner.core;
        if core.is_complete() || rate_down > 0 {
            return None;
        }
        if self.download_limit() == Some(0) {
            return Some(Waiting::Limit);
        }
        if core.peers().next().is_none() {
            if let Some(error) = self.context.proxy_error() {
                return Some(Waiting::Proxy(error));
            }
            if let Some(limit) = self.context.is_short_of_descriptors() {
                return Some(Waiting::Descriptors { limit });
            }
            return Some(self.no_source(inner));
        }
        if !core.peers().any(|p| p.flags.am_interested) {
            return Some(self.nothing_useful(inner));
        }
        if core.peers().filter(|p| p.flags.am_interested).all(|p| p.flags.peer_choking) {
            return Some(Waiting::Choked);
        }
        Some(Waiting::Silent)
    }
}

fn peer_stats(peer: &Peer, now: Time) -> PeerStats {
    PeerStats {
        addr: peer.info.addr,
        listen_addr: peer.extensions.listen_addr,
        inbound: peer.info.inbound,
        utp: peer.info.utp,
        punched: peer.was_punched(),
        encryption: peer.info.encryption,
        peer_id: peer.info.peer_id,
        client: peer.extensions.client.clone().unwrap_or_else(|| client_name(&peer.info.peer_id)),
        pieces_have: peer.have().count(),
        bytes_down: peer.traffic.bytes_down,
        bytes_up: peer.traffic.bytes_up,
        rate_down: peer.traffic.rate_down.bytes_per_s(now),
        rate_up: peer.traffic.rate_up.bytes_per_s(now),
        am_choking: peer.flags.am_choking,
        peer_choking: peer.flags.peer_choking,
        am_interested: peer.flags.am_interested,
        peer_interested: peer.flags.peer_interested,
        snubbed: peer.is_snubbed(),
    }
}

fn trackers(announcer: &Announcer, now: Time) -> Vec<TrackerStats> {
    let all = announcer.trackers();
    all.map(|t| TrackerStats {
        url: t.url.to_owned(),
        family: t.family,
        status: t.status,
        peers: t.peers as usize,
        seeds: t.complete,
        leechers: t.incomplete,
        next_announce: t.next_announce.map(|at| at.since(now)),
    })
    .collect()
}
