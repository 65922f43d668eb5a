//! Ctrl-C and SIGTERM, for commands that have something to finish.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};

use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, complain};

/// How often the process was asked to stop.
#[derive(Debug, Default)]
pub(crate) struct Interrupts(AtomicU32);

impl Interrupts {
    /// Counts from now on, and unparks `sleeper` each time. It holds for the rest of the process: nobody else ends it.
    ///
    /// # Errors
    /// The system gives no thread or no signals.
    pub(crate) fn listen(sleeper: Thread) -> io::Result<Arc<Self>> {
        let interrupts = Arc::new(Self::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let counted = Arc::clone(&interrupts);
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    counted.0.fetch_add(1, Ordering::Relaxed);
                    sleeper.unpark();
                }
            });
        })?;
        Ok(interrupts)
    }

    /// [`listen`](Self::listen), to unpark this thread. What is wrong is printed.
    pub(super) fn listen_here() -> Result<Arc<Self>, Exit> {
        Self::listen(thread::current()).map_err(|error| {
            complain(&format!("error: can't listen for signals: {error}"));
            Exit::NotStarted
        })
    }

    /// Asked to stop, in good order.
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Asked again: whoever asks does not want to wait any longer.
    pub(crate) fn impatient(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }

    /// As if a signal had come.
    #[cfg(test)]
    pub(crate) fn simulated(count: u32) -> Self {
        Self(AtomicU32::new(count))
    }
}
