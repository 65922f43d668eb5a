//! A batch of fetched records.

use std::collections::VecDeque;
use std::sync::Arc;

use pointsman_core::port::Batch;
use pointsman_core::record::{Header, Headers, Record};

use crate::native::{Client, Message, NativeHeaders, UNREADABLE_HEADERS};

/// Records in librdkafka's own buffers, which go back to it when the batch is dropped.
pub(crate) struct KafkaBatch {
    entries: Vec<Entry>,
    /// The headers of all records, one after the other. They point into the messages: no reference to them leaves with a
    /// longer life than that of `&self`, and none to those of a message that has given them away.
    headers: Vec<Header<'static>>,
    bytes: usize,
    /// Outlives the messages.
    _client: Arc<Client>,
}

struct Entry {
    message: Message,
    /// Its headers are gone, until they are restored.
    given_away: bool,
    /// As they were fetched, its headers are [plain](Header::is_plain).
    plain: bool,
    offset: i64,
    /// librdkafka looks it up anew at each question.
    timestamp_ms: i64,
    /// Where in [`KafkaBatch::headers`] the record's own begin.
    headers: usize,
}

/// In place of headers that were given away. A record that has it is undecodable, rather than one without headers.
const GIVEN_AWAY: &[Header<'static>] = &[Header { name: UNREADABLE_HEADERS, value: None }];

/// Headers that there is room for from the start, for each record.
const HEADERS: usize = 2;

/// So many records ahead of the one that is read, the memory is asked for what was fetched.
const PREFETCH: usize = 8;

impl KafkaBatch {
    /// Takes records off the front, at least one, until a bound is reached.
    pub(crate) fn new(
        waiting: &mut VecDeque<Message>,
        max_records: usize,
        max_bytes: usize,
        client: &Arc<Client>,
    ) -> Self {
        let capacity = waiting.len().min(max_records);
        let (mut entries, mut headers) = (Vec::with_capacity(capacity), Vec::with_capacity(HEADERS * capacity));
        let mut bytes = 0;
        while entries.len() < max_records.max(1)
            && let Some(mut message) = waiting.pop_front()
        {
            waiting.get(PREFETCH).into_iter().for_each(Message::prefetch);
            let first_header = headers.len();
            let plain = message.headers(&mut headers);
            let (offset, timestamp_ms) = (message.borrow().offset(), message.borrow().timestamp_ms());
            let entry = Entry { message, given_away: false, plain, offset, timestamp_ms, headers: first_header };
            let more = entry.record(Headers::Borrowed(&headers[first_header..])).bytes();
            if bytes + more > max_bytes && !entries.is_empty() {
                headers.truncate(first_header);
                waiting.push_front(entry.message);
                break;
            }
            bytes += more;
            entries.push(entry);
        }
        Self { entries, headers, bytes, _client: Arc::clone(client) }
    }

    /// The record without its headers, and those as they are, until they are restored.
    pub(crate) fn take_headers(&mut self, index: usize) -> (Record<'_>, Option<NativeHeaders>) {
        let entry = &mut self.entries[index];
        let headers = entry.message.detach_headers();
        entry.given_away = headers.is_some();
        (entry.record(Headers::NONE), headers)
    }

    /// Where in `headers` those of a record are.
    pub(crate) fn headers_of(&self, index: usize) -> std::ops::Range<usize> {
        let end = self.entries.get(index + 1).map_or(self.headers.len(), |next| next.headers);
        self.entries[index].headers..end
    }
}

impl Entry {
    #[inline]
    fn record<'a>(&'a self, headers: Headers<'a>) -> Record<'a> {
        let message = self.message.borrow();
        Record {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: message.key(),
            value: message.value(),
            headers,
        }
    }
}

impl Batch for KafkaBatch {
    fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    fn record(&self, index: usize) -> Record<'_> {
        let entry = &self.entries[index];
        let own = &self.headers[self.headers_of(index)];
        entry.record(match (entry.given_away, entry.plain) {
            (true, _) => Headers::Borrowed(GIVEN_AWAY),
            (false, true) => Headers::Plain(own),
            (false, false) => Headers::Borrowed(own),
        })
    }

    fn offset(&self, index: usize) -> i64 {
        self.entries[index].offset
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    /// librdkafka reads the headers once more, from the bytes that were fetched.
    fn restore(&mut self, index: usize) {
        let own = self.headers_of(index);
        let mut again = Vec::with_capacity(own.len());
        let entry = &mut self.entries[index];
        entry.given_away = false;
        entry.message.headers(&mut again);
        // As many as the first time, of the same bytes.
        for (place, header) in self.headers[own].iter_mut().zip(again) {
            *place = header;
        }
    }
}
