//! What is settled beyond the commit point.

/// Ranges of settled offsets, in order, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Half-open: from, to.
    ranges: std::collections::VecDeque<(i64, i64)>,
}

impl Settled {
    /// Whether nothing is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many offsets are settled.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(from, to)| to.saturating_sub(*from).max(0).unsigned_abs()).sum()
    }

    /// The ranges, in order: each from its first offset to the one behind its last.
    pub(crate) fn ranges(&self) -> impl ExactSizeIterator<Item = (i64, i64)> {
        self.ranges.iter().copied()
    }

    /// Whether `offset` is settled.
    #[must_use]
    pub fn contains(&self, offset: i64) -> bool {
        let index = self.ranges.partition_point(|(_, to)| *to <= offset);
        self.ranges.get(index).is_some_and(|(from, _)| *from <= offset)
    }

    /// What is settled of records whose offsets come in order, and then `later`.
    pub(crate) fn of(slots: impl Iterator<Item = (i64, bool)>, later: &Self) -> Self {
        let mut settled = Self::default();
        // A range runs from the first of some settled neighbours to just behind the last of them: nothing can be in the
        // gaps between offsets that came one after the other.
        let mut run: Option<(i64, i64)> = None;
        for (offset, is_settled) in slots {
            run = match (run, is_settled) {
                (None, true) => Some((offset, offset + 1)),
                (Some((from, _)), true) => Some((from, offset + 1)),
                (Some((from, to)), false) => {
                    settled.push(from, to);
                    None
                }
                (None, false) => None,
            };
        }
        if let Some((from, to)) = run {
            settled.push(from, to);
        }
        settled.extend(later);
        settled
    }

    /// Appends a range behind the others; one that touches the last is joined to it.
    pub(crate) fn push(&mut self, from: i64, to: i64) {
        match self.ranges.back_mut() {
            Some((_, end)) if *end >= from => *end = (*end).max(to),
            _ => self.ranges.push_back((from, to)),
        }
    }

    pub(crate) fn extend(&mut self, later: &Self) {
        for (from, to) in &later.ranges {
            self.push(*from, *to);
        }
    }

    pub(crate) fn forget_below(&mut self, offset: i64) {
        while let Some((from, to)) = self.ranges.front_mut() {
            if *to > offset {
                *from = (*from).max(offset);
                break;
            }
            self.ranges.pop_front();
        }
    }
}
