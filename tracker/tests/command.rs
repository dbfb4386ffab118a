//! The command itself, as a user or a service manager runs it.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swarm-tracker"));
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(flags: &[&str]) -> Output {
    command(flags).output().expect("the command runs")
}

/// Kills the tracker should the test fail.
struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(flags: &[&str]) -> Running {
        let mut child = command(flags).spawn().expect("the command runs");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        Running { child, stderr }
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Its next line on stderr.
    fn log(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    /// The address in its next line on stderr.
    fn listening(&mut self) -> SocketAddr {
        let line = self.log();
        line.strip_prefix("listening on http://")
            .and_then(|line| line.strip_suffix("/announce\n"))
            .and_then(|addr| addr.parse().ok())
            .unwrap_or_else(|| panic!("not an address: {line:?}"))
    }
}

fn get(addr: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {target} HTTP/1.0\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

#[test]
fn serves_where_it_says_and_stops_on_signals() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut tracker = Running::start(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
        for _ in 0..2 {
            let addr = tracker.listening();
            assert_ne!(addr.port(), 0);
            assert!(get(addr, "/health").ends_with("ok\n"));
        }
        rustix::process::kill_process(tracker.pid(), signal).unwrap();
        let status = tracker.child.wait().unwrap();
        assert!(status.success(), "{status}");
        let mut rest = String::new();
        tracker.stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

fn announce(addr: SocketAddr, hash: char) -> String {
    let hash = hash.to_string().repeat(20);
    get(addr, &format!("/announce?info_hash={hash}&peer_id=aaaaaaaaaaaaaaaaaaaa&port=1"))
}

#[test]
fn the_allow_list_is_read_again_on_hangup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("allowed");
    let list = |hash: &str| std::fs::write(&path, hash.repeat(20)).unwrap();
    list("61");
    let flags = ["--listen", "127.0.0.1:0", "-v", "--log", "json", "--allow-list", path.to_str().unwrap()];
    let mut tracker = Running::start(&flags);
    assert!(tracker.log().contains("allow list read"));
    let addr = tracker.listening();
    assert!(announce(addr, 'a').contains("8:interval"));
    assert!(announce(addr, 'b').contains("14:failure reason"));

    let hangup = |tracker: &Running| {
        rustix::process::kill_process(tracker.pid(), rustix::process::Signal::HUP).unwrap();
    };
    list("62");
    hangup(&tracker);
    assert!(tracker.log().contains("allow list read"));
    assert!(tracker.log().contains("read the files again"));
    assert!(announce(addr, 'a').contains("14:failure reason"));
    assert!(announce(addr, 'b').contains("8:interval"));

    list("no hash");
    hangup(&tracker);
    assert!(tracker.log().contains("keeping what was read before"));
    assert!(announce(addr, 'b').contains("8:interval"));
}

fn signal(tracker: &Running, signal: rustix::process::Signal) {
    rustix::process::kill_process(tracker.pid(), signal).unwrap();
}

/// How often the peers of this torrent are asked to announce, in seconds.
fn interval(addr: SocketAddr, hash: char) -> u64 {
    let reply = announce(addr, hash);
    let after = reply.split_once("8:intervali").unwrap_or_else(|| panic!("no interval in {reply:?}")).1;
    after.split('e').next().unwrap().parse().unwrap()
}

#[test]
fn each_changed_setting_is_taken_or_named_on_hangup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("interval = \"32m\"\nmin-interval = \"32m\"\n");
    let flags = ["--listen", "127.0.0.1:0", "-v", "--log", "json", "--config", path.to_str().unwrap()];
    let mut tracker = Running::start(&flags);
    let addr = tracker.listening();
    assert!((1920..=2040).contains(&interval(addr, 'a')));

    write("interval = \"64s\"\nmax-connections = 1\nrate-limit = 2\nbehind-proxy = \"forwarded-for\"\n");
    signal(&tracker, rustix::process::Signal::HUP);
    let changed = ["interval", "min-interval", "rate-limit", "max-connections"];
    for name in changed {
        let line = tracker.log();
        assert!(line.contains(&format!("\"{name} has changed\"")), "{name}: {line}");
    }
    let line = tracker.log();
    assert!(line.contains("behind-proxy has changed, which needs a restart"), "{line}");
    assert!(tracker.log().contains("read the files again"));
    assert!((64..=68).contains(&interval(addr, 'a')));
    announce(addr, 'a');
    assert!(announce(addr, 'a').contains("too many requests"));

    write("interval = \"sometimes\"\n");
    signal(&tracker, rustix::process::Signal::HUP);
    assert!(tracker.log().contains("keeping what was read before"));
    assert!(get(addr, "/health").ends_with("ok\n"));
}

fn peers(addr: SocketAddr) -> serde_json::Value {
    let stats = get(addr, "/stats");
    let json = stats.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str::<serde_json::Value>(json).unwrap()["peers"].clone()
}

#[test]
fn swarms_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("swarms");
    let flags = ["--listen", "127.0.0.1:0", "--state", path.to_str().unwrap()];
    let short = 300..=320;

    let mut tracker = Running::start(&flags);
    let addr = tracker.listening();
    assert!(short.contains(&interval(addr, 'a')), "it knows nothing yet");
    announce(addr, 'b');
    signal(&tracker, rustix::process::Signal::TERM);
    assert!(tracker.child.wait().unwrap().success());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    let mut tracker = Running::start(&flags);
    let addr = tracker.listening();
    assert_eq!(peers(addr), 2);
    assert!(interval(addr, 'a') >= 1800, "it knows its swarms");
    signal(&tracker, rustix::process::Signal::INT);
    assert!(tracker.child.wait().unwrap().success());

    let mut cut = std::fs::read(&path).unwrap();
    cut.truncate(cut.len() - 1);
    std::fs::write(&path, &cut).unwrap();
    let mut tracker = Running::start(&flags);
    let line = tracker.log();
    assert!(line.contains("starting without swarms") && line.contains("it is damaged"), "{line}");
    let addr = tracker.listening();
    assert_eq!(peers(addr), 0);
    assert!(short.contains(&interval(addr, 'a')));
    assert_eq!(std::fs::read(dir.path().join("swarms.unreadable")).unwrap(), cut, "nothing is lost");
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 1, "no file is left over");
}

#[test]
fn the_service_managers_folder_keeps_swarms() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(&["--listen", "127.0.0.1:0"]);
    let mut child = command.env("STATE_DIRECTORY", dir.path()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut tracker = Running { child, stderr };
    tracker.listening();
    signal(&tracker, rustix::process::Signal::TERM);
    assert!(tracker.child.wait().unwrap().success());
    assert!(dir.path().join("swarm-tracker.state").is_file());
}

#[test]
fn a_state_that_cannot_be_kept_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere/swarms");
    for (path, why) in [(missing.as_path(), "its folder does not exist"), (dir.path(), "it is not a file")] {
        let output = output(&["--listen", "127.0.0.1:0", "--state", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, format!("swarm-tracker: cannot keep the swarms in {}: {why}\n", path.display()));
    }
}

/// The limit is lowered while it runs, so that even what it had reserved is not there.
#[cfg(target_os = "linux")]
#[test]
fn without_descriptors_it_answers_and_says_so_once() {
    use rustix::process::{Resource, Rlimit, prlimit};
    let mut tracker = Running::start(&["--listen", "127.0.0.1:0"]);
    let addr = tracker.listening();
    let open = std::fs::read_dir(format!("/proc/{}/fd", tracker.child.id())).unwrap().count() as u64;
    let limit = Rlimit { current: Some(open + 20), maximum: Some(open + 20) };
    prlimit(Some(tracker.pid()), Resource::Nofile, limit).unwrap();
    let mut idle = Vec::new();
    for nth in 0..200 {
        idle.push(TcpStream::connect(addr).unwrap());
        if nth % 10 == 0 {
            assert!(get(addr, "/health").ends_with("ok\n"), "with {nth} open");
        }
    }
    signal(&tracker, rustix::process::Signal::TERM);
    assert!(tracker.child.wait().unwrap().success());
    let mut said = String::new();
    tracker.stderr.read_to_string(&mut said).unwrap();
    assert_eq!(said.matches("cannot accept connections").count(), 1, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_configuration_file_is_heeded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker.toml");
    std::fs::write(&path, "listen = [\"127.0.0.1:0\"]\ntracker-id = \"from the file\"\n").unwrap();
    let mut tracker = Running::start(&["--config", path.to_str().unwrap()]);
    let addr = tracker.listening();
    assert!(announce(addr, 'a').contains("10:tracker id13:from the file"));

    std::fs::write(&path, "listen = 7\n").unwrap();
    let wrong = output(&["--config", path.to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).unwrap();
    let start = format!("swarm-tracker: {}: line 1: invalid type: integer `7`, ", path.display());
    assert!(said.starts_with(&start) && said.lines().count() == 1, "{said}");
}

#[test]
fn https_is_served_with_the_certificate_given() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let flags = |key: &std::path::Path| {
        let [cert, key] = [&cert, key].map(|path| path.to_str().unwrap().to_owned());
        ["--listen-tls", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key].map(str::to_owned)
    };
    let mut tracker = Running::start(&flags(&key).each_ref().map(String::as_str));
    let line = tracker.log();
    assert!(line.starts_with("listening on https://127.0.0.1:"), "{line}");

    // Not the key but the certificate twice.
    let wrong = output(&flags(&cert).each_ref().map(String::as_str));
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("cert.pem: the key cannot be read"), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let allow = output(&["--listen", "127.0.0.1:0", "--allow-list", "/nonexistent/hashes"]);
    assert_eq!(allow.status.code(), Some(1));
    assert!(String::from_utf8(allow.stderr).unwrap().contains("cannot read /nonexistent/hashes"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hashes");
    std::fs::write(&path, "release.meta\n").unwrap();
    let broken = output(&["--listen", "127.0.0.1:0", "--allow-list", path.to_str().unwrap()]);
    assert_eq!(broken.status.code(), Some(1));
    let said = String::from_utf8(broken.stderr).unwrap();
    let why = "line 1: an info-hash is 40 hexadecimal digits";
    assert_eq!(said, format!("swarm-tracker: {}: {why}\n", path.display()));
    let config = output(&["--config", "/nonexistent/config"]);
    assert_eq!(config.status.code(), Some(2));
    assert!(String::from_utf8(config.stderr).unwrap().contains("cannot read /nonexistent/config"));
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = output(&["--listen", &addr]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with(&format!("swarm-tracker: cannot listen on {addr}: ")), "{said}");
}

#[test]
fn bad_flags_are_usage_errors_of_one_line() {
    for flags in [
        ["--listen", "nowhere"],
        ["--listen", "127.0.0.1"],
        ["--interval", "10"],
        ["--numwant-max", "-1"],
        ["--log", "xml"],
        ["--frobnicate", "1"],
    ] {
        let output = output(&flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("swarm-tracker: "), "{said}");
        assert!(flags.iter().any(|flag| said.contains(flag)), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let contradiction = output(&["--interval", "1m", "--peer-timeout", "30s", "--listen", "127.0.0.1:0"]);
    assert_eq!(contradiction.status.code(), Some(2));
    let said = String::from_utf8(contradiction.stderr).unwrap();
    assert_eq!(said, "swarm-tracker: peer-timeout must be longer than interval\n");
}

#[test]
fn udp_is_served_where_asked_for() {
    let mut tracker = Running::start(&["--listen-udp", "127.0.0.1:0"]);
    let line = tracker.log();
    let addr = line.strip_prefix("listening on udp://").and_then(|line| line.strip_suffix("/announce\n"));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(addr.expect("an address")).unwrap();
    socket.send(b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0abcd").unwrap();
    let mut reply = [0; 64];
    assert_eq!(socket.recv(&mut reply).unwrap(), 16);
    assert!(reply.starts_with(b"\0\0\0\0abcd"));
}
