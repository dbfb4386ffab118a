//! The tracker behind a proxy that speaks the PROXY protocol.

mod common;

use std::net::IpAddr;

use common::{Client, Host, Tracker, announce, impatient};
use swarm_tracker::{Config, Source};
use tokio::io::AsyncWriteExt;

for_both_families![
    version_1_tells_the_client,
    version_2_tells_the_client,
    a_proxy_may_speak_for_itself,
    who_is_no_proxy_is_not_served,
    half_a_header_is_cut_off_in_time,
];

fn behind_proxy(config: Config) -> Config {
    Config { source: Source::ProxyProtocol, ..config }
}

/// The client's address as the tracker saw it, after `header`.
async fn seen(tracker: &Tracker, header: impl AsRef<[u8]>) -> IpAddr {
    let mut client: Client = tracker.connect().await;
    client.send(header).await;
    // Several requests of one connection are of one client.
    client.get("/health").await;
    client.get(&announce(1001, "")).await.announce().unwrap().external_ip.expect("it is always told")
}

/// A header of version 2 with this command, family and rest.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, family], &length, rest].concat()
}

async fn version_1_tells_the_client(host: Host) {
    let tracker = Tracker::start(host, behind_proxy(Config::default()));
    let v4 = seen(&tracker, "PROXY TCP4 9.9.9.9 10.0.0.1 56324 443\r\n").await;
    assert_eq!(v4, "9.9.9.9".parse::<IpAddr>().unwrap());
    let v6 = seen(&tracker, "PROXY TCP6 2001:db8::9 2001:db8::1 56324 443\r\n").await;
    assert_eq!(v6, "2001:db8::9".parse::<IpAddr>().unwrap());
}

async fn version_2_tells_the_client(host: Host) {
    let tracker = Tracker::start(host, behind_proxy(Config::default()));
    let v4 = version_2(1, 0x11, &[9, 9, 9, 9, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb]);
    assert_eq!(seen(&tracker, v4).await, "9.9.9.9".parse::<IpAddr>().unwrap());
    let mut addresses = [0; 36];
    addresses[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    addresses[15] = 9;
    // With something more that the proxy has to say.
    let v6 = version_2(1, 0x21, &[addresses.as_slice(), &[4, 0, 1, 0]].concat());
    assert_eq!(seen(&tracker, v6).await, "2001:db8::9".parse::<IpAddr>().unwrap());
}

async fn a_proxy_may_speak_for_itself(host: Host) {
    let tracker = Tracker::start(host, behind_proxy(Config::default()));
    assert_eq!(seen(&tracker, "PROXY UNKNOWN\r\n").await, host.ip());
    assert_eq!(seen(&tracker, version_2(0, 0, &[])).await, host.ip());
}

async fn who_is_no_proxy_is_not_served(host: Host) {
    let tracker = Tracker::start(host, behind_proxy(Config::default()));
    for header in [
        b"GET /health HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 9.9.9.9 10.0.0.1 56324\r\n".to_vec(),
        b"PROXY TCP4 9.9.9.999 10.0.0.1 1 2\r\n".to_vec(),
        [b"PROXY TCP4 ".as_slice(), &[b'9'; 200]].concat(),
        version_2(1, 0x11, &[9, 9, 9, 9]),
        version_2(1, 0x11, &[0; 600]),
        b"PROXY".to_vec(),
    ] {
        let mut client = tracker.connect().await;
        client.send(&header).await;
        let _ = client.stream.shutdown().await;
        assert_eq!(client.closed().await, b"", "{}", header.escape_ascii());
    }
    assert_eq!(tracker.handle.stats().announces, 0);
    assert_eq!(seen(&tracker, "PROXY UNKNOWN\r\n").await, host.ip(), "it serves on");
}

async fn half_a_header_is_cut_off_in_time(host: Host) {
    let tracker = Tracker::start(host, behind_proxy(impatient()));
    for half in ["", "PROXY TCP4 9.9.9.9 ", "\r\n\r\n\0\r\nQUIT\n\x21"] {
        let mut client = tracker.connect().await;
        client.send(half).await;
        assert_eq!(client.closed().await, b"");
    }
}
