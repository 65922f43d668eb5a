//! The embedded log: topics, partitions, groups and offsets in one SQLite file, for laptops, tests, edge boxes and CI.
//!
//! [`EmbeddedLog::open`] gives a [`Log`](pointsman_core::port::Log) with the semantics of a Kafka topic and group, and
//! nothing to install. Another terminal may produce, consume and inspect while the router runs: every process that
//! has the directory open sees the same log.
//!
//! # What it promises
//! - A record that was reported as delivered, and an offset that was committed, is on disk (`synchronous = FULL`). What one
//!   call of a sink's `serve` writes is written whole or not at all.
//! - Offsets of a partition have no gaps. They start at 0, and retention moves only the first of them.
//! - Keys go to the partitions that Kafka's Java client would choose. Keys, values, header names and header values are
//!   bytes, and come back as they were: null and empty differ, headers keep their order and their duplicates.
//! - A group has one member: a lease with an epoch that every commit checks in its own transaction. A member that lost its
//!   lease commits nothing any more, and says so. A member that was killed is succeeded at once on the same Linux system
//!   and after a reboot, and when its lease has run out elsewhere (from another container of the machine, for instance).
//! - What a transactional sink has collected is written with the progress of the groups' members, under their leases, in one
//!   transaction.
//! - A full disk, or a file at its size limit, fails what is being written, loses nothing, and is over as soon as there is
//!   space. A damaged file is never written to again by whoever found it damaged.
//! - Retry topics hold what is not settled: below what the groups that read them have committed, records are removed. A
//!   group that is new to a source partition starts behind what others have parked beside it.
//! - Nothing waits for ever for a process that was stopped (Ctrl-Z). One that was stopped in its turn to write makes writing
//!   fail after `busy_timeout`, and opening too if it holds `pointsman.lock`. One that was stopped in the middle of a read,
//!   which is a page at most, keeps the write-ahead log from being moved into the file: from `max_wal_bytes` on writing
//!   fails, until that process goes on or ends. The errors say so.
//!
//! # What it is not
//! It is not replicated, and not for two machines: SQLite's locks and shared memory need a local file system. It has one
//! writer at a time, which syncs each transaction to the disk; it has no topic deletion, compaction or access control; and
//! a group's partitions are never shared between processes. Beyond that, Kafka is the engine.
//!
//! # The directory
//! | File | |
//! | --- | --- |
//! | `pointsman.db` | The database: SQLite in WAL mode, application id `PTSM`, format number in `user_version`. |
//! | `pointsman.db-wal`, `-shm` | SQLite's own, while anybody has the log open. They belong to the database: copy all of them, or none. |
//! | `pointsman.lock` | Held while a process makes the log, or waits for its turn to write. |
//!
//! `schema.sql` and `writers.sql` are the format, word by word. A record lies at `partition id << 40 | offset`, its headers in one blob
//! (`headers.rs`). Lookup by time and retention go by segments of 1024 offsets.
//!
//! # Threads
//! One for each handle, asleep unless a feed waits for what other processes write; one for each joined group. Both end with
//! what they belong to.

mod append;
mod assign;
mod catalog;
mod control;
mod database;
mod fault;
mod feed;
mod headers;
mod lease;
mod log;
mod mailbox;
mod member;
mod offsets;
mod open;
mod options;
mod owner;
mod page;
mod position;
mod queue;
mod retention;
mod sink;
mod survey;
mod together;
mod transactions;
mod turnstile;
mod watch;
mod writers;

pub use log::EmbeddedLog;
pub use open::OpenError;
pub use options::{Clock, Options};
pub use survey::survey;
