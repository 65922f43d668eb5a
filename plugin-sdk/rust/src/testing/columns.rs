//! The router's side of the border, for events made by hand: fills columns, and reads verdicts back.

use std::borrow::Cow;

use crate::bindings::exports::pointsman::plugin::columns::{Batch, Verdicts};
use crate::event::{NULL, Source, take};
use crate::{Event, Fields, Header, Output, Patch, Rejection, Retry, Verdict};

/// The events as columns, with what was asked for. They are told to be from where the first of them is from.
pub(super) fn batch(events: &[Event<'_>], fields: Fields) -> Batch {
    let mut batch = Batch {
        topic: events.first().map_or("", |event| event.topic()).to_owned(),
        partition: events.first().map_or(0, Event::partition),
        offsets: events.iter().map(Event::offset).collect(),
        timestamps: events.iter().map(|event| event.timestamp_ms().unwrap_or(-1)).collect(),
        attempts: events.iter().map(Event::attempt).collect(),
        key_lengths: Vec::new(),
        value_lengths: Vec::new(),
        header_counts: Vec::new(),
        header_lengths: Vec::new(),
        bytes: Vec::new(),
    };
    for event in events {
        let Source::Owned(event) = &event.0 else { continue };
        if fields.contains(Fields::KEY) {
            push(&mut batch.key_lengths, &mut batch.bytes, event.key.as_deref());
        }
        if fields.contains(Fields::VALUE) {
            push(&mut batch.value_lengths, &mut batch.bytes, event.value.as_deref());
        }
        if fields.contains(Fields::HEADERS) {
            batch.header_counts.push(event.headers.len() as u32);
            for header in &event.headers {
                push(&mut batch.header_lengths, &mut batch.bytes, Some(header.name.as_bytes()));
                push(&mut batch.header_lengths, &mut batch.bytes, header.value.as_deref());
            }
        }
    }
    batch
}

fn push(lengths: &mut Vec<u32>, bytes: &mut Vec<u8>, field: Option<&[u8]>) {
    lengths.push(field.map_or(NULL, |field| field.len() as u32));
    bytes.extend_from_slice(field.unwrap_or_default());
}

/// The verdicts that the columns hold.
pub(super) fn verdicts(columns: &Verdicts) -> Vec<Verdict> {
    let mut rest = Rest {
        lengths: columns.lengths.iter(),
        numbers: columns.numbers.iter(),
        outputs: columns.outputs.iter(),
        bytes: &columns.bytes,
    };
    columns.kinds.iter().map(|kind| rest.verdict(*kind)).collect()
}

struct Rest<'a> {
    lengths: std::slice::Iter<'a, u32>,
    numbers: std::slice::Iter<'a, i64>,
    outputs: std::slice::Iter<'a, u8>,
    bytes: &'a [u8],
}

impl Rest<'_> {
    fn verdict(&mut self, kind: u8) -> Verdict {
        match kind {
            1 => Verdict::Drop(self.text()),
            2 => {
                let outputs = self.length();
                Verdict::Emit((0..outputs).map(|_| self.output()).collect())
            }
            3 => Verdict::Retry(Retry { reason: self.text(), delay: u64::try_from(self.number()).ok() }),
            4 => Verdict::Reject(Rejection { code: self.text(), message: self.text() }),
            _ => Verdict::Pass,
        }
    }

    fn output(&mut self) -> Output {
        let has = self.outputs.next().copied().unwrap_or(0);
        let port = (has & 1 > 0).then(|| self.text());
        let key = if has & 2 > 0 { self.patch() } else { Patch::Keep };
        let value = if has & 4 > 0 { self.patch() } else { Patch::Keep };
        let headers = (has & 8 > 0).then(|| {
            let headers = self.length();
            (0..headers).map(|_| Header { name: self.text(), value: self.nullable() }).collect()
        });
        let timestamp = (has & 16 > 0).then(|| self.number());
        Output { port, key, value, headers, timestamp }
    }

    fn patch(&mut self) -> Patch {
        self.nullable().map_or(Patch::Null, Patch::Set)
    }

    fn text(&mut self) -> Cow<'static, str> {
        let bytes = self.nullable().unwrap_or_default();
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn nullable(&mut self) -> Option<Vec<u8>> {
        let length = self.lengths.next().copied().unwrap_or(0);
        take(&mut self.bytes, length).map(<[u8]>::to_vec)
    }

    fn length(&mut self) -> u32 {
        self.lengths.next().copied().unwrap_or(0)
    }

    fn number(&mut self) -> i64 {
        self.numbers.next().copied().unwrap_or(-1)
    }
}
