-- Writers of transactions: of all with one id, the one with the last epoch can commit. (Format 1 began without them.)
CREATE TABLE IF NOT EXISTS writers (
    id    TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL                      -- grows with every new writer, and never falls
) STRICT, WITHOUT ROWID;
