-- Files in its way may be replaced: they are its own, of another program, and not complete.
ALTER TABLE torrents ADD COLUMN overwrite INTEGER NOT NULL DEFAULT 0;
-- Another torrent writes where it wants to.
ALTER TABLE torrents ADD COLUMN waits_for_path INTEGER NOT NULL DEFAULT 0;
