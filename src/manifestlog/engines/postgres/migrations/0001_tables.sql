-- Every table of every manifest in this database. The columns are bytes and integers: no collation, time zone or server
-- version changes their order.

CREATE TABLE manifestlog.manifest (
    manifest_id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    lanes integer NOT NULL,
    metadata bytea NOT NULL  -- JSON, without what `feed` counts
);

-- A writer locks the lanes of its sources while it decides. They hold nothing.
CREATE TABLE manifestlog.lane (
    manifest_id integer NOT NULL,
    lane integer NOT NULL,
    PRIMARY KEY (manifest_id, lane)
);

-- The end of the log. Each transaction takes its numbers here, last of all.
CREATE TABLE manifestlog.feed (
    manifest_id integer PRIMARY KEY,
    seq bigint NOT NULL,      -- number of the last event
    ts bigint NOT NULL,       -- its time, in microseconds since 1970
    records bigint NOT NULL,
    changed bigint,           -- time of the last change of records or metadata; NULL: none yet
    cut_seq bigint NOT NULL,  -- events up to this number are no longer there
    cut_ts bigint             -- time of the last of these
) WITH (fillfactor = 10);

CREATE TABLE manifestlog.content (
    manifest_id integer NOT NULL,
    checksum bytea NOT NULL,
    body bytea NOT NULL,      -- the record's JSON, byte for byte as in a canonical file
    PRIMARY KEY (manifest_id, checksum)
);

-- One row an observation, derived from the bodies.
CREATE TABLE manifestlog.sighting (
    manifest_id integer NOT NULL,
    pair bytea NOT NULL,      -- hash of source_id and dataset
    ts bigint NOT NULL,       -- when it was downloaded, in microseconds since 1970
    tie bigint NOT NULL,
    checksum bytea NOT NULL,
    source bytea NOT NULL,    -- hash of source_id
    dataset bytea NOT NULL,
    PRIMARY KEY (manifest_id, pair, ts, tie, checksum)
);
CREATE INDEX sighting_source ON manifestlog.sighting (manifest_id, source, ts);
-- An expression, so that no plan takes this index for a look-up by source: many sources may have one time.
CREATE INDEX sighting_second ON manifestlog.sighting (manifest_id, (ts / 1000000));

-- Every event, numbered without a gap. Rows are never changed.
CREATE TABLE manifestlog.log (
    manifest_id integer NOT NULL,
    seq bigint NOT NULL,
    ts bigint NOT NULL,
    kind text NOT NULL,
    checksum bytea,
    source bytea,             -- hash of source_id
    run bytea,                -- hash of the run's id
    body bytea,               -- the record after the event
    details bytea,            -- JSON
    PRIMARY KEY (manifest_id, seq)
);
CREATE INDEX log_checksum ON manifestlog.log (manifest_id, checksum, seq);
CREATE INDEX log_source ON manifestlog.log (manifest_id, source, seq);
CREATE INDEX log_run ON manifestlog.log (manifest_id, run, seq) WHERE run IS NOT NULL;
CREATE INDEX log_kind ON manifestlog.log (manifest_id, kind, seq) WHERE kind <> 'put';

-- What an event names besides its own content and source: the inputs of an output, sources that recovered.
CREATE TABLE manifestlog.mention (
    manifest_id integer NOT NULL,
    what bytea NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (manifest_id, what, seq)
);

-- The last transaction of each writer, so that it can ask after a lost connection what became of it.
CREATE TABLE manifestlog.writer (
    writer bytea PRIMARY KEY,
    manifest_id integer NOT NULL,
    op bigint NOT NULL,
    seq bigint NOT NULL,      -- number of the last event of that transaction
    flushed bigint NOT NULL,  -- events up to this number are known to be on disk
    answers bytea NOT NULL,
    ts bigint NOT NULL
) WITH (fillfactor = 25);

CREATE TABLE manifestlog.follower (
    manifest_id integer NOT NULL,
    name text NOT NULL,
    seq bigint NOT NULL,
    registration bytea NOT NULL,  -- JSON
    PRIMARY KEY (manifest_id, name)
);
