-- What users call it; NULL: by its own name.
ALTER TABLE torrents ADD COLUMN shown_name TEXT;
ALTER TABLE torrents ADD COLUMN first_last INTEGER NOT NULL DEFAULT 0;
-- JSON: all trackers in tiers, and all web seeds, once users have done more than to add some.
ALTER TABLE torrents ADD COLUMN tiers TEXT;
ALTER TABLE torrents ADD COLUMN all_web_seeds TEXT;
-- JSON: other names of its files on disk.
ALTER TABLE torrents ADD COLUMN layout TEXT;
-- Where its files are being moved to, and their names there.
ALTER TABLE torrents ADD COLUMN moving_dir BLOB;
ALTER TABLE torrents ADD COLUMN moving_layout TEXT;
-- What its streams are asked for by.
ALTER TABLE torrents ADD COLUMN stream_token TEXT;

-- Addresses that nothing is exchanged with.
CREATE TABLE bans (
    address TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
