-- Declared objects, and every change of them. No secret is kept here.
CREATE TABLE objects (
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    document    TEXT NOT NULL,             -- canonical JSON
    version     INTEGER NOT NULL,          -- counts on when an object is deleted and made again
    managed_by  TEXT NOT NULL,
    changed_by  TEXT NOT NULL,
    changed_at  REAL NOT NULL,             -- seconds since the epoch
    PRIMARY KEY (kind, name)
);

CREATE TABLE object_changes (
    sequence    INTEGER PRIMARY KEY AUTOINCREMENT,   -- the last one is the revision of the whole
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    version     INTEGER NOT NULL,
    action      TEXT NOT NULL,             -- create, update, delete
    managed_by  TEXT NOT NULL,
    changed_by  TEXT NOT NULL,
    changed_at  REAL NOT NULL
);

CREATE INDEX object_changes_by_object ON object_changes (kind, name);
