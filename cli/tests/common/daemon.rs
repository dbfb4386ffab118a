//! A daemon as a process, and requests to it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use super::{Finished, Running, run, swarm, swarm_by};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing happens before what is waited for is asked for anyway.
const LOOK_ANYWAY: Duration = Duration::from_millis(250);

pub struct Daemon {
    pub process: Running,
    pub dir: PathBuf,
    pub http: String,
    pub token: String,
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Daemon {
    /// Starts one in `dir`, on loopback, with these options too. Its downloads go to `downloads`.
    pub fn start(dir: &Path, more: &[&str]) -> Daemon {
        let local = ["daemon", "--listen", "127.0.0.1:0", "--no-dht", "--http", "127.0.0.1:0"];
        let args = [&local[..], &["--dir", "downloads"], more].concat();
        let mut process = Running::spawn(dying_with_us(dir, &args));
        let serving = process.wait_for("serving");
        let http = serving["http"][0].as_str().unwrap().to_owned();
        let token = std::fs::read_to_string(state(dir).join("token")).unwrap_or_default().trim().to_owned();
        Daemon { process, dir: dir.to_owned(), http, token }
    }

    /// Runs `swarm ctl --json`, which must end well.
    pub fn ctl(&self, args: &[&str]) -> Value {
        let finished = self.ctl_any(args);
        assert_eq!(finished.code, Some(0), "{args:?}: {finished:?}");
        if finished.stdout.is_empty() { Value::Null } else { finished.json() }
    }

    pub fn ctl_any(&self, args: &[&str]) -> Finished {
        run(&self.dir, [&["ctl", "--json"], args].concat())
    }

    /// A request with the token.
    pub fn request(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let token = format!("authorization: Bearer {}", self.token);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let headers = ["host: localhost", &token, "content-type: application/json"];
        self.raw(method, path, &headers, body.as_bytes())
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// A request with these headers and no others.
    pub fn raw(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = headers.join("\r\n");
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{head}\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // It may be refused before all of it is sent.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn torrent(&self, id: i64) -> Value {
        self.get(&format!("/api/v1/torrents/{id}"))
    }

    /// Waits until a torrent is as it should be.
    pub fn wait(&self, id: i64, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(|| Some(self.torrent(id)).filter(|torrent| is_it(torrent)), || self.torrent(id))
    }

    /// Asks whenever something has happened, until there is what is waited for.
    pub fn wait_for<T>(&self, ask: impl Fn() -> Option<T>, else_show: impl Fn() -> Value) -> T {
        let start = Instant::now();
        let mut events = self.events();
        loop {
            if let Some(found) = ask() {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "it does not happen: {:#}", else_show());
            // Not all that is waited for is an event: after a while it is asked anyway.
            let mut line = [0; 4_096];
            if matches!(events.read(&mut line), Ok(0)) {
                events = self.events();
            }
        }
    }

    /// A stream of events. Nothing that happens after this returns is missed.
    fn events(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        let token = &self.token;
        let request = format!(
            "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut byte = [0];
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        stream.set_read_timeout(Some(LOOK_ANYWAY)).unwrap();
        stream
    }

    /// Ends it by SIGTERM.
    pub fn stop(mut self) {
        self.process.signal("TERM");
        let (code, last) = self.process.finish();
        assert_eq!((code, &last["event"]), (Some(0), &json!("stopped")));
    }
}

/// The command, which ends when this thread does, however that comes: no daemon is left behind by a test that was killed.
fn dying_with_us(dir: &Path, args: &[&str]) -> std::process::Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    let plain = swarm(dir);
    if !cfg!(target_os = "linux") || !Path::new(SETPRIV).exists() {
        let mut plain = plain;
        plain.args(args);
        return plain;
    }
    let mut command = swarm_by(dir, SETPRIV);
    command.args(["--pdeathsig", "KILL"]).arg(plain.get_program()).args(args);
    command
}

/// The daemon's own folder.
pub fn state(dir: &Path) -> PathBuf {
    dir.join("home/.local/state/swarm/daemon")
}

/// Runs a daemon that does not start: its status, and what it says.
pub fn refused(dir: &Path, more: &[&str]) -> (Option<i32>, String) {
    let local =
        ["daemon", "--listen", "127.0.0.1:0", "--no-dht", "--http", "127.0.0.1:0", "--dir", "downloads"];
    let output = swarm(dir).args([&local[..], more].concat()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Runs `swarm daemon password` with this line as its standard input: its status, and what it says.
pub fn set_password(dir: &Path, line: &str) -> (Option<i32>, String) {
    use std::process::Stdio;
    let mut command = swarm(dir);
    command.args(["daemon", "password"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}
