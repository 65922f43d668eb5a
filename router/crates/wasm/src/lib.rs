//! The sandbox: runs plugins as WebAssembly components, within limits. The only crate that knows wasmtime and the types of
//! the WIT package.
//!
//! ```text
//! SandboxSettings ─→ Sandbox ──load(PluginSpec)──→ LoadedPlugin ─→ Plugins ──worker()──→ WorkerPlugins ──call──→ verdicts
//!                      engine    read, pin, compile    linked and     shared      one for each       on the worker's
//!                      + ticks   or cache, link, try   configured                 worker thread      own thread
//! ```
//!
//! **The guest is hostile.** Every resource has a limit, and each is enforced where it can't be argued with:
//!
//! | What | By |
//! | --- | --- |
//! | CPU time of a call | epochs: compiled code looks at a counter, a tick compares the *thread's* CPU time with the deadline; an event alone has a second try. Making an instance has one deadline too, and a second try if it passes |
//! | memory, tables | a limiter that counts all memories of an instance together; the pool's slots behind it |
//! | recursion | wasmtime's own stack limit, [`STACK_BYTES`] |
//! | what the host holds of an answer | a budget that wasmtime charges for each list *before* it copies it, so that naming the same bytes ten thousand times does not help; then an exact count |
//! | texts that are kept with a record | the heads of reasons are kept, and no more; a long name of a port is refused |
//! | log lines, counters | kept in bounded buffers until the call has returned cleanly; then lines pass at a bounded rate |
//! | what a component becomes when it is compiled | nested components are counted before anything copies them |
//! | time spent waiting | there is nothing to wait for: no host function blocks |
//! | clock, randomness, environment, files, network | not there: stand-ins or functions that trap, made for what the component imports |
//!
//! **A call is clean or it never was.** After a trap, a broken limit or a malformed answer the instance is thrown away with
//! all that it said (I6); the next call makes a new one, which takes microseconds. Which record is to blame is the lane's
//! question, not ours: [`CallError::Guest`](pointsman_core::port::CallError::Guest) speaks of the batch.
//!
//! **One instance serves a worker**: all the routes and partitions that use the plugin there, one call at a time. So what a
//! plugin remembers of one route may show in another; routes whose data must not meet need plugins of their own, which may
//! be the same file under two names.
//!
//! **What is not bounded is compiling.** A component costs as much time, and memory, as its author wants: minutes, from a
//! file within the limit. Only [`Sandbox::load`] and [`Sandbox::inspect`] compile, and never for a file that is in the
//! cache; who loads a plugin trusts its author that far.
//!
//! **Threads.** A [`WorkerPlugins`] belongs to one thread, blocks it only to compute, and needs no async runtime. The one
//! thread that this crate starts ticks, and ends with the last user of its engine.
//!
//! Beside it stands [`componentize`], with which compilers of C, Go and their like make components.
//!
//! What it does not do: run compilers, watch their files, decide what becomes of a failed record.

mod bindings;
mod cache;
mod componentize;
mod crossing;
mod digest;
mod door;
mod empty;
mod engine;
mod fault;
mod guest;
mod inspect;
mod load;
mod log_rate;
mod nesting;
mod said;
mod spec;
mod stand_in;
mod usage;
mod worker;

pub use componentize::{ComponentizeError, componentize};
pub use crossing::HEADER_BYTES;
pub use digest::Digest;
pub use engine::{STACK_BYTES, Sandbox, SandboxError, SandboxSettings, TICK};
pub use fault::Fault;
pub use inspect::Inspection;
pub use load::{COMPONENT_MAX_BYTES, LoadError, LoadErrorReason, LoadedPlugin};
pub use spec::{Limits, PluginSpec};
pub use stand_in::Provision;
pub use usage::Usage;
pub use worker::{Plugins, WorkerPlugins};
