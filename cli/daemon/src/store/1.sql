CREATE TABLE torrents (
    -- AUTOINCREMENT: a number is never given twice.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    info_hash_v1 BLOB,
    info_hash_v2 BLOB,
    name TEXT NOT NULL,
    -- As long as the metadata is not here.
    link TEXT,
    -- Bytes, since a path need not be text.
    dir BLOB NOT NULL,
    added_at INTEGER NOT NULL,
    completed_at INTEGER,
    stopped_by TEXT,
    -- 'keep' or 'delete': it is being removed.
    removing TEXT,
    paused INTEGER NOT NULL,
    forced INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    sequential INTEGER NOT NULL,
    recheck INTEGER NOT NULL,
    priorities BLOB,
    upload_limit INTEGER,
    download_limit INTEGER,
    -- NULL: as configured; below zero: none.
    ratio_limit REAL,
    seed_time_limit INTEGER,
    -- JSON lists.
    trackers TEXT NOT NULL,
    web_seeds TEXT NOT NULL,
    peers TEXT NOT NULL,
    tags TEXT NOT NULL,
    category TEXT,
    position INTEGER NOT NULL,
    bytes_down INTEGER NOT NULL,
    bytes_up INTEGER NOT NULL,
    seconds_active INTEGER NOT NULL,
    seconds_seeding INTEGER NOT NULL,
    -- When it was started, or counted last, while it runs.
    running_since INTEGER,
    bytes_total INTEGER NOT NULL,
    bytes_verified INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    pieces_have INTEGER NOT NULL
) STRICT;

-- Apart, so that what changes often is not in one row with it.
CREATE TABLE metainfo (
    torrent INTEGER PRIMARY KEY REFERENCES torrents ON DELETE CASCADE,
    bytes BLOB NOT NULL
) STRICT;

-- What users set of the daemon itself, by name.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
