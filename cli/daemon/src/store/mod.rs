//! The database: what the daemon keeps over a restart.
//!
//! [`Store::open`] takes the lock beside it, looks at what is there without changing it, migrates what is older, and refuses what it does
//! not know. Each of its methods that changes something is one transaction; once it has returned, a power cut does not undo it.
//! [`thread`] is the store for async code.

mod labels;
mod rows;
mod schema;
pub mod thread;

use crate::torrents::{Change, Id, Labels, Record};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another daemon uses it.
    #[error("{}: another daemon uses it{}", .path.display(), say_pid(.pid))]
    InUse {
        /// The database.
        path: PathBuf,
        /// The other's process id, if it has left it.
        pid: Option<u32>,
    },
    /// A later version of this program has written it.
    #[error(
        "{}: is of a newer version ({found}) than this program knows ({known}); it is left as it is: update the program",
        .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The last version that is known.
        known: usize,
    },
    /// It is another program's.
    #[error("{}: is a database of another program; it is left as it is: name another with --state-dir", .0.display())]
    Foreign(PathBuf),
    /// What is in it makes no sense.
    #[error("{}: is damaged: {what}; it is left as it is: put back a copy, or move it away to begin anew", .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The disk is full.
    #[error("{}: the disk is full: {what}", .path.display())]
    Full {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        what: String,
    },
    /// The system refuses something.
    #[error("{}: cannot {what}", .path.display())]
    Io {
        /// The database, or a file beside it.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything else that SQLite says.
    #[error("{}: {source}", .path.display())]
    Other {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

fn say_pid(pid: &Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl StoreError {
    /// Whether it is for want of space.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Full { .. })
    }

    fn of(path: &Path, source: rusqlite::Error) -> StoreError {
        let (path, what) = (path.to_owned(), source.to_string());
        let is_odd = matches!(
            source,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::InvalidColumnName(_)
        );
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged { path, what },
            Some(ErrorCode::DiskFull) => StoreError::Full { path, what },
            _ if is_odd => StoreError::Damaged { path, what },
            _ => StoreError::Other { path, source },
        }
    }
}

/// Among the settings: when a daemon was alive last, in seconds since 1970.
pub const ALIVE_AT: &str = "alive_at";

/// The database, open and locked.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    /// Held for as long as the database is open.
    _lock: File,
}

/// All that was kept.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The torrents, by number.
    pub records: Vec<Record>,
    /// Categories, tags and limits of trackers.
    pub labels: Labels,
    /// What users set of the daemon.
    pub settings: BTreeMap<String, String>,
    /// The highest number that was ever given to a torrent.
    pub last_id: i64,
    /// Addresses that are banned.
    pub bans: BTreeSet<IpAddr>,
}

impl Store {
    /// Opens the database at this path, and makes it if there is none.
    ///
    /// # Errors
    /// If it is in use, newer, damaged or another program's: it stays as it is. If the system refuses something.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Store::open_with(path, schema::MIGRATIONS)
    }

    fn open_with(path: &Path, migrations: &[&str]) -> Result<Store, StoreError> {
        let lock = lock(path)?;
        let version = if path.exists() { look_at(path, migrations.len())? } else { 0 };
        make(path)?;
        let error = |source| StoreError::of(path, source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(error)?;
        configure(&connection).map_err(error)?;
        schema::migrate(&mut connection, version, migrations).map_err(error)?;
        Ok(Store { connection, path: path.to_owned(), _lock: lock })
    }

    /// Everything that is in it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        self.read().map_err(|source| StoreError::of(&self.path, source))
    }

    fn read(&self) -> rusqlite::Result<Loaded> {
        let mut statement = self.connection.prepare("SELECT name, value FROM settings")?;
        let settings = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let settings = settings.collect::<rusqlite::Result<_>>()?;
        let last_id = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'torrents'";
        let last_id = self.connection.query_row(last_id, [], |row| row.get(0))?;
        let (records, labels) = (rows::load(&self.connection)?, labels::load(&self.connection)?);
        let mut statement = self.connection.prepare("SELECT address FROM bans")?;
        let bans = statement.query_map([], |row| row.get::<_, String>(0))?;
        let bans = bans.collect::<rusqlite::Result<Vec<_>>>()?;
        let bans = bans.iter().filter_map(|address| address.parse().ok()).collect();
        Ok(Loaded { records, labels, settings, last_id, bans })
    }

    /// What is known of torrents beyond their records, as bytes of metainfo files: one after the other, for all of them take much memory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn each_metainfo(&self, mut take: impl FnMut(Id, &[u8])) -> Result<(), StoreError> {
        let mut read = || {
            let mut statement = self.connection.prepare("SELECT torrent, bytes FROM metainfo")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                take(Id(row.get(0)?), row.get_ref(1)?.as_blob()?);
            }
            Ok(())
        };
        read().map_err(|source| StoreError::of(&self.path, source))
    }

    /// Writes a change, all of it or nothing.
    ///
    /// # Errors
    /// If it cannot be written: then nothing has changed.
    pub fn commit(&mut self, change: &Change) -> Result<(), StoreError> {
        let written = write(&mut self.connection, change);
        written.map_err(|source| StoreError::of(&self.path, source))
    }

    /// Writes a change that nobody waits for, and when the daemon was alive.
    ///
    /// # Errors
    /// If it cannot be written: then nothing has changed.
    pub fn save(&mut self, change: &Change, alive_at: i64) -> Result<(), StoreError> {
        self.commit(change)?;
        self.set(&[(ALIVE_AT, Some(alive_at.to_string()))])
    }

    /// Writes which addresses are banned.
    ///
    /// # Errors
    /// If that cannot be written: then nothing has changed.
    pub fn set_bans(&mut self, bans: &BTreeSet<IpAddr>) -> Result<(), StoreError> {
        let mut write = || {
            let transaction = self.connection.transaction()?;
            transaction.execute("DELETE FROM bans", [])?;
            {
                let mut statement = transaction.prepare("INSERT INTO bans (address) VALUES (?1)")?;
                bans.iter().try_for_each(|address| statement.execute([address.to_string()]).map(drop))?;
            }
            transaction.commit()
        };
        write().map_err(|source| StoreError::of(&self.path, source))
    }

    /// Writes settings; `None` takes one away.
    ///
    /// # Errors
    /// If they cannot be written: then none has changed.
    pub fn set<N: AsRef<str>>(&mut self, settings: &[(N, Option<String>)]) -> Result<(), StoreError> {
        let mut write = || {
            let transaction = self.connection.transaction()?;
            for (name, value) in settings {
                let name = name.as_ref();
                match value {
                    Some(value) => transaction.execute(
                        "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)",
                        [name, &**value],
                    )?,
                    None => transaction.execute("DELETE FROM settings WHERE name = ?1", [name])?,
                };
            }
            transaction.commit()
        };
        write().map_err(|source| StoreError::of(&self.path, source))
    }
}

fn write(connection: &mut Connection, change: &Change) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    rows::put(&transaction, &change.put)?;
    for (id, metainfo) in &change.metainfo {
        let sql = "INSERT OR REPLACE INTO metainfo (torrent, bytes) VALUES (?1, ?2)";
        transaction.execute(sql, rusqlite::params![id.0, metainfo.encode()])?;
    }
    if let Some(labels) = &change.labels {
        labels::put(&transaction, labels)?;
    }
    for id in &change.gone {
        transaction.execute("DELETE FROM torrents WHERE id = ?1", [id.0])?;
    }
    transaction.commit()
}

/// Makes an empty file that only its owner reads: it may hold what others should not see, such as a tracker's passkey.
fn make(path: &Path) -> Result<(), StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(path);
    made.map(drop).map_err(|source| StoreError::Io { path: path.to_owned(), what: "write to it", source })
}

/// The lock beside the database. The system frees it when the process ends.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let io = |what| {
        let path = lock_path.clone();
        move |source| StoreError::Io { path, what, source }
    };
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).open(&lock_path);
    let mut file = opened.map_err(io("open it"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = (&mut file).take(20).read_to_string(&mut text);
            return Err(StoreError::InUse { path: path.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => return Err(io("lock it")(source)),
    }
    // Only for who is refused.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

/// The version of the database that is there, without changing it.
fn look_at(path: &Path, known: usize) -> Result<usize, StoreError> {
    let error = |source| StoreError::of(path, source);
    if path.metadata().is_ok_and(|meta| meta.len() == 0) {
        return Ok(0);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(error)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(error);
    let (application, found) = (pragma("application_id")?, pragma("user_version")?);
    if application != i64::from(schema::APPLICATION_ID) {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    let version = usize::try_from(found).ok().filter(|version| *version <= known);
    let version = version.ok_or_else(|| StoreError::Newer { path: path.to_owned(), found, known })?;
    let check = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match check.map_err(error)?.as_str() {
        "ok" => Ok(version),
        what => Err(StoreError::Damaged { path: path.to_owned(), what: what.to_owned() }),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

#[cfg(test)]
mod tests;
