-- How far the inquiry after a lost answer to complete got: null until the repeated request was refused. «fencing» is
-- committed before cancel is sent, since a second cancel is read differently from the first.
ALTER TABLE uploads ADD COLUMN doubt TEXT CHECK (doubt IN ('fencing', 'closed', 'spent', 'unclear'));

-- Of jobs.restarts those that the server refused: the second refusal of a whole file is final, also after a crash.
ALTER TABLE jobs ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;
-- Of jobs.restarts those for which the link was too slow: after a few the job says so instead of trying for ever.
ALTER TABLE jobs ADD COLUMN expiries INTEGER NOT NULL DEFAULT 0;

-- What was learnt of a server, so that a restart does not learn it again with every file.
CREATE TABLE servers (
    base_url  TEXT    PRIMARY KEY,                      -- which
    part_cap  INTEGER NOT NULL CHECK (part_cap > 0),    -- the largest Part, in bytes, that what stands before it takes
    learnt_at INTEGER NOT NULL                          -- for people
) STRICT, WITHOUT ROWID;
