-- The program that is run on completion has not had its turn.
ALTER TABLE torrents ADD COLUMN program_due INTEGER NOT NULL DEFAULT 0;
