//! What the host keeps for one instance: its limits, what it has said in the current call, and its stand-ins.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::bindings::pointsman::plugin::{host, types};
use crate::fault::DeadlineExceeded;
use crate::said::{Level, Said};
use crate::spec::{Grants, Limits};
use crate::stand_in::StandIns;

/// Handles that a guest may hold at once. Ours has none; the stand-ins of WASI have a few streams.
pub(crate) const HANDLES: usize = 1024;

/// The data of one store.
pub(crate) struct Guest {
    pub(crate) limiter: Limiter,
    pub(crate) said: Said,
    pub(crate) stand_ins: StandIns,
    deadline: Duration,
    /// CPU time of the calling thread at which the call is over.
    ends: Duration,
}

impl Guest {
    pub(crate) fn new(limits: &Limits, grants: Arc<Grants>, stream: [u8; 32]) -> Self {
        Self {
            limiter: Limiter::new(limits),
            said: Said::default(),
            stand_ins: StandIns::new(grants, stream),
            deadline: limits.deadline,
            ends: Duration::ZERO,
        }
    }

    /// Before each call, on the thread that makes it.
    pub(crate) fn begin(&mut self, now_ms: i64) {
        self.ends = thread_cpu_time().saturating_add(self.deadline);
        self.limiter.refused = None;
        self.said.clear();
        self.stand_ins.set_time(now_ms);
    }

    /// At each tick of the epoch while the guest runs.
    pub(crate) fn tick(&self) -> wasmtime::Result<UpdateDeadline> {
        if thread_cpu_time() >= self.ends {
            return Err(DeadlineExceeded(self.deadline).into());
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

/// CPU time that this thread has used.
fn thread_cpu_time() -> Duration {
    // Neither can be negative for a clock that counts from 0.
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl types::Host for Guest {}

impl host::Host for Guest {
    fn log(&mut self, level: host::Level, message: String) {
        let level = match level {
            host::Level::Debug => Level::Debug,
            host::Level::Info => Level::Info,
            host::Level::Warn => Level::Warn,
            host::Level::Error => Level::Error,
        };
        self.said.line(level, &message);
    }

    fn count(&mut self, name: String, increment: u64) {
        self.said.count(name, increment);
    }
}

/// What was refused to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory { limit: usize },
    Table { limit: usize },
}

/// Grants memory and tables up to the limits, and remembers a refusal.
pub(crate) struct Limiter {
    memory_limit: usize,
    table_limit: usize,
    /// Of all the instance's memories together.
    memory_bytes: usize,
    /// What the last growth added, in case wasmtime can't do it.
    granted: usize,
    pub(crate) refused: Option<Refused>,
}

impl Limiter {
    fn new(limits: &Limits) -> Self {
        Self {
            memory_limit: limits.memory_bytes,
            table_limit: limits.table_elements,
            memory_bytes: 0,
            granted: 0,
            refused: None,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.granted = 0;
        let more = desired.saturating_sub(current);
        match self.memory_bytes.checked_add(more) {
            Some(bytes) if bytes <= self.memory_limit => {
                self.memory_bytes = bytes;
                self.granted = more;
                Ok(true)
            }
            _ => {
                self.refused = Some(Refused::Memory { limit: self.memory_limit });
                Ok(false)
            }
        }
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes -= self.granted;
        self.granted = 0;
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = desired <= self.table_limit;
        if !granted {
            self.refused = Some(Refused::Table { limit: self.table_limit });
        }
        Ok(granted)
    }
}
