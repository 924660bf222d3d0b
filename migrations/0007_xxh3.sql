-- A Part has the digest of one algorithm: `digest` is BLAKE3, this is XXH3 with 128 bits (docs/decisions/digests.md).
ALTER TABLE parts ADD COLUMN xxh3 BLOB CHECK (xxh3 IS NULL OR length(xxh3) = 16);
