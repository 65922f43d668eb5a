//! Whole runs of the router on Kafka.

use pointsman_tests::backend::Backend;
use pointsman_tests::flows::{self, Guarantee};
use pointsman_tests::kafka::Kafka;
use pointsman_tests::kafka::proxy::Proxy;
use pointsman_tests::trials::Trial;

pub(crate) const TRIALS: &[Trial] = &[
    Trial::shared(
        "flows::an_endless_loop_costs_its_neighbours_nothing_on_kafka",
        an_endless_loop_costs_its_neighbours_nothing_on_kafka,
    ),
    Trial::shared("flows::killed_routers_lose_nothing", killed_routers_lose_nothing),
    Trial::shared("flows::killed_routers_deliver_exactly_once", killed_routers_deliver_exactly_once),
    Trial::shared(
        "flows::a_killed_router_delivers_exactly_once_on_kafka",
        a_killed_router_delivers_exactly_once_on_kafka,
    ),
    Trial::shared(
        "flows::a_static_member_that_dies_in_a_rebalance_leaves_no_partition_to_nobody",
        a_static_member_that_dies_in_a_rebalance_leaves_no_partition_to_nobody,
    ),
    Trial::shared(
        "flows::a_broken_plugin_is_seen_understood_and_repaired",
        a_broken_plugin_is_seen_understood_and_repaired,
    ),
    Trial::shared("flows::records_are_traced_on_kafka", records_are_traced_on_kafka),
    Trial::shared("flows::metrics_tell_what_a_router_does_on_kafka", metrics_tell_what_a_router_does_on_kafka),
    Trial::shared("flows::records_are_watched_on_kafka", records_are_watched_on_kafka),
    Trial::behind("flows::a_zombie_commits_nothing", a_zombie_commits_nothing),
    Trial::behind(
        "flows::a_commit_that_is_made_again_undoes_no_later_one",
        a_commit_that_is_made_again_undoes_no_later_one,
    ),
    Trial::behind(
        "flows::whatever_goes_wrong_records_are_delivered_once",
        whatever_goes_wrong_records_are_delivered_once,
    ),
    Trial::behind("flows::whatever_goes_wrong_no_record_is_lost", whatever_goes_wrong_no_record_is_lost),
    Trial::shared("flows::killed_routers_keep_the_order_of_keys", killed_routers_keep_the_order_of_keys),
    Trial::shared(
        "flows::killed_routers_keep_the_order_of_keys_exactly_once",
        killed_routers_keep_the_order_of_keys_exactly_once,
    ),
    Trial::shared("flows::transactions_are_committed_whole_on_kafka", transactions_are_committed_whole_on_kafka),
    Trial::shared("flows::transactions_are_aborted_whole_on_kafka", transactions_are_aborted_whole_on_kafka),
    Trial::shared("flows::a_second_writer_fences_the_first_on_kafka", a_second_writer_fences_the_first_on_kafka),
    Trial::shared("flows::senseless_transactions_are_refused_on_kafka", senseless_transactions_are_refused_on_kafka),
    Trial::shared("flows::a_route_reads_past_what_was_aborted_on_kafka", a_route_reads_past_what_was_aborted_on_kafka),
    Trial::shared(
        "flows::an_outage_of_a_plugin_pauses_the_lane_and_is_over_by_itself_on_kafka",
        an_outage_of_a_plugin_pauses_the_lane_and_is_over_by_itself_on_kafka,
    ),
    Trial::shared(
        "flows::a_record_that_kills_the_process_becomes_a_dead_letter_on_kafka",
        a_record_that_kills_the_process_becomes_a_dead_letter_on_kafka,
    ),
    Trial::shared(
        "flows::a_killed_replay_does_what_its_dry_run_tells_on_kafka",
        a_killed_replay_does_what_its_dry_run_tells_on_kafka,
    ),
    Trial::shared("flows::a_deleted_retry_topic_is_told_and_made_good", a_deleted_retry_topic_is_told_and_made_good),
    Trial::shared(
        "flows::the_lag_of_a_router_is_told_while_it_runs_and_after_its_end_on_kafka",
        the_lag_of_a_router_is_told_while_it_runs_and_after_its_end_on_kafka,
    ),
    Trial::shared("flows::strangers_do_no_harm_on_kafka", strangers_do_no_harm_on_kafka),
    Trial::shared("flows::retry_topics_are_trimmed_on_kafka", retry_topics_are_trimmed_on_kafka),
    Trial::shared(
        "flows::a_retry_topic_that_cannot_be_trimmed_does_no_harm",
        a_retry_topic_that_cannot_be_trimmed_does_no_harm,
    ),
    Trial::shared(
        "flows::a_dead_letter_holds_its_key_until_it_is_released_on_kafka",
        a_dead_letter_holds_its_key_until_it_is_released_on_kafka,
    ),
    Trial::shared(
        "flows::a_running_router_is_asked_and_its_lanes_are_paused_resumed_and_skipped_on_kafka",
        a_running_router_is_asked_and_its_lanes_are_paused_resumed_and_skipped_on_kafka,
    ),
];

fn a_deleted_retry_topic_is_told_and_made_good(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_deleted_retry_topic_is_told_and_made_good(kafka)
}

fn strangers_do_no_harm_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::strangers_do_no_harm(&Backend::Kafka(kafka))
}

fn retry_topics_are_trimmed_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::retry_topics_are_trimmed(&Backend::Kafka(kafka))
}

fn a_retry_topic_that_cannot_be_trimmed_does_no_harm(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_retry_topic_that_cannot_be_trimmed_does_no_harm(kafka)
}

fn an_endless_loop_costs_its_neighbours_nothing_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::endless_loop(&Backend::Kafka(kafka))
}

fn killed_routers_lose_nothing(kafka: &Kafka) -> anyhow::Result<()> {
    flows::killed_routers_lose_nothing(kafka, Guarantee::AtLeastOnce)
}

fn whatever_goes_wrong_records_are_delivered_once(kafka: &Kafka, proxy: &Proxy) -> anyhow::Result<()> {
    flows::whatever_goes_wrong(kafka, proxy, Guarantee::ExactlyOnce)
}

fn whatever_goes_wrong_no_record_is_lost(kafka: &Kafka, proxy: &Proxy) -> anyhow::Result<()> {
    flows::whatever_goes_wrong(kafka, proxy, Guarantee::AtLeastOnce)
}

fn a_static_member_that_dies_in_a_rebalance_leaves_no_partition_to_nobody(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_static_member_that_dies_in_a_rebalance_leaves_no_partition_to_nobody(kafka)
}

fn a_commit_that_is_made_again_undoes_no_later_one(kafka: &Kafka, proxy: &Proxy) -> anyhow::Result<()> {
    flows::a_commit_that_is_made_again_undoes_no_later_one(kafka, proxy)
}

fn a_zombie_commits_nothing(kafka: &Kafka, proxy: &Proxy) -> anyhow::Result<()> {
    flows::a_zombie_commits_nothing(kafka, proxy)
}

fn killed_routers_deliver_exactly_once(kafka: &Kafka) -> anyhow::Result<()> {
    flows::killed_routers_lose_nothing(kafka, Guarantee::ExactlyOnce)
}

fn a_killed_router_delivers_exactly_once_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_killed_router_delivers_exactly_once(&Backend::Kafka(kafka))
}

fn killed_routers_keep_the_order_of_keys(kafka: &Kafka) -> anyhow::Result<()> {
    flows::killed_routers_keep_the_order_of_keys(kafka, Guarantee::AtLeastOnce)
}

fn killed_routers_keep_the_order_of_keys_exactly_once(kafka: &Kafka) -> anyhow::Result<()> {
    flows::killed_routers_keep_the_order_of_keys(kafka, Guarantee::ExactlyOnce)
}

fn an_outage_of_a_plugin_pauses_the_lane_and_is_over_by_itself_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::outage(&Backend::Kafka(kafka))
}

fn a_record_that_kills_the_process_becomes_a_dead_letter_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::host_crash(&Backend::Kafka(kafka))
}

fn transactions_are_committed_whole_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::transactions_are_committed_whole(&Backend::Kafka(kafka))
}

fn transactions_are_aborted_whole_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::transactions_are_aborted_whole(&Backend::Kafka(kafka))
}

fn a_second_writer_fences_the_first_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_second_writer_fences_the_first(&Backend::Kafka(kafka))
}

fn senseless_transactions_are_refused_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::senseless_transactions_are_refused(&Backend::Kafka(kafka))
}

fn a_route_reads_past_what_was_aborted_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_route_reads_past_what_was_aborted(&Backend::Kafka(kafka))
}

fn a_killed_replay_does_what_its_dry_run_tells_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_killed_replay_does_what_its_dry_run_tells(&Backend::Kafka(kafka))
}

fn a_dead_letter_holds_its_key_until_it_is_released_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_dead_letter_holds_its_key_until_it_is_released(&Backend::Kafka(kafka))
}

fn a_running_router_is_asked_and_its_lanes_are_paused_resumed_and_skipped_on_kafka(
    kafka: &Kafka,
) -> anyhow::Result<()> {
    flows::lanes_by_hand(&Backend::Kafka(kafka))
}

fn the_lag_of_a_router_is_told_while_it_runs_and_after_its_end_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::lag_of_a_router(&Backend::Kafka(kafka))
}

fn records_are_traced_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::records_are_traced(&Backend::Kafka(kafka))
}

fn records_are_watched_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::records_are_watched(&Backend::Kafka(kafka), "exactly-once")?;
    flows::records_are_watched(&Backend::Kafka(kafka), "at-least-once")
}

fn metrics_tell_what_a_router_does_on_kafka(kafka: &Kafka) -> anyhow::Result<()> {
    flows::metrics_tell_what_a_router_does(&Backend::Kafka(kafka))
}

fn a_broken_plugin_is_seen_understood_and_repaired(kafka: &Kafka) -> anyhow::Result<()> {
    flows::a_broken_plugin_is_seen_understood_and_repaired(kafka)
}
