//! What is settled beyond the commit point, and how it travels in the metadata of a commit.
//!
//! The text is base64 (RFC 4648, no padding) of a version byte, 1, and of variable-length integers (LEB128): the offset of
//! the commit that the text belongs to, and for each range of settled offsets its distance from the end of the range before
//! it (from the commit's offset for the first) and its length. The offset is there since tools that move a group, from one
//! cluster to another for instance, may keep the metadata. Kafka allows 4096 bytes of it (`offset.metadata.max.bytes`),
//! which is 3,072 before base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use thiserror::Error;

/// Ranges of settled offsets, in order, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Half-open: from, to.
    ranges: std::collections::VecDeque<(i64, i64)>,
}

/// Text for the metadata of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Empty where nothing is settled beyond the commit point.
    pub text: String,
    /// Ranges that did not fit: after a restart their records run again.
    pub left_out: usize,
}

/// Metadata that this version did not write.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Some other tool's.
    #[error("it is not base64 of a version and ranges")]
    Foreign,
    /// A later version's.
    #[error("it is of version {0}, and this version of Pointsman knows version {VERSION}")]
    Version(u8),
    /// Some tool has set another offset and kept the metadata.
    #[error("it belongs to a commit at offset {0}: somebody has moved the group")]
    Moved(i64),
}

const VERSION: u8 = 1;
/// Three quarters of what Kafka allows, after base64.
const MAX_BYTES: usize = 3072;

impl Settled {
    /// Whether nothing is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
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

    /// The text for the metadata of a commit at `offset`, which is not above the first range.
    #[must_use]
    pub fn encode(&self, offset: i64) -> Encoded {
        let mut bytes = vec![VERSION];
        push_varint(&mut bytes, offset.cast_unsigned());
        let mut at = offset;
        for (index, (from, to)) in self.ranges.iter().enumerate() {
            let mark = bytes.len();
            push_varint(&mut bytes, from.wrapping_sub(at).cast_unsigned());
            push_varint(&mut bytes, to.wrapping_sub(*from).cast_unsigned());
            if bytes.len() > MAX_BYTES {
                bytes.truncate(mark);
                return Encoded { text: STANDARD_NO_PAD.encode(bytes), left_out: self.ranges.len() - index };
            }
            at = *to;
        }
        let text = if self.is_empty() { String::new() } else { STANDARD_NO_PAD.encode(bytes) };
        Encoded { text, left_out: 0 }
    }

    /// Reads the metadata of a commit at `offset`. Empty metadata says that nothing is settled beyond it.
    ///
    /// # Errors
    /// [`DecodeError`]: the records beyond the commit point run again.
    pub fn decode(text: &str, offset: i64) -> Result<Self, DecodeError> {
        let mut settled = Self::default();
        if text.is_empty() {
            return Ok(settled);
        }
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| DecodeError::Foreign)?;
        let mut rest = match bytes.split_first() {
            Some((&VERSION, rest)) => rest,
            Some((&version, _)) => return Err(DecodeError::Version(version)),
            None => return Err(DecodeError::Foreign),
        };
        let mut at = take_varint(&mut rest).ok_or(DecodeError::Foreign)?.cast_signed();
        if at != offset {
            return Err(DecodeError::Moved(at));
        }
        while !rest.is_empty() {
            let distance = take_varint(&mut rest).ok_or(DecodeError::Foreign)?;
            let length = take_varint(&mut rest).ok_or(DecodeError::Foreign)?;
            let from = at.checked_add_unsigned(distance).ok_or(DecodeError::Foreign)?;
            at = from.checked_add_unsigned(length).ok_or(DecodeError::Foreign)?;
            if length == 0 {
                return Err(DecodeError::Foreign);
            }
            settled.push(from, at);
        }
        Ok(settled)
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{DecodeError, Settled};

    #[test]
    fn metadata_that_is_not_of_this_commit_is_told_apart() {
        assert_eq!(Settled::decode("", 7), Ok(Settled::default()));
        assert_eq!(Settled::decode("{\"offset\":3}", 7), Err(DecodeError::Foreign));
        assert_eq!(Settled::decode("AgEB", 7), Err(DecodeError::Version(2)));
        let mut settled = Settled::default();
        settled.push(12, 15);
        let text = settled.encode(10).text;
        assert_eq!(Settled::decode(&text, 10), Ok(settled));
        assert_eq!(Settled::decode(&text, 9), Err(DecodeError::Moved(10)));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let mut settled = Settled::default();
        for offset in 1..=10_000 {
            settled.push(offset * 1000, offset * 1000 + 500);
        }
        let encoded = settled.encode(700);
        assert!(encoded.text.len() <= 4096);
        let back = Settled::decode(&encoded.text, 700).expect("our own text");
        assert_eq!(back.ranges.len() + encoded.left_out, 10_000);
        assert!(back.contains(1499) && !back.contains(1500));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(text in ".*", bytes in prop::collection::vec(any::<u8>(), 0..64), offset in any::<i64>()) {
            use base64::Engine as _;
            let _ = Settled::decode(&text, offset);
            let _ = Settled::decode(&base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes), offset);
        }
    }
}
