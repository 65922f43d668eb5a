//! The border: events on their way in, verdicts on their way out.

use std::mem::size_of;

use pointsman_core::event::Event;
use pointsman_core::record::OwnedHeader;
use pointsman_core::verdict::{Output, Patch, Verdict};

use crate::bindings::pointsman::plugin::types as wit;
use crate::fault::Fault;
use crate::spec::Limits;

/// What a header counts for in [`Limits::output_bytes`], beside its name and value: what it takes on the host.
pub const HEADER_BYTES: usize = 48;

const _: () = assert!(size_of::<wit::HeaderResult>() <= HEADER_BYTES && size_of::<OwnedHeader>() <= HEADER_BYTES);

/// Room for the texts of host calls, which have limits of their own and are cut, not refused.
const HOST_CALL_BYTES: usize = 64 << 10;

/// A header name that is not UTF-8: such a record can't be an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotText;

/// Memory for the events of a call, kept from one call to the next.
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
        self.events = reuse(crossing);
        self.headers = reuse(headers);
        Ok(answer)
    }
}

/// An empty vector in the memory of another, whose elements differ in lifetimes only. (The standard library collects in
/// place where the layouts are the same; were it not to, this would merely allocate.)
fn reuse<T, U>(mut vector: Vec<T>) -> Vec<U> {
    vector.clear();
    vector.into_iter().filter_map(|_| None).collect()
}

/// Bytes that wasmtime may allocate for the answer to a call with this many events. It counts the bytes of every list at
/// the size that its elements have on the host, before it copies anything; several lists in the same place of the guest's
/// memory count as often as they are named. So no answer that [`accept`] would take is refused, and none takes much more.
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
    let mut count = Count { bytes: 0, outputs: 0 };
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
    Ok(verdicts)
}

/// Takes verdicts over, without copying their bytes, and counts them.
struct Count {
    bytes: usize,
    outputs: usize,
}

impl Count {
    fn verdict(&mut self, verdict: wit::Verdict) -> Verdict {
        match verdict {
            wit::Verdict::Pass => Verdict::Pass,
            wit::Verdict::Drop(reason) => Verdict::Drop { reason: self.text(reason) },
            wit::Verdict::Emit(outputs) => {
                self.outputs += outputs.len();
                Verdict::Emit(outputs.into_iter().map(|output| self.output(output)).collect())
            }
            wit::Verdict::Retry(wit::Retry { reason, delay }) => {
                Verdict::Retry { reason: self.text(reason), delay_ms: delay }
            }
            wit::Verdict::Reject(wit::Rejection { code, message }) => {
                Verdict::Reject { code: self.text(code), message: self.text(message) }
            }
        }
    }

    fn output(&mut self, output: wit::Output) -> Output {
        Output {
            port: output.port.map(|port| self.text(port)),
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

    fn text(&mut self, text: String) -> String {
        self.bytes += text.len();
        text
    }
}
