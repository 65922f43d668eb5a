//! The first door: records in, variants out.

use pointsman_core::event::Event;
use pointsman_core::record::OwnedHeader;
use pointsman_core::verdict::{Output, Patch, Verdict, Verdicts};

use super::{Count, HEADER_BYTES, NotText, put_away, reuse};
use crate::bindings::pointsman::plugin::types as wit;
use crate::fault::Fault;
use crate::spec::Limits;

const _: () = assert!(size_of::<wit::HeaderResult>() <= HEADER_BYTES);

/// Memory for the events of a call, kept from one call to the next. What one large call took is given back by and by.
#[derive(Default)]
pub(crate) struct Scratch {
    events: Vec<wit::Event<'static>>,
    headers: Vec<wit::HeaderParam<'static>>,
    /// Bytes that were lent so far.
    pub(crate) lent: u64,
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
            self.lent += (name.len() + header.value.map_or(0, <[u8]>::len)) as u64;
            headers.push(wit::HeaderParam { name, value: header.value });
        }
        let mut crossing = reuse(std::mem::take(&mut self.events));
        let mut rest = &*headers;
        for event in events {
            let (own, others) = rest.split_at(event.headers.len());
            rest = others;
            self.lent += (event.key.map_or(0, <[u8]>::len) + event.value.map_or(0, <[u8]>::len)) as u64;
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

/// Checks the answer to a call with `events` events against the contract and the limits, and takes it over, without
/// copying payloads. Gives the bytes of the answer, too.
pub(crate) fn accept(answer: Vec<wit::Verdict>, events: usize, limits: &Limits) -> Result<(Verdicts, usize), Fault> {
    let mut count = Count::default();
    count.verdicts(answer.len(), events)?;
    let verdicts = answer.into_iter().map(|given| verdict(&mut count, given)).collect();
    Ok((verdicts, count.check(limits)?))
}

fn verdict(count: &mut Count, verdict: wit::Verdict) -> Verdict {
    match verdict {
        wit::Verdict::Pass => Verdict::Pass,
        wit::Verdict::Drop(reason) => Verdict::Drop { reason: count.reason(reason.into()) },
        wit::Verdict::Emit(outputs) => {
            count.outputs(outputs.len());
            Verdict::Emit(outputs.into_iter().map(|given| output(count, given)).collect())
        }
        wit::Verdict::Retry(wit::Retry { reason, delay }) => {
            Verdict::Retry { reason: count.reason(reason.into()), delay_ms: delay }
        }
        wit::Verdict::Reject(wit::Rejection { code, message }) => {
            Verdict::Reject { code: count.reason(code.into()), message: count.reason(message.into()) }
        }
    }
}

fn output(count: &mut Count, output: wit::Output) -> Output {
    let headers = |headers: Vec<wit::HeaderResult>| headers.into_iter().map(|given| header(count, given)).collect();
    let headers = output.headers.map(headers);
    Output {
        port: output.port.map(|port| count.port(port)),
        key: patch(count, output.key),
        value: patch(count, output.value),
        headers,
        timestamp_ms: output.timestamp,
    }
}

fn header(count: &mut Count, header: wit::HeaderResult) -> OwnedHeader {
    let wit::HeaderResult { name, value } = header;
    count.header(name.len(), value.as_ref().map_or(0, Vec::len));
    OwnedHeader { name: name.into_bytes().into(), value: value.map(Into::into) }
}

fn patch(count: &mut Count, patch: wit::Patch) -> Patch {
    match patch {
        wit::Patch::Keep => Patch::Keep,
        wit::Patch::Null => Patch::Null,
        wit::Patch::Set(bytes) => {
            count.bytes(bytes.len());
            Patch::Set(bytes.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use pointsman_core::record::{Header, Headers};

    use super::super::SCRATCH_KEPT;
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
