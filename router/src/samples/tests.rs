//! Who watches, and what lanes do for them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroU32;
use std::task::Waker;

use super::*;

pub(crate) fn wanted(route: usize, fates: &[Fate], values: bool) -> Wanted {
    Wanted {
        route,
        fates: Fate::ALL.map(|fate| fates.contains(&fate)),
        topic: None,
        partition: None,
        // As good as all.
        per_second: NonZeroU32::new(1_000_000_000).unwrap(),
        values,
    }
}

pub(crate) fn sample(fate: Fate, parts: Option<Result<Parts, usize>>) -> Sample {
    Sample {
        at_ms: 1_769_860_800_123,
        origin: TopicPartition::new("source", 3),
        offset: 42,
        key: Ok(Some(b"k-1".to_vec())),
        fate,
        why: Why::Reason("too-old".into()),
        stage: None,
        outputs: Vec::new(),
        attempt: 1,
        took: Duration::from_micros(1250),
        seen: 5,
        parts,
    }
}

/// The samples that are there.
pub(crate) fn drain(watch: &mut Watch) -> Vec<Sample> {
    let mut context = Context::from_waker(Waker::noop());
    std::iter::from_fn(|| match watch.poll(&mut context) {
        Poll::Ready(sample) => sample,
        Poll::Pending => None,
    })
    .collect()
}

#[test]
fn few_may_watch_and_who_goes_is_forgotten() {
    let samples = Arc::<Samples>::default();
    let source = TopicPartition::new("source", 3);
    let mut watches: Vec<Watch> =
        (0..WATCHERS_MAX).map(|_| samples.watch(wanted(0, &[Fate::Dropped], false)).unwrap()).collect();
    let before = samples.changes();
    assert!(samples.watch(wanted(0, &[], false)).is_none());
    assert_eq!((samples.changes(), samples.watchers_of(0, &source).len()), (before, WATCHERS_MAX));
    watches.pop();
    assert_ne!(samples.changes(), before);
    let other = Wanted { topic: Some("source".into()), partition: Some(4), ..wanted(1, &[], false) };
    let _watch = samples.watch(other).unwrap();
    drop(watches);
    assert!(samples.watchers_of(0, &source).is_empty() && samples.watchers_of(1, &source).is_empty());
    assert!(samples.watchers_of(1, &TopicPartition::new("other", 4)).is_empty());
    assert_eq!(samples.watchers_of(1, &TopicPartition::new("source", 4)).len(), 1);
}

#[test]
fn whoever_reads_slowly_loses_samples_and_is_told() {
    let samples = Arc::<Samples>::default();
    let mut watch = samples.watch(wanted(0, &[Fate::Dropped, Fate::Parked], false)).unwrap();
    let watcher = samples.watchers_of(0, &TopicPartition::new("source", 3)).remove(0);
    for _ in 0..WAITING_MAX + 7 {
        assert_eq!(watcher.picks(Fate::Delivered), None);
        watcher.picks(Fate::Dropped).unwrap();
        watcher.give(sample(Fate::Dropped, None));
    }
    assert_eq!((drain(&mut watch).len(), watch.missed()), (WAITING_MAX, 7));
    let pulse = Pulse::new(&watch, 0);
    let seen = [("dropped".to_owned(), WAITING_MAX as u64 + 7), ("parked".to_owned(), 0)];
    assert_eq!(pulse, Pulse { time: "1970-01-01T00:00:00.000Z".into(), seen: seen.into(), missed: 7 });
    // There is room again; and nobody is harmed where there is nobody.
    watcher.give(sample(Fate::Dropped, None));
    assert_eq!((drain(&mut watch).len(), watch.missed()), (1, 7));
    drop(watch);
    watcher.give(sample(Fate::Dropped, None));
}

#[test]
fn records_between_two_samples_of_a_fate_are_counted() {
    let samples = Arc::<Samples>::default();
    let some = Wanted { per_second: NonZeroU32::new(1000).unwrap(), ..wanted(0, &Fate::ALL, false) };
    let _watch = samples.watch(some).unwrap();
    let watcher = samples.watchers_of(0, &TopicPartition::new("source", 3)).remove(0);
    let mut told = 0;
    for records in 1.. {
        watcher.picks(Fate::Parked);
        if let Some(seen) = watcher.picks(Fate::Delivered) {
            told += seen;
            assert_eq!(told, records);
            if told > 1000 {
                break;
            }
        }
    }
}

#[test]
fn what_is_hidden_or_too_large_is_not_shown_and_the_rest_is() {
    use pointsman_core::condition::FieldPath;
    let redaction =
        |paths: &[&str]| Redaction::of(&paths.iter().map(|path| FieldPath::parse(path).unwrap()).collect::<Vec<_>>());
    let parts = |value: &str| {
        let headers = vec![OwnedHeader::text("authorization", "SECRET"), OwnedHeader::text("trace", "t-1")];
        Some(Ok(Parts { headers, value: Some(value.as_bytes().to_vec()) }))
    };
    let shown = |sample: &Sample, paths: &[&str]| {
        serde_json::to_string(&SampleLine::Sample(Box::new(ShownSample::new(sample, &redaction(paths))))).unwrap()
    };
    let hidden = ["key", "headers.authorization", "value.card.number"];
    assert_eq!(
        shown(&sample(Fate::Dropped, parts(r#"{"card":{"number":"SECRET"},"eur":1.50}"#)), &hidden),
        concat!(
            r#"{"sample":{"time":"2026-01-31T12:00:00.123Z","topic":"source","partition":3,"offset":42,"key":"[redacted]","#,
            r#""fate":"dropped","reason":"too-old","attempt":1,"took_ms":1.25,"seen":5,"#,
            r#""headers":[["authorization","[redacted]"],["trace","t-1"]],"value":{"card":{"number":"[redacted]"},"eur":1.50}}}"#
        )
    );
    let withheld = shown(&sample(Fate::Dropped, parts("SECRET, and no JSON")), &hidden);
    assert!(withheld.contains("\"withheld\":\"the value is not JSON") && !withheld.contains("SECRET"), "{withheld}");
    let large = Sample { key: Err(9999), ..sample(Fate::Dropped, Some(Err(99_999))) };
    let withheld = shown(&large, &[]);
    assert!(
        withheld.contains("the key has 9999 bytes, and 4096 are shown; headers and value have 99999 bytes"),
        "{withheld}"
    );
    assert!(!withheld.contains("\"value\"") && !withheld.contains("\"key\""), "{withheld}");
    let without = shown(&sample(Fate::Dropped, None), &[]);
    assert!(without.contains("\"key\":\"k-1\"") && !without.contains("\"headers\""), "{without}");
    // A tombstone is there, and reads back so.
    let tombstone =
        Sample { key: Ok(None), ..sample(Fate::Dropped, Some(Ok(Parts { headers: Vec::new(), value: None }))) };
    let line = shown(&tombstone, &hidden);
    assert!(line.contains("\"key\":null") && line.contains("\"value\":null"), "{line}");
    let SampleLine::Sample(read) = serde_json::from_str(&line).unwrap() else { unreachable!("it is a sample") };
    assert_eq!((read.key.unwrap().get(), read.value.unwrap().get()), ("null", "null"));
}
