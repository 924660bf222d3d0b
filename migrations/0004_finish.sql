-- How often the step named in finish_step has failed: it is tried five times.
ALTER TABLE jobs ADD COLUMN finish_tries INTEGER NOT NULL DEFAULT 0;
-- It is not tried before this; 0: at once.
ALTER TABLE jobs ADD COLUMN finish_due INTEGER NOT NULL DEFAULT 0;
-- The first step that was given up: the others are done all the same, and then the end has failed.
ALTER TABLE jobs ADD COLUMN finish_failed TEXT;

-- By step, since hooks have slots of their own: what is due of each, oldest first.
DROP INDEX jobs_unfinished;
CREATE INDEX jobs_unfinished ON jobs (finish_step, finish_due, id) WHERE finish_state = 'pending';
-- What `retry --failed` does again.
CREATE INDEX jobs_finish_failed ON jobs (id) WHERE finish_state = 'failed';
