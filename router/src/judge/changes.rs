//! Events as differences to the records they came from. A stage that keeps a field of an event keeps it where it is: in the
//! record, or in what an earlier stage put in its place. Nothing is copied, however many events are made of one.

use pointsman_core::event::Event;
use pointsman_core::record::{Headers, OwnedHeader};
use pointsman_core::verdict::{Output, Patch};

/// Names an event: as its record has it, or as the change of this number left it.
pub(crate) type Version = Option<u32>;

/// The changes that the stages made to the events of a batch.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<Change>);

/// What one stage made of an event.
#[derive(Debug)]
struct Change {
    /// The event that the stage was given.
    base: Version,
    output: Output,
}

impl Changes {
    /// Adds what a stage made of the event `base`.
    pub(super) fn add(&mut self, base: Version, output: Output) -> Version {
        let number = u32::try_from(self.0.len()).ok();
        self.0.push(Change { base, output });
        number
    }

    /// What has become of the event that `record` came in as.
    pub(crate) fn event<'a>(&'a self, record: &Event<'a>, version: Version) -> Event<'a> {
        if version.is_none() {
            return *record;
        }
        Event {
            timestamp_ms: self.timestamp_ms(version).unwrap_or(record.timestamp_ms),
            key: self.key(version).unwrap_or(record.key),
            value: self.value(version).unwrap_or(record.value),
            headers: self.headers(version).map_or(record.headers, Headers::Owned),
            ..*record
        }
    }

    /// The port that the event was last sent to; `None` is the default one.
    pub(crate) fn port(&self, version: Version) -> Option<&str> {
        self.last(version, |output| output.port.as_deref())
    }

    /// Milliseconds since 1970-01-01 UTC in place of the record's timestamp.
    pub(crate) fn timestamp_ms(&self, version: Version) -> Option<i64> {
        self.last(version, |output| output.timestamp_ms)
    }

    /// What is in place of the record's key.
    pub(crate) fn key(&self, version: Version) -> Option<Option<&[u8]>> {
        self.last(version, |output| changed(&output.key))
    }

    /// What is in place of the record's value.
    pub(crate) fn value(&self, version: Version) -> Option<Option<&[u8]>> {
        self.last(version, |output| changed(&output.value))
    }

    /// What is in place of the record's headers.
    pub(crate) fn headers(&self, version: Version) -> Option<&[OwnedHeader]> {
        self.last(version, |output| output.headers.as_deref())
    }

    /// What the last change says that says anything.
    fn last<'a, T>(&'a self, mut version: Version, says: impl Fn(&'a Output) -> Option<T>) -> Option<T> {
        while let Some(change) = version.and_then(|number| self.0.get(number as usize)) {
            if let Some(said) = says(&change.output) {
                return Some(said);
            }
            version = change.base;
        }
        None
    }
}

fn changed(patch: &Patch) -> Option<Option<&[u8]>> {
    match patch {
        Patch::Keep => None,
        Patch::Null => Some(None),
        Patch::Set(bytes) => Some(Some(bytes)),
    }
}
