//! What Prometheus reads. Names and units are by its conventions; the only labels are those of a few fixed values, so that neither torrents
//! nor strangers make more series.

use crate::manager::Counters;
use crate::table::{State, Table};
use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Requests by the first digit of their status.
#[derive(Debug, Default)]
pub struct HttpCounters([AtomicU64; 5]);

impl HttpCounters {
    /// A request was answered.
    pub fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5);
        self.0[class - 1].fetch_add(1, Relaxed);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// What the metrics are of.
#[derive(Debug)]
pub struct Sources<'a> {
    /// All torrents.
    pub table: &'a Table,
    /// Sums of the manager.
    pub counters: &'a Counters,
    /// Sums of requests.
    pub http: &'a HttpCounters,
    /// Open streams of events.
    pub streams: usize,
    /// When the daemon was started, in seconds since 1970.
    pub started_at: i64,
}

/// All metrics, as they are now.
pub fn encode(of: &Sources<'_>) -> String {
    let mut registry = Registry::with_prefix("swarm");
    let torrents = Family::<StateLabel, Gauge>::default();
    for state in State::ALL {
        let _ = torrents.get_or_create(&StateLabel { state: state.name() });
    }
    let (mut peers, mut seeds) = (0, 0);
    for row in of.table.iter() {
        torrents.get_or_create(&StateLabel { state: row.summary.state.name() }).inc();
        peers += row.summary.peers as i64;
        seeds += row.summary.seeds as i64;
    }
    registry.register("torrents", "Torrents by their state", torrents);
    let gauge = |value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        gauge
    };
    registry.register("peers", "Connected peers, seeds among them", gauge(peers));
    registry.register("peers_seeds", "Connected peers that have everything", gauge(seeds));
    registry.register_with_unit(
        "start_time",
        "When the daemon was started, since 1970",
        Unit::Seconds,
        gauge(of.started_at),
    );
    registry.register("event_streams", "Open streams of events", gauge(of.streams as i64));
    let count = |value: &AtomicU64| ConstCounter::new(value.load(Relaxed));
    let sums = of.counters;
    registry.register_with_unit(
        "received",
        "Payload received from peers",
        Unit::Bytes,
        count(&sums.bytes_down),
    );
    registry.register_with_unit("sent", "Payload sent to peers", Unit::Bytes, count(&sums.bytes_up));
    registry.register("store_commits", "Transactions of the database", count(&sums.commits));
    registry.register("store_commits_failed", "Transactions that failed", count(&sums.commits_failed));
    for (class, requests) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&of.http.0) {
        let with_code = registry.sub_registry_with_label(("code".into(), class.into()));
        with_code.register("http_requests", "Requests by the class of their status", count(requests));
    }
    let build = registry.sub_registry_with_label(("version".into(), env!("CARGO_PKG_VERSION").into()));
    build.register("build", "The version that runs", gauge(1));
    let mut text = String::new();
    // Writing to a text does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}
