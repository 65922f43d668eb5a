//! The router: what `pointsman` does, as a library for its own command line and tests.
//!
//! Start reading at [`lane`](self), which has the path of one record; `ARCHITECTURE.md` has the picture around it.

pub mod admin;
mod alone;
pub mod cli;
pub mod counters;
mod credit;
pub mod dead_letter;
mod demo;
mod dispatch;
pub mod doctor;
mod hurry;
mod intake;
mod judge;
pub mod lag;
mod lane;
pub mod lanes;
pub mod log_filter;
pub mod lookup;
pub mod offsets;
mod otlp;
mod parking;
pub mod plugin_bench;
pub mod plugin_build;
pub mod plugin_new;
pub mod plugin_test;
pub mod progress;
pub mod reading;
pub mod record_text;
pub mod retries;
mod route_test;
pub mod running;
pub mod samples;
#[cfg(test)]
mod seeds;
mod shared;
pub mod telemetry;
pub mod toolchain;
pub mod topology;
mod traces;
mod waking;
mod worker;

/// One allocator for the whole process: most of what is allocated for a record, librdkafka allocates. It takes glibc's a
/// third of all CPU time, since records are freed by other threads than allocated them. jemalloc keeps what is free apart from
/// the memory itself. One that chains free blocks through themselves waits for memory at each, once records are
/// acknowledged in another order than they were sent in, which a few dead letters are enough for.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Has this process, and those that it starts from now on, use no transparent huge pages, where the system gives them to
/// whoever does not ask. What an allocator gives back in small pieces splits them; and a new one has to be cleared whole, which
/// on a virtual machine means that its host may have to provide all of it: 5 ms of CPU for 2 MiB were seen.
///
/// Where the system knows of no such setting there is nothing to be done.
pub fn without_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "transparent huge pages can't be switched off");
    }
}
