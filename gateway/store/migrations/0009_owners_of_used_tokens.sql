-- Whose each used token was: no agent may fill the room of all.
ALTER TABLE used_tokens ADD COLUMN owner TEXT NOT NULL DEFAULT '';

CREATE INDEX used_tokens_by_owner ON used_tokens (owner);
