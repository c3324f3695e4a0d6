-- People's logins under way, assertions that were seen, and logins to be confirmed again.
CREATE TABLE logins (
    id                TEXT PRIMARY KEY,
    kind              TEXT NOT NULL,
    phase             TEXT NOT NULL,
    document          TEXT NOT NULL,        -- JSON
    expires_at        REAL NOT NULL,        -- seconds since the epoch
    client            TEXT NOT NULL,        -- network address that began it
    ticket_sha256     TEXT UNIQUE,          -- of the browser's cookie
    outside_sha256    TEXT UNIQUE,          -- of `state`, or of a SAML request's id
    code_sha256       TEXT UNIQUE,          -- of what the command redeems
    user_code_sha256  TEXT UNIQUE           -- of what the person types
);

CREATE INDEX logins_by_expiry ON logins (expires_at);
CREATE INDEX logins_by_client ON logins (client);

CREATE TABLE assertions_seen (
    issuer            TEXT NOT NULL,
    assertion_sha256  TEXT NOT NULL,
    good_until        REAL NOT NULL,
    PRIMARY KEY (issuer, assertion_sha256)
);

CREATE TABLE refreshes (
    grant_id       TEXT PRIMARY KEY REFERENCES grants (id) ON DELETE CASCADE,
    issuer         TEXT NOT NULL,           -- the issuer object's name
    sealed         TEXT NOT NULL,           -- base64 of the refresh token, sealed by the vault
    next_at        REAL NOT NULL,
    claimed_until  REAL NOT NULL,           -- one node asks at a time
    good_until     REAL NOT NULL            -- not confirmed by then: suspended
);

CREATE INDEX refreshes_by_next ON refreshes (next_at);
CREATE INDEX refreshes_by_good_until ON refreshes (good_until);
