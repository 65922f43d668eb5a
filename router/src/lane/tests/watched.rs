//! Samples of what lanes do, whatever happens to them.

use pointsman_core::record::OwnedHeader;

use super::plugin::Script;
use super::world::{World, key_of};
use super::{Fate, for_each_seed};
use crate::lane::Why;
use crate::samples::tests::{drain, wanted};

fn watch(seed: u64, ordering: &str) {
    let mut world = World::ordered(seed, ordering);
    let mut watch = world.shared.samples.watch(wanted(0, &Fate::ALL, true)).unwrap();
    let mut other = world.shared.samples.watch(wanted(1, &Fate::ALL, true)).unwrap();
    let (mut told, mut passed) = (0, 0);
    for round in 0..6_000 {
        world.be_calm(round > 500);
        world.go_on();
        for sample in drain(&mut watch) {
            told += 1;
            let (offset, attempt) = (sample.offset, sample.attempt);
            assert_eq!((&*sample.origin.topic, sample.origin.partition), ("source", 0));
            assert_eq!(sample.key, Ok(key_of(offset)));
            let parts = sample.parts.unwrap().unwrap();
            assert_eq!(parts.value, Some(offset.to_string().into_bytes()));
            // Also where a record has left with its headers, or comes back with more.
            assert_eq!(parts.headers, [OwnedHeader::text("own", offset.to_string())]);
            let script = (world.plugin.script)(seed, offset, attempt);
            passed += u32::from(sample.fate == Fate::Delivered && script == Script::Pass && attempt == 1);
            let mut outputs: Vec<&str> = sample.outputs.iter().map(|topic| &**topic).collect();
            outputs.sort_unstable();
            match (sample.fate, sample.why) {
                (Fate::Delivered, Why::Routed { .. }) => assert!(
                    script == Script::Pass && outputs == ["main"]
                        || script == Script::Both && outputs == ["main", "side"],
                    "{script:?} {outputs:?}"
                ),
                (Fate::Dropped, Why::Reason(_)) => assert_eq!(script, Script::Drop),
                (Fate::Parked | Fate::DeadLettered | Fate::Halted, Why::Failure(failure)) => {
                    assert!(sample.stage.is_some() == failure.stage.is_some() && outputs.is_empty());
                }
                (fate, why) => panic!("{fate:?} with {why:?}"),
            }
        }
    }
    // Those too that a sink may take whole.
    assert!(passed > 0, "{told} are told");
    assert!(told > 0 && drain(&mut other).is_empty());
    let seen: Vec<u64> = watch.seen().map(|(_, seen)| seen).collect();
    let parks = ordering != "partition";
    assert!(seen[0] > 0 && seen[1] > 0 && (seen[2] > 0) == parks && seen[3] > 0, "{seen:?}");
    drop(watch);
    world.round();
    assert!(world.lane.telling.to.is_none(), "nobody watches, and records are still asked about");
}

#[test]
fn samples_tell_what_became_of_which_record() {
    for_each_seed(|seed| watch(seed, "none"));
}

#[test]
fn samples_tell_what_became_of_which_record_in_an_order() {
    for_each_seed(|seed| watch(seed, if seed % 2 == 0 { "key" } else { "partition" }));
}
