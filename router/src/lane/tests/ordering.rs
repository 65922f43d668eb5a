//! I4: what is kept in order stays in order, through retries, crashes and hand-overs.

use std::collections::{HashMap, HashSet};

use pointsman_core::failure::FailureClass;
use pointsman_core::provenance::Provenance;

use super::world::{PARK_KEY, RECORDS, World, key_of, number};
use super::{for_each_seed, releases_keys, simulate};

impl World {
    /// I4: of the records that an order binds, the first deliveries are in the order of the source.
    pub(super) fn check_order(&self, ordering: &str) {
        let mut last: HashMap<Option<Vec<u8>>, i64> = HashMap::new();
        let mut seen = HashSet::new();
        for written in self.log.written("main") {
            let offset = number(written.record.value.as_deref());
            let key = match ordering {
                "key" if key_of(offset).is_some() => key_of(offset),
                // One that is deferred and then runs again after a crash may find its key released.
                PARK_KEY if key_of(offset).is_some() && !self.is_deferred(offset) => key_of(offset),
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

impl World {
    /// What has come after the first dead letter of a key has become one, too, in order, and was not run. (That the log refuses
    /// an output is known when records behind it are under way already. Keys that this has happened to are left out.)
    fn check_held_keys(&self) {
        let letters = self.all_letters();
        let key = |letter: &Provenance| key_of(letter.origin.offset);
        let refused = letters.iter().filter(|letter| letter.class == FailureClass::Refused);
        let refused: HashSet<_> = refused.map(key).collect();
        let mut first: HashMap<Vec<u8>, i64> = HashMap::new();
        let (mut last, mut seen) = (HashMap::new(), HashSet::new());
        for letter in letters.iter().filter(|letter| !refused.contains(&key(letter))) {
            let (Some(key), offset) = (key(letter), letter.origin.offset) else { continue };
            let head = *first.entry(key.clone()).or_insert(offset);
            assert_eq!(letter.deferred, head != offset, "{offset}, and {head} was the first of its key");
            if seen.insert(offset) {
                let before = last.insert(key, offset).unwrap_or(-1);
                assert!(before < offset, "{offset} became a dead letter after {before}");
            }
        }
        for offset in 0..RECORDS {
            if let Some(head) = key_of(offset).and_then(|key| first.get(&key)) {
                assert_eq!(offset > *head, self.is_deferred(offset), "{offset}, and {head} was the first of its key");
            }
        }
    }
}

#[test]
fn a_dead_letter_holds_its_key_whatever_happens() {
    for_each_seed(|seed| {
        let world = simulate(seed, PARK_KEY);
        if !releases_keys(seed, PARK_KEY) {
            world.check_held_keys();
        }
    });
}

#[test]
fn records_of_a_key_are_delivered_in_order_whatever_happens() {
    for_each_seed(|seed| drop(simulate(seed, "key")));
}

#[test]
fn records_of_a_partition_are_delivered_in_order_whatever_happens() {
    for_each_seed(|seed| drop(simulate(seed, "partition")));
}
