//! One peer's process: this same executable, its events from stdout, its end when the lab stops it or ends.

use crate::events::{Progress, Traffic};
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::ffi::OsString;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

/// An event of a `get` or `seed` process, as far as the lab needs it.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Listening {
        addresses: Vec<SocketAddr>,
    },
    Progress(Progress),
    PieceFailed {},
    PeerBanned {
        address: SocketAddr,
        reason: String,
    },
    DiskStalled {},
    DiskResumed {},
    Complete {},
    Stopped(Traffic),
    Failed {
        message: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug)]
pub enum Message {
    Event(Event),
    /// It has ended, and nothing more comes.
    Ended(String),
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Stop,
    Kill,
}

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process(mpsc::UnboundedSender<Order>);

impl Process {
    /// Starts this executable with these arguments. Its events are sent to `messages` with the number `peer`;
    /// its stderr is appended to the file `log`.
    pub fn start(
        args: &[OsString],
        log: &Path,
        peer: usize,
        messages: mpsc::UnboundedSender<(usize, Message)>,
    ) -> Result<Process> {
        let executable = std::env::current_exe().context("cannot find this executable")?;
        let log_file = File::options().create(true).append(true).open(log).context("cannot write a log")?;
        let mut command = Command::new(executable);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file).kill_on_drop(true);
        // Ctrl-C is for the lab alone, which then ends its peers.
        #[cfg(unix)]
        command.process_group(0);
        end_with_parent(&mut command);
        let mut child = command.spawn().context("cannot start a process")?;
        let stdout = child.stdout.take().context("cannot read from a process")?;
        let (orders, inbox) = mpsc::unbounded_channel();
        let log = log.to_owned();
        tokio::spawn(async move {
            let lines = BufReader::new(stdout).lines();
            // Without a receiver, the lab is about to end.
            let send = |message| drop(messages.send((peer, message)));
            let ended = match run(child, lines, inbox, |event| send(Message::Event(event))).await {
                Ok(status) => describe_end(status, &log),
                Err(error) => error.to_string(),
            };
            send(Message::Ended(ended));
        });
        Ok(Process(orders))
    }

    /// Ends it cleanly: it announces `stopped`, and its last event has its totals.
    pub fn stop(&self) {
        let _ = self.0.send(Order::Stop);
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        let _ = self.0.send(Order::Kill);
    }
}

/// Passes on the process's events, and orders to it, until it has ended.
async fn run(
    mut child: Child,
    mut lines: Lines<BufReader<ChildStdout>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    send: impl Fn(Event),
) -> std::io::Result<ExitStatus> {
    let mut is_open = true;
    loop {
        tokio::select! {
            line = lines.next_line(), if is_open => match line? {
                Some(line) => serde_json::from_str(&line).into_iter().for_each(&send),
                None => is_open = false,
            },
            order = orders.recv() => match order {
                Some(Order::Stop) => ask_to_end(&mut child)?,
                Some(Order::Kill) => child.start_kill()?,
                // The lab has let go of the process.
                None => child.kill().await?,
            },
            status = child.wait(), if !is_open => return status,
        }
    }
}

#[cfg(unix)]
fn ask_to_end(child: &mut Child) -> std::io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    // `Child` knows the id until it has been waited for, so it can be nobody else's.
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(pid, Signal::TERM)?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn ask_to_end(child: &mut Child) -> std::io::Result<()> {
    child.start_kill()
}

/// Has the system kill the process should this one die without a chance to clean up.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    use rustix::process::{Signal, set_parent_process_death_signal};
    let lab = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe functions may run: these are two system calls and
    // no allocation.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The lab may have died before that was in place.
            let parent = std::os::unix::process::parent_id();
            if parent == lab { Ok(()) } else { Err(std::io::ErrorKind::Interrupted.into()) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command) {}

/// How a process ended, with the last line that it logged.
fn describe_end(status: ExitStatus, log: &Path) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    match log.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) if !status.success() => {
            format!("{} ({status})", line.trim().trim_start_matches("swarm: "))
        }
        _ => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_understood_and_unknown_ones_passed_over() {
        let event = |text| serde_json::from_str::<Event>(text).unwrap();
        assert!(matches!(event(r#"{"event":"piece_failed","piece":3,"t":0.1}"#), Event::PieceFailed {}));
        assert!(matches!(event(r#"{"event":"new_thing","value":[1],"t":0.1}"#), Event::Other));
        let banned = event(r#"{"event":"peer_banned","address":"127.0.0.1:7","reason":"it lied","t":2}"#);
        assert!(matches!(banned, Event::PeerBanned { reason, .. } if reason == "it lied"));
    }
}
