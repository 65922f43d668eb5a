//! The record as it was before it became a dead letter.

use pointsman_core::port::Log;
use pointsman_core::provenance::{Account, ProvenanceError, Writer};
use pointsman_core::record::{OwnedHeader, OwnedRecord};
use thiserror::Error;

use super::find::from_origin;
use super::letter::Letter;
use crate::record_text::RecordLine;

/// Why the record that it was can't be had from a letter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoOriginal {
    /// Which of the headers are its own is not known.
    #[error("its own headers can't be told from ours: {0}")]
    Torn(ProvenanceError),
    /// It is no dead letter.
    #[error("nothing says that it is a dead letter")]
    NoLetter,
    /// The payload was only at the origin, and is there no more.
    #[error("its payload is gone: {0}")]
    Gone(String),
}

/// The record that became this letter, byte for byte: key, value and headers, with the topic, partition, offset and timestamp
/// that it had, as far as the letter tells them. A payload that is only at the origin is read there; `stop` and `note` are as in
/// [`visit`](super::visit).
///
/// # Errors
/// [`NoOriginal`].
pub fn original(
    log: &dyn Log,
    letter: &Letter<'_>,
    stop: &dyn Fn() -> bool,
    note: &mut dyn FnMut(&str),
) -> Result<RecordLine, NoOriginal> {
    let Account { origin, writer, truncated, .. } = &letter.account;
    let headers = match (writer, letter.originals()) {
        (Writer::Torn(error), _) => return Err(NoOriginal::Torn(error.clone())),
        (Writer::Unknown, _) | (_, None) => return Err(NoOriginal::NoLetter),
        (Writer::Pointsman { .. } | Writer::Foreign(_), Some(headers)) => headers,
    };
    let at_origin = RecordLine {
        topic: origin.topic.as_deref().map(str::to_owned),
        partition: origin.partition,
        offset: origin.offset,
        timestamp_ms: origin.timestamp_ms,
        ..RecordLine::default()
    };
    if *truncated {
        let OwnedRecord { key, value, headers, .. } =
            from_origin(log, &letter.account, stop, note).map_err(NoOriginal::Gone)?;
        return Ok(RecordLine { key, value, headers, ..at_origin });
    }
    Ok(RecordLine {
        key: letter.record.key.map(Into::into),
        value: letter.record.value.map(Into::into),
        headers: headers.into_iter().map(OwnedHeader::from).collect(),
        ..at_origin
    })
}
