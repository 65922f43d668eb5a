//! Whole runs of the router on the embedded log.

use pointsman_tests::backend::Backend;
use pointsman_tests::flows;
use pointsman_tests::places::Scratch;

#[test]
fn an_endless_loop_costs_its_neighbours_nothing_on_the_embedded_log() -> anyhow::Result<()> {
    let folder = Scratch::new("embedded-")?;
    flows::endless_loop(&Backend::Embedded(folder.path().join("log")))
}

#[test]
fn a_lane_at_its_rate_limit_holds_up_nobody_and_drops_nothing() -> anyhow::Result<()> {
    let folder = Scratch::new("embedded-")?;
    flows::rate_limit(&Backend::Embedded(folder.path().join("log")))
}

#[test]
fn an_outage_of_a_plugin_pauses_the_lane_and_is_over_by_itself_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::outage)
}

#[test]
fn a_running_router_is_asked_and_its_lanes_are_paused_resumed_and_skipped() -> anyhow::Result<()> {
    on_the_embedded_log(flows::lanes_by_hand)
}

#[test]
fn a_running_router_answers_whoever_has_a_token_and_a_flood_holds_up_nobody() -> anyhow::Result<()> {
    on_the_embedded_log(flows::admin_api)
}

#[test]
fn metrics_tell_what_a_router_does_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::metrics_tell_what_a_router_does)
}

#[test]
fn records_are_traced_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::records_are_traced)
}

#[test]
fn records_are_watched_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(|backend| flows::records_are_watched(backend, "at-least-once"))
}

#[test]
fn records_are_watched_exactly_once_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(|backend| flows::records_are_watched(backend, "exactly-once"))
}

#[test]
fn the_lag_of_a_router_is_told_while_it_runs_and_after_its_end_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::lag_of_a_router)
}

#[test]
fn a_killed_router_delivers_exactly_once_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::a_killed_router_delivers_exactly_once)
}

#[test]
fn a_record_that_kills_the_process_becomes_a_dead_letter_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::host_crash)
}

#[test]
fn transactions_are_committed_whole_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::transactions_are_committed_whole)
}

#[test]
fn transactions_are_aborted_whole_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::transactions_are_aborted_whole)
}

#[test]
fn a_second_writer_fences_the_first_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::a_second_writer_fences_the_first)
}

#[test]
fn senseless_transactions_are_refused_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::senseless_transactions_are_refused)
}

#[test]
fn a_route_reads_past_what_was_aborted_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::a_route_reads_past_what_was_aborted)
}

#[test]
fn a_killed_replay_does_what_its_dry_run_tells_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::a_killed_replay_does_what_its_dry_run_tells)
}

#[test]
fn strangers_do_no_harm_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::strangers_do_no_harm)
}

#[test]
fn retry_topics_are_trimmed_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::retry_topics_are_trimmed)
}

#[test]
fn a_dead_letter_holds_its_key_until_it_is_released_on_the_embedded_log() -> anyhow::Result<()> {
    on_the_embedded_log(flows::a_dead_letter_holds_its_key_until_it_is_released)
}

fn on_the_embedded_log(flow: fn(&Backend<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = Scratch::new("embedded-")?;
    flow(&Backend::Embedded(folder.path().join("log")))
}
