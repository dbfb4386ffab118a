//! How `seed` and `get` end by signals, what they log, and what they say while they wait, as processes.

mod common;

use common::{Running, bytes, run, run_ok, swarm, write};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

const LOCAL: [&str; 5] = ["--listen", "127.0.0.1:0", "--no-dht", "--progress-interval", "20ms"];
const HASH: &str = "631a31dd0a46257d5078c0dee4e66e26f73e42ac";

/// A folder with `data/file` and `file.meta`.
fn with_file(len: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/file"), bytes(3, len));
    run_ok(dir.path(), ["create", "data/file", "-l", "16KiB"]);
    dir
}

/// A tracker that knows nobody: its URL, and the requests that it gets.
fn tracker() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (told, requests) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let _ = reader.read_line(&mut line);
            // The rest of the head is read, or it would be lost with the answer.
            let mut header = String::new();
            while reader.read_line(&mut header).is_ok_and(|len| len > 2) {
                header.clear();
            }
            let body = "d8:intervali1800e5:peers0:e";
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = told.send(line);
        }
    });
    (url, requests)
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

#[test]
fn a_seed_ends_by_each_signal_with_its_own_status_and_tells_its_trackers() {
    for (name, times, status, reason) in
        [("TERM", 2, 0, "terminated"), ("INT", 1, 130, "interrupted"), ("HUP", 2, 129, "hung_up")]
    {
        let dir = with_file(100_000);
        let (url, requests) = tracker();
        let mut seed = Running::start(
            dir.path(),
            [&["seed", "file.meta", "data", "--tracker", &url], &LOCAL[..]].concat(),
        );
        seed.wait_for("checked");
        assert!(requests.recv().unwrap().contains("event=started"));
        (0..times).for_each(|_| seed.signal(name));
        let (code, last) = seed.finish();
        assert_eq!(
            (code, &last["event"], &last["reason"]),
            (Some(status), &"stopped".into(), &reason.into())
        );
        assert!(requests.recv().unwrap().contains("event=stopped"), "{name}");
        let saved = dir.path().join("home/.local/state/swarm");
        assert!(saved.read_dir().unwrap().next().is_some(), "{name}: its state is saved");
    }
}

#[test]
fn a_hang_up_that_is_to_be_ignored_is_ignored() {
    let dir = with_file(100_000);
    let mut command = std::process::Command::new("sh");
    let line = format!("trap '' HUP; exec \"$0\" seed file.meta data {} --json", LOCAL.join(" "));
    command.args(["-c", &line, env!("CARGO_BIN_EXE_swarm")]);
    command.current_dir(dir.path()).env("HOME", dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut progress = lines.filter(|line| line.contains("\"progress\""));
    progress.next().unwrap();
    signal(&child, "HUP");
    for _ in 0..5 {
        progress.next().expect("it goes on");
    }
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_download_that_is_hung_up_saves_its_state_and_exits_129() {
    let dir = with_file(4 << 20);
    let mut seed = Running::start(dir.path(), [&["seed", "file.meta", "data"], &LOCAL[..]].concat());
    let peer = seed.address();
    seed.wait_for("checked");
    let args = [&["get", "file.meta", "-o", "out", "--peer", &peer], &LOCAL[..]].concat();
    let mut first = Running::start(dir.path(), [&args[..], &["--max-down", "2MiB/s"]].concat());
    let had = first.wait_until("progress", |event| event["pieces_have"].as_u64() > Some(50));
    first.signal("HUP");
    let (code, last) = first.finish();
    assert_eq!((code, &last["event"], &last["kind"]), (Some(129), &"failed".into(), &"hung_up".into()));
    let second = Running::start(dir.path(), args).complete();
    assert!(second["bytes_down"].as_u64().unwrap() <= (4 << 20) - had["bytes_verified"].as_u64().unwrap());
}

#[test]
fn an_idle_seed_logs_nothing_and_its_log_is_json_line_by_line_on_demand() {
    for log in ["text", "json"] {
        let dir = with_file(100_000);
        let mut command = swarm(dir.path());
        command.args([&["seed", "file.meta", "data", "--log", log], &LOCAL[..]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains("seeding") {
            assert!(stderr.read_line(&mut text).unwrap() > 0, "{text}");
        }
        // Time enough for many lines.
        (0..5).for_each(|_| drop(run_ok(dir.path(), ["verify", "file.meta", "data"])));
        signal(&child, "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.lines().count(), 1, "{rest}");
        assert!(rest.contains("stopping"), "{rest}");
        if log == "json" {
            text.lines()
                .chain(rest.lines())
                .for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
        }
    }
}

#[test]
fn errors_warnings_and_bad_usage_are_json_with_a_log_in_json() {
    let dir = with_file(100_000);
    for args in [
        &["--log", "json", "seed", "file.meta", "nowhere"][..],
        &["show", "no.meta", "--log=json"],
        &["seed", "--log=json", "--frobnicate"],
        &["--log=json"],
    ] {
        let finished = run(dir.path(), args);
        assert!(!finished.stderr.is_empty() && finished.code != Some(0), "{finished:?}");
        for line in finished.stderr.lines() {
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
            assert!(line["fields"]["message"].is_string() && line["level"].is_string(), "{line}");
        }
    }
}

#[test]
fn without_a_home_folder_it_is_said_that_data_is_checked_each_time() {
    let dir = with_file(100_000);
    for (more, warns) in [(&[][..], true), (&["--no-state"], false), (&["--state-dir", "state"], false)] {
        let mut command = swarm(dir.path());
        command.env_remove("HOME").args([&["seed", "file.meta", "data"], &LOCAL[..], more].concat());
        let mut seed = Running::spawn(command);
        seed.wait_for("checked");
        let warnings: Vec<_> =
            seed.seen("warning").iter().map(|event| event["message"].to_string()).collect();
        assert_eq!(warnings.iter().any(|text| text.contains("checked at each start")), warns, "{warnings:?}");
    }
}

/// What a download of this source says that it waits for: in its events, and in a line for people.
fn waits_for(dir: &Path, source: &str, event: &str) -> (String, String) {
    let args = [&["get", source, "-o", "out"], &LOCAL[..]].concat();
    let mut got = Running::start(dir, &args);
    let waiting =
        got.wait_until(event, |event| event["waiting"].is_string())["waiting"].as_str().unwrap().to_owned();
    drop(got);
    let mut child = swarm(dir).args(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let line = stderr.lines().map_while(Result::ok).find(|line| line.contains("waiting: "));
    let _ = child.kill();
    let _ = child.wait();
    (waiting, line.expect("there is a line"))
}

#[test]
fn a_link_that_names_nobody_says_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let reason = "no peers: there is no tracker and no DHT to ask; add --tracker URL or --peer ADDR:PORT";
    for link in [HASH.to_owned(), format!("magnet:?xt=urn:btih:{HASH}&ws=http%3A%2F%2Fw.example%2F")] {
        let (waiting, line) = waits_for(dir.path(), &link, "fetching");
        assert_eq!(waiting, reason);
        assert!(line.ends_with(&format!("waiting: {reason}")), "{line}");
    }
}

#[test]
fn a_torrent_whose_only_web_seed_is_not_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path().join("data/file"), bytes(3, 100_000));
    // Strangers' URLs do not lead to this machine.
    let url = "http://127.0.0.1:1/file";
    run_ok(dir.path(), ["create", "data/file", "-l", "16KiB", "--web-seed", url]);
    let mut got = Running::start(dir.path(), [&["get", "file.meta", "-o", "out"], &LOCAL[..]].concat());
    let fault = got.wait_for("web_seed_fault");
    assert_eq!((&fault["penalty"], &fault["retry_in"]), (&"dropped".into(), &serde_json::Value::Null));
    let why = fault["reason"].as_str().unwrap();
    assert!(why.starts_with("127.0.0.1 is this machine"), "{why}");
    let told = format!("no peers; web seed {url}: {why}; not used any more");
    got.wait_until("progress", |event| event["waiting"] == told.as_str());
    got.signal("TERM");
    got.finish();
}

#[test]
fn a_links_tracker_that_is_no_url_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let link = format!("magnet:?xt=urn:btih:{HASH}&tr=tracker.example&tr=also%20none");
    let mut got = Running::start(dir.path(), [&["get", &link], &LOCAL[..]].concat());
    let warning = got.wait_for("warning");
    assert_eq!(warning["message"], "also none: never asked: not a URL; nor is 1 more");
}

#[test]
fn a_file_that_is_too_long_is_named_with_its_own_size() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("big.meta")).unwrap();
    file.set_len(5_000_000_000).unwrap();
    let finished = run(dir.path(), ["show", "big.meta"]);
    assert_eq!(finished.code, Some(3));
    assert!(finished.stderr.contains("5000000000 bytes"), "{finished:?}");
}
