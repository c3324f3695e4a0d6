-- Grants and their revocations. No secret is kept: only the SHA-256 of a token.
CREATE TABLE grants (
    id            TEXT PRIMARY KEY,
    parent        TEXT REFERENCES grants (id),
    root          TEXT NOT NULL,
    token_sha256  TEXT UNIQUE,             -- of the gateway's own handle
    login_sha256  TEXT UNIQUE,             -- of the outside token that made a root grant
    issuer        TEXT NOT NULL,           -- (issuer, subject) is the origin's identity
    subject       TEXT NOT NULL,
    name          TEXT NOT NULL,
    kind          TEXT NOT NULL,
    groups        TEXT NOT NULL,           -- JSON from here on
    chain         TEXT NOT NULL,
    narrowing     TEXT NOT NULL,
    actor_groups  TEXT NOT NULL,
    login         TEXT NOT NULL,
    issued_at     REAL NOT NULL,           -- seconds since the epoch
    expires_at    REAL NOT NULL,
    lease_until   REAL,
    revoked_at    REAL,
    revoked_by    TEXT NOT NULL DEFAULT ''
);

CREATE INDEX grants_by_parent ON grants (parent);
CREATE INDEX grants_by_origin ON grants (issuer, subject);
CREATE INDEX grants_by_expiry ON grants (expires_at);
CREATE INDEX grants_by_lease ON grants (lease_until) WHERE lease_until IS NOT NULL AND revoked_at IS NULL;

CREATE TABLE revocations (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    grant_id  TEXT NOT NULL,
    at        REAL NOT NULL,
    by        TEXT NOT NULL,
    cause     TEXT NOT NULL
);
