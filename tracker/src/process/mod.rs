//! What the commands of this project share: how a process looks from outside, and its service manager.

pub mod service;

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    // An error of the parser's would show the text.
    fn from_str(text: &str) -> Result<Secret, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

/// Takes the users and passwords of URLs out of the arguments that the system shows, where it lets us
/// (Linux). Arguments that are read later lack them too.
pub fn hide_passwords() {
    let _ = hide();
}

#[cfg(target_os = "linux")]
fn hide() -> Option<()> {
    use std::os::unix::fs::FileExt as _;
    let shown = std::fs::read("/proc/self/cmdline").ok()?;
    let secrets = secrets_in(&shown);
    if secrets.is_empty() {
        return Some(());
    }
    // After the name of the program, which may hold anything, the 46th number is where the arguments begin
    // (proc(5)).
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let start: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(45)?.parse().ok()?;
    let memory = std::fs::OpenOptions::new().write(true).open("/proc/self/mem").ok()?;
    for secret in secrets {
        memory.write_all_at(&vec![b'x'; secret.len()], start + secret.start as u64).ok()?;
    }
    Some(())
}

#[cfg(not(target_os = "linux"))]
fn hide() -> Option<()> {
    None
}

/// Where in the arguments, each of which ends with a zero, users and passwords are.
#[cfg(any(target_os = "linux", test))]
fn secrets_in(arguments: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut secrets = Vec::new();
    let mut start = 0;
    for argument in arguments.split(|&byte| byte == 0) {
        let scheme_end = argument.windows(3).position(|bytes| bytes == b"://").map(|at| at + 3);
        let secret_end = argument.iter().rposition(|&byte| byte == b'@');
        if let (Some(from), Some(to)) = (scheme_end, secret_end)
            && from < to
        {
            secrets.push(start + from..start + to);
        }
        start += argument.len() + 1;
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::secrets_in;

    #[test]
    fn users_and_passwords_of_urls_are_found() {
        let arguments =
            b"swarm-tracker\0--store\0redis://user:p@ss@host/0\0--store=rediss://u:p@h\0redis://host\0a@b\0";
        let found: Vec<_> = secrets_in(arguments).into_iter().map(|range| &arguments[range]).collect();
        assert_eq!(found, [&b"user:p@ss"[..], b"u:p"]);
    }
}
