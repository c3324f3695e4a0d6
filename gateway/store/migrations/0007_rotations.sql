-- Rotations of secrets: how far each has come; the secret itself is in secret_versions.
CREATE TABLE rotations (
    id          TEXT PRIMARY KEY,
    credential  TEXT NOT NULL,
    kind        TEXT NOT NULL,
    mode        TEXT NOT NULL,
    account     TEXT NOT NULL,
    version     INTEGER NOT NULL,
    previous    INTEGER NOT NULL,          -- 0: none
    step        TEXT NOT NULL,
    cause       TEXT NOT NULL,
    by          TEXT NOT NULL,
    begun_at    REAL NOT NULL,             -- seconds since the epoch
    step_at     REAL NOT NULL,
    attempts    INTEGER NOT NULL,
    retry_at    REAL,
    until       REAL,
    ended_at    REAL,
    outcome     TEXT NOT NULL,
    detail      TEXT NOT NULL
);

CREATE UNIQUE INDEX rotations_under_way ON rotations (credential) WHERE ended_at IS NULL;
CREATE INDEX rotations_by_credential ON rotations (credential, begun_at);

-- Who does what only one node may do at a time.
CREATE TABLE leases (
    name    TEXT PRIMARY KEY,
    holder  TEXT NOT NULL,
    until   REAL NOT NULL
);

-- When the target got a version in the place of the current one, which it does not take since.
ALTER TABLE secret_versions ADD COLUMN placed_at REAL;
