CREATE TABLE categories (
    name TEXT PRIMARY KEY,
    -- Bytes, since a path need not be text.
    dir BLOB,
    upload_limit INTEGER,
    download_limit INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE tags (
    name TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- By the host of a tracker.
CREATE TABLE tracker_limits (
    host TEXT PRIMARY KEY,
    upload_limit INTEGER,
    download_limit INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO categories (name) SELECT DISTINCT category FROM torrents WHERE category IS NOT NULL;
INSERT INTO tags (name) SELECT DISTINCT value FROM torrents, json_each(torrents.tags);

-- Settings are JSON from now on.
UPDATE settings SET value = '"none"' WHERE name IN ('upload_limit', 'download_limit') AND value = '';
