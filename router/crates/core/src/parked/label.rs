//! What is known of a parked record without the record.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::LazyLock;

use foldhash::quality::RandomState;

use crate::provenance::Marker;

/// What a process hashes keys by. Another one has another, so that whoever writes records can't choose a key that shares the hash
/// of somebody else's.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// What stands for a key, in this process. Two keys that share one are kept in order together, which harms neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash(u64);

impl KeyHash {
    /// Of a null key, which has no order.
    pub const NULL: Self = Self(0);

    /// Of this key; an empty one is a key.
    #[must_use]
    pub fn of(key: Option<&[u8]>) -> Self {
        let Some(key) = key else { return Self::NULL };
        let mut hasher = HASHER.build_hasher();
        hasher.write(key);
        Self(hasher.finish().max(1))
    }

    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// A record of the source partition, wherever its copies are. In order of keys, and then of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Original {
    /// Of its key.
    pub key: KeyHash,
    /// Its offset in the source.
    pub offset: i64,
}

impl Original {
    pub(super) const fn all_of(key: KeyHash) -> std::ops::RangeInclusive<Self> {
        Self { key, offset: i64::MIN }..=Self { key, offset: i64::MAX }
    }
}

/// What a route does about the order of records of one key. Records with a null key have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    /// Nothing.
    None,
    /// Records wait for those before them.
    Kept,
    /// So they do, and where one of them becomes a dead letter, so do those after it, until the key is released.
    KeptAndHeld,
}

/// How new a copy of a record is. One that was replayed from dead letters is newer than all from before it was; else the one
/// that was run more often is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition {
    /// How often it was replayed; beyond the most that this holds, that.
    pub replays: u16,
    /// How often it was run since.
    pub attempts: u32,
}

impl Edition {
    /// With the numbers of a [`Provenance`](crate::provenance::Provenance).
    #[must_use]
    pub fn new(replay_count: u32, attempts: u32) -> Self {
        Self { replays: u16::try_from(replay_count).unwrap_or(u16::MAX), attempts }
    }
}

/// What a record of the retry partition says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where it came from; `None` where that can't be read, or is not the lane's source partition: such a record has no
    /// order and no twins.
    pub original: Option<Original>,
    /// Not to be run before, in milliseconds since 1970-01-01 UTC.
    pub due_ms: i64,
    /// Which of several copies it is.
    pub edition: Edition,
    /// What it is there for.
    pub kind: Kind,
}

/// What a record of the retry partition is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It failed, or waits for another that did.
    Parked,
    /// Somebody has replayed it from dead letters.
    Replayed,
    /// It is no record to be run.
    Marker(Marker),
}
