//! What Prometheus reads. Names and units are by its conventions; the only labels are those of a few fixed values, so that neither torrents
//! nor strangers make more series.

mod process;

use crate::manager::Counters;
use crate::table::{State, Table};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, HeaderMap};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
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

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As every Prometheus reads them, and `promtool`.
    Prometheus,
    /// By the standard that came of that.
    OpenMetrics,
}

impl Format {
    /// What a client wants that sends these headers.
    pub fn accepted(headers: &HeaderMap) -> Format {
        let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        match accepted.any(|value| value.contains("application/openmetrics-text")) {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
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
    pub event_streams: usize,
    /// Open streams of files.
    pub file_streams: usize,
    /// When the daemon was started, in seconds since 1970.
    pub started_at: i64,
}

/// All metrics, as they are now.
pub fn encode(of: &Sources<'_>, format: Format) -> String {
    let mut registry = Registry::default();
    let own = registry.sub_registry_with_prefix("swarm");
    let build = Family::<VersionLabel, Gauge>::default();
    build.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
    own.register("build_info", "The version that runs", build);
    own.register_with_unit(
        "start_time",
        "When the daemon was started, since 1970",
        Unit::Seconds,
        gauge(of.started_at),
    );
    register_torrents(own, of.table);
    register_sums(own, of.counters);
    let requests = Family::<CodeLabel, Counter>::default();
    for (code, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&of.http.0) {
        requests.get_or_create(&CodeLabel { code }).inc_by(count.load(Relaxed));
    }
    own.register("http_requests", "Requests by the class of their status", requests);
    own.register("event_streams", "Open streams of events", gauge(of.event_streams as i64));
    own.register("file_streams", "Open streams of files, as of players", gauge(of.file_streams as i64));
    process::register(registry.sub_registry_with_prefix("process"));
    let mut written = String::new();
    // Writing to a text does not fail.
    let _ = match format {
        Format::Prometheus => prometheus_text::encode(&mut written, &registry),
        Format::OpenMetrics => text::encode(&mut written, &registry),
    };
    written
}

fn gauge(value: i64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn register_torrents(registry: &mut Registry, table: &Table) {
    let torrents = Family::<StateLabel, Gauge>::default();
    for state in State::ALL {
        let _ = torrents.get_or_create(&StateLabel { state: state.name() });
    }
    let (mut peers, mut seeds, mut stalled, mut missing) = (0, 0, 0, 0);
    for row in table.iter() {
        let summary = &row.summary;
        torrents.get_or_create(&StateLabel { state: summary.state.name() }).inc();
        peers += summary.peers as i64;
        seeds += summary.seeds as i64;
        stalled += i64::from(row.is_stalled);
        if summary.state == State::Downloading {
            missing += summary.bytes_total.saturating_sub(summary.bytes_verified) as i64;
        }
    }
    registry.register("torrents", "Torrents by their state", torrents);
    registry.register(
        "torrents_stalled",
        "Torrents that wait because the disk takes nothing",
        gauge(stalled),
    );
    registry.register_with_unit("missing", "What downloading torrents lack", Unit::Bytes, gauge(missing));
    registry.register("peers", "Connected peers, seeds among them", gauge(peers));
    registry.register("peers_seeds", "Connected peers that have everything", gauge(seeds));
}

fn register_sums(registry: &mut Registry, of: &Counters) {
    let count = |value: &AtomicU64| ConstCounter::new(value.load(Relaxed));
    registry.register_with_unit(
        "received",
        "Payload received from peers",
        Unit::Bytes,
        count(&of.bytes_down),
    );
    registry.register_with_unit("sent", "Payload sent to peers", Unit::Bytes, count(&of.bytes_up));
    registry.register("store_commits", "Transactions of the database", count(&of.commits));
    registry.register("store_commits_failed", "Transactions that failed", count(&of.commits_failed));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Row, Summary};
    use crate::torrents::Id;
    use std::sync::Arc;

    fn scrape(format: Format) -> String {
        let mut table = Table::new(0);
        for (id, state) in [(1, State::Downloading), (2, State::Seeding), (3, State::Downloading)] {
            let summary = Summary {
                id: Id(id),
                name: format!("torrent {id}"),
                state,
                bytes_total: 100,
                bytes_verified: 40,
                ..Summary::default()
            };
            table.put(Row { summary: Arc::new(summary), is_stalled: id == 3, ..Row::default() });
        }
        let (counters, http) = (Counters::default(), HttpCounters::default());
        counters.bytes_down.store(7, Relaxed);
        for status in [StatusCode::OK, StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
            http.count(status);
        }
        let sources = Sources {
            table: &table,
            counters: &counters,
            http: &http,
            event_streams: 1,
            file_streams: 2,
            started_at: 5,
        };
        encode(&sources, format)
    }

    #[test]
    fn each_metric_is_told_of_once_and_no_torrent_has_a_series_of_its_own() {
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let text = scrape(format);
            for line in [
                "swarm_torrents{state=\"downloading\"} 2",
                "swarm_torrents{state=\"failed\"} 0",
                "swarm_torrents_stalled 1",
                "swarm_missing_bytes 120",
                "swarm_received_bytes_total 7",
                "swarm_http_requests_total{code=\"2xx\"} 2",
                "swarm_file_streams 2",
                "swarm_start_time_seconds 5",
            ] {
                assert!(text.lines().any(|other| other == line), "{line}: {text}");
            }
            assert!(!text.contains("torrent 1"), "{text}");
            let mut told: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
            let all = told.len();
            told.sort_unstable();
            told.dedup();
            assert_eq!(told.len(), all, "{text}");
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
        }
    }

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let mut headers = HeaderMap::new();
        assert_eq!(Format::accepted(&headers), Format::Prometheus);
        headers.insert(ACCEPT, "text/plain;version=0.0.4;q=0.5,*/*;q=0.1".parse().unwrap());
        assert_eq!(Format::accepted(&headers), Format::Prometheus);
        let newer = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        headers.insert(ACCEPT, newer.parse().unwrap());
        assert_eq!(Format::accepted(&headers), Format::OpenMetrics);
    }
}
