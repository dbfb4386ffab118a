//! The password, kept as an argon2 hash in a file, and what was found out about passwords lately.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, VecDeque};
use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a password may be, in bytes.
pub const LEN_MAX: usize = 1_024;
/// How short.
const LEN_MIN: usize = 8;
/// How long a hash may be, in bytes.
const HASH_LEN_MAX: u64 = 1_024;
/// How many answers are remembered.
const KNOWN_MAX: usize = 1_000;
/// For how long.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// A password's hash. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Arc<str>);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl Hash {
    /// Whether it is the hash of this. Takes long on purpose: not for a thread that others wait for.
    pub fn is_of(&self, password: &str) -> bool {
        PasswordHash::new(&self.0)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    }
}

/// Writes the hash of a password to the file, for its owner's eyes only.
///
/// # Errors
/// If the password is too short or too long, or the file cannot be written.
pub fn set(path: &Path, password: &str) -> std::io::Result<()> {
    let invalid = |what: String| Err(Error::new(ErrorKind::InvalidInput, what));
    if password.chars().count() < LEN_MIN {
        return invalid(format!("a password has at least {LEN_MIN} characters"));
    }
    if password.len() > LEN_MAX || password.contains(['\0', '\n', '\r']) {
        return invalid(format!("a password has at most {LEN_MAX} bytes, on one line"));
    }
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(Error::other)?.to_string();
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    writeln!(file, "{hash}")?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// Takes the password away. Whether there was one.
///
/// # Errors
/// If the file cannot be removed.
pub fn remove(path: &Path) -> std::io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What tells one file from the one that was there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

/// The file's stamp; `None` if it is not there.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let meta = path.metadata().ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Stamp { modified: meta.modified().ok(), len: meta.len(), inode })
}

/// The hash in the file; `None` if there is no file.
///
/// # Errors
/// If it cannot be read, others may read it, or it holds none.
pub fn load(path: &Path) -> std::io::Result<Option<Hash>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let wrong = |what: &str| Err(Error::new(ErrorKind::InvalidData, what));
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::mode(&file.metadata()?) & 0o077 != 0 {
        return wrong("others may read it: set the password again (swarm daemon password)");
    }
    let mut text = String::new();
    file.take(HASH_LEN_MAX).read_to_string(&mut text)?;
    match PasswordHash::new(text.trim()) {
        Ok(_) => Ok(Some(Hash(text.trim().into()))),
        Err(_) => wrong("holds no hash of a password: set it again (swarm daemon password)"),
    }
}

/// What was found out lately: a program that sends its password with each request costs one hash in a while, and one that sends the same
/// wrong password again and again costs one attempt. Of what was given only a keyed hash is kept.
#[derive(Debug)]
pub struct Known {
    key: [u8; 32],
    answers: HashMap<[u8; 32], (bool, Instant)>,
    order: VecDeque<[u8; 32]>,
}

/// What stands for a user and a password.
pub type Given = [u8; 32];

impl Known {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn new() -> std::io::Result<Known> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(Error::other)?;
        Ok(Known { key, answers: HashMap::new(), order: VecDeque::new() })
    }

    /// What stands for them here.
    pub fn given(&self, user: &str, password: &str) -> Given {
        let len = (user.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [&self.key, &len, user.as_bytes(), password.as_bytes()];
        parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
    }

    /// Whether they are right, if that is known.
    pub fn get(&self, given: &Given, now: Instant) -> Option<bool> {
        let (is_right, until) = self.answers.get(given)?;
        (now < *until).then_some(*is_right)
    }

    /// It was found out.
    pub fn put(&mut self, given: Given, is_right: bool, now: Instant) {
        if self.answers.insert(given, (is_right, now + KNOWN_FOR)).is_none() {
            self.order.push_back(given);
        }
        if self.order.len() > KNOWN_MAX
            && let Some(first) = self.order.pop_front()
        {
            self.answers.remove(&first);
        }
    }

    /// Nothing of it holds any more.
    pub fn clear(&mut self) {
        self.answers.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_as_a_hash_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        assert!(load(&path).unwrap().is_none() && stamp(&path).is_none());
        set(&path, "correct horse").unwrap();
        let hash = load(&path).unwrap().unwrap();
        assert!(hash.is_of("correct horse") && !hash.is_of("correct horses") && !hash.is_of(""));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("$argon2id$") && !text.contains("horse"));
        let before = stamp(&path);
        set(&path, "battery staple").unwrap();
        assert_ne!(stamp(&path), before);
        assert!(load(&path).unwrap().unwrap().is_of("battery staple"));
        for wrong in ["", "short", "two\nlines of it", &"x".repeat(LEN_MAX + 1)] {
            assert!(set(&path, wrong).is_err(), "{wrong}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            assert!(load(&path).is_err());
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        std::fs::write(&path, "hunter2").unwrap();
        assert!(load(&path).is_err());
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
    }

    #[test]
    fn what_is_known_is_forgotten() {
        let (mut known, now) = (Known::new().unwrap(), Instant::now());
        let given = known.given("a", "bc");
        assert_ne!(given, known.given("ab", "c"));
        known.put(given, true, now);
        assert_eq!(known.get(&given, now), Some(true));
        assert_eq!(known.get(&given, now + KNOWN_FOR), None);
        for nth in 0..KNOWN_MAX {
            let other = known.given("x", &nth.to_string());
            known.put(other, false, now);
        }
        assert_eq!(known.get(&given, now), None);
        assert_eq!((known.answers.len(), known.order.len()), (KNOWN_MAX, KNOWN_MAX));
    }
}
