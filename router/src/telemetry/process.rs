//! What the system tells of this process. Where it tells nothing (`/proc` is Linux'), nothing is told.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time that the process has used.
pub(super) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Memory that it has.
pub(super) fn resident_bytes() -> Option<u64> {
    // Sizes in pages: of all of it, and of what is in memory.
    let sizes = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = sizes.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Files and connections that it has open.
pub(super) fn open_files() -> Option<u64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}
