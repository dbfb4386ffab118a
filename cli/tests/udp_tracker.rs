//! `swarm seed` and `swarm get` that know of each other from our tracker over UDP only.

mod common;

use common::{Running, bytes, run_ok, write};
use std::fs;
use swarm_tracker::{Config, Server};

fn a_download_finds_its_source(ip: &str) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _within = runtime.enter();
    let server = Server::bind(Config::default(), &[]).unwrap();
    let server = server.bind_udp(&[format!("{ip}:0").parse().unwrap()]).unwrap().spawn();
    let tracker = format!("udp://{}/announce", server.local_udp_addrs()[0]);
    write(dir.path().join("data/file"), bytes(1, 200_000));
    run_ok(dir.path(), ["create", "data/file", "-a", &tracker]);

    let listen = format!("{ip}:0");
    let mut seed = Running::start(dir.path(), ["seed", "file.meta", "data", "--listen", &listen]);
    seed.wait_for("checked");
    Running::start(dir.path(), ["get", "file.meta", "-o", "out", "--listen", &listen]).complete();
    assert!(fs::read(dir.path().join("out/file")).unwrap() == bytes(1, 200_000));
    let stats = server.stats();
    assert_eq!((stats.seeds, stats.leechers), (1, 0), "who left has said so");
}

#[test]
fn a_download_finds_its_source_over_ipv4() {
    a_download_finds_its_source("127.0.0.1");
}

#[test]
fn a_download_finds_its_source_over_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        a_download_finds_its_source("[::1]");
    } else {
        eprintln!("skipped: this machine has no IPv6 loopback");
    }
}
