//! Child processes that end with the test process, however it ends.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{self, Pid, Signal};

use crate::wait;

/// A command to start, and where the answer goes.
type Order = (Command, Sender<io::Result<Child>>);

/// A child process. It is killed when this is dropped, and by the kernel when the test process dies.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
}

impl Guarded {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(mut command: Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        die_with_parent(&mut command);
        let (answer, answers) = mpsc::channel();
        nursery().send((command, answer)).context("the thread that starts child processes has ended")?;
        let child = answers.recv().context("the thread that starts child processes has ended")?;
        Ok(Self { child: child.with_context(|| format!("can't start {program}"))? })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process id is out of range")?;
        // The child is reaped by `self.child` only, so the id can't belong to another process yet.
        process::kill_process(pid, signal).with_context(|| format!("can't send {signal:?} to process {pid:?}"))
    }

    /// How it ended; `None` while it runs.
    ///
    /// # Errors
    /// When the kernel can't tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("can't tell whether a child process runs")
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("process {} to end", self.id());
        wait::until_ok(&what, deadline, || self.ended())
    }

    /// Kills it at once, and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill().context("can't kill a child process")?;
        self.child.wait().context("can't wait for a killed child process")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// Has the kernel kill the child when its parent dies.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = process::getpid();
    let prepare = move || {
        process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the request: the child then has another one already.
        if process::getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
    };
    // SAFETY: between fork and exec the closure makes system calls only, and allocates nothing.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Only Linux can do that; elsewhere a killed test leaves its children behind.
#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}

/// The thread that starts children. For the kernel the parent is the *thread* that forked, and the threads that run
/// tests end long before the test process does: so one thread that never ends starts them all.
fn nursery() -> &'static Sender<Order> {
    static NURSERY: OnceLock<Sender<Order>> = OnceLock::new();
    NURSERY.get_or_init(|| {
        let (orders, incoming) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in incoming {
                // The asker waits for the answer, so it is there to take it.
                drop(answer.send(command.spawn()));
            }
        });
        orders
    })
}
