//! What goes over the border comes back as it was.

use pointsman_core::event::Event;
use pointsman_core::failure::FailureClass;
use pointsman_core::port::{CallError, PluginHost};
use pointsman_core::record::{Header, Headers, OwnedHeader};
use pointsman_core::verdict::{Output, Patch, Verdict};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::guests::{Guest, PASS, PLUGIN, call, event, worker};

/// Emits each event as it came, its topic as the port, and the sum of its numbers as the timestamp.
const ECHO: Guest<'static> = Guest {
    items: "(func $patch (param $from i32) (param $to i32)
        (if (i32.load8_u (local.get $from))
          (then
            (i32.store8 (local.get $to) (i32.const 2))
            (i64.store offset=4 align=4 (local.get $to) (i64.load offset=4 align=4 (local.get $from))))
          (else (i32.store8 (local.get $to) (i32.const 1)))))",
    process: "(local $verdict i32) (local $output i32) (local $verdicts i32) (local $left i32)
        (local.set $left (local.get $count))
        (local.set $verdicts (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (i32.const 32) (local.get $count))))
        (local.set $output (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (i32.const 64) (local.get $count))))
        (local.set $verdict (local.get $verdicts))
        (loop $next
          (i32.store8 (local.get $verdict) (i32.const 2))
          (i32.store offset=8 (local.get $verdict) (local.get $output))
          (i32.store offset=12 (local.get $verdict) (i32.const 1))
          (i32.store8 (local.get $output) (i32.const 1))
          (i64.store offset=4 align=4 (local.get $output) (i64.load align=4 (local.get $events)))
          (call $patch (i32.add (local.get $events) (i32.const 32)) (i32.add (local.get $output) (i32.const 12)))
          (call $patch (i32.add (local.get $events) (i32.const 44)) (i32.add (local.get $output) (i32.const 24)))
          (i32.store8 offset=36 (local.get $output) (i32.const 1))
          (i64.store offset=40 align=4 (local.get $output) (i64.load offset=56 align=4 (local.get $events)))
          (i32.store8 offset=48 (local.get $output) (i32.const 1))
          (i64.store offset=56 (local.get $output) (i64.add
            (i64.add (i64.load offset=16 (local.get $events)) (i64.load offset=24 (local.get $events)))
            (i64.add (i64.load32_s offset=8 (local.get $events)) (i64.load32_u offset=64 (local.get $events)))))
          (local.set $events (i32.add (local.get $events) (i32.const 72)))
          (local.set $verdict (i32.add (local.get $verdict) (i32.const 32)))
          (local.set $output (i32.add (local.get $output) (i32.const 64)))
          (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $answer (local.get $verdicts) (local.get $count))",
    ..PASS
};

#[derive(Clone, Debug)]
struct Sample {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    attempt: u32,
}

fn sample() -> impl Strategy<Value = Sample> {
    let bytes = || option::of(vec(any::<u8>(), 0..40));
    (
        ".{0,12}",
        any::<i32>(),
        -1..i64::from(u32::MAX),
        -1..i64::from(u32::MAX),
        bytes(),
        bytes(),
        vec((".{0,8}", bytes()), 0..4),
        any::<u32>(),
    )
        .prop_map(|(topic, partition, offset, timestamp_ms, key, value, headers, attempt)| Sample {
            topic,
            partition,
            offset,
            timestamp_ms,
            key,
            value,
            headers,
            attempt,
        })
}

fn patch(field: Option<&Vec<u8>>) -> Patch {
    field.map_or(Patch::Null, |bytes| Patch::Set(bytes.clone().into()))
}

impl Sample {
    fn owned(&self) -> Vec<OwnedHeader> {
        let header = |(name, value): &(String, Option<Vec<u8>>)| OwnedHeader {
            name: name.as_bytes().into(),
            value: value.as_deref().map(Into::into),
        };
        self.headers.iter().map(header).collect()
    }

    fn event<'a>(&'a self, headers: Headers<'a>) -> Event<'a> {
        Event {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
            attempt: self.attempt,
        }
    }

    fn echo(&self) -> Verdict {
        Verdict::Emit(vec![Output {
            port: Some(self.topic.clone()),
            key: patch(self.key.as_ref()),
            value: patch(self.value.as_ref()),
            headers: Some(self.owned()),
            timestamp_ms: Some(self.offset + self.timestamp_ms + i64::from(self.partition) + i64::from(self.attempt)),
        }])
    }
}

#[test]
fn events_cross_the_border_and_come_back_as_they_were() {
    let mut worker = worker(ECHO);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    });
    let call = |samples: Vec<Sample>| {
        let owned: Vec<_> = samples.iter().map(Sample::owned).collect();
        let borrowed: Vec<Vec<Header<'_>>> =
            owned.iter().map(|headers| headers.iter().map(OwnedHeader::as_header).collect()).collect();
        let expected: Vec<_> = samples.iter().map(Sample::echo).collect();
        for lent in [false, true] {
            let events: Vec<_> = samples
                .iter()
                .zip(owned.iter().zip(&borrowed))
                .map(|(sample, (owned, borrowed))| {
                    sample.event(if lent { Headers::Borrowed(borrowed) } else { Headers::Owned(owned) })
                })
                .collect();
            prop_assert_eq!(worker.call(PLUGIN, &events, 0).unwrap().into_vec(), expected.clone());
        }
        Ok(())
    };
    // `run` wants a function that can be called many times at once; a worker can't.
    let call = std::cell::RefCell::new(call);
    runner.run(&vec(sample(), 1..20), |samples| (call.borrow_mut())(samples)).unwrap();
}

#[test]
fn each_verdict_arrives() {
    let guest = Guest {
        items: "(data (i32.const 60000) \"whycode\")",
        // Retry with a delay, retry without, reject.
        process: "(i32.store8 (i32.const 4096) (i32.const 3)) (call $text (i32.const 4104) (i32.const 0) (i32.const 3))
            (i32.store8 (i32.const 4112) (i32.const 1)) (i64.store (i32.const 4120) (i64.const 1500))
            (i32.store8 (i32.const 4128) (i32.const 3)) (call $text (i32.const 4136) (i32.const 0) (i32.const 3))
            (i32.store8 (i32.const 4160) (i32.const 4)) (call $text (i32.const 4168) (i32.const 3) (i32.const 4))
            (call $text (i32.const 4176) (i32.const 0) (i32.const 3))
            (call $pass (local.get $count))",
        ..PASS
    };
    let items = format!(
        "{} (func $text (param $to i32) (param $from i32) (param $length i32)
            (i32.store (local.get $to) (i32.add (i32.const 60000) (local.get $from)))
            (i32.store offset=4 (local.get $to) (local.get $length)))",
        guest.items
    );
    let verdicts = call(&mut worker(Guest { items: &items, ..guest })).unwrap();
    assert_eq!(
        verdicts,
        [
            Verdict::Retry { reason: "why".into(), delay_ms: Some(1500) },
            Verdict::Retry { reason: "why".into(), delay_ms: None },
            Verdict::Reject { code: "code".into(), message: "why".into() },
        ]
    );
}

#[test]
fn a_header_name_that_is_not_utf8_never_reaches_a_plugin() {
    let mut worker = worker(ECHO);
    let headers = [Header { name: b"\xff", value: None }];
    let torn = Event { headers: Headers::Borrowed(&headers), ..event(0, b"") };
    let answer = worker.call(PLUGIN, &[event(1, b""), torn], 0);
    let Err(CallError::Guest { class, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(class, FailureClass::Undecodable);
    assert!(worker.call(PLUGIN, &[event(1, b"")], 0).is_ok());
}
