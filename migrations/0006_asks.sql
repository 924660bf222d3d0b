-- Who may read the store and not write it leaves requests as files in asks/. The name of the file, and the place in it: a file
-- that is read a second time, since a crash came before it was removed, is no second request.
ALTER TABLE requests ADD COLUMN token TEXT;
-- The user (uid) that such a file belonged to; null: somebody who may write the store.
ALTER TABLE requests ADD COLUMN asked_by INTEGER;

CREATE UNIQUE INDEX requests_token ON requests (token) WHERE token IS NOT NULL;
