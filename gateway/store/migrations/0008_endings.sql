-- How a grant ended before it expired: revoked, lapsed or ended; empty while it has not.
ALTER TABLE grants ADD COLUMN ended_as TEXT NOT NULL DEFAULT '';

UPDATE grants SET ended_as = CASE WHEN revoked_by = 'gateway' THEN 'lapsed' ELSE 'revoked' END
    WHERE revoked_at IS NOT NULL;
