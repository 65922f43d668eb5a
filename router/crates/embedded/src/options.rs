//! What an opened log is told.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Limits and times of an opened log. All of them hold for this handle only; none is written to the file.
#[derive(Clone)]
pub struct Options {
    /// Largest record (key, value and headers) that a sink takes, in bytes; a larger one is refused. 1 MiB, which is
    /// what a Kafka broker takes, unless set otherwise.
    pub max_record_bytes: usize,
    /// Bytes that one sink holds before it says that it is full; one record is always taken. 16 MiB.
    pub sink_queue_bytes: usize,
    /// Largest size of the database file, in bytes: beyond it, writing fails as it does on a full disk, until retention
    /// has made room. The write-ahead log beside the file is not counted. 16 GiB.
    pub max_file_bytes: u64,
    /// Size of the write-ahead log, in bytes, from which on writing fails while a reader that does not come to an end keeps
    /// it from being moved into the file. 1 GiB.
    pub max_wal_bytes: u64,
    /// How long a group is its member's without a sign of life. A member renews its lease in a third of that. Processes
    /// that join the same group are to agree on it. 10 s.
    pub lease: Duration,
    /// How long a write waits for another process that is writing. 5 s.
    pub busy_timeout: Duration,
    /// How often the log looks for what other processes have written, while anybody waits for it. 25 ms.
    pub poll_interval: Duration,
    /// The wall clock: milliseconds since 1970-01-01 UTC. Leases, retention and times of writing go by it.
    pub clock: Clock,
}

/// Tells the time in milliseconds since 1970-01-01 UTC.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

impl Default for Options {
    fn default() -> Self {
        Self {
            max_record_bytes: 1 << 20,
            sink_queue_bytes: 16 << 20,
            max_file_bytes: 16 << 30,
            max_wal_bytes: 1 << 30,
            lease: Duration::from_secs(10),
            busy_timeout: Duration::from_secs(5),
            poll_interval: Duration::from_millis(25),
            clock: Arc::new(wall_clock),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("max_record_bytes", &self.max_record_bytes)
            .field("sink_queue_bytes", &self.sink_queue_bytes)
            .field("max_file_bytes", &self.max_file_bytes)
            .field("max_wal_bytes", &self.max_wal_bytes)
            .field("lease", &self.lease)
            .field("busy_timeout", &self.busy_timeout)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}

/// A clock before 1970 counts as 1970: the log has no use for negative times.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    millis(since)
}

/// A duration in milliseconds, capped where it does not fit.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
