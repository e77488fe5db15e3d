-- Who works on what. A row is gone when its claim was given back.
CREATE TABLE manifestlog.claim (
    name bytea PRIMARY KEY,       -- hash of place, kind and what
    owner bytea NOT NULL,         -- a worker
    token bigint NOT NULL,        -- differs with each holder
    expires bigint NOT NULL,      -- by the server's clock, in microseconds since 1970
    presence bigint,              -- the session lock of its process; NULL where session locks tell nothing
    manifest_id integer NOT NULL,
    place bytea NOT NULL,         -- the directory, as text in UTF-8 with surrogates
    kind text NOT NULL,
    what bytea NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    since bigint NOT NULL
) WITH (fillfactor = 50);

-- The runs in a row that skipped a claimed name.
CREATE TABLE manifestlog.skip (
    place bytea NOT NULL,
    name bytea NOT NULL,
    times bytea NOT NULL,     -- JSON
    PRIMARY KEY (place, name)
);

-- For people: what the tables hold, as text and JSON.
CREATE VIEW manifestlog.records AS
    SELECT m.name AS manifest, encode(c.checksum, 'hex') AS checksum, convert_from(c.body, 'UTF8')::jsonb AS record
    FROM manifestlog.content c JOIN manifestlog.manifest m USING (manifest_id);

CREATE VIEW manifestlog.events AS
    SELECT m.name AS manifest, l.seq, to_timestamp(l.ts / 1e6) AS ts, l.kind, encode(l.checksum, 'hex') AS checksum,
           convert_from(l.body, 'UTF8')::jsonb AS record, convert_from(l.details, 'UTF8')::jsonb AS details
    FROM manifestlog.log l JOIN manifestlog.manifest m USING (manifest_id);
