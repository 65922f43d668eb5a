//! What travels in the metadata of a commit: what is settled beyond it, and how assignments have ended.
//!
//! The text is base64 (RFC 4648, no padding) of a version byte, 2, and then of variable-length integers (LEB128), but where it
//! says otherwise:
//!
//! - a byte for the number of unclean ends, with its highest bit for a conviction, and one for the number of records that are
//!   named for such an end;
//! - the offset of the commit that the text belongs to, since tools that move a group, from one cluster to another for
//!   instance, may keep the metadata;
//! - for each such record its distance from the one before it (from that offset for the first), and a byte for the number of
//!   ends during its trials;
//! - a byte for the form of what is settled. 0: for each range of settled offsets its distance from the end of the range
//!   before it (from the commit's offset for the first) and its length. 1: a bitmap, in which the lowest bit of the first byte
//!   is the commit's offset. The shorter form is chosen.
//!
//! Version 1 has the offset and the ranges only, and is still read. Kafka allows 4096 bytes of text
//! (`offset.metadata.max.bytes`), which is 3,072 before base64: as a bitmap, that holds whatever is settled of the 24,000
//! offsets behind the commit, or of some 20,000 while many records are named.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use thiserror::Error;

use crate::settled::Settled;
use crate::unclean::Ends;

/// What the metadata of a commit says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// How assignments have ended.
    pub ends: Ends,
    /// What is settled beyond the commit.
    pub settled: Settled,
}

/// Text for the metadata of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Empty where there is nothing to say.
    pub text: String,
    /// Ranges that did not fit, or not wholly: after a restart their records run again.
    pub left_out: usize,
}

/// Metadata that this version can't read.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Some other tool's.
    #[error("it is not base64 of a version and what that has")]
    Foreign,
    /// A later version's.
    #[error("it is of version {0}, and this version of Pointsman knows versions up to {VERSION}")]
    Version(u8),
    /// Some tool has set another offset and kept the metadata.
    #[error("it belongs to a commit at offset {0}: somebody has moved the group")]
    Moved(i64),
}

const VERSION: u8 = 2;
/// Has no unclean ends and no bitmap.
const FIRST_VERSION: u8 = 1;
/// What Kafka allows, before base64.
const MAX_BYTES: usize = 3072;

/// Of the byte for the number of unclean ends: [`Ends::convicted`].
const CONVICTED: u8 = 1 << 7;

const RANGES: u8 = 0;
const BITMAP: u8 = 1;

/// One form of what is settled.
struct Form {
    bytes: Vec<u8>,
    left_out: usize,
}

impl Metadata {
    /// Whatever is settled of so many offsets from the commit's on fits, whatever else there is to be said.
    pub const FITTING_OFFSETS: i64 = 20_000;

    /// The text for a commit at `offset`, below which nothing is that it tells of.
    #[must_use]
    pub fn encode(&self, offset: i64) -> Encoded {
        if self.ends.is_none() && self.settled.is_empty() {
            return Encoded { text: String::new(), left_out: 0 };
        }
        let named = || self.ends.trials.iter().filter(|(at, _)| **at >= offset).take(Ends::MOST_TRIALS);
        let convicted = if self.ends.convicted { CONVICTED } else { 0 };
        let mut bytes = vec![VERSION, self.ends.count | convicted, named().count() as u8];
        push_varint(&mut bytes, offset.cast_unsigned());
        let mut before = offset;
        for (at, ends) in named() {
            push_varint(&mut bytes, at.wrapping_sub(before).cast_unsigned());
            bytes.push(*ends);
            before = *at;
        }
        let room = MAX_BYTES - bytes.len() - 1;
        let (ranges, bitmap) = (as_ranges(&self.settled, offset, room), as_bitmap(&self.settled, offset, room));
        let (form, Form { bytes: settled, left_out }) =
            if weight(&ranges) <= weight(&bitmap) { (RANGES, ranges) } else { (BITMAP, bitmap) };
        bytes.push(form);
        bytes.extend(settled);
        Encoded { text: STANDARD_NO_PAD.encode(bytes), left_out }
    }

    /// Reads the metadata of a commit at `offset`. Empty metadata says nothing.
    ///
    /// # Errors
    /// [`DecodeError`]: the records beyond the commit point run again, and none is suspected.
    pub fn decode(text: &str, offset: i64) -> Result<Self, DecodeError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| DecodeError::Foreign)?;
        match bytes.split_first() {
            Some((&FIRST_VERSION, mut rest)) => {
                is_of(&mut rest, offset)?;
                let settled = from_ranges(rest, offset).ok_or(DecodeError::Foreign)?;
                Ok(Self { ends: Ends::default(), settled })
            }
            Some((&VERSION, [count, named, rest @ ..])) => {
                let mut rest = rest;
                is_of(&mut rest, offset)?;
                body((*count, *named), rest, offset).ok_or(DecodeError::Foreign)
            }
            Some((&VERSION, _)) | None => Err(DecodeError::Foreign),
            Some((&version, _)) => Err(DecodeError::Version(version)),
        }
    }
}

/// Takes the offset that the text belongs to.
fn is_of(rest: &mut &[u8], offset: i64) -> Result<(), DecodeError> {
    match take_varint(rest).ok_or(DecodeError::Foreign)?.cast_signed() {
        own if own == offset => Ok(()),
        other => Err(DecodeError::Moved(other)),
    }
}

/// What follows the offset; `None` where it is not what this version writes.
fn body((count, named): (u8, u8), mut rest: &[u8], offset: i64) -> Option<Metadata> {
    let (count, convicted) = (count & !CONVICTED, count & CONVICTED != 0);
    let mut ends = Ends { count, convicted, ..Ends::default() };
    let mut at = offset;
    for _ in 0..named {
        at = at.checked_add_unsigned(take_varint(&mut rest)?)?;
        let (during, after) = rest.split_first()?;
        rest = after;
        ends.trials.insert(at, *during);
    }
    let is_ours = count <= Ends::MANY
        && usize::from(named) <= Ends::MOST_TRIALS
        && ends.trials.values().all(|during| (1..=Ends::GUILTY).contains(during));
    let settled = match rest.split_first()? {
        (&RANGES, rest) => from_ranges(rest, offset)?,
        (&BITMAP, rest) => from_bitmap(rest, offset)?,
        _ => return None,
    };
    is_ours.then_some(Metadata { ends, settled })
}

/// What leaves out less is better, and of two that are alike the shorter one.
fn weight(form: &Form) -> (usize, usize) {
    (form.left_out, form.bytes.len())
}

fn as_ranges(settled: &Settled, offset: i64, room: usize) -> Form {
    let mut bytes = Vec::new();
    let mut at = offset;
    let ranges = settled.ranges();
    let count = ranges.len();
    for (index, (from, to)) in ranges.enumerate() {
        let mark = bytes.len();
        push_varint(&mut bytes, from.wrapping_sub(at).cast_unsigned());
        push_varint(&mut bytes, to.wrapping_sub(from).cast_unsigned());
        if bytes.len() > room {
            bytes.truncate(mark);
            return Form { bytes, left_out: count - index };
        }
        at = to;
    }
    Form { bytes, left_out: 0 }
}

fn as_bitmap(settled: &Settled, offset: i64, room: usize) -> Form {
    let place = |at: i64| usize::try_from(at.saturating_sub(offset)).unwrap_or(0);
    let (mut bytes, mut left_out) = (Vec::new(), 0);
    for (from, to) in settled.ranges().map(|(from, to)| (place(from), place(to))) {
        left_out += usize::from(to > 8 * room);
        for bit in from..to.min(8 * room) {
            bytes.resize((bit / 8 + 1).max(bytes.len()), 0);
            if let Some(byte) = bytes.last_mut() {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    Form { bytes, left_out }
}

fn from_ranges(mut rest: &[u8], offset: i64) -> Option<Settled> {
    let mut settled = Settled::default();
    let mut at = offset;
    while !rest.is_empty() {
        let (distance, length) = (take_varint(&mut rest)?, take_varint(&mut rest)?);
        let from = at.checked_add_unsigned(distance)?;
        at = from.checked_add_unsigned(length)?;
        if length == 0 {
            return None;
        }
        settled.push(from, at);
    }
    Some(settled)
}

fn from_bitmap(bytes: &[u8], offset: i64) -> Option<Settled> {
    let mut settled = Settled::default();
    for (index, byte) in bytes.iter().enumerate() {
        for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
            let at = offset.checked_add_unsigned(8 * index as u64 + bit)?;
            settled.push(at, at.checked_add(1)?);
        }
    }
    Some(settled)
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
mod tests;
