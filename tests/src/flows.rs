//! Whole runs of the router, each written once for every log it must hold on.

mod endless_loop;
mod host_crash;
mod killed;
mod outage;
mod rate_limit;
mod replay;
mod transactions;

pub use endless_loop::endless_loop;
pub use host_crash::host_crash;
pub use killed::killed_routers_lose_nothing;
pub use outage::outage;
pub use rate_limit::rate_limit;
pub use replay::a_killed_replay_does_what_its_dry_run_tells;
pub use transactions::{
    Ledger, a_route_reads_past_what_was_aborted, a_second_writer_fences_the_first, read_to_end,
    senseless_transactions_are_refused, transactions_are_aborted_whole, transactions_are_committed_whole,
};
