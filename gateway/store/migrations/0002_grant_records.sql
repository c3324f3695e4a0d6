-- Where the mint of each grant is recorded, and single-use tokens that were used.
ALTER TABLE grants ADD COLUMN minted_in TEXT NOT NULL DEFAULT '';   -- NODE/LOG/RECORD

CREATE TABLE used_tokens (
    id     TEXT PRIMARY KEY,                -- a digest, never a token
    until  REAL NOT NULL                    -- seconds since the epoch: it could be shown again till then
);

CREATE INDEX used_tokens_by_end ON used_tokens (until);
