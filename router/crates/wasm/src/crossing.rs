//! The border: events on their way in, verdicts on their way out. There are two doors to one contract.

use std::borrow::Cow;
use std::mem::size_of;

use pointsman_core::record::OwnedHeader;

use crate::bindings::pointsman::plugin::types as wit;
use crate::fault::Fault;
use crate::said::head;
use crate::spec::Limits;

pub(crate) mod columns;
pub(crate) mod records;

/// What a header counts for in [`Limits::output_bytes`], beside its name and value: what it takes on the host.
pub const HEADER_BYTES: usize = 48;

const _: () = assert!(size_of::<OwnedHeader>() <= HEADER_BYTES);

/// Bytes kept of each text with which a plugin gives its reasons: why it drops, retries or rejects, and its code. They are
/// held for as long as their record is in flight, and there are many of those.
const REASON_BYTES: usize = 1024;

/// Bytes of a port's name. A longer one is refused, not cut: cut, it could be another port.
const PORT_BYTES: usize = 64;

/// Room for the texts of host calls, which have limits of their own and are cut, not refused.
const HOST_CALL_BYTES: usize = 64 << 10;

/// Elements of [`Scratch`] that are kept whatever was needed.
const SCRATCH_KEPT: usize = 1024;

/// A header name that is not UTF-8: such a record can't be an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotText;

/// An empty vector in the memory of another, whose elements differ in lifetimes only. (The standard library collects in
/// place where the layouts are the same; were it not to, this would merely allocate.)
fn reuse<T, U>(mut vector: Vec<T>) -> Vec<U> {
    vector.clear();
    vector.into_iter().filter_map(|_| None).collect()
}

/// [`reuse`] until the next call, with half the memory where less than a quarter of it was used.
fn put_away<T, U>(vector: Vec<T>) -> Vec<U> {
    let used = vector.len();
    let mut empty = reuse(vector);
    let half = empty.capacity() / 2;
    if half >= SCRATCH_KEPT && used < half / 2 {
        empty.shrink_to(half);
    }
    empty
}

/// Bytes that wasmtime may allocate for the answer to a call with this many events. It counts the bytes of every list at
/// the size that its elements have on the host, before it copies anything; several lists in the same place of the guest's
/// memory count as often as they are named. So no answer that would be accepted is refused, and none takes much more. (Columns take less than the
/// records that they stand for.)
///
/// Texts count as the guest has them. That is exact for UTF-8, which all the toolchains that we know of write. Of a guest
/// that chose another encoding, the host holds up to twice as much as was counted for Latin-1, and one and a half times
/// as much for UTF-16; and since an ASCII text is counted twice in UTF-16, it may be refused below the limit.
pub(crate) fn budget(events: usize, limits: &Limits) -> usize {
    let verdicts = events.saturating_mul(size_of::<wit::Verdict>());
    let outputs = limits.output_events.saturating_mul(size_of::<wit::Output>());
    limits.output_bytes.saturating_add(verdicts).saturating_add(outputs).saturating_add(HOST_CALL_BYTES)
}

/// Counts what the host takes over of an answer. Reasons count in full, and are kept up to [`REASON_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Count {
    bytes: usize,
    outputs: usize,
    longest_port: usize,
}

impl Count {
    /// How many verdicts there are, and are to be.
    pub(crate) fn verdicts(&self, given: usize, events: usize) -> Result<(), Fault> {
        if given == events {
            return Ok(());
        }
        Err(Fault::bad_output("verdict-count", format!("it returned {given} verdicts for {events} events")))
    }

    pub(crate) fn outputs(&mut self, outputs: usize) {
        self.outputs = self.outputs.saturating_add(outputs);
    }

    /// Of a key or a value.
    pub(crate) fn bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(crate) fn header(&mut self, name: usize, value: usize) {
        self.bytes(HEADER_BYTES + name + value);
    }

    pub(crate) fn port(&mut self, port: String) -> String {
        self.bytes(port.len());
        self.longest_port = self.longest_port.max(port.len());
        port
    }

    /// The head of a text. It is copied where it is cut, so that the rest of it is freed.
    pub(crate) fn reason(&mut self, text: Cow<'_, str>) -> String {
        self.bytes(text.len());
        match head(&text, REASON_BYTES) {
            all if all.len() == text.len() => text.into_owned(),
            head => head.to_owned(),
        }
    }

    /// Compares what was counted with the limits. The answer is the number of bytes.
    pub(crate) fn check(&self, limits: &Limits) -> Result<usize, Fault> {
        let Self { bytes, outputs, longest_port } = self;
        if *outputs > limits.output_events {
            let message = format!("it emitted {outputs} events in one call; {} are the limit", limits.output_events);
            return Err(Fault::bad_output("output-events", message));
        }
        if *bytes > limits.output_bytes {
            let message = format!("its answer holds {bytes} bytes; {} are the limit", limits.output_bytes);
            return Err(Fault::bad_output("output-bytes", message));
        }
        if *longest_port > PORT_BYTES {
            let message = format!("it named a port of {longest_port} bytes; {PORT_BYTES} are the limit");
            return Err(Fault::bad_output("port-length", message));
        }
        Ok(*bytes)
    }
}
