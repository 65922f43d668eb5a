#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::account::{Account, Share};
use super::{Manner, Output, Says, Show};
use crate::progress::{Stand, Total, Unit};

const READING: Stand<'static> = Stand {
    what: "reading orders.dead-letter",
    unit: Unit::Records,
    done: 0,
    total: Total::AtMost(40_000),
    picked: None,
};

/// What is written where there is no terminal, with the second it is written in. `stand` says how far it has come, by the
/// millisecond; it is told every 250 ms.
fn lines<'a>(seconds: u64, stand: impl Fn(u64) -> Stand<'a>) -> String {
    let mut show = Show::new(Manner::Lines);
    let mut lines = String::new();
    for ms in (0..=seconds * 1000).step_by(250) {
        if let Some(line) = show.tell(Duration::from_millis(ms), &stand(ms)) {
            lines.push_str(&format!("{} s  {line}\n", ms / 1000));
        }
    }
    lines
}

#[test]
fn a_line_every_ten_seconds_tells_how_much_is_done_how_fast_and_what_is_left() {
    // 400 a second, then 40 after 20 s.
    let done = |ms: u64| if ms <= 20_000 { ms * 4 / 10 } else { 8000 + (ms - 20_000) * 4 / 100 };
    insta::assert_snapshot!(lines(45, |ms| Stand { done: done(ms), ..READING }), @"
    10 s  reading orders.dead-letter: 4000 of at most 40000 records (10 %), 400/s, about 90 s left
    20 s  reading orders.dead-letter: 8000 of at most 40000 records (20 %), 400/s, about 80 s left
    30 s  reading orders.dead-letter: 8400 of at most 40000 records (21 %), 160/s, about 3 min left
    40 s  reading orders.dead-letter: 8800 of at most 40000 records (22 %), 40/s, about 13 min left
    ");
    assert_eq!(lines(9, |ms| Stand { done: done(ms), ..READING }), "", "what is over sooner is told in the answer");
}

#[test]
fn what_is_not_known_is_not_told() {
    let unknown = Stand { what: "writing to orders.v1", total: Total::Unknown, ..READING };
    insta::assert_snapshot!(lines(10, |ms| Stand { done: ms / 300, ..unknown }), @"10 s  writing to orders.v1: 33 records, 3.3/s");
    // Nothing comes in: there is no telling when it ends.
    let idle = lines(10, |_| Stand { done: 12, picked: Some(3), ..READING });
    insta::assert_snapshot!(idle, @"10 s  reading orders.dead-letter: 12 of at most 40000 records (0 %), 3 meant, 0.0/s");
    let none = Stand { total: Total::AtMost(0), ..READING };
    insta::assert_snapshot!(lines(10, |_| none), @"10 s  reading orders.dead-letter: 0 of at most 0 records (0 %), 0.0/s");
}

#[test]
fn another_piece_of_work_begins_anew() {
    let keys = Stand { what: "releasing keys", unit: Unit::Keys, total: Total::Exactly(2000), ..READING };
    let stand = |ms: u64| match ms {
        0..8000 => Stand { done: ms * 10, ..READING },
        _ => Stand { done: (ms - 8000) / 2, ..keys },
    };
    insta::assert_snapshot!(lines(10, stand), @"10 s  releasing keys: 1000 of 2000 keys (50 %), 500/s, about 2.0 s left");
}

#[test]
fn work_that_takes_a_chosen_time_is_told_by_it() {
    let bench = Stand { what: "measuring", unit: Unit::Milliseconds, total: Total::AtMost(15_000), ..READING };
    insta::assert_snapshot!(lines(20, |ms| Stand { done: ms, ..bench }), @"
    10 s  measuring: 10 s of about 15 s
    20 s  measuring: 20 s of about 20 s
    ");
}

#[test]
fn beside_a_bar_the_figures_fit_a_narrow_terminal() {
    let mut account = Account::default();
    let stand = |done| Stand { done, total: Total::AtMost(12_345_678), ..READING };
    (0..=60).for_each(|second| account.take(Duration::from_secs(second), &stand(second * 4321)));
    let figures = account.figures(Duration::from_secs(60), &stand(60 * 4321), Share::Drawn);
    insta::assert_snapshot!(figures, @"259260 of at most 12345678 records, 4321/s, about 47 min left");
    assert!("[] ".len() + 14 + figures.len() <= 80, "{figures}");
}

#[test]
fn progress_is_shown_where_it_disturbs_nothing() {
    let manner = |says, output, can_draw| Manner::of(says, output, can_draw, true);
    for output in [Output::File, Output::Terminal, Output::Pipe] {
        assert_eq!(manner(Says::Nothing, output, true), Manner::Bar);
        assert_eq!(manner(Says::Nothing, output, false), Manner::Lines);
        assert_eq!(manner(Says::Records, output, false), Manner::Lines);
        for can_draw in [false, true] {
            assert_eq!(manner(Says::Json, output, can_draw), Manner::Nothing);
            assert_eq!(Manner::of(Says::Nothing, output, can_draw, false), Manner::Nothing);
        }
    }
    assert_eq!(manner(Says::Records, Output::File, true), Manner::Bar);
    for output in [Output::Terminal, Output::Pipe] {
        assert_eq!(manner(Says::Records, output, true), Manner::Nothing, "{output:?}");
    }
}
