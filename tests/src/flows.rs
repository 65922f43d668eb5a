//! Whole runs of the router, each written once for every log it must hold on.

mod admin;
mod deleted;
mod endless_loop;
mod exactly_once;
mod faults;
mod held_key;
mod host_crash;
mod killed;
mod lag;
mod lanes;
mod late_commit;
mod metrics;
mod operated;
mod ordered;
mod outage;
mod pair;
mod rate_limit;
mod replay;
mod strangers;
mod traced;
mod transactions;
mod trimming;
mod unowned;
mod watched;
mod zombie;

pub use admin::admin_api;
pub use deleted::a_deleted_retry_topic_is_told_and_made_good;
pub use endless_loop::endless_loop;
pub use exactly_once::a_killed_router_delivers_exactly_once;
pub use faults::whatever_goes_wrong;
pub use held_key::a_dead_letter_holds_its_key_until_it_is_released;
pub use host_crash::host_crash;
pub use killed::killed_routers_lose_nothing;
pub use lag::lag_of_a_router;
pub use lanes::lanes_by_hand;
pub use late_commit::a_commit_that_is_made_again_undoes_no_later_one;
pub use metrics::metrics_tell_what_a_router_does;
pub use operated::a_broken_plugin_is_seen_understood_and_repaired;
pub use ordered::killed_routers_keep_the_order_of_keys;
pub use outage::outage;
pub use pair::Guarantee;
pub use rate_limit::rate_limit;
pub use replay::a_killed_replay_does_what_its_dry_run_tells;
pub use strangers::strangers_do_no_harm;
pub use traced::records_are_traced;
pub use transactions::{
    Ledger, a_route_reads_past_what_was_aborted, a_second_writer_fences_the_first, read_to_end,
    senseless_transactions_are_refused, transactions_are_aborted_whole, transactions_are_committed_whole,
};
pub use trimming::{a_retry_topic_that_cannot_be_trimmed_does_no_harm, retry_topics_are_trimmed};
pub use unowned::a_static_member_that_dies_in_a_rebalance_leaves_no_partition_to_nobody;
pub use watched::records_are_watched;
pub use zombie::a_zombie_commits_nothing;
