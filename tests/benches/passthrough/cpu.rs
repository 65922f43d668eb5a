//! The CPU time that another process has used.

use std::time::Duration;

/// User and system time of the process and its threads so far, ended ones included. (The files in /proc round to ten
/// milliseconds, and forget threads that have ended.)
#[cfg(target_os = "linux")]
pub(crate) fn of(pid: u32) -> anyhow::Result<Duration> {
    use anyhow::{Context as _, ensure};

    let pid = libc::pid_t::try_from(pid).context("a process id is out of range")?;
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write to the places given, and to nothing else.
    let read = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0 && libc::clock_gettime(clock, &raw mut time) == 0
    };
    ensure!(read, "the system does not tell the CPU time of process {pid}");
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// Other systems have no such clock of another process.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_pid: u32) -> anyhow::Result<Duration> {
    anyhow::bail!("this benchmark reads CPU times as Linux tells them")
}
