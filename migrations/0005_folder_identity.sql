-- Which directory of which file system lay where when files were last met there: a mount point without its disk has none
-- of them, and that must not count as their deletion.
CREATE TABLE places (
    folder      INTEGER NOT NULL REFERENCES folders (id), -- in which folder
    path        BLOB    NOT NULL,                       -- below it: empty for the folder itself, else a mount in it
    file_system INTEGER NOT NULL,                       -- number of the file system's type
    fsid        INTEGER NOT NULL,                       -- which one of that type, as far as it says: bits of an unsigned number
    inode       INTEGER NOT NULL,                       -- of the directory: bits of an unsigned number
    last_job    INTEGER NOT NULL,                       -- the newest job whose file was met there: a later one may lie in a mount point
    PRIMARY KEY (folder, path)
) STRICT, WITHOUT ROWID;
