-- Sessions that are open on the nodes of one database, and which of them are asked to end.
CREATE TABLE nodes (
    node     TEXT PRIMARY KEY,
    seen_at  REAL NOT NULL                  -- seconds since the epoch
);

CREATE TABLE open_sessions (
    id        TEXT PRIMARY KEY,
    node      TEXT NOT NULL,
    document  TEXT NOT NULL,                -- JSON, as `sessions list` prints it
    ending    TEXT                          -- why it is to end, once somebody asked
);

CREATE INDEX open_sessions_by_node ON open_sessions (node);
