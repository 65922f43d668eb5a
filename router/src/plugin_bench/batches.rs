//! Sample events in calls of one size.

use std::collections::BTreeMap;

use pointsman_core::event::Event;

/// Most events of one round, but for a call of each partition.
const ROUND_EVENTS: usize = 1 << 16;

/// The events of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch<'a> {
    pub(super) events: Vec<Event<'a>>,
    /// The number of each among the samples, from 1.
    pub(super) numbers: Vec<usize>,
}

/// Calls of `size` events each, of one partition each, in which every event of a partition comes equally often; unless there
/// are very many.
pub(super) fn batches<'a>(events: &[Event<'a>], size: usize) -> Vec<Batch<'a>> {
    let mut places: BTreeMap<(&str, i32), Vec<(Event<'a>, usize)>> = BTreeMap::new();
    for (event, number) in events.iter().zip(1..) {
        places.entry((event.topic, event.partition)).or_default().push((*event, number));
    }
    let mut batches = Vec::new();
    for events in places.values() {
        let calls = (events.len() / greatest_divisor(events.len(), size)).min((ROUND_EVENTS / size).max(1));
        let mut cycle = events.iter().copied().cycle();
        for _ in 0..calls {
            let (events, numbers) = cycle.by_ref().take(size).unzip();
            batches.push(Batch { events, numbers });
        }
    }
    batches
}

/// The greatest number that divides both, neither of which is 0.
const fn greatest_divisor(mut one: usize, mut other: usize) -> usize {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use pointsman_core::record::Headers;

    use super::*;

    fn event(partition: i32, offset: i64) -> Event<'static> {
        Event {
            topic: "t",
            partition,
            offset,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Headers::NONE,
            attempt: 1,
        }
    }

    #[test]
    fn each_event_comes_equally_often_among_those_of_its_partition() {
        let events: Vec<_> = [(0, 0), (1, 1), (0, 2), (0, 3)].map(|(place, offset)| event(place, offset)).into();
        for size in [1, 2, 3, 16, 256] {
            let mut times: BTreeMap<i64, usize> = BTreeMap::new();
            for batch in batches(&events, size) {
                let Batch { events: batch, numbers } = batch;
                assert_eq!((batch.len(), numbers.len()), (size, size));
                assert!(batch.iter().all(|event| event.partition == batch[0].partition));
                for (event, number) in batch.iter().zip(numbers) {
                    assert_eq!(event.offset, events[number - 1].offset);
                    *times.entry(event.offset).or_default() += 1;
                }
            }
            assert_eq!(times[&0], times[&2], "{size}: {times:?}");
            assert_eq!(times[&0], times[&3], "{size}: {times:?}");
            assert!(times[&1] > 0);
        }
    }

    #[test]
    fn a_round_ends() {
        let events: Vec<_> = (0..70_001).map(|offset| event(0, offset)).collect();
        assert_eq!(batches(&events, 256).len(), 256);
    }
}
