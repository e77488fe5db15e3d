-- Who works on what, where the server's session locks cannot tell.
CREATE TABLE manifestlog.claim (
    name bytea PRIMARY KEY,   -- hash of place, kind and name
    owner bytea NOT NULL,
    token bigint NOT NULL,    -- grows with each new holder
    expires bigint NOT NULL   -- by the server's clock, in microseconds since 1970
);

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
