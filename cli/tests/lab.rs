//! `swarm lab` as a publisher or a CI job runs it: whole swarms of processes, small ones.

#![cfg(unix)]

use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const FAULTS: [&str; 6] =
    ["corrupt-peer", "disk-full", "kill-peer", "late-seed", "slow-peer", "tracker-down"];

/// A lab of three downloaders that leaves its files in `dir`, if it leaves any.
fn lab(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm"));
    command.args(["lab", "--peers=3"]).args(args).current_dir(dir);
    command.env("TMPDIR", dir).stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    lab(dir, args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a lab of 8 MiB that must end well, and gives its JSON report.
fn succeed(args: &[&str]) -> Value {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &[&["--size=8MiB", "--report=report.json"], args].concat());
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let report: Value = serde_json::from_slice(&fs::read(dir.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["identical"], true);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["report.json"], "nothing else is left behind");
    report
}

fn fault<'a>(report: &'a Value, name: &str) -> &'a Value {
    let faults = report["faults"].as_array().unwrap();
    faults.iter().find(|fault| fault["fault"] == name).unwrap()
}

#[test]
fn a_web_server_in_the_sources_place_has_its_share_told() {
    let report = succeed(&["--web-seed"]);
    assert_eq!(report["web_seed"], true);
    let copies = report["copies_from_source"].as_f64().unwrap();
    assert!((1.0..=3.0).contains(&copies), "{copies}");
    let peers = report["peers"].as_array().unwrap();
    let told: u64 = peers.iter().map(|peer| peer["bytes_from_source"].as_u64().unwrap()).sum();
    assert!(told >= 8 << 20 && told <= report["bytes_from_source"].as_u64().unwrap(), "{report}");
    let dir = TempDir::new().unwrap();
    let refused = run(dir.path(), &["--web-seed", "--fault=late-seed"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}

#[test]
fn every_copy_is_identical_and_every_byte_accounted_for() {
    let report = succeed(&["--seeds=1"]);
    let peers = report["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 3);
    let sum = |key: &str| peers.iter().map(|peer| peer[key].as_u64().unwrap()).sum::<u64>();
    for peer in peers {
        assert_eq!((&peer["complete"], &peer["identical"]), (&true.into(), &true.into()));
        assert!(peer["seconds"].as_f64().unwrap() > 0.0);
        let received =
            peer["bytes_from_source"].as_u64().unwrap() + peer["bytes_from_peers"].as_u64().unwrap();
        assert!(received >= 8 << 20, "{peer}");
    }
    assert_eq!(sum("bytes_from_source"), report["bytes_from_source"].as_u64().unwrap());
    assert_eq!(sum("pieces_failed"), 0);
    assert_eq!(report["banned"].as_array().unwrap().len(), 0);
    assert_eq!((&report["bytes_total"], &report["files"]), (&(8 << 20).into(), &3.into()));
}

#[test]
fn a_peer_that_poisons_is_banned() {
    let report = succeed(&["--fault=corrupt-peer", "--fault=late-seed"]);
    assert_eq!(fault(&report, "corrupt-peer")["took_place"], true);
    let banned = report["banned"].as_array().unwrap();
    assert_eq!(banned.len(), 1, "{banned:?}");
    assert_eq!(banned[0]["peer"], "poisoner");
    assert_eq!(report["peers"].as_array().unwrap().len(), 3, "it is not counted");
}

#[test]
fn a_peer_that_is_killed_goes_on_where_it_was() {
    let report = succeed(&["--fault=kill-peer"]);
    assert_eq!(fault(&report, "kill-peer")["took_place"], true);
    assert_eq!(fault(&report, "kill-peer")["peer"], "peer 1");
    let since_the_kill = fault(&report, "kill-peer")["seconds"].as_f64().unwrap();
    assert!(since_the_kill < report["peers"][0]["seconds"].as_f64().unwrap(), "{report}");
}

#[test]
fn a_slow_peer_completes_after_the_others() {
    let report = succeed(&["--fault=slow-peer"]);
    let seconds = |peer: usize| report["peers"][peer]["seconds"].as_f64().unwrap();
    assert!(seconds(0) > seconds(1) && seconds(0) > seconds(2), "{report}");
}

#[test]
fn a_full_disk_is_waited_for() {
    let report = succeed(&["--fault=disk-full"]);
    assert_eq!(fault(&report, "disk-full")["took_place"], true);
    assert!(report["peers"][0]["seconds"].as_f64().unwrap() >= 3.0);
}

#[test]
fn a_tracker_that_goes_away_stops_nobody() {
    // The slow peer is not done when the tracker goes.
    let report = succeed(&["--fault=tracker-down", "--fault=slow-peer"]);
    assert_eq!(fault(&report, "tracker-down")["took_place"], true);
    let seconds = |kind| fault(&report, kind)["seconds"].as_f64().unwrap();
    assert_eq!(seconds("slow-peer"), report["peers"][0]["seconds"]);
    assert!(seconds("tracker-down") < report["seconds"].as_f64().unwrap(), "{report}");
}

#[test]
fn a_dht_is_enough() {
    let report = succeed(&["--trackerless", "--fault=kill-peer", "--fault=corrupt-peer"]);
    assert!(report["faults"].as_array().unwrap().iter().all(|fault| fault["survived"] == true));
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["--trackerless", "--fault=tracker-down"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("needs a tracker"), "{}", stderr(&output));
}

#[test]
fn an_encrypted_swarm_copes_with_the_same() {
    let report = succeed(&["--encrypt", "--fault=kill-peer", "--fault=corrupt-peer"]);
    assert!(report["faults"].as_array().unwrap().iter().all(|fault| fault["survived"] == true));
}

#[test]
fn a_swarm_over_utp_copes_with_the_same() {
    for more in [&[][..], &["--encrypt"][..]] {
        let args = [&["--utp", "--fault=kill-peer", "--fault=corrupt-peer"][..], more].concat();
        let report = succeed(&args);
        assert!(report["faults"].as_array().unwrap().iter().all(|fault| fault["survived"] == true));
    }
}

/// The arguments of each peer of a lab that is under way.
#[cfg(target_os = "linux")]
fn arguments_of_peers(args: &[&str]) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    let args = [&["--size=8MiB", "--fault=slow-peer", "--json"], args].concat();
    let mut child = lab(dir.path(), &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The source is the first of four.
    let started = lines.by_ref().filter(|line| line.as_ref().unwrap().contains("peer_started"));
    assert_eq!(started.take(4).count(), 4);
    let is_peer = |path: &Path| {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{}", child.id()))
    };
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let peers = processes.filter(|path| is_peer(path));
    let arguments = peers.map(|path| fs::read_to_string(path.join("cmdline")).unwrap_or_default());
    let arguments = arguments.filter(|line| line.contains("\0get\0") || line.contains("\0seed\0")).collect();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    child.wait().unwrap();
    arguments
}

#[test]
#[cfg(target_os = "linux")]
fn each_peer_is_told_what_connections_to_make() {
    for (flag, of_peers) in [("--utp", "--no-tcp"), ("--encrypt", "--encryption=require")] {
        for (args, count) in [(&[][..], 0), (&[flag][..], 4)] {
            let arguments = arguments_of_peers(args);
            let told = arguments.iter().filter(|line| line.split('\0').any(|arg| arg == of_peers)).count();
            assert_eq!((arguments.len(), told), (4, count), "{arguments:?}");
        }
    }
}

#[test]
fn all_faults_at_once() {
    let args: Vec<String> = FAULTS.iter().map(|fault| format!("--fault={fault}")).collect();
    let report = succeed(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(report["faults"].as_array().unwrap().len(), FAULTS.len());
    assert!(report["faults"].as_array().unwrap().iter().all(|fault| fault["survived"] == true));
}

#[test]
fn the_users_folder_and_torrent_are_distributed() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("release/sub folder")).unwrap();
    fs::write(dir.path().join("release/a"), vec![1; 100_000]).unwrap();
    fs::write(dir.path().join("release/sub folder/b"), vec![2; 70_001]).unwrap();
    fs::write(dir.path().join("release/empty"), []).unwrap();
    let output = run(dir.path(), &["release", "--keep=kept"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("3 of 3 copies are identical"), "{}", stdout(&output));

    // What was kept has the metainfo; it lies beside the data now, and is a source.
    let kept = fs::read_dir(dir.path().join("kept")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(kept.join("peer-2/release/sub folder/b")).unwrap(), vec![2; 70_001]);
    fs::copy(kept.join("lab.meta"), dir.path().join("release.meta")).unwrap();
    let output = run(dir.path(), &["release.meta"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_damaged_copy_is_found_told_and_ends_with_status_4() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["--size=1MiB", "--inject-damage", "--report=lab.xml"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("1 of 3 copies failed; peer 1: lab/large.bin differs at byte 327680"));
    assert!(stdout(&output).contains("differs"), "{}", stdout(&output));
    let xml = fs::read_to_string(dir.path().join("lab.xml")).unwrap();
    assert!(xml.contains(r#"tests="3" failures="1" errors="0" skipped="0""#), "{xml}");
    assert_eq!(xml.matches("<failure message=\"lab/large.bin differs").count(), 1, "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 3, "{xml}");
    assert!(xml.starts_with("<?xml ") && xml.trim_end().ends_with("</testsuite>"), "{xml}");
}

#[test]
fn what_is_not_complete_in_time_fails() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["--size=64MiB", "--fault=slow-peer", "--timeout=2s", "--report=lab.json"]);
    assert_eq!(output.status.code(), Some(4), "{}", stdout(&output));
    assert!(stderr(&output).contains("% after 2.0s"), "{}", stderr(&output));
    assert!(stdout(&output).contains("incomplete"), "{}", stdout(&output));
    let report: Value = serde_json::from_slice(&fs::read(dir.path().join("lab.json")).unwrap()).unwrap();
    assert_eq!((&report["identical"], &report["peers"][0]["complete"]), (&false.into(), &false.into()));
    assert_eq!(fault(&report, "slow-peer")["survived"], false);
}

#[test]
fn scripts_are_told_of_everything() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["--size=1MiB", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let events: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["event"].is_string() && event["t"].is_number()));
    assert_eq!(events[0]["event"], "lab_started");
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("peer_started"), count("peer_complete"), count("peer_result")), (4, 3, 3));
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["identical"]), (&"lab_complete".into(), &true.into()));
    assert_eq!(last["peers"].as_array().unwrap().len(), 3);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    let dir = TempDir::new().unwrap();
    let refuse = |args: &[&str], status: i32, words: &[&str]| {
        let output = run(dir.path(), args);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(status), "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    refuse(&["--fault=earthquake"], 2, &[&["earthquake"], &FAULTS[..]].concat());
    refuse(&["--size=0"], 2, &["zero"]);
    refuse(&["--size=1000PiB"], 5, &["free"]);
    refuse(&["--report=missing/report.json"], 1, &["--report: missing/report.json: cannot write: "]);
    refuse(&["missing"], 1, &["missing: cannot open"]);
    fs::write(dir.path().join("bad.meta"), "not bencoded").unwrap();
    refuse(&["bad.meta"], 3, &["bad.meta"]);
    fs::write(dir.path().join("empty"), []).unwrap();
    refuse(&["empty"], 2, &["empty"]);
}

#[test]
fn an_interrupted_lab_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    // In the middle: the one with the slow line is not done.
    let args = ["--size=8MiB", "--fault=slow-peer", "--json"];
    let mut child = lab(dir.path(), &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("peer_complete")));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let last = lines.last().unwrap().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap()["kind"], "interrupted");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
