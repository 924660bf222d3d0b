-- The queue and the ledger. All times are milliseconds since 1970 UTC unless a column says otherwise.

CREATE TABLE folders (
    id               INTEGER PRIMARY KEY AUTOINCREMENT, -- what jobs refer to; never used again for another path
    path             BLOB    NOT NULL UNIQUE,           -- absolute, as the kernel's bytes: what makes it the same folder
    name             TEXT    NOT NULL,                  -- as the configuration last called it, for people
    paused           INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)), -- a pause survives a restart
    paused_why       TEXT,                              -- the operator's wish, or what the service found
    first_watched_at INTEGER NOT NULL,                  -- for people
    scanned_at       INTEGER                            -- the first whole scan ended: what it met was judged by `existing`
) STRICT;

CREATE TABLE jobs (
    id               INTEGER PRIMARY KEY AUTOINCREMENT, -- the job's name everywhere; never used again
    folder           INTEGER NOT NULL REFERENCES folders (id), -- where it was found
    path             BLOB    NOT NULL,                  -- below the folder, as the kernel's bytes
    present          INTEGER NOT NULL DEFAULT 1 CHECK (present IN (0, 1)), -- this row speaks for what lies at the path now
    bytes            INTEGER NOT NULL,                  -- fingerprint: size
    mtime_ns         INTEGER NOT NULL,                  -- fingerprint: last change of content, settable by anyone
    ctime_ns         INTEGER NOT NULL,                  -- fingerprint: last change of anything, set by the kernel alone
    inode            INTEGER NOT NULL,                  -- fingerprint: bits of an unsigned number
    lane             INTEGER NOT NULL CHECK (lane IN (0, 1)), -- whether it goes through the lane of small files: they wait apart
    filename         TEXT    NOT NULL,                  -- the name that is sent
    purpose          TEXT    NOT NULL,                  -- sent; fixed when queued, so a new configuration changes no old job
    mime_type        TEXT    NOT NULL,                  -- sent
    expires_after    INTEGER,                           -- sent: seconds that the File shall live
    account          TEXT    NOT NULL,                  -- whose File it becomes: the name in the configuration
    base_url         TEXT    NOT NULL,                  -- the server of that account when it was queued: an id means nothing elsewhere
    project          TEXT,                              -- the project of that account, for people
    stage            TEXT    NOT NULL CHECK (stage IN ('queued', 'uploading', 'completing', 'stored', 'failed',
                                                       'unresolved', 'skipped', 'cancelled', 'gone')),
    bumped           INTEGER NOT NULL DEFAULT 0 CHECK (bumped IN (0, 1)), -- the operator wants it next
    due_at           INTEGER,                           -- not tried before this
    attempts         INTEGER NOT NULL DEFAULT 0,        -- failures since the last progress: sets the delay
    restarts         INTEGER NOT NULL DEFAULT 0,        -- Uploads given up: the second refusal of a whole file is final
    uploads          INTEGER NOT NULL DEFAULT 0,        -- Uploads opened: the number of the current one
    failing_since    INTEGER,                           -- when to give up is measured from here
    md5              TEXT,                              -- of the file, checked by the server at complete
    file_id          TEXT,                              -- the File
    candidates       TEXT    CHECK (candidates IS NULL OR json_valid(candidates)), -- unresolved: Files that it may be
    deduped_from     INTEGER REFERENCES jobs (id) ON DELETE SET NULL, -- the job whose File this one shares
    error_code       TEXT,                              -- why it failed or waits: the stable code
    error_message    TEXT,                              -- the same for people
    error_status     INTEGER,                           -- the HTTP status behind it
    error_request_id TEXT,                              -- what the server calls that request
    found_at         INTEGER NOT NULL,                  -- when it was queued
    stored_at        INTEGER,                           -- when its File was known to be made
    ended_at         INTEGER,                           -- when work on it ended, however: pruning goes by it
    file_expires_at  INTEGER,                           -- when the server deletes the File, by its clock
    warnings         TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(warnings)), -- list of sentences: preflight and the like
    finish_state     TEXT    NOT NULL DEFAULT 'none' CHECK (finish_state IN ('none', 'pending', 'done', 'failed')),
                                                        -- what is done to the source and told to others after the end
    finish_step      TEXT,                              -- how far that got, so that it goes on from there
    finish_error     TEXT,                              -- why it failed
    moved_to         BLOB                               -- where the source lies now, absolute
) STRICT;

-- Insert or nothing: what is known is decided here and nowhere else.
CREATE UNIQUE INDEX jobs_present ON jobs (folder, path) WHERE present = 1;
-- `show PATH` of a file that was moved or deleted since.
CREATE INDEX jobs_absent ON jobs (folder, path) WHERE present = 0;
-- A File belongs to one job; also finds a job by its File.
CREATE UNIQUE INDEX jobs_file ON jobs (file_id, account, base_url) WHERE file_id IS NOT NULL AND deduped_from IS NULL;
-- Of twins one at a time completes, or a lost answer could not be told from the other's.
CREATE UNIQUE INDEX jobs_twins ON jobs (account, base_url, purpose, filename, bytes) WHERE stage = 'completing';
-- What is next, in order; holds all that choosing and adding up need.
CREATE INDEX jobs_queue ON jobs (folder, lane, bumped DESC, id, due_at, bytes) WHERE stage = 'queued';
-- When the next one comes due.
CREATE INDEX jobs_due ON jobs (folder, lane, due_at) WHERE stage = 'queued' AND due_at IS NOT NULL;
-- What a start resumes.
CREATE INDEX jobs_open ON jobs (id) WHERE stage IN ('uploading', 'completing');
-- What a start finishes.
CREATE INDEX jobs_unfinished ON jobs (id) WHERE finish_state = 'pending';
-- Counts, and lists of a folder, newest first.
CREATE INDEX jobs_folder_stage ON jobs (folder, stage, found_at);
-- Lists, newest first.
CREATE INDEX jobs_stage ON jobs (stage, found_at);
-- What is old enough to be forgotten.
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
-- Lets a row go without a walk over all others.
CREATE INDEX jobs_deduped ON jobs (deduped_from) WHERE deduped_from IS NOT NULL;

CREATE TABLE uploads (
    job               INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number            INTEGER NOT NULL,                 -- jobs.uploads when it was opened
    upload_id         TEXT    NOT NULL,                 -- what the server calls it
    echoed_name       TEXT    NOT NULL,                 -- the name that the File will carry
    server_created_at INTEGER NOT NULL,                 -- seconds by the server's clock: bounds the search for a lost File
    boot_id           TEXT    NOT NULL,                 -- the boot in which deadline_boot means something
    deadline_boot     INTEGER,                          -- when it expires, milliseconds since that boot; null: unknown
    deadline_wall     INTEGER,                          -- the same by the calendar, for another boot and for people
    opened_at         INTEGER NOT NULL,                 -- a calendar before this has been set back
    ended_at          INTEGER,                          -- when it was given up or became a File
    end_reason        TEXT,                             -- which of the two, as a code
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE parts (
    job       INTEGER NOT NULL,
    upload    INTEGER NOT NULL,                         -- uploads.number
    idx       INTEGER NOT NULL,                         -- place in the file, from 0
    start     INTEGER NOT NULL,                         -- first byte
    length    INTEGER NOT NULL CHECK (length >= 0),     -- how many
    part_id   TEXT,                                     -- what the server calls it; null: it has it not
    digest    BLOB    CHECK (digest IS NULL OR length(digest) = 32), -- BLAKE3 of what was sent: is it still this version?
    stored_at INTEGER,                                  -- when
    PRIMARY KEY (job, upload, idx),
    FOREIGN KEY (job, upload) REFERENCES uploads (job, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,      -- the order in which things happened
    job         INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    at          INTEGER NOT NULL,                       -- when
    event       TEXT    NOT NULL,                       -- what, in the words of the log
    operation   TEXT,                                   -- the request behind it
    attempt     INTEGER,                                -- which failure in a row
    status      INTEGER,                                -- its HTTP status
    request_id  TEXT,                                   -- what to tell the server's support
    code        TEXT,                                   -- why, as a code
    message     TEXT,                                   -- why, for people
    duration_ms INTEGER,                                -- how long the request took
    bytes       INTEGER,                                -- how much it carried
    part        INTEGER                                 -- which Part
) STRICT;

CREATE INDEX history_job ON history (job);

CREATE TABLE requests (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,         -- the order in which they are taken up
    at       INTEGER NOT NULL,                          -- when it was asked
    kind     TEXT    NOT NULL,                          -- the command
    job      INTEGER,                                   -- of which job
    folder   INTEGER,                                   -- of which folder; null: of all
    argument TEXT,                                      -- what else the command needs
    taken_at INTEGER,                                   -- when the service took it up
    done     INTEGER CHECK (done IN (0, 1)),            -- whether it was done as asked; null: not taken up yet
    answer   TEXT                                       -- what came of it, for a person; null: not taken up yet
) STRICT;

CREATE INDEX requests_pending ON requests (id) WHERE answer IS NULL;

-- Counts the batches of the writer: tells after a failed COMMIT whether it was one.
CREATE TABLE batches (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    last INTEGER NOT NULL
) STRICT;

INSERT INTO batches (one, last) VALUES (1, 0);
