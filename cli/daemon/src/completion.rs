//! The program that is run when a torrent is complete: which, with which arguments, and how it ends. Never a shell.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;

/// How much of a line of its output is logged, in bytes.
const LINE_LEN_MAX: u64 = 4_096;
/// How many lines are.
const LINES_MAX: usize = 1_000;

/// What stands for what in an argument.
const PLACEHOLDERS: [&str; 6] = ["path", "name", "hash", "dir", "category", "id"];

/// Variables by which a service manager speaks with the service that it has started.
const SERVICE_MANAGERS: [&str; 6] =
    ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The program, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "each field is a decision of who starts it")]
pub struct Program {
    /// The program's path, and its arguments: `{path}`, `{name}`, `{hash}`, `{dir}`, `{category}` and `{id}` stand for what the torrent has.
    pub arguments: Vec<String>,
    /// How many may run at a time.
    pub at_once: usize,
    /// How long each may take.
    pub timeout: Duration,
}

/// What a program is told of a torrent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its info-hash.
    pub hash: String,
    /// The folder that holds its file or folder.
    pub dir: PathBuf,
    /// Its file or folder.
    pub path: PathBuf,
    /// Its category.
    pub category: String,
}

impl Program {
    /// Whether it can be run, as far as it can be told without running it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let Some(program) = self.arguments.first() else { return Err("names no program".to_owned()) };
        if !std::path::Path::new(program).is_absolute() {
            return Err(format!("{program}: is no absolute path of a program"));
        }
        for argument in &self.arguments {
            let mut rest = &**argument;
            while let Some((_, after)) = rest.split_once('{') {
                let named = PLACEHOLDERS
                    .iter()
                    .any(|name| after.strip_prefix(name).is_some_and(|after| after.starts_with('}')));
                let is_first = std::ptr::eq(argument, &self.arguments[0]);
                if !named || is_first {
                    let known = PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ");
                    return Err(format!(
                        "{argument}: what stands in braces is one of {known}, in an argument"
                    ));
                }
                rest = after;
            }
        }
        Ok(())
    }

    /// The arguments for a torrent, without the program. What is put in is not looked through again.
    fn for_torrent(&self, about: &About) -> Vec<OsString> {
        let fill = |argument: &String| {
            let (mut filled, mut rest) = (OsString::new(), &**argument);
            while let Some((before, after)) = rest.split_once('{') {
                filled.push(before);
                let (name, after) = after.split_once('}').unwrap_or((after, ""));
                match name {
                    "path" => filled.push(&about.path),
                    "name" => filled.push(&about.name),
                    "hash" => filled.push(&about.hash),
                    "dir" => filled.push(&about.dir),
                    "category" => filled.push(&about.category),
                    "id" => filled.push(about.id.to_string()),
                    _ => {}
                }
                rest = after;
            }
            filled.push(rest);
            filled
        };
        self.arguments.iter().skip(1).map(fill).collect()
    }

    /// Runs it until it has ended and nobody writes to its output any more, and returns how that was. Dropped before that, or after its
    /// time, it is killed, with all that it has started.
    pub async fn run(&self, about: &About) -> String {
        let mut command = Command::new(&self.arguments[0]);
        command.args(self.for_torrent(about)).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // It is not the service: what it says to the service manager is not to be taken for ours.
        for name in SERVICE_MANAGERS {
            command.env_remove(name);
        }
        // A group of its own, which is killed as a whole; and a signal to the daemon's is none to it.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return format!("cannot be run: {error}"),
        };
        let mut group = Group(child.id());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ends = async {
            let status = tokio::join!(child.wait(), log(about.id, out), log(about.id, err)).0;
            status.map_or_else(|error| format!("is lost: {error}"), |status| status.to_string())
        };
        match tokio::time::timeout(self.timeout, ends).await {
            Ok(ended) => {
                // What it leaves behind is meant to go on.
                group.0 = None;
                ended
            }
            Err(_) => {
                drop(group);
                format!("was killed: it has taken more than {} s", self.timeout.as_secs())
            }
        }
    }
}

/// The processes that a program has started, and itself.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(id) = self.0.and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?)) {
            // Mostly nobody is left.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// Logs what comes, line by line, and reads on once that is enough.
async fn log(id: i64, output: Option<impl AsyncRead + Unpin>) {
    let Some(output) = output else { return };
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    for count in 0.. {
        line.clear();
        let read = (&mut output).take(LINE_LEN_MAX).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        if count < LINES_MAX {
            let line = String::from_utf8_lossy(&line);
            tracing::debug!(target: "swarm_daemon", torrent = id, line = line.trim_end(), "on-complete says");
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn program(arguments: &[&str]) -> Program {
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        Program { arguments, at_once: 1, timeout: Duration::from_secs(60) }
    }

    fn about() -> About {
        About {
            id: 7,
            name: "a {hash} $(b); c".into(),
            hash: "00ff".into(),
            dir: "/d".into(),
            path: "/d/a b".into(),
            category: String::new(),
        }
    }

    #[test]
    fn arguments_are_filled_in_once_and_never_split() {
        let program =
            program(&["/bin/x", "{path}", "--name={name}", "{id}{category}", "plain", "{name}{hash}"]);
        program.check().unwrap();
        let expected = ["/d/a b", "--name=a {hash} $(b); c", "7", "plain", "a {hash} $(b); c00ff"];
        assert_eq!(program.for_torrent(&about()), expected);
    }

    #[test]
    fn what_cannot_be_run_is_told() {
        for wrong in [&[][..], &["sh", "-c"], &["/bin/{name}"], &["/bin/x", "{nmae}"], &["/bin/x", "{"]] {
            assert!(program(wrong).check().is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn how_it_ends_is_told() {
        let ends = async |arguments: &[&str]| program(arguments).run(&about()).await;
        assert_eq!(ends(&["/bin/sh", "-c", "exit 3"]).await, "exit status: 3");
        assert_eq!(
            ends(&["/bin/sh", "-c", "test \"$0\" = '/d/a b' && yes | head -c 300000", "{path}"]).await,
            "exit status: 0"
        );
        assert!(ends(&["/nonexistent/x"]).await.starts_with("cannot be run"));
    }

    #[tokio::test]
    async fn what_it_leaves_running_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let script = "(until [ -e \"$0/go\" ]; do :; done; mv \"$0/go\" \"$0/gone\") >/dev/null 2>&1 &";
        let about = About { path: dir.path().to_owned(), ..about() };
        let ended = program(&["/bin/sh", "-c", script, "{path}"]).run(&about).await;
        assert_eq!(ended, "exit status: 0");
        std::fs::write(at("go"), "").unwrap();
        let gone = async {
            while !at("gone").exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it goes on");
    }

    #[tokio::test]
    async fn it_has_its_time_and_what_it_has_started_too() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = "sleep 600 & echo $! > \"$0\"; wait";
        let mut program = program(&["/bin/sh", "-c", script, "{path}"]);
        program.timeout = Duration::from_millis(500);
        let about = About { path: pid.clone(), ..about() };
        let ended = program.run(&about).await;
        assert!(ended.starts_with("was killed"), "{ended}");
        let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // Whoever inherits it takes it away; until then it is a zombie.
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        while state().is_ok_and(|state| !state.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    }
}
