//! The second door: a batch as columns in, verdicts as columns out. What the columns hold is said in the WIT text, of
//! `interface columns`.

use std::borrow::Cow;

use bytes::Bytes;
use pointsman_core::event::Event;
use pointsman_core::record::OwnedHeader;
use pointsman_core::verdict::{Output, Patch, Verdict, Verdicts};

use super::{Count, NotText, put_away};
use crate::bindings::columnar::exports::pointsman::plugin::columns as wit;
use crate::fault::Fault;
use crate::spec::Limits;

/// The length of what is null.
const NULL: u32 = u32::MAX;
/// The kind of verdict that most are.
const PASS: u8 = 0;

/// Memory for the columns of a call, kept from one call to the next. What one large call took is given back by and by.
#[derive(Default)]
pub(crate) struct Scratch {
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    attempts: Vec<u32>,
    key_lengths: Vec<u32>,
    value_lengths: Vec<u32>,
    header_counts: Vec<u32>,
    header_lengths: Vec<u32>,
    bytes: Vec<u8>,
    /// Bytes that were lent so far.
    pub(crate) lent: u64,
}

impl Scratch {
    /// Lends `events`, which are of one partition, to `call` in the form that crosses the border.
    pub(crate) fn lend<T>(
        &mut self,
        events: &[Event<'_>],
        fields: wit::Fields,
        call: impl FnOnce(wit::Batch<'_>) -> T,
    ) -> Result<T, NotText> {
        let filled = self.fill(events, fields);
        self.lent += self.bytes.len() as u64;
        let answer = filled.map(|()| {
            let first = events.first();
            call(wit::Batch {
                topic: first.map_or("", |event| event.topic),
                partition: first.map_or(0, |event| event.partition),
                offsets: &self.offsets,
                timestamps: &self.timestamps,
                attempts: &self.attempts,
                key_lengths: &self.key_lengths,
                value_lengths: &self.value_lengths,
                header_counts: &self.header_counts,
                header_lengths: &self.header_lengths,
                bytes: &self.bytes,
            })
        });
        self.empty();
        answer
    }

    fn fill(&mut self, events: &[Event<'_>], fields: wit::Fields) -> Result<(), NotText> {
        self.offsets.extend(events.iter().map(|event| event.offset));
        self.timestamps.extend(events.iter().map(|event| event.timestamp_ms));
        self.attempts.extend(events.iter().map(|event| event.attempt));
        for event in events {
            if fields.contains(wit::Fields::KEY) {
                push(&mut self.key_lengths, &mut self.bytes, event.key);
            }
            if fields.contains(wit::Fields::VALUE) {
                push(&mut self.value_lengths, &mut self.bytes, event.value);
            }
            if fields.contains(wit::Fields::HEADERS) {
                self.header_counts.push(length(event.headers.len()));
                for header in event.headers.iter() {
                    if !event.headers.are_plain() && !header.is_name_text() {
                        return Err(NotText);
                    }
                    push(&mut self.header_lengths, &mut self.bytes, Some(header.name));
                    push(&mut self.header_lengths, &mut self.bytes, header.value);
                }
            }
        }
        Ok(())
    }

    fn empty(&mut self) {
        let Self {
            offsets,
            timestamps,
            attempts,
            key_lengths,
            value_lengths,
            header_counts,
            header_lengths,
            bytes,
            lent: _,
        } = self;
        for numbers in [offsets, timestamps] {
            *numbers = put_away(std::mem::take(numbers));
        }
        for lengths in [attempts, key_lengths, value_lengths, header_counts, header_lengths] {
            *lengths = put_away(std::mem::take(lengths));
        }
        *bytes = put_away(std::mem::take(bytes));
    }
}

#[inline]
fn push(lengths: &mut Vec<u32>, bytes: &mut Vec<u8>, field: Option<&[u8]>) {
    lengths.push(field.map_or(NULL, |field| length(field.len())));
    append(bytes, field.unwrap_or_default());
}

/// Appends a field. Most are short, and in two pieces of a length that is known, one over the end of the other, they are copied
/// without a call, which takes longer than to copy them.
#[inline]
fn append(bytes: &mut Vec<u8>, field: &[u8]) {
    if !(append_by::<16>(bytes, field) || append_by::<8>(bytes, field) || append_by::<4>(bytes, field)) {
        bytes.extend_from_slice(field);
    }
}

/// Appends a field that is as long as one piece at least, and as two at most. The answer is whether it is.
#[inline]
fn append_by<const PIECE: usize>(bytes: &mut Vec<u8>, field: &[u8]) -> bool {
    let (Some(first), Some(last)) = (field.first_chunk::<PIECE>(), field.last_chunk::<PIECE>()) else { return false };
    if field.len() > 2 * PIECE {
        return false;
    }
    let begin = bytes.len();
    bytes.extend_from_slice(first);
    bytes.truncate(begin + field.len() - PIECE);
    bytes.extend_from_slice(last);
    true
}

/// A record of a log is shorter than 2 GiB, and so is what a plugin made of one.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(NULL - 1)
}

/// Checks the answer to a call with `events` events against the contract and the limits, and adds it to `verdicts`. Keys and
/// values stay where they are, in one piece of memory, until the last of them is done with. Gives the bytes of the answer.
pub(crate) fn accept(
    answer: wit::Verdicts,
    events: usize,
    limits: &Limits,
    verdicts: &mut Verdicts,
) -> Result<usize, Fault> {
    let mut count = Count::default();
    count.verdicts(answer.kinds.len(), events)?;
    let mut rest = Rest {
        lengths: answer.lengths.iter(),
        numbers: answer.numbers.iter(),
        outputs: answer.outputs.iter(),
        bytes: Bytes::from(answer.bytes),
    };
    let mut kinds = answer.kinds.as_slice();
    while !kinds.is_empty() {
        let passed = kinds.iter().take_while(|kind| **kind == PASS).count();
        verdicts.pass(passed);
        kinds = &kinds[passed..];
        if let Some(kind) = kinds.split_off_first() {
            verdicts.push(rest.verdict(*kind, &mut count)?);
        }
    }
    rest.end()?;
    count.check(limits)
}

/// What was not taken yet of the columns of an answer.
struct Rest<'a> {
    lengths: std::slice::Iter<'a, u32>,
    numbers: std::slice::Iter<'a, i64>,
    outputs: std::slice::Iter<'a, u8>,
    bytes: Bytes,
}

impl Rest<'_> {
    fn verdict(&mut self, kind: u8, count: &mut Count) -> Result<Verdict, Fault> {
        Ok(match kind {
            PASS => Verdict::Pass,
            1 => Verdict::Drop { reason: self.reason(count)? },
            2 => {
                let outputs = self.length()?;
                count.outputs(outputs);
                // Each takes a byte of a list that is here: what is named is not allocated before it is seen.
                if outputs > self.outputs.len() {
                    return Err(short("outputs"));
                }
                Verdict::Emit((0..outputs).map(|_| self.output(count)).collect::<Result<_, _>>()?)
            }
            3 => {
                let reason = self.reason(count)?;
                Verdict::Retry { reason, delay_ms: u64::try_from(self.number()?).ok() }
            }
            4 => Verdict::Reject { code: self.reason(count)?, message: self.reason(count)? },
            other => return Err(malformed(format!("there is no verdict of kind {other}"))),
        })
    }

    fn output(&mut self, count: &mut Count) -> Result<Output, Fault> {
        const PORT: u8 = 1;
        const KEY: u8 = 2;
        const VALUE: u8 = 4;
        const HEADERS: u8 = 8;
        const TIMESTAMP: u8 = 16;
        let has = *self.outputs.next().ok_or_else(|| short("outputs"))?;
        if has > PORT | KEY | VALUE | HEADERS | TIMESTAMP {
            return Err(malformed(format!("no output has {has:#b}")));
        }
        let port = if has & PORT > 0 { Some(self.text(|port| count.port(port.to_owned()))?) } else { None };
        let key = if has & KEY > 0 { self.patch(count)? } else { Patch::Keep };
        let value = if has & VALUE > 0 { self.patch(count)? } else { Patch::Keep };
        let headers = if has & HEADERS > 0 { Some(self.headers(count)?) } else { None };
        let timestamp_ms = if has & TIMESTAMP > 0 { Some(self.number()?) } else { None };
        Ok(Output { port, key, value, headers, timestamp_ms })
    }

    fn patch(&mut self, count: &mut Count) -> Result<Patch, Fault> {
        let bytes = self.nullable()?;
        count.bytes(bytes.as_ref().map_or(0, Bytes::len));
        Ok(bytes.map_or(Patch::Null, Patch::Set))
    }

    fn headers(&mut self, count: &mut Count) -> Result<Vec<OwnedHeader>, Fault> {
        let headers = self.length()?;
        // As above: each takes two lengths.
        if headers > self.lengths.len() / 2 {
            return Err(short("lengths"));
        }
        (0..headers)
            .map(|_| {
                let name: Box<[u8]> = self.text(|name| name.as_bytes().into())?;
                let value = self.nullable()?;
                count.header(name.len(), value.as_ref().map_or(0, Bytes::len));
                Ok(OwnedHeader { name, value: value.map(|value| Box::from(&*value)) })
            })
            .collect()
    }

    fn reason(&mut self, count: &mut Count) -> Result<String, Fault> {
        self.text(|text| count.reason(Cow::Borrowed(text)))
    }

    fn text<T>(&mut self, take: impl FnOnce(&str) -> T) -> Result<T, Fault> {
        let bytes = self.nullable()?.ok_or_else(|| malformed("a text is null".into()))?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(take(text)),
            Err(error) => Err(Fault::bad_output("utf-8", format!("it handed over a text that is not UTF-8: {error}"))),
        }
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, Fault> {
        let length = *self.lengths.next().ok_or_else(|| short("lengths"))?;
        if length == NULL {
            return Ok(None);
        }
        let length = length as usize;
        if length > self.bytes.len() {
            return Err(short("bytes"));
        }
        Ok(Some(self.bytes.split_to(length)))
    }

    fn length(&mut self) -> Result<usize, Fault> {
        self.lengths.next().map(|length| *length as usize).ok_or_else(|| short("lengths"))
    }

    fn number(&mut self) -> Result<i64, Fault> {
        self.numbers.next().copied().ok_or_else(|| short("numbers"))
    }

    fn end(&self) -> Result<(), Fault> {
        let left = [
            ("lengths", self.lengths.len()),
            ("numbers", self.numbers.len()),
            ("outputs", self.outputs.len()),
            ("bytes", self.bytes.len()),
        ];
        match left.into_iter().find(|(_, left)| *left > 0) {
            None => Ok(()),
            Some((list, left)) => Err(malformed(format!("{left} of its {list} belong to no verdict"))),
        }
    }
}

fn short(list: &str) -> Fault {
    malformed(format!("its {list} end before its verdicts do"))
}

fn malformed(message: String) -> Fault {
    Fault::bad_output("malformed", format!("it handed over columns that can't be taken: {message}"))
}

#[cfg(test)]
mod tests;
