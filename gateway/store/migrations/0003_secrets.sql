-- Secrets of targets, sealed under data keys that the master key wraps; bytes are base64.
CREATE TABLE secret_versions (
    credential  TEXT NOT NULL,
    version     INTEGER NOT NULL,
    account     TEXT NOT NULL,             -- the user at the target
    state       TEXT NOT NULL,             -- pending, proved, current, retired, revoked
    made_by     TEXT NOT NULL,
    made_at     REAL NOT NULL,             -- seconds since the epoch
    proved_at   REAL,
    current_at  REAL,
    retired_at  REAL,
    revoked_at  REAL,
    until       REAL,                      -- the end of a retired one's grace
    master      TEXT NOT NULL,             -- id of the master key that wraps
    wrapped     TEXT NOT NULL,             -- empty once it is revoked
    sealed      TEXT NOT NULL,
    PRIMARY KEY (credential, version)
);

CREATE UNIQUE INDEX secret_versions_current ON secret_versions (credential) WHERE state = 'current';

-- One row: grows with every change, so that each node knows when to look again.
CREATE TABLE secret_changes (
    of     TEXT PRIMARY KEY,
    count  INTEGER NOT NULL
);

INSERT INTO secret_changes (of, count) VALUES ('secrets', 0);

-- Keys for what the gateway seals for itself: refresh tokens, signing keys.
CREATE TABLE sealing_keys (
    purpose  TEXT NOT NULL,
    number   INTEGER NOT NULL,
    master   TEXT NOT NULL,
    wrapped  TEXT NOT NULL,
    PRIMARY KEY (purpose, number)
);
