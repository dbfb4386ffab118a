//! Running the `swarm` binary: to its end, or line by line while it runs.
#![allow(dead_code, reason = "each test binary uses its own part")]

#[path = "client.rs"]
pub mod client;
#[path = "daemon.rs"]
pub mod daemon;

use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Defines each test once for IPv4 and once for IPv6.
#[macro_export]
macro_rules! for_both_families {
    ($($test:ident),* $(,)?) => {
        mod ipv4 {
            $(#[test]
            fn $test() {
                super::$test(["--listen", "127.0.0.1:0"]);
            })*
        }
        mod ipv6 {
            $(#[test]
            fn $test() {
                if std::net::TcpListener::bind("[::1]:0").is_ok() {
                    super::$test(["--listen", "[::1]:0"]);
                } else {
                    eprintln!("skipped: this machine has no IPv6 loopback");
                }
            })*
        }
    };
}

/// Longer than anything here takes, so that a test that waits in vain fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// The binary, in `dir`, without anything from the tester's own environment.
pub fn swarm(dir: &Path) -> Command {
    swarm_by(dir, env!("CARGO_BIN_EXE_swarm"))
}

/// The same for a program that runs it.
pub fn swarm_by(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env_clear().env("HOME", dir.join("home")).stdin(Stdio::null());
    command
}

/// What a finished command left.
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Stdout as one JSON object.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr)
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Finished {
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the command to its end.
pub fn run(dir: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    swarm(dir).args(args).output().unwrap().into()
}

/// Runs the command to its end, which must be a good one.
pub fn run_ok(dir: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
    let finished = run(dir, args);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished
}

/// A command that runs, and tells with `--json` what happens. Killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    pub events: Vec<Value>,
}

impl Running {
    pub fn start(dir: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Running {
        let mut command = swarm(dir);
        command.args(args);
        Running::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Running {
        command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Running { child, lines, events: Vec::new() }
    }

    /// The next event, or `None` once stdout is closed.
    pub fn next(&mut self) -> Option<Value> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                let event: Value =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                assert!(event["event"].is_string() && event["t"].is_number(), "{line}");
                self.events.push(event.clone());
                Some(event)
            }
            Err(Disconnected) => None,
            Err(Timeout) => panic!("nothing came after {:#?}", self.events),
        }
    }

    /// Waits for an event of this name that `is_it`.
    pub fn wait_until(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        while let Some(event) = self.next() {
            if event["event"] == name && is_it(&event) {
                return event;
            }
        }
        let stderr = self.stderr();
        panic!("no {name} in {:#?}\n{stderr}", self.events);
    }

    /// Waits for an event of this name.
    pub fn wait_for(&mut self, name: &str) -> Value {
        self.wait_until(name, |_| true)
    }

    /// Waits for the address that peers can connect to.
    pub fn address(&mut self) -> String {
        self.wait_for("listening")["addresses"][0].as_str().unwrap().to_owned()
    }

    /// The events of this name so far.
    pub fn seen(&self, name: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["event"] == name).collect()
    }

    /// Waits for the end: the status, and the last event.
    pub fn finish(&mut self) -> (Option<i32>, Value) {
        while self.next().is_some() {}
        let status = self.child.wait().unwrap();
        (status.code(), self.events.last().cloned().unwrap_or_default())
    }

    /// Waits for the end, which must be a good one: the `complete` event.
    pub fn complete(&mut self) -> Value {
        let (code, last) = self.finish();
        let stderr = self.stderr();
        assert_eq!(
            (code, &last["event"]),
            (Some(0), &"complete".into()),
            "{:#?}
{stderr}",
            self.events
        );
        last
    }

    /// What the command wrote to stderr; to be called after its end.
    pub fn stderr(&mut self) -> String {
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).unwrap();
        }
        text
    }

    /// Kills it, with no chance to save anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it the signal of this name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `len` bytes that look random and are the same for the same `seed`.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = swarm_core::rng::Rng::new(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// Writes a file, and the folders above it.
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A folder `data/NAME` with files of odd sizes.
pub fn write_tree(dir: &Path, name: &str) -> PathBuf {
    let root = dir.join("data").join(name);
    write(root.join("big.bin"), bytes(1, 1_500_000));
    write(root.join("a/b/c/deep.bin"), bytes(2, 70_001));
    write(root.join("a/one byte"), [7]);
    write(root.join("empty"), []);
    write(root.join("ünï cödé.txt"), "naïve");
    for n in 0..20 {
        write(root.join(format!("many/{n}.txt")), bytes(n, n as usize * 100));
    }
    root
}

/// Every file below `dir`, by its path, with its content.
pub fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}
