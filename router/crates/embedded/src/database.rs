//! The connections to the file.
//!
//! SQLite takes one writer at a time, whoever it is: so there is one connection for writing, shared under a lock, where
//! this process's writers wait for each other without polling. They take turns, among themselves as with other
//! processes: a sink that writes without a pause keeps no commit waiting for longer than one write. Readers do not wait in WAL mode; a read takes a connection
//! for one short transaction and gives it back, so there are as many as threads that read at the same moment, and not one
//! for each of 512 lanes.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::fault::{Fault, FaultKind};
use crate::options::Options;
use crate::turnstile::{Turnstile, patience};

/// Connections that are kept while nobody reads.
const IDLE_READERS: usize = 8;

/// Page cache of one reading connection, and of the writing one, in KiB.
const READER_CACHE_KIB: i64 = 1024;
const WRITER_CACHE_KIB: i64 = 16 * 1024;

/// The write-ahead log is moved into the file beyond this many pages, by the writer that passes it.
const CHECKPOINT_PAGES: i64 = 4000;

/// A write-ahead log that grew beyond this (behind a slow reader) is cut back afterwards, in bytes.
const WAL_KEPT_BYTES: i64 = 64 << 20;

/// The open file.
pub(crate) struct Database {
    file: PathBuf,
    /// Which file that was when it was opened.
    identity: Option<Identity>,
    options: Options,
    /// Taken first, and held until the writer is ours.
    turnstile: Mutex<Turnstile>,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    /// The first damage that anybody found here. Nothing was written since.
    damage: OnceLock<Fault>,
}

impl Database {
    /// Connects to a file that exists and is ours.
    pub(crate) fn connect(file: &Path, turnstile: Turnstile, options: Options) -> Result<Self, Fault> {
        let writer = connect(file, &options, WRITER_CACHE_KIB)?;
        let page_bytes: i64 = writer.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(options.max_file_bytes).unwrap_or(i64::MAX) / page_bytes.max(1);
        // SQLite caps it at its own limit, and never makes it smaller than the file is.
        writer.pragma_update_and_check(None, "max_page_count", pages.max(1), |row| row.get::<_, i64>(0))?;
        writer.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |row| row.get::<_, i64>(0))?;
        let kept = WAL_KEPT_BYTES.min(i64::try_from(options.max_wal_bytes).unwrap_or(i64::MAX));
        writer.pragma_update_and_check(None, "journal_size_limit", kept, |row| row.get::<_, i64>(0))?;
        Ok(Self {
            file: file.into(),
            identity: identity(file),
            options,
            turnstile: Mutex::new(turnstile),
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            damage: OnceLock::new(),
        })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn now_ms(&self) -> i64 {
        (self.options.clock)()
    }

    /// The damage that was found, as an error, whoever found it.
    pub(crate) fn intact(&self) -> Result<(), Fault> {
        self.damage.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// SQLite goes on with a file that has lost its name, and whatever is written there is lost with it.
    fn in_place(&self) -> Result<(), Fault> {
        if identity(&self.file) == self.identity { Ok(()) } else { Err(Fault::replaced(&self.file)) }
    }

    fn noting<T>(&self, answer: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(fault) = &answer
            && fault.kind == FaultKind::Damaged
        {
            self.damage.get_or_init(|| fault.clone());
        }
        answer
    }

    /// Runs `work` on one snapshot of the file.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        self.noting(self.read_snapshot(work))
    }

    fn read_snapshot<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let pooled = lock(&self.readers).pop();
        let mut connection = match pooled {
            Some(connection) => connection,
            None => {
                let connection = connect(&self.file, &self.options, READER_CACHE_KIB)?;
                connection.pragma_update(None, "query_only", true)?;
                connection
            }
        };
        let snapshot = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let answer = work(&snapshot)?;
        snapshot.rollback()?;
        // A connection that failed is not given back: the next read makes a new one.
        let mut idle = lock(&self.readers);
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
        Ok(answer)
    }

    /// Runs `work` in one write transaction, which is on disk when this returns `Ok`, and gone otherwise. A file that was
    /// found damaged is not written to.
    pub(crate) fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        self.noting(self.write_transaction(work))
    }

    fn write_transaction<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        let turnstile = lock(&self.turnstile);
        let mut writer = lock(&self.writer);
        let turn = turnstile.pass(self.options.busy_timeout)?;
        self.intact()?;
        self.in_place()?;
        self.bound_wal(&writer)?;
        // Immediate: a transaction that read before it wrote could fail for what another process wrote in between.
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        drop(turn);
        drop(turnstile);
        let answer = work(&transaction)?;
        transaction.commit()?;
        Ok(answer)
    }

    /// Refuses to write while the write-ahead log is at its limit and can't be moved into the file: a process that was
    /// stopped in the middle of a read, or of moving it, keeps it from that, and it would fill the disk.
    fn bound_wal(&self, writer: &Connection) -> Result<(), Fault> {
        let limit = self.options.max_wal_bytes;
        if fs::metadata(beside(&self.file, "-wal")).map_or(0, |wal| wal.len()) <= limit {
            return Ok(());
        }
        // Passive: it waits for nobody. What is all in the file is overwritten by the next transaction.
        let (busy, pages, moved): (bool, i64, i64) = writer
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if !busy && pages == moved { Ok(()) } else { Err(Fault::wal_full(limit)) }
    }

    /// A number that changes when another process, or another handle, has committed something.
    pub(crate) fn foreign_version(&self) -> Result<i64, Fault> {
        self.noting(self.data_version())
    }

    fn data_version(&self) -> Result<i64, Fault> {
        // The counter is one connection's view of all others; from the only one that writes here, those are foreign.
        let turnstile = lock(&self.turnstile);
        let writer = lock(&self.writer);
        drop(turnstile);
        Ok(writer.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
    }
}

/// A connection to a file that exists and is ours.
pub(crate) fn connect(file: &Path, options: &Options, cache_kib: i64) -> Result<Connection, Fault> {
    // Without SQLITE_OPEN_CREATE: a file that is gone must not become an empty one. Without its mutex: a connection is
    // never used by two threads at a time.
    let mut connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let timeout = options.busy_timeout;
    let mut wait = patience(timeout);
    connection.busy_handler(Some(move |tries: i32| {
        // Numbered from 0 for each lock that is waited for.
        if tries == 0 {
            wait = patience(timeout);
        }
        wait()
    }))?;
    // Every commit is synced: what was reported as delivered survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Negative: in KiB.
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Device and number of a file.
type Identity = (u64, u64);

/// Which file has this name; `None` where there is none, or the system does not tell.
fn identity(file: &Path) -> Option<Identity> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        None
    }
}

/// The name of one of SQLite's own files beside `file`.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

/// A thread that panicked left no half-done work: its transaction was rolled back as it unwound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
