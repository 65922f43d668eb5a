//! Where a record lies in the table: its partition and offset in one integer.

const OFFSET_BITS: u32 = 40;

/// One past the largest offset that a partition can hold: about 10¹² records.
pub(crate) const OFFSETS: i64 = 1 << OFFSET_BITS;

/// One past the largest partition id: 4 million partitions over all topics.
pub(crate) const PARTITIONS: i64 = 1 << (62 - OFFSET_BITS);

/// Offsets of one segment, the grain of retention and of the index by time.
pub(crate) const SEGMENT: i64 = 1024;

/// The key of a row in `partitions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartitionId(pub(crate) i64);

impl PartitionId {
    /// The position of `offset`, which is from 0 up to [`OFFSETS`]; the latter gives the end of the partition's range.
    pub(crate) fn at(self, offset: i64) -> i64 {
        debug_assert!((0..=OFFSETS).contains(&offset), "offset {offset} can't be packed");
        (self.0 << OFFSET_BITS) + offset
    }
}

/// The offset in a position.
pub(crate) fn offset_of(position: i64) -> i64 {
    position & (OFFSETS - 1)
}

/// The first offset of the segment that holds `offset`.
pub(crate) fn segment_of(offset: i64) -> i64 {
    offset - offset % SEGMENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_partitions_never_meet() {
        for id in [0, 1, 2, PARTITIONS - 2] {
            let (this, next) = (PartitionId(id), PartitionId(id + 1));
            assert_eq!(this.at(OFFSETS), next.at(0));
            assert!(this.at(0) >= 0 && this.at(0) < next.at(0));
            assert_eq!(offset_of(PartitionId(id).at(OFFSETS - 1)), OFFSETS - 1);
        }
    }

    #[test]
    fn a_segment_starts_at_a_multiple_of_its_size() {
        assert_eq!(segment_of(0), 0);
        assert_eq!(segment_of(SEGMENT - 1), 0);
        assert_eq!(segment_of(SEGMENT), SEGMENT);
    }
}
