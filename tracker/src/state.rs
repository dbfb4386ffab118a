//! The file that keeps a tracker's swarms over a restart.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use swarm_core::time::Time;

use crate::store::{LoadError, Loaded, Store};

const BUFFER_LEN: usize = 1 << 16;

/// A file cannot keep a tracker's swarms.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the swarms in {}: {reason}", path.display())]
pub struct StateError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// The file that keeps a tracker's swarms. It is always one that was written whole.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// Looks whether the file can be written.
    pub fn new(path: &Path) -> Result<StateFile, StateError> {
        let failed = |reason: String| StateError { path: path.to_owned(), reason };
        // A link stays a link to what is written.
        let real = match fs::canonicalize(path) {
            Ok(real) if real.is_file() => real,
            Ok(_) => return Err(failed("it is not a file".into())),
            Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(failed(error.to_string())),
        };
        let state = StateFile { path: real };
        let tried = state.create().and_then(|_| fs::remove_file(state.beside(".new")));
        tried.map_err(|error| match error.kind() {
            ErrorKind::NotFound => failed("its folder does not exist".into()),
            _ => failed(error.to_string()),
        })?;
        Ok(state)
    }

    /// Takes what was saved. What cannot be taken is put aside, and the log says so.
    pub fn load(&self, store: &Store, now: Time) -> Option<Loaded> {
        let loaded = match File::open(&self.path) {
            Ok(file) => store.load(now, unix_s(), BufReader::with_capacity(BUFFER_LEN, file)),
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => Err(LoadError::Io(error)),
        };
        let (path, aside) = (self.path.display(), self.beside(".unreadable"));
        match loaded {
            Ok(loaded) => {
                tracing::info!(
                    peers = loaded.peers,
                    seconds = loaded.away_s,
                    "took the swarms saved in {path}"
                );
                Some(loaded)
            }
            Err(error) => {
                let kept = match fs::rename(&self.path, &aside) {
                    Ok(()) => format!("kept as {}", aside.display()),
                    Err(error) => format!("cannot be kept: {error}"),
                };
                tracing::warn!("starting without swarms, for {path} cannot be used: {error}; it is {kept}");
                None
            }
        }
    }

    /// Writes the swarms beside the file, and then puts them in its place.
    pub fn save(&self, store: &Store, now: Time) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER_LEN, self.create()?);
        let written = store.save(now, unix_s(), &mut out).and_then(|()| {
            out.flush()?;
            out.get_ref().sync_all()
        });
        let temporary = self.beside(".new");
        written.and_then(|()| fs::rename(&temporary, &self.path)).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
        #[cfg(unix)]
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// A new file beside the real one. Addresses are nobody else's business.
    fn create(&self) -> io::Result<File> {
        let temporary = self.beside(".new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(temporary)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(ending);
        name.into()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The time of day, in seconds since 1970.
fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
