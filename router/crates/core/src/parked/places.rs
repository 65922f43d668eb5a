//! Where the records lie that are to run, by their keys.

use std::collections::BTreeMap;

use super::label::{KeyHash, Original};

/// Of each record that is to run, the low bits of its sequence number.
#[derive(Debug, Default)]
pub(super) struct Places {
    map: BTreeMap<Original, u32>,
    keys: KeyFilter,
}

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(super) fn get(&self, original: Original) -> Option<u32> {
        if !self.keys.may_have(original.key) {
            return None;
        }
        self.map.get(&original).copied()
    }

    pub(super) fn insert(&mut self, original: Original, low: u32) {
        if self.map.insert(original, low).is_some() {
            return;
        }
        if original.key == KeyHash::NULL {
            return;
        }
        if self.keys.room == 0 {
            // Not both at a time.
            self.keys = KeyFilter::default();
            let keys = || self.map.keys().map(|original| original.key).filter(|key| *key != KeyHash::NULL);
            self.keys = KeyFilter::of(keys(), keys().count());
        } else {
            self.keys.add(original.key);
        }
    }

    /// Removes the record, if this is where it lies.
    pub(super) fn remove(&mut self, original: Original, low: u32) {
        if self.get(original) == Some(low) {
            self.map.remove(&original);
        }
    }

    /// The records of a key, in the order of the source.
    pub(super) fn of_key(&self, key: KeyHash) -> impl Iterator<Item = (Original, u32)> {
        let all = self.keys.may_have(key).then(|| self.map.range(Original::all_of(key)));
        all.into_iter().flatten().map(|(original, low)| (*original, *low))
    }

    /// The last record of the same key before this one.
    pub(super) fn before(&self, original: Original) -> Option<(Original, u32)> {
        if !self.keys.may_have(original.key) {
            return None;
        }
        let (before, low) = self.map.range(Original { offset: i64::MIN, ..original }..original).next_back()?;
        Some((*before, *low))
    }

    /// Whether a record of the key may be here. In vain it is said of few.
    #[inline]
    pub(super) fn may_have(&self, key: KeyHash) -> bool {
        self.keys.may_have(key)
    }

    /// The lowest offset in the source. Takes time in proportion to what is here.
    pub(super) fn first_offset(&self) -> Option<i64> {
        self.map.keys().map(|original| original.offset).min()
    }
}

/// Knows of most keys that they are not here, with one look into little memory, where a map of a million entries takes ten into
/// much: a Bloom filter whose bits for a key lie in one word, and whose hash the key is already. (Putze, Sanders and Singler:
/// Cache-, Hash- and Space-Efficient Bloom Filters, 2007.)
///
/// What is taken away stays in it until it is made anew, which it is when it has become full. The null key is not in it, and said
/// to be.
#[derive(Debug, Default)]
struct KeyFilter {
    words: Box<[u64]>,
    /// How many more keys it takes.
    room: usize,
}

impl KeyFilter {
    /// For each key, when it is full: one in two hundred is found in vain then.
    const BITS: usize = 16;

    /// With room for half as many more.
    fn of(keys: impl Iterator<Item = KeyHash>, count: usize) -> Self {
        let room = count + count / 2 + 64;
        let words = (room * Self::BITS).div_ceil(u64::BITS as usize);
        let mut filter = Self { words: vec![0; words].into_boxed_slice(), room };
        keys.for_each(|key| filter.add(key));
        filter
    }

    /// The word of a key, by the high bits of its hash, and its bits there, by the low ones.
    fn place(&self, key: KeyHash) -> (usize, u64) {
        let hash = key.bits();
        let word = (u128::from(hash) * self.words.len() as u128) >> u64::BITS;
        let bits = [0, 6, 12, 18].map(|shift| 1 << (hash >> shift & 63));
        (word as usize, bits[0] | bits[1] | bits[2] | bits[3])
    }

    #[inline]
    fn may_have(&self, key: KeyHash) -> bool {
        let (word, bits) = self.place(key);
        key == KeyHash::NULL || self.words.get(word).is_some_and(|word| word & bits == bits)
    }

    fn add(&mut self, key: KeyHash) {
        let (word, bits) = self.place(key);
        if let Some(word) = self.words.get_mut(word) {
            *word |= bits;
        }
        self.room = self.room.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some of the keys share their bits.
    fn original((key, offset): (u64, i64)) -> Original {
        let bits = if key == 1 { 0 } else { (key << 50) | (key % 3) };
        Original { key: KeyHash::from_bits(bits), offset }
    }

    proptest! {
        #[test]
        fn the_filter_changes_no_answer(
            steps in prop::collection::vec(((1..30_u64, 0..20_i64), any::<bool>()), 0..1500),
        ) {
            let (mut places, mut model) = (Places::default(), BTreeMap::new());
            for (low, (number, adds)) in (0..).zip(steps) {
                let original = original(number);
                if adds {
                    places.insert(original, low);
                    model.insert(original, low);
                } else if let Some(low) = model.remove(&original) {
                    places.remove(original, low + 1);
                    prop_assert_eq!(places.get(original), Some(low), "it lies elsewhere");
                    places.remove(original, low);
                }
                prop_assert_eq!(places.get(original), model.get(&original).copied());
                prop_assert!(!model.contains_key(&original) || places.may_have(original.key));
                let of_key = model.range(Original::all_of(original.key)).map(|(original, low)| (*original, *low));
                prop_assert_eq!(places.before(original), of_key.clone().rfind(|(other, _)| *other < original));
                prop_assert_eq!(places.of_key(original.key).collect::<Vec<_>>(), of_key.collect::<Vec<_>>());
                prop_assert_eq!(places.first_offset(), model.keys().map(|original| original.offset).min());
            }
        }
    }
}
