//! `verify --repair`: what is not right is fetched into place, and nothing else is read or fetched again.

mod common;

#[allow(dead_code)]
#[path = "../../engine/tests/common/proxy.rs"]
mod proxy;

use common::{Running, bytes, run, run_ok, tree, write};
use proxy::{Manners, Proxy};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use tempfile::TempDir;

const BLOCK: usize = 16_384;
const PIECE: usize = 16 * BLOCK;
const LOCAL: [&str; 2] = ["--listen", "127.0.0.1:0"];

fn seed(dir: &Path) -> (Running, String) {
    let mut seed = Running::start(dir, [&["seed", "x.meta", "data"], &LOCAL[..]].concat());
    let address = seed.address();
    seed.wait_for("checked");
    (seed, address)
}

fn repair(dir: &Path, peer: &str, more: &[&str]) -> Running {
    let args = ["verify", "x.meta", "out", "--repair", "--peer", peer];
    Running::start(dir, [&args[..], &LOCAL[..], more].concat())
}

/// A folder `data/x` of two files of some pieces, the same in `out/x`, and `x.meta`.
fn twice(format: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for place in ["data", "out"] {
        write(dir.path().join(place).join("x/a"), bytes(1, 10 * PIECE + 5_000));
        write(dir.path().join(place).join("x/b"), bytes(2, 3 * PIECE));
    }
    run_ok(dir.path(), ["create", "data/x", "-l", "256KiB", "--format", format, "-o", "x.meta"]);
    dir
}

/// Spoils a byte of `out/x/a`.
fn spoil(dir: &Path, at: &[usize]) {
    let path = dir.join("out/x/a");
    let mut bytes = fs::read(&path).unwrap();
    at.iter().for_each(|&at| bytes[at] ^= 1);
    write(path, bytes);
}

fn assert_mended(dir: &Path) {
    assert!(tree(&dir.join("data")) == tree(&dir.join("out")), "out differs from data, or holds more");
    run_ok(dir, ["verify", "x.meta", "out"]);
}

#[test]
fn repair_fetches_bad_blocks_alone() {
    for format in ["v2", "hybrid"] {
        let dir = twice(format);
        let dir = dir.path();
        // Three blocks of two pieces, and what is left of the last piece.
        spoil(dir, &[0, 3 * BLOCK, 7 * PIECE + 1, 10 * PIECE + 4_999]);
        let (_seed, peer) = seed(dir);
        let complete = repair(dir, &peer, &[]).complete();
        let last = if format == "v2" { 5_000 } else { BLOCK };
        assert!(
            complete["bytes_down"].as_u64().unwrap() <= (3 * BLOCK + last) as u64,
            "{format}: {complete}"
        );
        assert_mended(dir);
    }
}

#[test]
fn repair_goes_on_after_kill() {
    let dir = twice("v2");
    let dir = dir.path();
    spoil(dir, &(0..40).map(|n| n * 4 * BLOCK).collect::<Vec<_>>());
    let (_seed, peer) = seed(dir);
    let mut first = repair(dir, &peer, &["--max-down", "100KiB/s"]);
    first.wait_until("progress", |event| event["bytes_down"].as_u64() > Some(100_000));
    first.kill();
    let complete = repair(dir, &peer, &[]).complete();
    assert!(complete["bytes_down"].as_u64().unwrap() <= (40 * BLOCK) as u64, "{complete}");
    assert_mended(dir);
}

#[test]
fn repair_cuts_a_file_that_is_too_long_and_says_so() {
    let dir = twice("v1");
    let dir = dir.path();
    write(dir.join("out/x/b"), [bytes(2, 3 * PIECE), vec![7; 100]].concat());
    let (_seed, peer) = seed(dir);
    let mut mended = repair(dir, &peer, &[]);
    assert_eq!(mended.complete()["bytes_down"], 0);
    let warnings = mended.seen("warning");
    assert!(
        warnings[0]["message"].as_str().unwrap().contains("x/b: what is beyond its end will be cut off"),
        "{warnings:?}"
    );
    assert_mended(dir);
}

#[test]
fn repair_leaves_all_as_it_is_if_something_is_in_the_way() {
    let dir = twice("v2");
    let dir = dir.path();
    spoil(dir, &[0]);
    write(dir.join("out/x/a"), [fs::read(dir.join("out/x/a")).unwrap(), vec![7]].concat());
    fs::remove_file(dir.join("out/x/b")).unwrap();
    write(dir.join("out/x/b/mine"), b"a folder");
    let before = tree(&dir.join("out"));
    let args = ["verify", "x.meta", "out", "--repair", "--peer", "127.0.0.1:1"];
    let refused = run(dir, [&args[..], &LOCAL[..]].concat());
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("out/x/b: is not a regular file"), "{refused:?}");
    assert!(tree(&dir.join("out")) == before);
    // A file where a folder should be.
    fs::remove_dir_all(dir.join("out/x")).unwrap();
    write(dir.join("out/x"), b"a file");
    let refused = run(dir, [&args[..], &LOCAL[..]].concat());
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("out/x: is not a folder"), "{refused:?}");
    assert_eq!(fs::read(dir.join("out/x")).unwrap(), b"a file");
}

#[test]
fn metainfo_that_contradicts_itself_is_named() {
    let dir = twice("hybrid");
    let dir = dir.path();
    let mut metainfo = fs::read(dir.join("x.meta")).unwrap();
    let pieces = metainfo.windows(8).position(|window| window == b"6:pieces").unwrap();
    let colon = pieces + 8 + metainfo[pieces + 8..].iter().position(|&byte| byte == b':').unwrap();
    metainfo[colon + 1 + 2 * 20] ^= 1;
    write(dir.join("x.meta"), metainfo);
    let refused = run(dir, ["verify", "x.meta", "out"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused.stderr.contains("x/a: the torrent contradicts itself") && refused.stderr.contains("piece 2"),
        "{refused:?}"
    );
}

/// Serves a file over HTTP to whoever asks.
fn origin(body: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4_096]);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    port
}

#[test]
fn repair_behind_a_proxy_goes_through_it() {
    let dir = twice("v2");
    let dir = dir.path();
    spoil(dir, &[0]);
    let (_seed, peer) = seed(dir);
    let port = origin(fs::read(dir.join("x.meta")).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for scheme in ["socks5", "http"] {
        spoil(dir, &[PIECE]);
        // Nobody else knows the host.
        let names = [(format!("origin.test:{port}"), ([127, 0, 0, 1], port).into())].into();
        let proxy = runtime.block_on(Proxy::start(Manners { names, ..Manners::default() }));
        let source = format!("http://origin.test:{port}/x.meta");
        let through = format!("{scheme}://{}", proxy.addr);
        let args = ["verify", &source, "out", "--repair", "--peer", &peer, "--proxy", &through, "--no-dht"];
        Running::start(dir, [&args[..], &LOCAL[..]].concat()).complete();
        assert_mended(dir);
        assert_eq!(proxy.asked(), [format!("origin.test:{port}"), peer.clone()], "{scheme}");
    }
    // Without what it takes to reach it, SOURCE is not fetched past the proxy.
    let source = format!("http://127.0.0.1:{port}/x.meta");
    let refused = run(dir, ["verify", &source, "out", "--proxy", "socks5://127.0.0.1:1"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
}
