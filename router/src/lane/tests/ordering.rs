//! I4: what is kept in order stays in order, through retries, crashes and hand-overs.

use std::collections::{HashMap, HashSet};

use super::world::{World, key_of, number};
use super::{for_each_seed, simulate};

impl World {
    /// I4: of the records that an order binds, the first deliveries are in the order of the source.
    pub(super) fn check_order(&self, ordering: &str) {
        let mut last: HashMap<Option<Vec<u8>>, i64> = HashMap::new();
        let mut seen = HashSet::new();
        for written in self.log.written("main") {
            let offset = number(written.record.value.as_deref());
            let key = match ordering {
                "key" if key_of(offset).is_some() => key_of(offset),
                "partition" => None,
                _ => continue,
            };
            if seen.insert(offset) {
                let before = last.insert(key, offset).unwrap_or(-1);
                assert!(before < offset, "I4: {offset} was delivered first after {before}");
            }
        }
    }
}

#[test]
fn records_of_a_key_are_delivered_in_order_whatever_happens() {
    for_each_seed(|seed| simulate(seed, "key"));
}

#[test]
fn records_of_a_partition_are_delivered_in_order_whatever_happens() {
    for_each_seed(|seed| simulate(seed, "partition"));
}
