//! One dead letter in full.

use std::ops::ControlFlow;

use pointsman_core::port::{Log, LogError};
use pointsman_core::provenance::Account;
use pointsman_core::record::OwnedRecord;
use thiserror::Error;

use super::letter::{Letter, Place};
use crate::reading::{Ended, Merge, ReadError, Seen, Span};

/// A letter in full.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it lies.
    pub place: Place,
    /// The record as it lies there.
    pub record: OwnedRecord,
    /// What its headers tell.
    pub account: Account,
    /// Where its payload is.
    pub payload: Payload,
}

/// Where the key, the value and the original headers of a letter are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the letter.
    Here,
    /// They were too large for it: this is the record at its origin.
    AtOrigin(OwnedRecord),
    /// They were too large for it, and can't be had any more: why, in a clause.
    Gone(String),
}

impl Found {
    /// The record that has the payload, as far as there is one.
    #[must_use]
    pub fn whole(&self) -> Option<&OwnedRecord> {
        match &self.payload {
            Payload::Here => Some(&self.record),
            Payload::AtOrigin(record) => Some(record),
            Payload::Gone(_) => None,
        }
    }

    /// The letter.
    #[must_use]
    pub fn letter(&self) -> Letter<'_> {
        Letter { partition: &self.place.partition, record: self.record.as_record(), account: self.account.clone() }
    }
}

/// A record that can't be had.
#[derive(Debug, Error)]
pub enum FindError {
    /// The log can't be asked.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The partition does not reach that far, or no more.
    #[error("{} has no offset {}; it has {first} up to {end}, which is the next to be written", .place.partition, .place.offset)]
    OutOfRange {
        /// What was asked for.
        place: Place,
        /// The first offset there is.
        first: i64,
        /// One past the last.
        end: i64,
    },
    /// There is no record at that offset, though there are others around it.
    #[error(
        "there is no record at {0}: it was compacted away, is a mark of a transaction, or belongs to one that was undone"
    )]
    Gap(Place),
    /// It was told to stop.
    #[error("stopped before {0} was read")]
    Stopped(Place),
}

/// Reads one letter, and its payload where that is only at the origin. Arguments are as in [`visit`](super::visit).
///
/// # Errors
/// [`FindError`], of the letter. A payload that can't be had is none: see [`Payload`].
pub fn find(
    log: &dyn Log,
    place: Place,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Result<Found, FindError> {
    let record = fetch(log, &place, stop, note)?;
    let account = Letter::new(&place.partition, record.as_record()).account;
    let payload = match account.truncated.then(|| from_origin(log, &account, stop, note)) {
        None => Payload::Here,
        Some(Ok(record)) => Payload::AtOrigin(record),
        Some(Err(why)) => Payload::Gone(why),
    };
    Ok(Found { place, record, account, payload })
}

/// The record at the origin of a letter, if it is the one that became the letter; else why not, in a clause.
pub(super) fn from_origin(
    log: &dyn Log,
    account: &Account,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Result<OwnedRecord, String> {
    let (partition, offset) = account.origin.place().ok_or("the letter does not tell its origin")?;
    let record = fetch(log, &Place { partition, offset }, stop, note).map_err(|error| error.to_string())?;
    // A topic that was made anew has other records at the same offsets.
    if account.origin.timestamp_ms.is_some_and(|told| told != record.timestamp_ms) {
        return Err("the record at its origin is another one by now: it has another timestamp".into());
    }
    Ok(record)
}

fn fetch(
    log: &dyn Log,
    place: &Place,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Result<OwnedRecord, FindError> {
    let Place { partition, offset } = place;
    let (first, end) = log.watermarks(partition)?;
    if !(first..end).contains(offset) {
        return Err(FindError::OutOfRange { place: place.clone(), first, end });
    }
    let span = Span { partition: partition.clone(), start: *offset, end: offset + 1 };
    let mut see = |seen: Seen<'_>| match seen {
        Seen::Record(_, record) => ControlFlow::Break(OwnedRecord::from(record)),
        Seen::Waiting => ControlFlow::Continue(()),
    };
    match Merge::begin(log, vec![span], false)?.run(&mut see, stop, note) {
        Ended::Enough(record) => Ok(record),
        Ended::Done => Err(FindError::Gap(place.clone())),
        Ended::Stopped => Err(FindError::Stopped(place.clone())),
        Ended::Failed(error) => Err(error.into()),
    }
}
