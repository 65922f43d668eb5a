//! The border: events on their way in, verdicts on their way out.

use std::mem::size_of;

use pointsman_core::event::Event;
use pointsman_core::record::OwnedHeader;
use pointsman_core::verdict::{Output, Patch, Verdict};

use crate::bindings::pointsman::plugin::types as wit;
use crate::fault::Fault;
use crate::said::head;
use crate::spec::Limits;

/// What a header counts for in [`Limits::output_bytes`], beside its name and value: what it takes on the host.
pub const HEADER_BYTES: usize = 48;

const _: () = assert!(size_of::<wit::HeaderResult>() <= HEADER_BYTES && size_of::<OwnedHeader>() <= HEADER_BYTES);

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

/// Memory for the events of a call, kept from one call to the next. What one large call took is given back by and by.
#[derive(Default)]
pub(crate) struct Scratch {
    events: Vec<wit::Event<'static>>,
    headers: Vec<wit::HeaderParam<'static>>,
}

impl Scratch {
    /// Lends `events` to `call` in the form that crosses the border. Nothing of them is copied.
    pub(crate) fn lend<T>(
        &mut self,
        events: &[Event<'_>],
        call: impl FnOnce(&[wit::Event<'_>]) -> T,
    ) -> Result<T, NotText> {
        let mut headers = reuse(std::mem::take(&mut self.headers));
        for header in events.iter().flat_map(|event| event.headers.iter()) {
            let name = std::str::from_utf8(header.name).map_err(|_| NotText)?;
            headers.push(wit::HeaderParam { name, value: header.value });
        }
        let mut crossing = reuse(std::mem::take(&mut self.events));
        let mut rest = &*headers;
        for event in events {
            let (own, others) = rest.split_at(event.headers.len());
            rest = others;
            crossing.push(wit::Event {
                topic: event.topic,
                partition: event.partition,
                offset: event.offset,
                timestamp: event.timestamp_ms,
                key: event.key,
                value: event.value,
                headers: own,
                attempt: event.attempt,
            });
        }
        let answer = call(&crossing);
        self.events = put_away(crossing);
        self.headers = put_away(headers);
        Ok(answer)
    }
}

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
/// memory count as often as they are named. So no answer that [`accept`] would take is refused, and none takes much more.
///
/// Texts count as the guest has them. That is exact for UTF-8, which all the toolchains that we know of write. Of a guest
/// that chose another encoding, the host holds up to twice as much as was counted for Latin-1, and one and a half times
/// as much for UTF-16; and since an ASCII text is counted twice in UTF-16, it may be refused below the limit.
pub(crate) fn budget(events: usize, limits: &Limits) -> usize {
    let verdicts = events.saturating_mul(size_of::<wit::Verdict>());
    let outputs = limits.output_events.saturating_mul(size_of::<wit::Output>());
    limits.output_bytes.saturating_add(verdicts).saturating_add(outputs).saturating_add(HOST_CALL_BYTES)
}

/// Checks the answer to a call with `events` events against the contract and the limits.
pub(crate) fn accept(answer: Vec<wit::Verdict>, events: usize, limits: &Limits) -> Result<Vec<Verdict>, Fault> {
    if answer.len() != events {
        let message = format!("it returned {} verdicts for {events} events", answer.len());
        return Err(Fault::bad_output("verdict-count", message));
    }
    let mut count = Count { bytes: 0, outputs: 0, longest_port: 0 };
    let verdicts = answer.into_iter().map(|verdict| count.verdict(verdict)).collect();
    if count.outputs > limits.output_events {
        let message =
            format!("it emitted {} events in one call; {} are the limit", count.outputs, limits.output_events);
        return Err(Fault::bad_output("output-events", message));
    }
    if count.bytes > limits.output_bytes {
        let message = format!("its answer holds {} bytes; {} are the limit", count.bytes, limits.output_bytes);
        return Err(Fault::bad_output("output-bytes", message));
    }
    if count.longest_port > PORT_BYTES {
        let message = format!("it named a port of {} bytes; {PORT_BYTES} are the limit", count.longest_port);
        return Err(Fault::bad_output("port-length", message));
    }
    Ok(verdicts)
}

/// Takes verdicts over, without copying their payloads, and counts them. Reasons count in full, and are kept up to
/// [`REASON_BYTES`].
struct Count {
    bytes: usize,
    outputs: usize,
    longest_port: usize,
}

impl Count {
    fn verdict(&mut self, verdict: wit::Verdict) -> Verdict {
        match verdict {
            wit::Verdict::Pass => Verdict::Pass,
            wit::Verdict::Drop(reason) => Verdict::Drop { reason: self.reason(reason) },
            wit::Verdict::Emit(outputs) => {
                self.outputs += outputs.len();
                Verdict::Emit(outputs.into_iter().map(|output| self.output(output)).collect())
            }
            wit::Verdict::Retry(wit::Retry { reason, delay }) => {
                Verdict::Retry { reason: self.reason(reason), delay_ms: delay }
            }
            wit::Verdict::Reject(wit::Rejection { code, message }) => {
                Verdict::Reject { code: self.reason(code), message: self.reason(message) }
            }
        }
    }

    fn output(&mut self, output: wit::Output) -> Output {
        Output {
            port: output.port.map(|port| self.port(port)),
            key: self.patch(output.key),
            value: self.patch(output.value),
            headers: output.headers.map(|headers| headers.into_iter().map(|header| self.header(header)).collect()),
            timestamp_ms: output.timestamp,
        }
    }

    fn header(&mut self, header: wit::HeaderResult) -> OwnedHeader {
        let wit::HeaderResult { name, value } = header;
        self.bytes += HEADER_BYTES + name.len() + value.as_ref().map_or(0, Vec::len);
        OwnedHeader { name: name.into_bytes().into(), value: value.map(Into::into) }
    }

    fn patch(&mut self, patch: wit::Patch) -> Patch {
        match patch {
            wit::Patch::Keep => Patch::Keep,
            wit::Patch::Null => Patch::Null,
            wit::Patch::Set(bytes) => {
                self.bytes += bytes.len();
                Patch::Set(bytes)
            }
        }
    }

    fn port(&mut self, port: String) -> String {
        self.bytes += port.len();
        self.longest_port = self.longest_port.max(port.len());
        port
    }

    /// The head of a text. It is copied where it is cut, so that the rest of it is freed.
    fn reason(&mut self, text: String) -> String {
        self.bytes += text.len();
        match head(&text, REASON_BYTES) {
            all if all.len() == text.len() => text,
            head => head.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::record::{Header, Headers};

    use super::*;

    #[test]
    fn the_memory_of_a_large_call_is_given_back() {
        let headers = [Header { name: b"name", value: None }; 20];
        let event = Event {
            topic: "orders",
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Headers::Borrowed(&headers),
            attempt: 1,
        };
        let mut scratch = Scratch::default();
        let mut lend = |events: usize| {
            let events = vec![event; events];
            assert_eq!(scratch.lend(&events, |events| events.len()), Ok(events.len()));
            (scratch.events.capacity(), scratch.headers.capacity())
        };
        let large = lend(100_000);
        assert!(large.0 >= 100_000 && large.1 >= 2_000_000, "{large:?}");
        assert_eq!(lend(100_000), large, "what is needed is kept");
        for _ in 0..20 {
            lend(10);
        }
        let small = lend(10);
        assert!(small.0.max(small.1) < 2 * SCRATCH_KEPT, "{small:?}");
        let some = lend(50);
        assert_eq!((lend(1), lend(50)), (some, some), "little is not given back");
    }
}
