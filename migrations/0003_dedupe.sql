-- What was sent before and may be the same: asked once for each file of a folder with dedupe, by size and name first, the newest first.
CREATE INDEX jobs_sent ON jobs (bytes, filename, purpose, account, stored_at)
    WHERE stage = 'stored' AND deduped_from IS NULL;
