//! Making the file, and making sure that it is ours before anything in it is touched.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use thiserror::Error;

use crate::database::{Database, beside};
use crate::fault::{Fault, FaultKind};
use crate::options::Options;
use crate::turnstile::Turnstile;

/// "PTSM": what SQLite's header says of a file of ours.
const APPLICATION_ID: i64 = 0x5054_534d;

/// The format in `schema.sql` and `writers.sql`.
const FORMAT: i64 = 1;

/// Fits a batch of small records, and leaves large ones few overflow pages.
const PAGE_BYTES: i64 = 8192;

pub(crate) const FILE_NAME: &str = "pointsman.db";
const LOCK_NAME: &str = "pointsman.lock";

/// Why a log was not opened. Nothing in an existing file was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory can't be made or used.
    #[error("can't use {} for the embedded log: {cause}; it must be a local directory writable for this user", path.display())]
    Directory {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
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
        move |cause| OpenError::Directory { path, cause }
    };
    make_directory(directory, &mut sync_directory).map_err(denied(directory))?;
    // One process at a time makes the log. Whoever has stopped with the lock in its hands is not waited for.
    let lock_path = directory.join(LOCK_NAME);
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let turnstile = Turnstile::new(lock.map_err(denied(&lock_path))?);
    let turn = turnstile.pass(options.busy_timeout).map_err(|fault| refuse(&lock_path, fault))?;

    let file = directory.join(FILE_NAME);
    if !file.try_exists().map_err(denied(&file))? {
        create(directory, &file)?;
    }
    check_header(&file)?;
    drop(turn);
    let database = Database::connect(&file, turnstile, options).map_err(|fault| refuse(&file, fault))?;
    database.read(check_contents).map_err(|fault| refuse(&file, fault))?;
    Ok(database)
}

/// Makes `directory` and those above it that are missing. Each is synced into the one above: the log must not be lost with
/// the directory it lies in.
fn make_directory(directory: &Path, sync: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    // The root, and the empty path, which is the working directory, are there.
    let Some(parent) = directory.parent().filter(|_| !directory.is_dir()) else { return Ok(()) };
    make_directory(parent, sync)?;
    match fs::create_dir(directory) {
        // Another process was faster.
        Err(_) if directory.is_dir() => {}
        made => made?,
    }
    sync(parent)
}

/// A name is durable once its directory is synced. Systems without directory handles sync it themselves.
fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Makes an empty log under another name first: so a file of the right name is never half made, and an empty one is a
/// damaged one.
fn create(directory: &Path, file: &Path) -> Result<(), OpenError> {
    let new = directory.join("pointsman.db.new");
    let made = |cause| OpenError::Directory { path: new.clone(), cause };
    remove(&new).map_err(made)?;
    // A write-ahead log that was left behind belongs to a file that is gone; SQLite would replay it into this one.
    for of in [&new, file] {
        for suffix in ["-wal", "-shm"] {
            remove(&beside(of, suffix)).map_err(made)?;
        }
    }
    write_schema(&new).map_err(|fault| refuse(&new, fault))?;
    fs::rename(&new, file).and_then(|()| sync_directory(directory)).map_err(made)
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn write_schema(new: &Path) -> Result<(), Fault> {
    let connection = Connection::open(new)?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    connection.execute_batch(concat!("BEGIN;", include_str!("schema.sql"), include_str!("writers.sql"), "COMMIT;"))?;
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

pub(crate) fn check_header(file: &Path) -> Result<(), OpenError> {
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

pub(crate) fn refuse(file: &Path, fault: Fault) -> OpenError {
    let (file, message) = (file.to_owned(), fault.message);
    match fault.kind {
        FaultKind::Damaged => OpenError::Damaged { file, message },
        FaultKind::Passing => OpenError::Unavailable { file, code: fault.code.into(), message },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn each_directory_that_is_made_is_synced_into_the_one_above() {
        let place = tempfile::TempDir::new().unwrap();
        let directory = place.path().join("a/b/c");
        let mut synced = Vec::new();
        for _ in 0..2 {
            make_directory(&directory, &mut |above| {
                let made = fs::read_dir(above)?.count();
                synced.push((above.to_owned(), made));
                Ok(())
            })
            .unwrap();
        }
        let expected = ["", "a", "a/b"].map(|above| (place.path().join(above), 1));
        // `join("")` ends in a slash, which `PathBuf` does not compare.
        assert_eq!(synced, expected);
        make_directory(Path::new(""), &mut |_| Err(io::ErrorKind::Other.into())).unwrap();
        sync_directory(Path::new("")).unwrap();
    }
}
