//! A batch of events, and the verdicts on it, as the columns that cross the border. (What they hold is said in the WIT
//! text, of `interface columns`.)

use std::cell::Cell;
use std::slice::Iter;

use crate::bindings::exports::pointsman::plugin::columns;
use crate::event::{InBatch, InColumns, NULL, Shared, Source, take};
use crate::{Event, Output, Patch, Verdict};

/// The events of a batch, in order.
#[derive(Clone)]
pub struct Events<'a> {
    shared: &'a Shared<'a>,
    offsets: Iter<'a, i64>,
    timestamps: Iter<'a, i64>,
    attempts: Iter<'a, u32>,
    key_lengths: Iter<'a, u32>,
    value_lengths: Iter<'a, u32>,
    header_counts: Iter<'a, u32>,
    header_lengths: &'a [u32],
    bytes: &'a [u8],
}

impl<'a> Events<'a> {
    pub(crate) fn new(batch: &'a columns::Batch, shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            offsets: batch.offsets.iter(),
            timestamps: batch.timestamps.iter(),
            attempts: batch.attempts.iter(),
            key_lengths: batch.key_lengths.iter(),
            value_lengths: batch.value_lengths.iter(),
            header_counts: batch.header_counts.iter(),
            header_lengths: &batch.header_lengths,
            bytes: &batch.bytes,
        }
    }

    /// The headers of the next event. Their bytes are passed over.
    fn headers(&mut self) -> InColumns<'a> {
        let count = self.header_counts.next().copied().unwrap_or(0) as usize;
        let (lengths, rest) = self.header_lengths.split_at(2 * count);
        self.header_lengths = rest;
        let bytes = lengths.iter().filter(|length| **length != NULL).map(|length| *length as usize).sum();
        let (bytes, rest) = self.bytes.split_at(bytes);
        self.bytes = rest;
        InColumns { lengths, bytes }
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let offset = *self.offsets.next()?;
        // A column that was not asked for is empty.
        let key = self.key_lengths.next().and_then(|length| take(&mut self.bytes, *length));
        let value = self.value_lengths.next().and_then(|length| take(&mut self.bytes, *length));
        Some(Event(Source::Batch(InBatch {
            shared: self.shared,
            offset,
            timestamp: self.timestamps.next().copied().unwrap_or(-1),
            attempt: self.attempts.next().copied().unwrap_or(1),
            key,
            value,
            headers: self.headers(),
        })))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.offsets.size_hint()
    }
}

impl ExactSizeIterator for Events<'_> {}

thread_local! {
    static PRESENT: Cell<u32> = const { Cell::new(0) };
}

/// The first event of the present batch, counted from 0, that has no verdict yet.
#[cfg(any(test, target_arch = "wasm32"))]
pub(crate) fn present() -> u32 {
    PRESENT.get()
}

/// The verdicts on a batch: one for each event, in order.
pub struct Verdicts(columns::Verdicts);

impl Verdicts {
    pub(crate) fn with_capacity(events: usize) -> Self {
        PRESENT.set(0);
        Self(columns::Verdicts {
            kinds: Vec::with_capacity(events),
            lengths: Vec::new(),
            numbers: Vec::new(),
            outputs: Vec::new(),
            bytes: Vec::new(),
        })
    }

    pub(crate) fn into_columns(self) -> columns::Verdicts {
        self.0
    }

    /// Adds the verdict on the next event.
    pub fn push(&mut self, verdict: Verdict) {
        let columns = &mut self.0;
        let kind = match verdict {
            Verdict::Pass => 0,
            Verdict::Drop(reason) => {
                columns.text(&reason);
                1
            }
            Verdict::Emit(outputs) => {
                columns.lengths.push(length(outputs.len()));
                outputs.into_iter().for_each(|output| columns.output(&output));
                2
            }
            Verdict::Retry(retry) => {
                columns.text(&retry.reason);
                let delay = retry.delay.map(|delay| i64::try_from(delay).unwrap_or(i64::MAX));
                columns.numbers.push(delay.unwrap_or(-1));
                3
            }
            Verdict::Reject(rejection) => {
                columns.text(&rejection.code);
                columns.text(&rejection.message);
                4
            }
        };
        columns.kinds.push(kind);
        PRESENT.set(length(columns.kinds.len()));
    }
}

impl columns::Verdicts {
    fn output(&mut self, output: &Output) {
        let mut has = 0;
        if let Some(port) = &output.port {
            has |= 1;
            self.text(port);
        }
        for (bit, patch) in [(2, &output.key), (4, &output.value)] {
            match patch {
                Patch::Keep => continue,
                Patch::Null => self.nullable(None),
                Patch::Set(bytes) => self.nullable(Some(bytes)),
            }
            has |= bit;
        }
        if let Some(headers) = &output.headers {
            has |= 8;
            self.lengths.push(length(headers.len()));
            for header in headers {
                self.text(&header.name);
                self.nullable(header.value.as_deref());
            }
        }
        if let Some(timestamp) = output.timestamp {
            has |= 16;
            self.numbers.push(timestamp);
        }
        self.outputs.push(has);
    }

    fn text(&mut self, text: &str) {
        self.nullable(Some(text.as_bytes()));
    }

    fn nullable(&mut self, field: Option<&[u8]>) {
        self.lengths.push(field.map_or(NULL, |field| length(field.len())));
        self.bytes.extend_from_slice(field.unwrap_or_default());
    }
}

/// Nothing in a memory of 32 bits is longer.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(NULL - 1)
}
