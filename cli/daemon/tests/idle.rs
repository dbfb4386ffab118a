//! A daemon whose torrents all seed and have nobody to serve: it writes once a minute that it is alive, and logs nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use swarm_daemon::{Config, Daemon, Prepare, Rules};
use swarm_engine::SessionOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is written that the daemon is alive.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps what is logged for people.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!(" {field}={value:?}");
            }
        }
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The answer to a request: its head and body.
async fn ask(host: SocketAddr, request: &str, headers: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(host).await.unwrap();
    let len = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}content-length: {len}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn commits(host: SocketAddr) -> u64 {
    let metrics = ask(host, "GET /metrics", "", b"").await;
    let line = metrics.lines().find(|line| line.starts_with("swarm_store_commits_total "));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
}

#[tokio::test]
async fn an_idle_daemon_writes_that_it_is_alive_and_logs_nothing() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().canonicalize().unwrap().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("t"), "abc").unwrap();
    let hash = b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d";
    let metainfo =
        [b"d4:infod6:lengthi3e4:name1:t12:piece lengthi16384e6:pieces20:", &hash[..], b"ee"].concat();
    let session = SessionOptions::new().listen(["127.0.0.1:0".parse().unwrap()]).dht(None);
    let daemon = Daemon::start(Config {
        session: session.state_dir(dir.path().join("state")),
        prepare: Prepare::default(),
        state_dir: dir.path().join("daemon"),
        socket: None,
        http: vec!["127.0.0.1:0".parse().unwrap()],
        user: "swarm".into(),
        auth: false,
        rules: Rules { dir: data, ..Rules::default() },
    });
    let daemon = daemon.await.unwrap();
    let host = daemon.http()[0];
    let added =
        ask(host, "POST /api/v1/torrents?seed=true", "content-type: application/x-bittorrent\r\n", &metainfo);
    let added = added.await;
    assert!(added.starts_with("HTTP/1.1 201"), "{added}");
    let start = Instant::now();
    loop {
        let torrent = ask(host, "GET /api/v1/torrents/1", "", b"").await;
        if torrent.contains("\"state\":\"seeding\"") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{torrent}");
    }
    let mut written = commits(host).await;
    let logged = std::mem::take(&mut *log.0.lock().unwrap());
    for _ in 0..5 {
        // Nobody has a connection meanwhile whose time could be over.
        tokio::time::pause();
        tokio::time::advance(SAVE_INTERVAL).await;
        tokio::time::resume();
        let before = std::mem::replace(&mut written, commits(host).await);
        while written == before {
            assert!(start.elapsed() < PATIENCE, "it does not write that it is alive");
            written = commits(host).await;
        }
        assert_eq!(written, before + 1);
    }
    let more = log.0.lock().unwrap().clone();
    assert!(more.is_empty(), "{more:#?} after {logged:#?}");
    daemon.stop().await;
}
