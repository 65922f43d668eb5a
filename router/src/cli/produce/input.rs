//! From bytes to the records that they say.

use std::io::{self, BufRead};

use pointsman_core::record::OwnedHeader;
use thiserror::Error;

use super::lines::{self, Line};
use crate::record_text::{LineError, RecordLine, parse_line};

/// How the input says records.
#[derive(Debug)]
pub(super) enum Shape {
    /// One JSON object a line; lines of nothing but space are passed over.
    JsonLines,
    /// One value a line, with a key before the separator if there is one.
    Raw {
        /// Ends the key.
        key_separator: Option<String>,
    },
    /// One value in all.
    Whole,
}

/// What the command line says of every record.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    pub(super) key: Option<String>,
    /// They come after those of the line.
    pub(super) headers: Vec<OwnedHeader>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) partition: Option<i32>,
    /// No partition, whatever the line says.
    pub(super) by_key: bool,
}

impl Overrides {
    pub(super) fn apply(&self, mut record: RecordLine) -> RecordLine {
        if let Some(key) = &self.key {
            record.key = Some(key.clone().into_bytes());
        }
        record.headers.extend_from_slice(&self.headers);
        record.timestamp_ms = self.timestamp_ms.or(record.timestamp_ms);
        record.partition = if self.by_key { None } else { self.partition.or(record.partition) };
        record
    }
}

/// A record, and the line that it stands in.
#[derive(Debug)]
pub(super) struct Numbered {
    /// From 1.
    pub(super) line: u64,
    pub(super) record: RecordLine,
}

impl Numbered {
    /// The same, if the topic has the partition that it names.
    pub(super) fn within(self, topic: &str, partitions: u32) -> Result<Self, InputError> {
        let Some(number) = self.record.partition else { return Ok(self) };
        if u32::try_from(number).is_ok_and(|number| number < partitions) {
            return Ok(self);
        }
        let error = LineError {
            field: Some("partition".into()),
            cause: format!("{topic} has {partitions} partitions and no number {number}"),
            remedy: "write a number below that, or leave it out".into(),
        };
        Err(InputError::Line { line: self.line, error })
    }
}

/// No record.
#[derive(Debug, Error)]
pub(super) enum InputError {
    /// This line is none; the next may be.
    #[error("line {line}: {error}")]
    Line {
        /// From 1.
        line: u64,
        /// Why.
        error: LineError,
    },
    /// There is nothing more to be had.
    #[error("can't read the input: {0}")]
    Read(io::Error),
}

/// The records of an input. It ends with the input, or with [`InputError::Read`].
pub(super) struct Input<R> {
    source: Option<R>,
    shape: Shape,
    overrides: Overrides,
    max_bytes: usize,
    line: u64,
    is_inside_long_line: bool,
}

impl<R: BufRead> Input<R> {
    /// Reads `source`, and lets no line be much larger than a record of `max_record_bytes` needs.
    pub(super) fn new(source: R, shape: Shape, overrides: Overrides, max_record_bytes: usize) -> Self {
        /// JSON may take six characters for a byte, and some for names.
        const ESCAPED: usize = 6;
        const NAMES: usize = 64 << 10;
        let max_bytes = match shape {
            Shape::JsonLines => max_record_bytes.saturating_mul(ESCAPED).saturating_add(NAMES),
            Shape::Raw { .. } | Shape::Whole => max_record_bytes,
        };
        Self { source: Some(source), shape, overrides, max_bytes, line: 0, is_inside_long_line: false }
    }

    /// The next line; `None` at the end.
    fn read(&mut self) -> io::Result<Option<Line>> {
        let Some(source) = &mut self.source else { return Ok(None) };
        if matches!(self.shape, Shape::Whole) {
            let all = lines::all(source, self.max_bytes)?;
            self.source = None;
            return Ok(Some(all));
        }
        if std::mem::take(&mut self.is_inside_long_line) {
            lines::skip(source)?;
        }
        let line = lines::next(source, self.max_bytes)?;
        self.is_inside_long_line = matches!(line, Some(Line::TooLong));
        Ok(line)
    }

    /// The record of a line; `None` where there is nothing on it.
    fn parse(&self, line: Line) -> Result<Option<RecordLine>, LineError> {
        let Line::Whole(bytes) = line else { return Err(self.too_long()) };
        let record = match &self.shape {
            Shape::JsonLines => {
                let text = str::from_utf8(&bytes).map_err(|_| {
                    line_error("it is not UTF-8", "write bytes that are no text as {\"base64\": \"…\"}, or use --raw")
                })?;
                if text.trim().is_empty() {
                    return Ok(None);
                }
                parse_line(text)?
            }
            Shape::Raw { key_separator: Some(separator) } => split(&bytes, separator.as_bytes())?,
            Shape::Raw { key_separator: None } | Shape::Whole => {
                RecordLine { value: Some(bytes), ..RecordLine::default() }
            }
        };
        Ok(Some(self.overrides.apply(record)))
    }

    fn too_long(&self) -> LineError {
        line_error(
            format!("it has more than {} bytes, which is no record that may be written", self.max_bytes),
            "raise `max_record_size` in [router], and what the topic takes, if it should be",
        )
    }
}

impl<R: BufRead> Iterator for Input<R> {
    type Item = Result<Numbered, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match self.read() {
                Ok(line) => line?,
                Err(error) => {
                    self.source = None;
                    return Some(Err(InputError::Read(error)));
                }
            };
            self.line += 1;
            let line_number = self.line;
            match self.parse(line) {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(Numbered { line: line_number, record })),
                Err(error) => return Some(Err(InputError::Line { line: line_number, error })),
            }
        }
    }
}

fn split(line: &[u8], separator: &[u8]) -> Result<RecordLine, LineError> {
    let found = line.windows(separator.len()).position(|window| window == separator);
    let at = found.ok_or_else(|| {
        line_error(
            format!("it has no {:?} between key and value", String::from_utf8_lossy(separator)),
            "put it in, or leave --key-separator out for records without a key",
        )
    })?;
    let (key, value) = (&line[..at], &line[at + separator.len()..]);
    Ok(RecordLine { key: Some(key.into()), value: Some(value.into()), ..RecordLine::default() })
}

fn line_error(cause: impl Into<String>, remedy: impl Into<String>) -> LineError {
    LineError { field: None, cause: cause.into(), remedy: remedy.into() }
}
