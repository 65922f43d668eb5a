//! Making the file, and making sure that it is ours before anything in it is touched.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

use crate::database::Database;
use crate::fault::{Fault, FaultKind};
use crate::options::Options;
use crate::turnstile::Turnstile;

/// "PTSM": what SQLite's header says of a file of ours.
const APPLICATION_ID: i64 = 0x5054_534d;

/// The format in `schema.sql`.
const FORMAT: i64 = 1;

/// Fits a batch of small records, and leaves large ones few overflow pages.
const PAGE_BYTES: i64 = 8192;

const FILE_NAME: &str = "pointsman.db";
const LOCK_NAME: &str = "pointsman.lock";

/// Why a log was not opened. Nothing in an existing file was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory can't be made or used.
    #[error("can't use {} for the embedded log: {source}; it must be a local directory writable for this user", path.display())]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file belongs to another program.
    #[error("{} is a database of another program (application id {application_id:#x}); name another directory", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What its header says.
        application_id: i64,
    },
    /// The file has a format that this version does not know.
    #[error("{} has format {found}, and this version of pointsman knows format {FORMAT} only; use the version that wrote it", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: i64,
    },
    /// The file is torn, or no database at all.
    #[error("can't open {}: {message}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Cause and remedy.
        message: String,
    },
    /// The database can't be used now.
    #[error("can't open {}: {message} ({code})", file.display())]
    Unavailable {
        /// The file.
        file: PathBuf,
        /// A short word.
        code: String,
        /// Cause and remedy.
        message: String,
    },
}

/// Opens the log in `directory`, and makes directory and log where there are none.
pub(crate) fn open(directory: &Path, options: Options) -> Result<Database, OpenError> {
    let denied = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Directory { path, source }
    };
    fs::create_dir_all(directory).map_err(denied(directory))?;
    // One process at a time makes the log.
    let lock_path = directory.join(LOCK_NAME);
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(denied(&lock_path))?;
    lock.lock().map_err(denied(&lock_path))?;

    let file = directory.join(FILE_NAME);
    if !file.try_exists().map_err(denied(&file))? {
        create(directory, &file)?;
    }
    check_header(&file)?;
    lock.unlock().map_err(denied(&lock_path))?;
    let database = Database::connect(&file, Turnstile::new(lock), options).map_err(|fault| refuse(&file, fault))?;
    database.read(check_contents).map_err(|fault| refuse(&file, fault))?;
    Ok(database)
}

/// Makes an empty log under another name first: so a file of the right name is never half made, and an empty one is a
/// damaged one.
fn create(directory: &Path, file: &Path) -> Result<(), OpenError> {
    let new = directory.join("pointsman.db.new");
    let made = |source| OpenError::Directory { path: new.clone(), source };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(made(error)),
        _ => {}
    }
    write_schema(&new).map_err(|fault| refuse(&new, fault))?;
    fs::rename(&new, file).map_err(made)?;
    // The name is durable once its directory is synced. Systems without directory handles sync it themselves.
    if cfg!(unix) {
        File::open(directory).and_then(|handle| handle.sync_all()).map_err(made)?;
    }
    Ok(())
}

fn write_schema(new: &Path) -> Result<(), Fault> {
    let connection = Connection::open(new)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    connection.execute_batch(concat!("BEGIN;", include_str!("schema.sql"), "COMMIT;"))?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault {
            kind: FaultKind::Passing,
            code: "no-wal",
            message: "the file system can't hold a write-ahead log; use a local disk".into(),
        });
    }
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn check_header(file: &Path) -> Result<(), OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let header = Connection::open_with_flags(file, flags).and_then(|connection| {
        let application_id = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let format = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((application_id, format, tables))
    });
    match header.map_err(|error| refuse(file, error.into()))? {
        (APPLICATION_ID, FORMAT, _) => Ok(()),
        (APPLICATION_ID, found, _) => Err(OpenError::Format { file: file.into(), found }),
        (0, 0, 0) => Err(refuse(file, Fault::damaged("the file is empty"))),
        (application_id, ..) => Err(OpenError::Foreign { file: file.into(), application_id }),
    }
}

/// Looks at the first and the last record of each partition: cheap, and finds a file that was cut off or mixed up.
fn check_contents(snapshot: &Connection) -> Result<(), Fault> {
    let torn: i64 = snapshot.query_row(
        "SELECT count(*) FROM partitions p WHERE p.next_offset > p.first_offset AND NOT (
             EXISTS (SELECT 1 FROM records WHERE position = (p.id << 40) + p.first_offset)
             AND EXISTS (SELECT 1 FROM records WHERE position = (p.id << 40) + p.next_offset - 1))",
        [],
        |row| row.get(0),
    )?;
    if torn == 0 { Ok(()) } else { Err(Fault::damaged(format_args!("{torn} partitions lack records"))) }
}

fn refuse(file: &Path, fault: Fault) -> OpenError {
    let (file, message) = (file.to_owned(), fault.message);
    match fault.kind {
        FaultKind::Damaged => OpenError::Damaged { file, message },
        FaultKind::Passing => OpenError::Unavailable { file, code: fault.code.into(), message },
    }
}
