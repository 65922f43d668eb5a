//! What the host keeps for one instance: its limits, what it has said in the current call, and its stand-ins.

use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::{LinkerInstance, WasmStr};
use wasmtime::{ResourceLimiter, StoreContextMut, UpdateDeadline};

use crate::bindings::pointsman::plugin::{host, types};
use crate::fault::{DeadlineExceeded, Panic};
use crate::said::{LINE_BYTES, Level, Said, head, is_counter_name, printable};
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

    /// CPU time since the call began, on the thread that makes it.
    pub(crate) fn took(&self) -> Duration {
        let began = self.ends.saturating_sub(self.deadline);
        thread_cpu_time().saturating_sub(began)
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

/// Provides the interface `host`.
///
/// Not by the generated trait, which would be handed a copy of each text, however long it is. Here it is looked at where it
/// lies in the guest's memory, and only what is kept of it is copied. (A text in another encoding than UTF-8, which our
/// toolchains don't use, is decoded whole; what that may take is bounded by the call's budget.)
pub(crate) fn link_host(linker: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Store<'a> = StoreContextMut<'a, Guest>;
    linker.func_wrap("log", |mut store: Store<'_>, (level, message): (host::Level, WasmStr)| {
        let line = head(&message.to_str(&store)?, LINE_BYTES).to_owned();
        store.data_mut().said.line(level.into(), &line);
        Ok(())
    })?;
    linker.func_wrap("count", |mut store: Store<'_>, (name, increment): (WasmStr, u64)| {
        let name = name.to_str(&store)?;
        if is_counter_name(&name) {
            let name = name.into_owned();
            store.data_mut().said.count(name, increment);
        } else {
            store.data_mut().said.ignore_count();
        }
        Ok(())
    })?;
    linker.func_wrap("panic", |store: Store<'_>, (event, message): (u32, WasmStr)| -> wasmtime::Result<()> {
        let message = printable(&message.to_str(&store)?, LINE_BYTES).into_owned();
        Err(Panic { event, message }.into())
    })
}

impl From<host::Level> for Level {
    fn from(level: host::Level) -> Self {
        match level {
            host::Level::Debug => Self::Debug,
            host::Level::Info => Self::Info,
            host::Level::Warn => Self::Warn,
            host::Level::Error => Self::Error,
        }
    }
}

/// What was refused to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory { limit: usize },
    Table { limit: usize },
}

/// Grants memory and tables up to the limits, and remembers a refusal.
///
/// What was granted is never taken off again, though wasmtime may fail to do it. It tells of failed growths, but of some
/// also without having asked before (past 4 GiB, where pages are small), so that a guest could have the same grant taken
/// off many times. What is left to fail is the system, which may have no memory; then the instance, while it lives, has
/// less than its limit.
pub(crate) struct Limiter {
    memory_limit: usize,
    table_limit: usize,
    /// Of all the instance's memories together.
    pub(crate) memory_bytes: usize,
    pub(crate) refused: Option<Refused>,
}

impl Limiter {
    fn new(limits: &Limits) -> Self {
        Self { memory_limit: limits.memory_bytes, table_limit: limits.table_elements, memory_bytes: 0, refused: None }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The memory's own maximum: wasmtime looks at it after us, and would refuse what we had granted.
        if let Some(limit) = maximum.filter(|maximum| desired > *maximum) {
            self.refused = Some(Refused::Memory { limit });
            return Ok(false);
        }
        match self.memory_bytes.checked_add(desired.saturating_sub(current)) {
            Some(bytes) if bytes <= self.memory_limit => {
                self.memory_bytes = bytes;
                Ok(true)
            }
            _ => {
                self.refused = Some(Refused::Memory { limit: self.memory_limit });
                Ok(false)
            }
        }
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = desired <= self.table_limit;
        if !granted {
            self.refused = Some(Refused::Table { limit: self.table_limit });
        }
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 1 << 16;

    fn limiter() -> Limiter {
        Limiter::new(&Limits {
            memory_bytes: 10 * PAGE,
            deadline: Duration::ZERO,
            output_bytes: 0,
            output_events: 0,
            table_elements: 0,
        })
    }

    #[test]
    fn memory_beyond_its_own_maximum_is_refused_and_not_charged() {
        let mut limiter = limiter();
        assert!(!limiter.memory_growing(0, 6 * PAGE, Some(5 * PAGE)).unwrap_or(true));
        assert_eq!(limiter.refused, Some(Refused::Memory { limit: 5 * PAGE }));
        assert!(limiter.memory_growing(0, 10 * PAGE, Some(10 * PAGE)).unwrap_or(false));
    }

    #[test]
    fn a_failed_growth_does_not_give_back_what_was_granted_before() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 10 * PAGE, None).unwrap_or(false));
        // As wasmtime may, without having asked.
        assert!(limiter.memory_grow_failed(wasmtime::Error::msg("it is too much")).is_ok());
        assert!(!limiter.memory_growing(0, PAGE, None).unwrap_or(true));
    }
}
