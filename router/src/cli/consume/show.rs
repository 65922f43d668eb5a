//! Printing records.

use std::io;
use std::ops::ControlFlow;

use pointsman_core::record::{Record, TopicPartition};

use super::Format;
use crate::record_text::{Values, append_line};

/// Prints records until there is a reason not to.
pub(super) struct Show<'a> {
    out: &'a mut dyn io::Write,
    format: Format,
    values: Values,
    key: Option<&'a str>,
    /// Records that may still be printed; `None` for all.
    left: Option<u64>,
    tombstones: u64,
    line: String,
}

/// Why no more is to be printed.
#[derive(Debug)]
pub(super) enum Enough {
    /// As many as were asked for are printed, or nobody reads any more.
    Done,
    /// They can't be printed.
    Output(io::Error),
}

impl<'a> Show<'a> {
    pub(super) fn new(
        out: &'a mut dyn io::Write,
        format: Format,
        values: Values,
        key: Option<&'a str>,
        max: Option<u64>,
    ) -> Self {
        Self { out, format, values, key, left: max, tombstones: 0, line: String::new() }
    }

    /// Tombstones that the format has nothing for.
    pub(super) fn tombstones(&self) -> u64 {
        self.tombstones
    }

    pub(super) fn record(&mut self, partition: &TopicPartition, record: Record<'_>) -> ControlFlow<Enough> {
        if self.key.is_some_and(|key| record.key != Some(key.as_bytes())) {
            return ControlFlow::Continue(());
        }
        let written = match (self.format, record.value) {
            (Format::Json, _) => {
                self.line.clear();
                append_line(&mut self.line, partition, record, self.values);
                self.line.push('\n');
                self.out.write_all(self.line.as_bytes())
            }
            (Format::Value, Some(value)) => self.out.write_all(value).and_then(|()| self.out.write_all(b"\n")),
            (Format::Raw, Some(value)) => self.out.write_all(value),
            (Format::Value | Format::Raw, None) => {
                self.tombstones += 1;
                Ok(())
            }
        };
        judge(written)?;
        match &mut self.left {
            Some(left) => {
                *left -= 1;
                if *left == 0 { ControlFlow::Break(Enough::Done) } else { ControlFlow::Continue(()) }
            }
            None => ControlFlow::Continue(()),
        }
    }

    /// Lets the reader see what was printed so far.
    pub(super) fn flush(&mut self) -> ControlFlow<Enough> {
        judge(self.out.flush())
    }
}

/// A reader that has gone away (`pointsman … | head`) has had enough.
fn judge(written: io::Result<()>) -> ControlFlow<Enough> {
    match written {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ControlFlow::Break(Enough::Done),
        Err(error) => ControlFlow::Break(Enough::Output(error)),
    }
}
