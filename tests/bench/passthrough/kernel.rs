//! What the system tells: of another process its CPU time and its memory, and of the machine how busy it is.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pointsman_tests::wait;

/// User and system time of the process and its threads so far, ended ones included. (The files in /proc round to ten
/// milliseconds, and forget threads that have ended.)
#[cfg(target_os = "linux")]
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    use anyhow::ensure;

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
pub(crate) fn cpu(_pid: u32) -> anyhow::Result<Duration> {
    anyhow::bail!("this benchmark reads CPU times as Linux tells them")
}

/// Writes to so many bytes of memory, page by page, and gives them back. On a virtual machine a page costs a process some
/// microseconds to touch that the machine's host has not provided yet, or has taken back, and one microsecond or less
/// otherwise: which pages a process finds is chance, unless they have all been touched shortly before.
#[cfg(target_os = "linux")]
pub(crate) fn touch_memory(bytes: usize) -> anyhow::Result<()> {
    use anyhow::ensure;

    const PAGE_BYTES: usize = 4096;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, of which nobody else knows.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    ensure!(memory != libc::MAP_FAILED, "there is no memory of {bytes} bytes");
    for page in (0..bytes).step_by(PAGE_BYTES) {
        // SAFETY: within the mapping, which is writable.
        unsafe { memory.cast::<u8>().add(page).write_volatile(1) };
    }
    // SAFETY: the mapping is whole, and not used any more.
    let unmapped = unsafe { libc::munmap(memory, bytes) };
    ensure!(unmapped == 0, "memory of {bytes} bytes is not given back");
    Ok(())
}

/// Elsewhere no CPU times are read either.
#[cfg(not(target_os = "linux"))]
pub(crate) fn touch_memory(_bytes: usize) -> anyhow::Result<()> {
    Ok(())
}

/// Most bytes of memory that the process has had resident at once.
pub(crate) fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "VmHWM:")
}

/// Bytes of memory that the process has resident now.
pub(crate) fn resident_memory(pid: u32) -> anyhow::Result<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, line: &str) -> anyhow::Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("can't read {file}"))?;
    let value = status.lines().find_map(|found| found.strip_prefix(line)?.trim().strip_suffix(" kB"));
    let kibibytes: u64 = value.with_context(|| format!("{file} has no {line}"))?.trim().parse()?;
    Ok(kibibytes * 1024)
}

/// What the processors of the machine have done since it was started, in ticks of all of them together.
#[derive(Clone, Copy)]
pub(crate) struct Processors {
    idle: u64,
    all: u64,
}

impl Processors {
    /// The first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal; and two that are
    /// parts of the first two.
    pub(crate) fn now() -> anyhow::Result<Self> {
        const STAT: &str = "/proc/stat";
        let stat = fs::read_to_string(STAT).with_context(|| format!("can't read {STAT}"))?;
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
        let fields = line.with_context(|| format!("{STAT} has no line of all processors"))?.split_ascii_whitespace();
        let ticks = fields.take(8).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [_, _, _, idle, waiting, ..] = *ticks else { anyhow::bail!("{STAT} tells of too few states") };
        Ok(Self { idle: idle + waiting, all: ticks.iter().sum() })
    }

    /// Share of the time since `earlier` that they were not idle, from 0 to 1.
    pub(crate) fn busy_since(self, earlier: Self) -> f64 {
        1.0 - self.idle.saturating_sub(earlier.idle) as f64 / self.all.saturating_sub(earlier.all).max(1) as f64
    }
}

/// Waits until the processors have nothing to do: a broker still makes and deletes partitions when it has said that it has. Where
/// others keep the machine busy, it is not waited for longer than half a minute.
pub(crate) fn come_to_rest() -> anyhow::Result<()> {
    /// Processors that may be busy meanwhile.
    const QUIET: f64 = 0.2;
    const LOOK: Duration = Duration::from_millis(300);
    const MOST: Duration = Duration::from_secs(30);
    let processors = thread::available_parallelism().map_or(1, usize::from) as f64;
    let latest = Instant::now() + MOST;
    loop {
        let earlier = Processors::now()?;
        wait::pass(LOOK);
        let busy = Processors::now()?.busy_since(earlier) * processors;
        if busy < QUIET || Instant::now() > latest {
            return Ok(());
        }
    }
}
