//! What the tracker counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::Shared;
use crate::remote::{Remote, SharedStoreStats};

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub connections: Gauge,
    pub announces: Counter,
    pub scrapes: Counter,
    /// Announces and scrapes that got a failure reason.
    pub refused: Counter,
    /// Those of them that came too often.
    pub rate_limited: Counter,
    pub udp_connects: Counter,
    /// Datagrams that got no reply.
    pub udp_dropped: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are, and were.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    total: Counter,
    gone: Counter,
}

impl Gauge {
    /// One more, until the guard is dropped.
    pub fn enter(&self) -> impl Drop + '_ {
        struct Guard<'a>(&'a Counter);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.add_one();
            }
        }
        self.total.add_one();
        Guard(&self.gone)
    }

    pub fn total(&self) -> u64 {
        self.total.get()
    }

    pub fn now(&self) -> u64 {
        // In this order, or one that comes and goes in between would be counted below zero.
        let gone = self.gone.get();
        self.total.get().saturating_sub(gone)
    }
}

/// What a tracker has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Swarms, empty ones that are still remembered included.
    pub swarms: usize,
    /// Peers: seeds and leechers.
    pub peers: usize,
    /// Peers that have everything.
    pub seeds: usize,
    /// Peers that do not.
    pub leechers: usize,
    /// Swarms evicted to make room, since the start.
    pub displaced: u64,
    /// Connections open now.
    pub connections: u64,
    /// Connections since the start.
    pub connections_total: u64,
    /// Announces since the start, refused ones included.
    pub announces: u64,
    /// Scrapes since the start, refused ones included.
    pub scrapes: u64,
    /// Announces and scrapes that got a failure reason, since the start.
    pub refused: u64,
    /// Those of them that came too often from one address.
    pub rate_limited: u64,
    /// Requests over UDP for a connection id, since the start.
    pub udp_connects: u64,
    /// Datagrams that make no sense or name no valid connection id, since the start.
    pub udp_dropped: u64,
    /// The store that trackers share, if there is one. Swarms and peers are those that this one knows itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_store: Option<SharedStoreStats>,
}

impl Stats {
    /// In the text format of Prometheus.
    pub(super) fn to_prometheus(self) -> String {
        let own = [
            ("uptime_seconds", "gauge", "Time since the start.", self.uptime_s),
            ("swarms", "gauge", "Torrents that are tracked.", self.swarms as u64),
            ("seeds", "gauge", "Peers that have everything.", self.seeds as u64),
            ("leechers", "gauge", "Peers that do not have everything.", self.leechers as u64),
            ("displaced_total", "counter", "Torrents evicted to make room.", self.displaced),
            ("connections", "gauge", "Connections that are open.", self.connections),
            ("connections_total", "counter", "Connections accepted.", self.connections_total),
            ("announces_total", "counter", "Announces received.", self.announces),
            ("scrapes_total", "counter", "Scrapes received.", self.scrapes),
            ("refused_total", "counter", "Announces and scrapes refused.", self.refused),
            ("rate_limited_total", "counter", "Those refused for coming too often.", self.rate_limited),
            ("udp_connects_total", "counter", "Connection ids asked for over UDP.", self.udp_connects),
            ("udp_dropped_total", "counter", "Datagrams that got no reply.", self.udp_dropped),
        ];
        let shared = self.shared_store.map(|store| {
            [
                ("store_up", "gauge", "Whether the shared store is connected.", u64::from(store.up)),
                ("store_keys", "gauge", "Keys in the shared store.", u64::from(store.keys)),
                ("store_lost_total", "counter", "Times that the shared store was lost.", store.lost),
                ("store_refused_total", "counter", "Requests that the shared store refused.", store.refused),
                ("from_memory_total", "counter", "Answers without the shared store.", store.from_memory),
            ]
        });
        let text = |(name, kind, help, value): (&str, &str, &str, u64)| {
            let name = format!("swarm_tracker_{name}");
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        };
        own.into_iter().chain(shared.into_iter().flatten()).map(text).collect()
    }
}

impl Shared {
    pub(super) fn stats(&self) -> Stats {
        let store = self.store.stats();
        Stats {
            uptime_s: self.clock.now().as_micros() / 1_000_000,
            swarms: store.swarms,
            peers: store.seeds + store.leechers,
            seeds: store.seeds,
            leechers: store.leechers,
            displaced: self.store.displaced(),
            connections: self.counters.connections.now(),
            connections_total: self.counters.connections.total(),
            announces: self.counters.announces.get(),
            scrapes: self.counters.scrapes.get(),
            refused: self.counters.refused.get(),
            rate_limited: self.counters.rate_limited.get(),
            udp_connects: self.counters.udp_connects.get(),
            udp_dropped: self.counters.udp_dropped.get(),
            shared_store: self.remote.as_ref().map(Remote::stats),
        }
    }
}
