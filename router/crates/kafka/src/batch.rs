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
    /// longer life than that of `&self`, and those of a message that has given its headers away are replaced.
    headers: Vec<Header<'static>>,
    /// Outlives the messages.
    _client: Arc<Client>,
}

struct Entry {
    message: Message,
    /// Where in [`KafkaBatch::headers`] the record's own begin.
    headers: usize,
}

/// In place of each header that was given away. A record that has it is undecodable, rather than one with fewer headers.
const GIVEN_AWAY: Header<'static> = Header { name: UNREADABLE_HEADERS, value: None };

impl KafkaBatch {
    /// Takes records off the front, at least one, until a bound is reached.
    pub(crate) fn new(
        waiting: &mut VecDeque<Message>,
        max_records: usize,
        max_bytes: usize,
        client: &Arc<Client>,
    ) -> Self {
        let capacity = waiting.len().min(max_records);
        let (mut entries, mut headers) = (Vec::with_capacity(capacity), Vec::new());
        let mut bytes = 0;
        while entries.len() < max_records.max(1)
            && let Some(mut message) = waiting.pop_front()
        {
            let first_header = headers.len();
            message.headers(&mut headers);
            bytes += record(&message, &headers[first_header..]).bytes();
            if bytes > max_bytes && !entries.is_empty() {
                headers.truncate(first_header);
                waiting.push_front(message);
                break;
            }
            entries.push(Entry { message, headers: first_header });
        }
        Self { entries, headers, _client: Arc::clone(client) }
    }

    /// The record without its headers, and those as they are, until they are restored.
    pub(crate) fn take_headers(&mut self, index: usize) -> (Record<'_>, Option<NativeHeaders>) {
        let own = self.headers_of(index);
        self.headers[own].fill(GIVEN_AWAY);
        let message = &mut self.entries[index].message;
        let headers = message.detach_headers();
        (record(message, &[]), headers)
    }

    /// Where in `headers` those of a record are.
    fn headers_of(&self, index: usize) -> std::ops::Range<usize> {
        let end = self.entries.get(index + 1).map_or(self.headers.len(), |next| next.headers);
        self.entries[index].headers..end
    }
}

fn record<'a>(message: &'a Message, headers: &'a [Header<'a>]) -> Record<'a> {
    let message = message.borrow();
    Record {
        offset: message.offset(),
        timestamp_ms: message.timestamp_ms(),
        key: message.key(),
        value: message.value(),
        headers: Headers::Borrowed(headers),
    }
}

impl Batch for KafkaBatch {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn record(&self, index: usize) -> Record<'_> {
        record(&self.entries[index].message, &self.headers[self.headers_of(index)])
    }

    /// librdkafka reads the headers once more, from the bytes that were fetched.
    fn restore(&mut self, index: usize) {
        let own = self.headers_of(index);
        let mut again = Vec::with_capacity(own.len());
        self.entries[index].message.headers(&mut again);
        // As many as the first time, of the same bytes.
        for (place, header) in self.headers[own].iter_mut().zip(again) {
            *place = header;
        }
    }
}
