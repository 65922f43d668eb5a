//! What is wrong with the history of a route: what was written to its source, what was found in all places afterwards, and what
//! its group had committed when all routers were dead.
//!
//! In the manner of [Jepsen's checker for queues](https://github.com/jepsen-io/redpanda): it knows of no router, only of what anybody can
//! see.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use pointsman_core::record::TopicPartition;
use pointsman_core::settled::Settled;

/// What a record's plan is: in which places it is to be found, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// In the output.
    Delivered,
    /// In both of the other outputs.
    Split,
    /// Nowhere.
    Dropped,
    /// In the dead letters.
    Dead,
    /// It was written in a transaction that was aborted: nowhere.
    Aborted,
}

/// Where a record can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The output.
    Output,
    /// The first of the other outputs.
    First,
    /// The second of them.
    Second,
    /// The dead letters.
    DeadLetters,
    /// The retry topic: for a while.
    Parked,
}

impl Fate {
    /// Where a record of this fate is in the end.
    const fn places(self) -> &'static [Place] {
        match self {
            Self::Delivered => &[Place::Output],
            Self::Split => &[Place::First, Place::Second],
            Self::Dead => &[Place::DeadLetters],
            Self::Dropped | Self::Aborted => &[],
        }
    }
}

/// A record that was written to the source; its number is its place in the list.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Its key. Later ones of a key have higher numbers, and higher offsets.
    pub key: u64,
    /// What is to become of it.
    pub fate: Fate,
}

/// What a group had committed of a source partition at a moment when nobody was at work, and everything that could be seen
/// then.
#[derive(Clone, Debug)]
pub struct Standstill {
    /// For each source partition, where the group would start, and what is settled beyond.
    pub commits: Vec<(TopicPartition, i64, Settled)>,
    /// The records that could be read, by number and place.
    pub seen: HashSet<(usize, Place)>,
}

/// A whole history.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The source, by number.
    pub written: Vec<Written>,
    /// Where each record that can be read in the source lies there.
    pub source: HashMap<(TopicPartition, i64), usize>,
    /// What was found in each place in the end, partition by partition, in the order of each.
    pub found: Vec<(Place, TopicPartition, Vec<usize>)>,
    /// In between.
    pub standstills: Vec<Standstill>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// It has none of the places of its fate.
    Lost(usize),
    /// It has one of the places of its fate, and not the other.
    Torn(usize),
    /// It is in a place more often than once.
    Duplicated(usize, Place, usize),
    /// It was aborted, and is there all the same.
    AbortedRead(usize, Place),
    /// It is in a place that is not of its fate.
    Misplaced(usize, Place),
    /// Its first delivery came after one of the later record of the same key.
    OutOfOrder(usize, usize),
    /// Nobody has written it.
    Invented(usize, Place),
    /// The group would not look at it any more, and it was nowhere.
    CommittedPastUnsettled(usize),
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(number) => write!(f, "{number} is lost"),
            Self::Torn(number) => write!(f, "{number} is in one of its two outputs"),
            Self::Duplicated(number, place, times) => write!(f, "{number} is in {place:?} {times} times"),
            Self::AbortedRead(number, place) => write!(f, "{number} was aborted, and is in {place:?}"),
            Self::Misplaced(number, place) => write!(f, "{number} is in {place:?}, where it does not belong"),
            Self::OutOfOrder(number, after) => write!(f, "{number} was delivered after {after} of its key"),
            Self::Invented(number, place) => write!(f, "{number} is in {place:?}, and nobody has written it"),
            Self::CommittedPastUnsettled(number) => write!(f, "{number} was committed, and nowhere"),
        }
    }
}

impl History {
    /// All that is wrong. Duplicates are told, too; whether they are allowed is the reader's to know.
    #[must_use]
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let mut anomalies = Vec::new();
        let mut counts: BTreeMap<(usize, Place), usize> = BTreeMap::new();
        for (place, _, numbers) in self.found.iter().filter(|(place, ..)| *place != Place::Parked) {
            for number in numbers {
                *counts.entry((*number, *place)).or_default() += 1;
            }
            self.check_order(numbers, &mut anomalies);
        }
        for ((number, place), times) in &counts {
            match self.written.get(*number).map(|written| written.fate) {
                None => anomalies.push(Anomaly::Invented(*number, *place)),
                Some(Fate::Aborted) => anomalies.push(Anomaly::AbortedRead(*number, *place)),
                Some(fate) if !fate.places().contains(place) => anomalies.push(Anomaly::Misplaced(*number, *place)),
                Some(_) if *times > 1 => anomalies.push(Anomaly::Duplicated(*number, *place, *times)),
                Some(_) => {}
            }
        }
        for (number, written) in self.written.iter().enumerate() {
            let places = written.fate.places();
            let there = places.iter().filter(|place| counts.contains_key(&(number, **place))).count();
            if there == 0 && !places.is_empty() {
                anomalies.push(Anomaly::Lost(number));
            } else if there < places.len() {
                anomalies.push(Anomaly::Torn(number));
            }
        }
        self.standstills.iter().for_each(|standstill| self.check_commits(standstill, &mut anomalies));
        anomalies
    }

    /// First deliveries of a key are in the order of the source. All of a key are in one partition.
    fn check_order(&self, numbers: &[usize], anomalies: &mut Vec<Anomaly>) {
        let (mut last, mut seen) = (HashMap::new(), HashSet::new());
        for number in numbers.iter().filter(|number| seen.insert(**number)) {
            let Some(Written { key, .. }) = self.written.get(*number) else { continue };
            if let Some(before) = last.insert(*key, *number).filter(|before| before > number) {
                anomalies.push(Anomaly::OutOfOrder(*number, before));
            }
        }
    }

    fn check_commits(&self, standstill: &Standstill, anomalies: &mut Vec<Anomaly>) {
        for ((partition, offset), number) in &self.source {
            let commit = standstill.commits.iter().find(|(of, ..)| of == partition);
            let is_settled = commit.is_some_and(|(_, next, beyond)| offset < next || beyond.contains(*offset));
            let Some(written) = self.written.get(*number).filter(|_| is_settled) else { continue };
            let is_there = |place: &Place| standstill.seen.contains(&(*number, *place));
            if !written.fate.places().iter().all(is_there) && !is_there(&Place::Parked) {
                anomalies.push(Anomaly::CommittedPastUnsettled(*number));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    const RECORDS: usize = 200;
    const KEYS: u64 = 20;

    fn partition(topic: &str, key: u64) -> TopicPartition {
        TopicPartition::new(topic, i32::try_from(key % 3).unwrap_or(0))
    }

    /// One in which all is well.
    fn sound(seed: u64) -> History {
        let mut random = Rng::with_seed(seed);
        let mut history = History::default();
        let mut found: BTreeMap<(Place, TopicPartition), Vec<usize>> = BTreeMap::new();
        let mut next: HashMap<TopicPartition, i64> = HashMap::new();
        for number in 0..RECORDS {
            let key = random.u64(0..KEYS);
            let fates = [Fate::Delivered, Fate::Delivered, Fate::Split, Fate::Dropped, Fate::Dead, Fate::Aborted];
            let fate = random.choice(fates).unwrap_or(Fate::Delivered);
            history.written.push(Written { key, fate });
            let source = partition("source", key);
            let offset = next.entry(source.clone()).or_default();
            if fate != Fate::Aborted {
                history.source.insert((source, *offset), number);
            }
            *offset += 1;
            for place in fate.places() {
                found.entry((*place, partition(&format!("{place:?}"), key))).or_default().push(number);
            }
        }
        let seen = found.iter().flat_map(|((place, _), numbers)| numbers.iter().map(|number| (*number, *place)));
        let commits = next.into_iter().map(|(partition, end)| (partition, end, Settled::default()));
        history.standstills.push(Standstill { commits: commits.collect(), seen: seen.collect() });
        history.found = found.into_iter().map(|((place, partition), numbers)| (place, partition, numbers)).collect();
        history
    }

    /// The places where records of this fate were found: which list, and where there.
    fn found_of(history: &History, fate: Fate) -> Vec<(usize, usize)> {
        let lists = history.found.iter().enumerate();
        lists
            .flat_map(|(list, (_, _, numbers))| numbers.iter().enumerate().map(move |(at, number)| (list, at, *number)))
            .filter(|(_, _, number)| history.written[*number].fate == fate)
            .map(|(list, at, _)| (list, at))
            .collect()
    }

    /// Plants a fault; the answer is what is to be found, by a rough pattern.
    type Plant = fn(&mut History, &mut Rng) -> fn(&Anomaly) -> bool;

    fn any(random: &mut Rng, places: &[(usize, usize)]) -> (usize, usize) {
        places[random.usize(0..places.len())]
    }

    const PLANTS: &[(&str, Plant)] = &[
        ("lost", |history, random| {
            let (list, at) = any(random, &found_of(history, Fate::Delivered));
            history.found[list].2.remove(at);
            |anomaly| matches!(anomaly, Anomaly::Lost(_))
        }),
        ("torn", |history, random| {
            let (list, at) = any(random, &found_of(history, Fate::Split));
            history.found[list].2.remove(at);
            |anomaly| matches!(anomaly, Anomaly::Torn(_))
        }),
        ("duplicated", |history, random| {
            let (list, at) = any(random, &found_of(history, Fate::Dead));
            let number = history.found[list].2[at];
            history.found[list].2.push(number);
            |anomaly| matches!(anomaly, Anomaly::Duplicated(.., 2))
        }),
        ("aborted and read", |history, random| {
            let (list, at) = any(random, &found_of(history, Fate::Delivered));
            let number = history.found[list].2[at];
            history.written[number].fate = Fate::Aborted;
            |anomaly| matches!(anomaly, Anomaly::AbortedRead(..))
        }),
        ("misplaced", |history, random| {
            let (list, at) = any(random, &found_of(history, Fate::Dead));
            let number = history.found[list].2[at];
            history.written[number].fate = Fate::Delivered;
            |anomaly| matches!(anomaly, Anomaly::Misplaced(..))
        }),
        ("out of order", |history, random| {
            let lists = 0..history.found.len();
            let pairs = lists.flat_map(|list| {
                let numbers = &history.found[list].2;
                let key = |at: usize| history.written[numbers[at]].key;
                let pairs =
                    (0..numbers.len()).flat_map(move |at| (at + 1..numbers.len()).map(move |later| (at, later)));
                pairs.filter(|(at, later)| key(*at) == key(*later)).map(|pair| (list, pair)).collect::<Vec<_>>()
            });
            let pairs: Vec<_> = pairs.collect();
            let (list, (at, later)) = pairs[random.usize(0..pairs.len())];
            history.found[list].2.swap(at, later);
            |anomaly| matches!(anomaly, Anomaly::OutOfOrder(..))
        }),
        ("invented", |history, random| {
            let list = random.usize(0..history.found.len());
            history.found[list].2.push(RECORDS);
            |anomaly| matches!(anomaly, Anomaly::Invented(..))
        }),
        ("committed past what is not settled", |history, random| {
            let (list, at) = any(random, &found_of(history, Fate::Split));
            let (place, _, numbers) = &history.found[list];
            history.standstills[0].seen.remove(&(numbers[at], *place));
            |anomaly| matches!(anomaly, Anomaly::CommittedPastUnsettled(_))
        }),
    ];

    #[test]
    fn each_planted_fault_is_found_and_nothing_where_there_is_none() {
        for seed in 0..200 {
            assert_eq!(sound(seed).anomalies(), [], "of seed {seed}");
            for (name, plant) in PLANTS {
                let mut history = sound(seed);
                let is_it = plant(&mut history, &mut Rng::with_seed(seed));
                let anomalies = history.anomalies();
                assert!(anomalies.iter().any(is_it), "{name}, seed {seed}: {anomalies:?}");
            }
        }
    }

    /// What is parked, or settled beyond the commit, has its place.
    #[test]
    fn what_is_parked_is_somewhere() {
        let mut history = sound(1);
        let (list, at) = found_of(&history, Fate::Delivered)[0];
        let number = history.found[list].2[at];
        history.standstills[0].seen.remove(&(number, Place::Output));
        assert_eq!(history.anomalies(), [Anomaly::CommittedPastUnsettled(number)]);
        history.standstills[0].seen.insert((number, Place::Parked));
        assert_eq!(history.anomalies(), []);
    }
}
