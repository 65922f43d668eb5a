//! Records that a sink keeps for a while before its client has them.

use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::Token;
use pointsman_core::record::{Header, Headers};

/// Deliveries in the order that they came in, in one piece of memory: so it costs little to take up again what the processor's caches
/// have lost meanwhile.
#[derive(Default)]
pub(crate) struct Held {
    places: Vec<Place>,
    /// Of every header the length of its name, and of its value if that is not null.
    headers: Vec<(usize, Option<usize>)>,
    /// Keys, values and headers, one after the other.
    bytes: Vec<u8>,
    first: Start,
}

/// A delivery, as far as it has no bytes.
struct Place {
    topic: TopicId,
    partition: PartitionChoice,
    timestamp_ms: i64,
    key: Option<usize>,
    value: Option<usize>,
    headers: usize,
    token: Token,
}

/// Where a delivery begins.
#[derive(Clone, Copy, Default)]
struct Start {
    place: usize,
    header: usize,
    byte: usize,
}

impl Held {
    /// Where nothing is held, memory for about so many bytes is kept.
    const KEPT: usize = 1 << 20;

    /// Copies a delivery.
    pub(crate) fn push(&mut self, delivery: &Delivery<'_>, token: Token) {
        let Delivery { topic, partition, timestamp_ms, key, value, headers, stamps } = *delivery;
        let (key, value) = (self.append(key), self.append(value));
        for header in headers.iter().chain(stamps.iter()) {
            self.bytes.extend_from_slice(header.name);
            let value = self.append(header.value);
            self.headers.push((header.name.len(), value));
        }
        let headers = headers.len() + stamps.len();
        self.places.push(Place { topic, partition, timestamp_ms, key, value, headers, token });
    }

    fn append(&mut self, bytes: Option<&[u8]>) -> Option<usize> {
        self.bytes.extend_from_slice(bytes?);
        bytes.map(<[u8]>::len)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// About how many bytes they have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() - self.first.byte
    }

    /// Takes them off in order, all of their headers in one list, until `take` does not take one.
    pub(crate) fn release(&mut self, mut take: impl FnMut(&Delivery<'_>, Token) -> bool) {
        let mut list = Vec::new();
        while let Some(place) = self.places.get(self.first.place) {
            let Start { place: number, header, mut byte } = self.first;
            let lengths = &self.headers[header..header + place.headers];
            let mut next = |length| {
                let start = byte;
                byte += length;
                &self.bytes[start..byte]
            };
            let (key, value) = (place.key.map(&mut next), place.value.map(&mut next));
            list.clear();
            list.extend(lengths.iter().map(|(name, value)| Header { name: next(*name), value: value.map(&mut next) }));
            let Place { topic, partition, timestamp_ms, token, .. } = *place;
            let (headers, stamps) = (Headers::Borrowed(&list), Headers::NONE);
            if !take(&Delivery { topic, partition, timestamp_ms, key, value, headers, stamps }, token) {
                return self.forget();
            }
            self.first = Start { place: number + 1, header: header + place.headers, byte };
        }
        self.first = Start::default();
        self.places.clear();
        self.headers.clear();
        self.bytes.clear();
        self.places.shrink_to(Self::KEPT / 512);
        self.headers.shrink_to(Self::KEPT / 64);
        self.bytes.shrink_to(Self::KEPT);
    }

    /// Gives up the places of those that were taken off, once they are the greater part: there may always be some left.
    fn forget(&mut self) {
        let Start { place, header, byte } = self.first;
        if place > self.places.len() / 2 {
            self.places.drain(..place);
            self.headers.drain(..header);
            self.bytes.drain(..byte);
            self.first = Start::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
    use pointsman_core::port::Token;
    use pointsman_core::record::{Headers, OwnedHeader};
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::Held;

    type Bytes = Vec<u8>;

    #[derive(Clone, Debug, PartialEq)]
    struct Sent {
        topic: u32,
        partition: Option<i32>,
        timestamp_ms: i64,
        key: Option<Bytes>,
        value: Option<Bytes>,
        headers: Vec<(Bytes, Option<Bytes>)>,
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..5)
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let headers = vec((bytes(), of(bytes())), 0..4);
        (any::<u32>(), of(any::<i32>()), any::<i64>(), of(bytes()), of(bytes()), headers).prop_map(
            |(topic, partition, timestamp_ms, key, value, headers)| Sent {
                topic,
                partition,
                timestamp_ms,
                key,
                value,
                headers,
            },
        )
    }

    impl Sent {
        fn push(&self, held: &mut Held, token: u64) {
            let header = |(name, value): &(Bytes, Option<Bytes>)| OwnedHeader {
                name: name.as_slice().into(),
                value: value.as_deref().map(Into::into),
            };
            let headers: Vec<_> = self.headers.iter().map(header).collect();
            // The router's own are held like the others.
            let (own, stamps) = headers.split_at(headers.len() / 2);
            let delivery = Delivery {
                topic: TopicId(self.topic),
                partition: self.partition.map_or(PartitionChoice::ByKey, PartitionChoice::Exactly),
                timestamp_ms: self.timestamp_ms,
                key: self.key.as_deref(),
                value: self.value.as_deref(),
                headers: Headers::Owned(own),
                stamps: Headers::Owned(stamps),
            };
            held.push(&delivery, Token(token));
        }

        fn of(delivery: &Delivery<'_>) -> Self {
            Self {
                topic: delivery.topic.0,
                partition: match delivery.partition {
                    PartitionChoice::ByKey => None,
                    PartitionChoice::Exactly(partition) => Some(partition),
                },
                timestamp_ms: delivery.timestamp_ms,
                key: delivery.key.map(Into::into),
                value: delivery.value.map(Into::into),
                headers: delivery.headers.iter().map(|h| (h.name.into(), h.value.map(Into::into))).collect(),
            }
        }
    }

    proptest! {
        /// Whatever is taken of them at a time, and whatever comes in between.
        #[test]
        fn all_that_is_held_comes_out_in_order_and_as_it_went_in(
            rounds in vec((vec(sent(), 0..6), 0..8_usize), 0..8)
        ) {
            let (mut held, mut came) = (Held::default(), Vec::new());
            let mut went = Vec::new();
            let rounds = rounds.into_iter().chain([(Vec::new(), usize::MAX)]);
            for (deliveries, mut room) in rounds {
                for delivery in deliveries {
                    delivery.push(&mut held, went.len() as u64);
                    went.push(delivery);
                }
                held.release(|delivery, token| {
                    let has_room = room > 0;
                    if has_room {
                        room -= 1;
                        came.push((token.0, Sent::of(delivery)));
                    }
                    has_room
                });
                let left = went.len() - came.len();
                prop_assert_eq!(held.is_empty(), left == 0);
                prop_assert!(held.places.len() <= 2 * left, "what was taken off is kept");
            }
            prop_assert_eq!(held.bytes(), 0);
            prop_assert_eq!(came, (0..).zip(went).collect::<Vec<_>>());
        }
    }
}
