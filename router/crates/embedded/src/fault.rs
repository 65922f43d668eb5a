//! What goes wrong in the database, cut by consequence.

use std::path::Path;

use pointsman_core::port::{DeliveryError, LogError, SinkFailed};
use rusqlite::ErrorCode;
use thiserror::Error;

/// Why the database did not do as it was told. Nothing of the transaction was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} ({code})")]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) code: &'static str,
    /// Cause and remedy.
    pub(crate) message: String,
}

/// What follows from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The same may succeed later.
    Passing,
    /// The file is not what it was: nothing in it can be relied on.
    Damaged,
}

const DAMAGED: &str = "stop every process that uses the log, then restore its directory from a backup, or move it \
                       away and start with an empty one; `sqlite3 FILE .recover` may save records";

const DISK_FULL: &str = "the disk is full, or the log has reached its size limit; free space on the disk, raise the limit \
                         (`max_size`), or shorten the retention of the log's topics";

impl Fault {
    pub(crate) fn damaged(cause: impl std::fmt::Display) -> Self {
        Self {
            kind: FaultKind::Damaged,
            code: "damaged",
            message: format!("the embedded log is damaged: {cause}; {DAMAGED}"),
        }
    }

    pub(crate) fn replaced(file: &Path) -> Self {
        Self {
            kind: FaultKind::Damaged,
            code: "replaced",
            message: format!(
                "{} was deleted, moved or replaced while it was in use; put it back if you can, and start again",
                file.display()
            ),
        }
    }

    pub(crate) fn busy(cause: impl std::fmt::Display) -> Self {
        Self {
            kind: FaultKind::Passing,
            code: "busy",
            message: format!(
                "{cause}: another process is writing to the log and does not come to an end; if it is stopped or hangs, \
                 resume or end it (`fuser` on the log's files names it)"
            ),
        }
    }

    pub(crate) fn wal_full(limit: u64) -> Self {
        Self {
            kind: FaultKind::Passing,
            code: "wal-full",
            message: format!(
                "the write-ahead log is larger than {limit} bytes, because a process that uses the log does not come to \
                 an end; if it is stopped or hangs, resume or end it (`fuser` on the log's files names it)"
            ),
        }
    }

    /// Nothing went wrong, but what was written is not to stay.
    pub(crate) fn rolled_back() -> Self {
        Self { kind: FaultKind::Passing, code: "rolled-back", message: "the transaction was rolled back".into() }
    }

    pub(crate) fn to_log_error(&self, what: impl Into<String>) -> LogError {
        LogError { what: what.into(), code: self.code.into(), message: self.message.clone() }
    }

    pub(crate) fn to_delivery_error(&self) -> DeliveryError {
        DeliveryError::Unavailable { code: self.code.into(), message: self.message.clone() }
    }

    pub(crate) fn to_sink_failed(&self) -> SinkFailed {
        SinkFailed { code: self.code.into(), message: self.message.clone() }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = error.sqlite_error_code() else {
            // Everything else is a row that does not have the shape that only we write.
            return Self::damaged(error);
        };
        let passing =
            |code, remedy: &str| Self { kind: FaultKind::Passing, code, message: format!("{error}: {remedy}") };
        match code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::damaged(error),
            // The keys we write are new ones by construction.
            ErrorCode::ConstraintViolation => Self::damaged(error),
            ErrorCode::DiskFull => passing("disk-full", DISK_FULL),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::busy(error),
            ErrorCode::SystemIoFailure => passing("io", "the disk does not answer as it should; see the system's log"),
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen => {
                passing("access", "the log's directory and files must be writable for this user")
            }
            ErrorCode::OutOfMemory => passing("memory", "the process has no memory left"),
            _ => passing("sqlite", "the database refused"),
        }
    }
}
