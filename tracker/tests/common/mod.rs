//! A tracker on a free loopback port and a client that sends exactly the bytes it is told to.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swarm_core::tracker::{AnnounceResponse, ReplyError};
use swarm_tracker::{Config, Handle, Limits, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// The loopback address of the family that a test is about.
#[derive(Clone, Copy, Debug)]
pub enum Host {
    V4,
    V6,
}

impl Host {
    pub fn ip(self) -> IpAddr {
        match self {
            Host::V4 => Ipv4Addr::LOCALHOST.into(),
            Host::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Says so when the machine does not have the address.
    pub fn is_there(self) -> bool {
        let there = std::net::TcpListener::bind((self.ip(), 0)).is_ok();
        if !there {
            eprintln!("skipped: this machine has no {}", self.ip());
        }
        there
    }
}

/// Defines each test once for IPv4 and once for IPv6.
#[macro_export]
macro_rules! for_both_families {
    ($($test:ident),* $(,)?) => {
        mod ipv4 {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::common::Host::V4).await;
            })*
        }
        mod ipv6 {
            $(#[tokio::test]
            async fn $test() {
                if $crate::common::Host::V6.is_there() {
                    super::$test($crate::common::Host::V6).await;
                }
            })*
        }
    };
}

/// A tracker under test.
pub struct Tracker {
    pub handle: Handle,
    pub addr: SocketAddr,
    pub udp_addr: SocketAddr,
    now_s: Arc<AtomicU64>,
}

impl Tracker {
    pub fn start(host: Host, config: Config) -> Tracker {
        let now_s = Arc::new(AtomicU64::new(0));
        let clock = now_s.clone();
        let addr = [SocketAddr::new(host.ip(), 0)];
        let server = Server::bind(config, &addr)
            .and_then(|server| server.bind_udp(&addr))
            .expect("a free port")
            .with_clock(move || Duration::from_secs(clock.load(Ordering::Relaxed)));
        let handle = server.spawn();
        Tracker { addr: handle.local_addrs()[0], udp_addr: handle.local_udp_addrs()[0], handle, now_s }
    }

    /// Lets time pass for the swarms.
    pub fn advance(&self, by: Duration) {
        let now_s = self.now_s.fetch_add(by.as_secs(), Ordering::Relaxed) + by.as_secs();
        self.handle.store().expire(swarm_core::time::Time::ZERO + Duration::from_secs(now_s));
    }

    pub async fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.addr).await.expect("the tracker accepts"))
    }

    /// One request on a connection of its own.
    pub async fn get(&self, target: &str) -> Reply {
        self.connect().await.get(target).await
    }
}

pub struct Client<S = TcpStream> {
    pub stream: S,
    read: Vec<u8>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn announce(&self) -> Result<AnnounceResponse, ReplyError> {
        AnnounceResponse::parse(&self.body)
    }

    pub fn failure(&self) -> String {
        match self.announce() {
            Err(ReplyError::Refused { reason, .. }) => reason,
            other => panic!("not a failure: {other:?}"),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Client<S> {
        Client { stream, read: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the tracker reads");
    }

    pub async fn get(&mut self, target: &str) -> Reply {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: tracker\r\n\r\n")).await;
        self.reply().await
    }

    /// The next reply with a body.
    pub async fn reply(&mut self) -> Reply {
        let (status, head) = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a number"));
        while self.read.len() < length {
            assert!(self.fill().await, "the body is cut short");
        }
        Reply { status, head, body: self.read.drain(..length).collect() }
    }

    /// Status and head, in lower case, of the next reply.
    pub async fn head(&mut self) -> (u16, String) {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await, "closed before a reply: {}", self.read.escape_ascii());
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let head = String::from_utf8(head).expect("ASCII").to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        (status, head)
    }

    /// Waits until the tracker closes; what it still had to say.
    pub async fn closed(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.read)
    }

    /// False at the end.
    async fn fill(&mut self) -> bool {
        // A reset is an end too.
        self.stream.read_buf(&mut self.read).await.unwrap_or(0) > 0
    }
}

/// A tracker that loses its patience at once.
pub fn impatient() -> Config {
    let short = Duration::from_millis(50);
    let limits =
        Limits { request_timeout: short, reply_timeout: short, stop_timeout: short, ..Limits::default() };
    Config { limits, ..Config::default() }
}

/// An announce of the torrent of forty `a` by the peer that listens on `port`.
pub fn announce(port: u16, more: &str) -> String {
    format!("/announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=-TEST--{port:05}--------&port={port}{more}")
}
