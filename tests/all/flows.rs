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
    let folder = Scratch::new("embedded-")?;
    flows::outage(&Backend::Embedded(folder.path().join("log")))
}
