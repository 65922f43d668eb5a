use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use proptest::prelude::*;

use super::{DecodeError, Metadata};
use crate::settled::Settled;
use crate::unclean::Ends;

fn settled_of(offsets: impl IntoIterator<Item = i64>) -> Settled {
    let mut settled = Settled::default();
    offsets.into_iter().for_each(|offset| settled.push(offset, offset + 1));
    settled
}

fn beyond(settled: Settled) -> Metadata {
    Metadata { settled, ..Metadata::default() }
}

#[test]
fn metadata_that_is_not_of_this_commit_is_told_apart() {
    assert_eq!(Metadata::decode("", 7), Ok(Metadata::default()));
    assert_eq!(Metadata::decode("{\"offset\":3}", 7), Err(DecodeError::Foreign));
    assert_eq!(Metadata::decode("AwEB", 7), Err(DecodeError::Version(3)));
    let metadata = beyond(settled_of(12..15));
    let text = metadata.encode(10).text;
    assert_eq!(Metadata::decode(&text, 10), Ok(metadata));
    assert_eq!(Metadata::decode(&text, 9), Err(DecodeError::Moved(10)));
}

#[test]
fn the_first_version_is_read() {
    // Version 1, offset 10; from 12 to 15, from 20 to 21.
    let text = STANDARD_NO_PAD.encode([1, 10, 2, 3, 5, 1]);
    assert_eq!(Metadata::decode(&text, 10), Ok(beyond(settled_of([12, 13, 14, 20]))));
}

#[test]
fn what_is_not_what_we_write_is_foreign() {
    for (case, bytes) in [
        ("more ends than are counted", [2, 3, 0, 10, 0].as_slice()),
        ("a name without an end", &[2, 2, 1, 10, 4, 0, 0]),
        ("fewer names than it says", &[2, 2, 2, 10, 4, 1, 0]),
        ("a form that is not there", &[2, 2, 0, 10, 2]),
        ("no form", &[2, 2, 0, 10]),
        ("an empty range", &[2, 2, 0, 10, 0, 1, 0]),
    ] {
        assert_eq!(Metadata::decode(&STANDARD_NO_PAD.encode(bytes), 10), Err(DecodeError::Foreign), "{case}");
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_counted() {
    let mut settled = Settled::default();
    for offset in 1..=10_000 {
        settled.push(offset * 1000, offset * 1000 + 500);
    }
    let encoded = beyond(settled).encode(700);
    assert!(encoded.text.len() <= 4096);
    let back = Metadata::decode(&encoded.text, 700).expect("our own text").settled;
    assert_eq!(back.ranges().len() + encoded.left_out, 10_000);
    assert!(back.contains(1499) && !back.contains(1500));
}

/// The pattern that ranges take the most for.
#[test]
fn every_other_record_of_24_000_fits() {
    let metadata = beyond(settled_of((1..24_000).step_by(2).map(|offset| 1_000_000_000_000 + offset)));
    let encoded = metadata.encode(1_000_000_000_000);
    assert!(encoded.text.len() <= 4096 && encoded.left_out == 0);
    assert_eq!(Metadata::decode(&encoded.text, 1_000_000_000_000), Ok(metadata));
}

fn ends() -> impl Strategy<Value = (u8, Vec<(i64, u8)>)> {
    (0..=Ends::MANY, prop::collection::vec((0..20_000_i64, 1..=Ends::GUILTY), 0..=Ends::MOST_TRIALS))
}

/// The worst that there is: every second offset, and as many records named, with as large distances, as may be.
#[test]
fn whatever_is_settled_of_the_fitting_offsets_fits() {
    let mut settled = Settled::default();
    (1..Metadata::FITTING_OFFSETS).step_by(2).for_each(|at| settled.push(at, at + 1));
    let most = i64::try_from(Ends::MOST_TRIALS).expect("small");
    let trials = (0..most).map(|number| (number * (Metadata::FITTING_OFFSETS / most), Ends::GUILTY)).collect();
    let metadata = Metadata { ends: Ends { count: Ends::MANY, trials, convicted: true }, settled };
    let encoded = metadata.encode(0);
    assert_eq!((encoded.left_out, encoded.text.len() <= 4096), (0, true));
    assert_eq!(Metadata::decode(&encoded.text, 0), Ok(metadata));
}

proptest! {
    #[test]
    fn decoding_never_panics(text in ".*", bytes in prop::collection::vec(any::<u8>(), 0..64), offset in any::<i64>()) {
        let _ = Metadata::decode(&text, offset);
        let _ = Metadata::decode(&STANDARD_NO_PAD.encode(&bytes), offset);
        // The offset of the commit is 7 here, so that what follows it is looked at.
        let ours: Vec<u8> = [2, 2, 1, 7].into_iter().chain(bytes).collect();
        let _ = Metadata::decode(&STANDARD_NO_PAD.encode(ours), 7);
    }

    /// Whatever of the 20,000 offsets behind the commit is settled.
    #[test]
    fn metadata_comes_back_as_it_went(
        offset in 0..i64::MAX / 2,
        gaps in prop::collection::vec(1..64_i64, 0..800),
        dense in prop::collection::vec(any::<bool>(), 0..8_000),
        convicted in any::<bool>(),
        (count, trials) in ends(),
    ) {
        let mut settled = Settled::default();
        let mut at = offset;
        for (index, gap) in gaps.iter().enumerate() {
            at += gap;
            if at - offset < 12_000 && index % 2 == 0 {
                settled.push(at, at + gap / 2 + 1);
            }
        }
        let from = offset + 12_100;
        for (place, _) in dense.iter().enumerate().filter(|(_, is_settled)| **is_settled) {
            let at = from + i64::try_from(place).unwrap_or(0) % 7_900;
            if settled.ranges().last().is_none_or(|(_, to)| to <= at) {
                settled.push(at, at + 1);
            }
        }
        let trials = trials.into_iter().map(|(distance, during)| (offset + distance, during)).collect();
        let metadata = Metadata { ends: Ends { count, trials, convicted }, settled };
        let encoded = metadata.encode(offset);
        prop_assert!(encoded.text.len() <= 4096);
        prop_assert_eq!(encoded.left_out, 0);
        prop_assert_eq!(Metadata::decode(&encoded.text, offset), Ok(metadata));
    }

    /// Of a pattern of any length what comes back is the beginning, and the rest is told.
    #[test]
    fn what_comes_back_is_the_beginning(steps in prop::collection::vec((1..5_000_i64, 1..3_000_i64), 0..3_000)) {
        let mut settled = Settled::default();
        let mut at = 0;
        for (gap, length) in steps {
            settled.push(at + gap, at + gap + length);
            at += gap + length;
        }
        let encoded = beyond(settled.clone()).encode(0);
        prop_assert!(encoded.text.len() <= 4096);
        let back = Metadata::decode(&encoded.text, 0).expect("our own text").settled;
        let whole = settled.ranges().len() - encoded.left_out;
        prop_assert!(settled.ranges().take(whole).eq(back.ranges().take(whole)));
        prop_assert!(back.ranges().len() <= whole + 1);
    }
}
