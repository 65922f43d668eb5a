#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::time::Duration;

use pointsman_core::failure::FailureClass;
use pointsman_core::record::{Header, Headers};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::SCRATCH_KEPT;
use super::*;

const LIMITS: Limits =
    Limits { memory_bytes: 0, deadline: Duration::ZERO, output_bytes: 10_000, output_events: 100, table_elements: 0 };

fn nothing() -> wit::Verdicts {
    wit::Verdicts { kinds: vec![], lengths: vec![], numbers: vec![], outputs: vec![], bytes: vec![] }
}

/// Columns as a plugin writes them.
fn columns(verdicts: &[Verdict]) -> wit::Verdicts {
    let mut columns = nothing();
    for verdict in verdicts {
        let kind = match verdict {
            Verdict::Pass => 0,
            Verdict::Drop { reason } => {
                write(&mut columns, Some(reason.as_bytes()));
                1
            }
            Verdict::Emit(outputs) => {
                columns.lengths.push(outputs.len() as u32);
                outputs.iter().for_each(|output| write_output(&mut columns, output));
                2
            }
            Verdict::Retry { reason, delay_ms } => {
                write(&mut columns, Some(reason.as_bytes()));
                columns.numbers.push(delay_ms.map_or(-1, u64::cast_signed));
                3
            }
            Verdict::Reject { code, message } => {
                write(&mut columns, Some(code.as_bytes()));
                write(&mut columns, Some(message.as_bytes()));
                4
            }
        };
        columns.kinds.push(kind);
    }
    columns
}

fn write_output(columns: &mut wit::Verdicts, output: &Output) {
    let mut has = 0;
    if let Some(port) = &output.port {
        has |= 1;
        write(columns, Some(port.as_bytes()));
    }
    for (bit, patch) in [(2, &output.key), (4, &output.value)] {
        has |= match patch {
            Patch::Keep => 0,
            Patch::Null => {
                write(columns, None);
                bit
            }
            Patch::Set(bytes) => {
                write(columns, Some(bytes));
                bit
            }
        };
    }
    if let Some(headers) = &output.headers {
        has |= 8;
        columns.lengths.push(headers.len() as u32);
        for header in headers {
            write(columns, Some(&header.name));
            write(columns, header.value.as_deref());
        }
    }
    if let Some(timestamp) = output.timestamp_ms {
        has |= 16;
        columns.numbers.push(timestamp);
    }
    columns.outputs.push(has);
}

fn write(columns: &mut wit::Verdicts, field: Option<&[u8]>) {
    columns.lengths.push(field.map_or(NULL, |field| field.len() as u32));
    columns.bytes.extend_from_slice(field.unwrap_or_default());
}

fn any_patch() -> impl Strategy<Value = Patch> {
    prop_oneof![Just(Patch::Keep), Just(Patch::Null), vec(any::<u8>(), 0..9).prop_map(|bytes| Patch::Set(bytes.into())),]
}

fn any_output() -> impl Strategy<Value = Output> {
    let header = (".{0,5}", option::of(vec(any::<u8>(), 0..5)))
        .prop_map(|(name, value)| OwnedHeader { name: name.into_bytes().into(), value: value.map(Into::into) });
    (option::of(".{0,5}"), any_patch(), any_patch(), option::of(vec(header, 0..3)), option::of(any::<i64>()))
        .prop_map(|(port, key, value, headers, timestamp_ms)| Output { port, key, value, headers, timestamp_ms })
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Pass),
        ".{0,9}".prop_map(|reason| Verdict::Drop { reason }),
        vec(any_output(), 0..4).prop_map(Verdict::Emit),
        (".{0,9}", option::of(0..u64::MAX / 2)).prop_map(|(reason, delay_ms)| Verdict::Retry { reason, delay_ms }),
        (".{0,9}", ".{0,9}").prop_map(|(code, message)| Verdict::Reject { code, message }),
    ]
}

fn accepted(columns: wit::Verdicts, events: usize) -> Result<Vec<Verdict>, Fault> {
    let mut verdicts = Verdicts::default();
    accept(columns, events, &LIMITS, &mut verdicts).map(|_| verdicts.into_vec())
}

proptest! {
    #[test]
    fn verdicts_arrive_as_they_were_written(verdicts in vec(any_verdict(), 0..9)) {
        prop_assert_eq!(accepted(columns(&verdicts), verdicts.len()), Ok(verdicts));
    }

    /// Whatever a guest writes, and wherever it is cut or changed.
    #[test]
    fn any_columns_are_an_answer_or_the_guests_own_fault(
        verdicts in vec(any_verdict(), 0..5),
        more in vec((0..5_u8, any::<u32>()), 0..4),
        cut in (any::<prop::sample::Index>(), 0..5_u8),
    ) {
        let mut columns = columns(&verdicts);
        for (column, number) in more {
            match column {
                0 => columns.kinds.push(number as u8 % 6),
                1 => columns.lengths.push(if number % 2 == 0 { number } else { number % 8 }),
                2 => columns.numbers.push(number.into()),
                3 => columns.outputs.push(number as u8),
                _ => columns.bytes.push(number as u8),
            }
        }
        match cut.1 {
            0 => columns.kinds.truncate(cut.0.index(columns.kinds.len() + 1)),
            1 => columns.lengths.truncate(cut.0.index(columns.lengths.len() + 1)),
            2 => columns.numbers.truncate(cut.0.index(columns.numbers.len() + 1)),
            3 => columns.outputs.truncate(cut.0.index(columns.outputs.len() + 1)),
            _ => columns.bytes.truncate(cut.0.index(columns.bytes.len() + 1)),
        }
        let events = columns.kinds.len();
        match accepted(columns, events) {
            Ok(verdicts) => prop_assert_eq!(verdicts.len(), events),
            Err(fault) => prop_assert_eq!(fault.class, FailureClass::BadOutput),
        }
    }
}

/// What is wrong with an answer to one event.
fn fault(columns: wit::Verdicts) -> (&'static str, String) {
    let fault = accepted(columns, 1).unwrap_err();
    (fault.code, fault.message)
}

#[test]
fn each_malformed_answer_is_told_for_what_it_is() {
    let kind = |kind| wit::Verdicts { kinds: vec![kind], ..nothing() };
    let emit = |lengths: &[u32], outputs: &[u8]| wit::Verdicts {
        lengths: lengths.to_vec(),
        outputs: outputs.to_vec(),
        ..kind(2)
    };
    for (columns, code, told) in [
        (nothing(), "verdict-count", "0 verdicts for 1 events"),
        (kind(5), "malformed", "kind 5"),
        (kind(1), "malformed", "its lengths end"),
        (wit::Verdicts { lengths: vec![3], ..kind(1) }, "malformed", "its bytes end"),
        (wit::Verdicts { lengths: vec![NULL], ..kind(1) }, "malformed", "a text is null"),
        (wit::Verdicts { lengths: vec![1], bytes: vec![0xff], ..kind(1) }, "utf-8", "not UTF-8"),
        (wit::Verdicts { lengths: vec![0], ..kind(3) }, "malformed", "its numbers end"),
        (wit::Verdicts { bytes: vec![0], ..kind(0) }, "malformed", "1 of its bytes belong to no verdict"),
        (wit::Verdicts { numbers: vec![0], ..kind(0) }, "malformed", "1 of its numbers"),
        (emit(&[1], &[]), "malformed", "its outputs end"),
        (emit(&[u32::MAX], &[0]), "malformed", "its outputs end"),
        (emit(&[1], &[32]), "malformed", "0b100000"),
        (emit(&[1, u32::MAX], &[8]), "malformed", "its lengths end"),
        (emit(&[101], &[0; 101]), "output-events", "100 are the limit"),
        (wit::Verdicts { bytes: vec![b'p'; 65], ..emit(&[1, 65], &[1]) }, "port-length", "64 are the limit"),
        (
            wit::Verdicts { bytes: vec![b'v'; 10_001], ..emit(&[1, 10_001], &[4]) },
            "output-bytes",
            "10000 are the limit",
        ),
    ] {
        let (was, message) = fault(columns);
        assert!(was == code && message.contains(told), "{was}: {message} (expected {code}: {told})");
    }
}

#[test]
fn of_a_reason_only_the_head_is_held() {
    let columns = wit::Verdicts { kinds: vec![1], lengths: vec![5000], bytes: vec![b'r'; 5000], ..nothing() };
    assert_eq!(accepted(columns, 1), Ok(vec![Verdict::Drop { reason: "r".repeat(1024) }]));
}

#[test]
fn events_are_laid_out_as_the_contract_says_and_only_what_is_asked_for() {
    let headers = [Header { name: b"h", value: Some(b"12") }, Header { name: b"n", value: None }];
    let event = Event {
        topic: "t",
        partition: 7,
        offset: 9,
        timestamp_ms: -1,
        key: Some(b"k"),
        value: None,
        headers: Headers::Borrowed(&headers),
        attempt: 2,
    };
    let bare = Event { offset: 10, key: None, value: Some(b""), headers: Headers::NONE, ..event };
    let mut scratch = Scratch::default();
    for _ in 0..2 {
        let all = scratch.lend(&[event, bare], wit::Fields::all(), |batch| {
            assert_eq!((batch.topic, batch.partition), ("t", 7));
            assert_eq!((batch.offsets, batch.timestamps, batch.attempts), (&[9, 10][..], &[-1, -1][..], &[2, 2][..]));
            assert_eq!((batch.key_lengths, batch.value_lengths), (&[1, NULL][..], &[NULL, 0][..]));
            assert_eq!((batch.header_counts, batch.header_lengths), (&[2, 0][..], &[1, 2, 1, NULL][..]));
            assert_eq!(batch.bytes, b"kh12n");
        });
        assert_eq!(all, Ok(()));
        let none = scratch.lend(&[event], wit::Fields::empty(), |batch| {
            assert_eq!(batch.offsets, [9]);
            let empty = [batch.key_lengths, batch.value_lengths, batch.header_counts, batch.header_lengths];
            assert!(batch.bytes.is_empty() && empty.iter().all(|column| column.is_empty()));
        });
        assert_eq!(none, Ok(()));
    }
}

#[test]
fn fields_of_every_length_are_lent_whole_and_one_after_the_other() {
    let bytes: Vec<u8> = (0..100).collect();
    let (mut lent, mut expected) = (Vec::new(), Vec::new());
    for length in 0..bytes.len() {
        let field = &bytes[bytes.len() - length..];
        append(&mut lent, field);
        expected.extend_from_slice(field);
        assert_eq!(lent, expected, "after {length} bytes");
    }
}

#[test]
fn the_memory_of_a_large_call_is_given_back() {
    let value = vec![0; 1000];
    let event = Event {
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: Some(&value),
        headers: Headers::NONE,
        attempt: 1,
    };
    let mut scratch = Scratch::default();
    let mut lend = |events: usize| {
        scratch.lend(&vec![event; events], wit::Fields::all(), |_| ()).unwrap();
        (scratch.offsets.capacity(), scratch.bytes.capacity())
    };
    let large = lend(100_000);
    assert!(large.0 >= 100_000 && large.1 >= 100_000_000);
    assert_eq!(lend(100_000), large, "what is needed is kept");
    for _ in 0..30 {
        lend(1);
    }
    let (offsets, bytes) = lend(1);
    assert!(offsets < 2 * SCRATCH_KEPT && bytes < 4 * value.len().max(SCRATCH_KEPT), "{offsets}, {bytes}");
}
