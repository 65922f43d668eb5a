//! How the file of an embedded log is, for `pointsman doctor`. Nothing is made or changed by looking.

use std::fs;
use std::path::Path;

use pointsman_core::port::survey::FileSurvey;
use rusqlite::Connection;

use crate::catalog;
use crate::database::{beside, connect};
use crate::fault::Fault;
use crate::lease;
use crate::open::{FILE_NAME, OpenError, check_header, refuse};
use crate::options::Options;
use crate::owner::Owner;

/// Page cache of the connection, in KiB.
const CACHE_KIB: i64 = 1024;
/// So much of what is wrong with a damaged file is told.
const DAMAGE_MAX: i64 = 10;

/// Looks at the log in `directory`; `None` where there is none. All of the file is read, which takes as long as that takes.
///
/// # Errors
/// [`OpenError`]: another program's file, another format, a file that can't be read.
pub fn survey(directory: &Path, options: &Options) -> Result<Option<FileSurvey>, OpenError> {
    let file = directory.join(FILE_NAME);
    let is_there = file.try_exists().map_err(|cause| OpenError::Directory { path: directory.to_owned(), cause })?;
    if !is_there {
        return Ok(None);
    }
    check_header(&file)?;
    let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let bytes = length(&file) + length(&beside(&file, "-wal"));
    let look = || -> Result<FileSurvey, Fault> {
        let connection = connect(&file, options, CACHE_KIB)?;
        connection.pragma_update(None, "query_only", true)?;
        let damage = damage(&connection)?;
        // What a damaged file says of itself is not to be relied on.
        let (topics, holders) = if damage.is_empty() {
            (catalog::topics(&connection)?, lease::holders(&connection, &Owner::current(), (options.clock)())?)
        } else {
            (Vec::new(), Vec::new())
        };
        Ok(FileSurvey { file: file.clone(), bytes, damage, topics, holders })
    };
    look().map(Some).map_err(|fault| refuse(&file, fault))
}

/// What SQLite finds wrong.
fn damage(connection: &Connection) -> Result<Vec<String>, Fault> {
    let mut check = connection.prepare(&format!("PRAGMA quick_check({DAMAGE_MAX})"))?;
    let found = check.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use std::os::unix::fs::FileExt as _;
    use std::sync::Arc;

    use pointsman_core::port::{Log as _, NewTopic};

    use super::*;
    use crate::EmbeddedLog;

    #[test]
    fn a_sound_file_tells_its_topics_and_a_damaged_one_where_it_is_wrong() {
        let place = tempfile::TempDir::new().unwrap();
        let directory = place.path().join("data");
        let options = Options::default();
        assert!(survey(&directory, &options).unwrap().is_none());
        assert!(!directory.exists(), "looking makes nothing");
        let log = EmbeddedLog::open(&directory, options.clone()).unwrap();
        let topics: Vec<_> = (0..200)
            .map(|number| NewTopic { name: Arc::from(format!("topic-{number}")), partitions: 3, retention: None })
            .collect();
        log.create_topics(&topics).unwrap();
        drop(log);
        let found = survey(&directory, &options).unwrap().unwrap();
        assert_eq!((found.damage.len(), found.topics.len(), found.holders.len()), (0, 200, 0));

        let file = fs::File::options().write(true).open(&found.file).unwrap();
        // Pages of tables and indices, and not the first, which makes it a database.
        for page in 2..found.bytes / 8192 {
            file.write_all_at(&[0xff; 64], page * 8192).unwrap();
        }
        let found = survey(&directory, &options);
        assert!(found.as_ref().map_or(true, |found| !found.as_ref().unwrap().damage.is_empty()), "{found:?}");
    }
}
