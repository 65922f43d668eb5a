//! A batch of fetched records.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use pointsman_core::port::{Batch, Returned};
use pointsman_core::record::{Header, Headers, Record};

use crate::native::{Client, Message, NativeHeaders, UNREADABLE_HEADERS};

/// Records in librdkafka's own buffers, which go back to it when the batch is dropped, or the records are released.
pub(crate) struct KafkaBatch {
    places: Vec<Place>,
    /// What was fetched, as long as any of it is here.
    entries: Vec<Entry>,
    /// The headers of all records, one after the other. They point into the messages: no reference to them leaves with a
    /// longer life than that of `&self`, and none to those of a message that has given them away, or is gone.
    headers: Vec<Header<'static>>,
    bytes: usize,
    /// How many were released.
    released: usize,
    /// Those that came back.
    returned: HashMap<usize, Returned>,
    /// Outlives the messages.
    _client: Arc<Client>,
}

/// What is known of a record in any case.
#[derive(Clone, Copy)]
struct Place {
    offset: i64,
    /// librdkafka looks it up anew at each question.
    timestamp_ms: i64,
}

struct Entry {
    /// Nothing once it was released.
    message: Option<Message>,
    /// Its headers are gone, until they are restored.
    given_away: bool,
    /// As they were fetched, its headers are [plain](Header::is_plain).
    plain: bool,
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
        let mut places = Vec::with_capacity(capacity);
        let mut bytes = 0;
        while entries.len() < max_records.max(1)
            && let Some(mut message) = waiting.pop_front()
        {
            waiting.get(PREFETCH).into_iter().for_each(Message::prefetch);
            let first_header = headers.len();
            let plain = message.headers(&mut headers);
            let place = Place { offset: message.borrow().offset(), timestamp_ms: message.borrow().timestamp_ms() };
            let more = place.record(&message, Headers::Borrowed(&headers[first_header..])).bytes();
            if bytes + more > max_bytes && !entries.is_empty() {
                headers.truncate(first_header);
                waiting.push_front(message);
                break;
            }
            bytes += more;
            places.push(place);
            entries.push(Entry { message: Some(message), given_away: false, plain, headers: first_header });
        }
        let (released, returned) = (0, HashMap::new());
        Self { places, entries, headers, bytes, released, returned, _client: Arc::clone(client) }
    }

    /// The record without its headers, and those as they are, until they are restored; and how many they are. Nothing of a record
    /// that was released.
    pub(crate) fn take_headers(&mut self, index: usize) -> Option<(Record<'_>, Option<NativeHeaders>, usize)> {
        let count = self.headers_of(index)?.len();
        let Entry { message, given_away, .. } = self.entries.get_mut(index)?;
        let message = message.as_mut()?;
        let headers = message.detach_headers();
        *given_away = headers.is_some();
        Some((self.places[index].record(message, Headers::NONE), headers, count))
    }

    /// Gives the record's memory back to librdkafka: of it there is nothing here until it is [restored](Batch::restore).
    pub(crate) fn release(&mut self, index: usize) {
        // (The map would hash the index to find that out.)
        if !self.returned.is_empty() {
            self.returned.remove(&index);
        }
        let Some(entry) = self.entries.get_mut(index) else { return };
        self.released += usize::from(entry.message.take().is_some());
        if self.released == self.entries.len() {
            // While the processor still has it at hand.
            (self.entries, self.headers) = (Vec::new(), Vec::new());
        }
    }

    /// Where in `headers` those of a record are that was not released.
    fn headers_of(&self, index: usize) -> Option<Range<usize>> {
        let end = self.entries.get(index + 1).map_or(self.headers.len(), |next| next.headers);
        Some(self.entries.get(index)?.headers..end)
    }
}

impl Place {
    #[inline]
    fn record<'a>(self, message: &'a Message, headers: Headers<'a>) -> Record<'a> {
        let (Self { offset, timestamp_ms }, message) = (self, message.borrow());
        Record { offset, timestamp_ms, key: message.key(), value: message.value(), headers }
    }
}

impl Batch for KafkaBatch {
    fn len(&self) -> usize {
        self.places.len()
    }

    #[inline]
    fn record(&self, index: usize) -> Record<'_> {
        let place = self.places[index];
        let (entry, own) = (self.entries.get(index), self.headers_of(index));
        if let Some((Entry { message: Some(message), given_away, plain, .. }, own)) = entry.zip(own) {
            let own = &self.headers[own];
            let headers = match (given_away, plain) {
                (true, _) => Headers::Borrowed(GIVEN_AWAY),
                (false, true) => Headers::Plain(own),
                (false, false) => Headers::Borrowed(own),
            };
            return place.record(message, headers);
        }
        let Place { offset, timestamp_ms } = place;
        match self.returned.get(&index) {
            Some(returned) => returned.as_record(offset, timestamp_ms),
            None => Record { offset, timestamp_ms, key: None, value: None, headers: Headers::Borrowed(GIVEN_AWAY) },
        }
    }

    fn offset(&self, index: usize) -> i64 {
        self.places[index].offset
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of a record that was not released, librdkafka reads the headers once more, from the bytes that were fetched.
    fn restore(&mut self, index: usize, returned: Option<Returned>) -> bool {
        let own = self.headers_of(index);
        let entry = self.entries.get_mut(index);
        let Some((own, Entry { message: Some(message), given_away, .. })) = own.zip(entry) else {
            self.returned.extend(returned.map(|returned| (index, returned)));
            return self.returned.contains_key(&index);
        };
        let mut again = Vec::with_capacity(own.len());
        *given_away = false;
        message.headers(&mut again);
        // As many as the first time, of the same bytes.
        for (place, header) in self.headers[own].iter_mut().zip(again) {
            *place = header;
        }
        true
    }
}
