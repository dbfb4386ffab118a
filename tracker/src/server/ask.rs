//! Announces and scrapes where several trackers share a store: it is asked, and what this very tracker knows
//! is told when there is no answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use swarm_core::id::InfoHash;
use swarm_core::net::Family;
use swarm_core::rng::Rng;
use swarm_core::tracker::{AnnounceRequest, AnnounceResponse, Event, ScrapeResponse, TrackerPeer};

use super::Shared;
use crate::remote::{Answer, Remote, Terms};
use crate::store::{Refusal, Store};

/// The warning of an answer from memory.
const FROM_MEMORY: &str = "this tracker's store does not answer: you hear only of peers that it knows itself";

/// A store that refuses what was announced while it was away is told again after this time.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What a peer is told.
pub(super) async fn announce(
    shared: &Shared,
    remote: &Remote,
    rng: &mut Rng,
    request: &AnnounceRequest,
    source: IpAddr,
) -> Result<AnnounceResponse, Refusal> {
    if !remote.is_up() {
        return from_memory(shared, remote, rng, request, source);
    }
    let store = &shared.store;
    let visited = store.admit(shared.clock.now(), rng, request, source)?;
    for (info_hash, peers) in store.take_displaced() {
        remote.forget(info_hash, &peers);
    }
    let source = source.to_canonical();
    let stops = request.event == Some(Event::Stopped);
    let mut view = store.view(&request.info_hash);
    let known = view.of(Family::of_ip(source)).peers as usize;
    let no_swarm_fits = !stops && known == 0 && remote.is_full(store.swarms_max());
    let terms = Terms {
        addr: SocketAddr::new(source, request.port),
        want: visited.want,
        completed: visited.newly_completed,
        no_room: !stops && (!visited.listed || no_swarm_fits || known >= store.peers_per_swarm_max()),
        timeout: store.shared_timeout(),
        view,
        random: rng.next_u64(),
    };
    let mut told = remote.announce(request, terms).await;
    if let Some(Answer { listed: false, view: mut known, .. }) = told
        && no_swarm_fits
    {
        if known.of(Family::of_ip(source)).peers > 0 && visited.listed {
            // It is not a new one, only new to this tracker.
            let again = Terms { no_room: false, completed: false, view: known, ..terms };
            told = remote.announce(request, again).await;
        } else {
            store.give_way(&request.info_hash, source);
        }
    }
    let Some(told) = told else {
        return from_memory(shared, remote, rng, request, source);
    };
    store.set_view(&request.info_hash, told.view);
    if told.is_news {
        store.hear(shared.clock.now(), &request.info_hash, &told.peers);
    }
    let mut response = visited.response;
    response.complete = Some(told.stats.complete);
    response.incomplete = Some(told.stats.incomplete);
    response.downloaded = Some(told.stats.downloaded);
    response.peers = told.peers.into_iter().map(|addr| TrackerPeer { addr, id: None }).collect();
    if !told.listed && !stops {
        response.warning = Some(Store::full_warning().into());
    }
    Ok(response)
}

/// What this tracker itself knows.
fn from_memory(
    shared: &Shared,
    remote: &Remote,
    rng: &mut Rng,
    request: &AnnounceRequest,
    source: IpAddr,
) -> Result<AnnounceResponse, Refusal> {
    let mut response = shared.store.announce(shared.clock.now(), rng, request, source)?;
    remote.note_from_memory();
    response.warning.get_or_insert_with(|| FROM_MEMORY.into());
    Ok(response)
}

/// How large swarms are.
pub(super) async fn scrape(shared: &Shared, remote: &Remote, info_hashes: &[InfoHash]) -> ScrapeResponse {
    let served = shared.store.served(info_hashes);
    match remote.scrape(&served, shared.store.shared_timeout()).await {
        Some(stats) => ScrapeResponse { files: served.into_iter().zip(stats).collect() },
        None => {
            remote.note_from_memory();
            shared.store.scrape(&served)
        }
    }
}

/// Tells the store what was announced while it was not there, each time when it is there again. If it refuses,
/// because it is full for instance, it is told again after a while.
pub(super) async fn catch_up(shared: Arc<Shared>) {
    let Some(remote) = &shared.remote else { return };
    let mut all_told = true;
    loop {
        if all_told {
            remote.came_up().await;
        } else {
            let _ = tokio::time::timeout(TELL_AGAIN_AFTER, remote.came_up()).await;
        }
        let peers = tell_all(&shared, remote).await;
        all_told = peers.is_some();
        if let Some(peers @ 1..) = peers {
            tracing::info!(peers, "the store knows again what was announced to this tracker");
        }
    }
}

/// How many peers the store was told of, if it took them all.
async fn tell_all(shared: &Shared, remote: &Remote) -> Option<usize> {
    let mut peers = 0;
    for known in shared.store.all_earlier(|| shared.clock.now()) {
        peers += known.peers.len();
        if !remote.restore(&known, shared.store.shared_timeout()).await {
            return None;
        }
    }
    Some(peers)
}
