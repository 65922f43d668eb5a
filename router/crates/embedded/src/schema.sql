-- The embedded log, format 1. All times are milliseconds since 1970-01-01 UTC.
--
-- A position is `partition id << 40 | offset`: one integer, so that the records of a partition lie side by side in the
-- table's own tree, and reading on from an offset is one descent and a walk along its leaves.

CREATE TABLE topics (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    retention_ms INTEGER                        -- null keeps records for ever
) STRICT;

CREATE TABLE partitions (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    topic        INTEGER NOT NULL REFERENCES topics (id),
    number       INTEGER NOT NULL,
    first_offset INTEGER NOT NULL DEFAULT 0,    -- of the first record that retention has left
    next_offset  INTEGER NOT NULL DEFAULT 0,    -- of the next record to be written
    UNIQUE (topic, number)
) STRICT;

CREATE TABLE records (
    position     INTEGER PRIMARY KEY,
    timestamp_ms INTEGER NOT NULL,
    key          BLOB,
    value        BLOB,
    headers      BLOB                           -- null where there are none; see headers.rs
) STRICT;

-- A segment is a run of 1024 offsets. It stands here while it has records: lookup by time and retention go by segments,
-- which costs one row in a thousand instead of an index entry for each record. Retention goes by the time of writing: a
-- record whose own timestamp is years old is not removed as soon as it is written.
CREATE TABLE segments (
    position         INTEGER PRIMARY KEY,       -- of the segment's first offset
    max_timestamp_ms INTEGER NOT NULL,
    written_ms       INTEGER NOT NULL           -- when its latest record was written
) STRICT;

CREATE TABLE consumer_groups (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    epoch      INTEGER NOT NULL,                -- grows with every new owner, and never falls
    owner      TEXT,                            -- null: nobody's; see owner.rs
    expires_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE offsets (
    group_id    INTEGER NOT NULL REFERENCES consumer_groups (id),
    partition   INTEGER NOT NULL REFERENCES partitions (id),
    next_offset INTEGER NOT NULL,
    metadata    TEXT NOT NULL,
    PRIMARY KEY (group_id, partition)
) STRICT, WITHOUT ROWID;
