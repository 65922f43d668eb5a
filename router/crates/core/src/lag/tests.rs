use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms { patience_ms: 10_000 };

/// What happens between two looks: seconds, records written, records read at most, and who is heard.
#[derive(Clone, Copy, Debug)]
struct Step {
    seconds: i64,
    written: i64,
    read: i64,
    heard: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1..40_i64, 0..50_i64, 0..60_i64, any::<bool>()).prop_map(|(seconds, written, read, heard)| Step {
        seconds,
        written,
        read,
        heard,
    });
    prop::collection::vec(step, 0..20)
}

/// A group that never goes back.
fn observations(start: i64, base: i64, steps: &[Step]) -> Vec<Observation> {
    let mut now = Observation {
        time_ms: start,
        committed: Some(base),
        settled_beyond: 0,
        end: base + 10,
        first: base - 5,
        nothing_unread: false,
        heard_ms: None,
    };
    let mut all = vec![now];
    for Step { seconds, written, read, heard } in steps {
        now.time_ms += seconds * 1000;
        now.end += written;
        now.committed = now.committed.map(|committed| (committed + read).min(now.end));
        now.heard_ms = if *heard { Some(now.time_ms) } else { now.heard_ms };
        all.push(now);
    }
    all
}

fn history(observations: &[Observation]) -> History {
    let mut history = History::new(100);
    observations.iter().for_each(|observation| assert!(history.push(*observation)));
    history
}

proptest! {
    #[test]
    fn neither_when_nor_where_makes_a_difference(steps in steps(), start in -1_000_000..1_000_000_i64, base in 5..1_000_000_i64) {
        let (one, other) = (history(&observations(0, 5, &steps)), history(&observations(start, base, &steps)));
        // Times that it was heard at are moved along.
        prop_assert_eq!(one.status(&TERMS), other.status(&TERMS));
        prop_assert_eq!(one.rates(), other.rates());
        prop_assert_eq!(one.drain_ms(), other.drain_ms());
    }

    #[test]
    fn a_status_is_what_was_seen(steps in steps()) {
        let all = observations(0, 5, &steps);
        let (history, last) = (history(&all), all[all.len() - 1]);
        let lag = last.lag().unwrap();
        let stood: Vec<_> = all.iter().rev().take_while(|seen| seen.committed == last.committed && seen.lag() > Some(0)).collect();
        let stood_ms = stood.last().map_or(0, |first| last.time_ms - first.time_ms);
        match history.status(&TERMS) {
            Status::Rewinding => prop_assert!(false, "it never goes back"),
            Status::Unknown(Missing::Observations) => prop_assert!(all.len() < 2),
            Status::Unknown(Missing::Commit) => prop_assert!(false, "it has committed"),
            Status::Unknown(Missing::Time) => prop_assert!(lag > 0 && all.iter().all(|seen| seen.lag() > Some(0))),
            status @ (Status::Stopped | Status::Stalled) => {
                prop_assert!(lag > 0 && stood_ms >= 10_000);
                let heard = stood.iter().rev().skip(1).any(|seen| seen.heard_ms == Some(seen.time_ms));
                prop_assert_eq!(status == Status::Stalled, heard);
            }
            Status::FallingBehind => {
                // What was left before the first commit says nothing of it.
                let first = all.windows(2).find(|pair| pair[1].committed > pair[0].committed).expect("it commits")[1];
                prop_assert!(lag > first.lag().unwrap() && all.iter().all(|seen| seen.lag() > Some(0)));
            }
            Status::Ok => {
                let lags: Vec<_> = all.iter().map(|seen| seen.lag().unwrap()).collect();
                let was_better = lags.windows(2).any(|pair| pair[1] <= pair[0]);
                prop_assert!(lags.contains(&0) || was_better);
            }
        }
    }

    #[test]
    fn who_reads_everything_at_once_is_well(written in prop::collection::vec((1..100_000_i64, 0..50_i64), 1..30)) {
        let (mut now, mut end, mut all) = (0, 0, Vec::new());
        for (elapsed, written) in written {
            now += elapsed;
            end += written;
            all.push(Observation {
                time_ms: now, committed: Some(end), settled_beyond: 0, end, first: 0, nothing_unread: false, heard_ms: None,
            });
        }
        let expected = if all.len() < 2 { Status::Unknown(Missing::Observations) } else { Status::Ok };
        prop_assert_eq!(history(&all).status(&TERMS), expected);
        prop_assert_eq!(history(&all).drain_ms(), Some(0));
    }

    #[test]
    fn going_back_is_told_until_it_is_made_good(steps in steps(), back in 1..200_i64) {
        let mut all = observations(0, 500, &steps);
        let highest = all[all.len() - 1].committed.unwrap();
        let mut now = Observation { time_ms: all[all.len() - 1].time_ms + 1, ..all[all.len() - 1] };
        now.committed = Some(highest - back);
        all.push(now);
        prop_assert_eq!(history(&all).status(&TERMS), Status::Rewinding);
        now.time_ms += 1;
        now.committed = Some(highest);
        all.push(now);
        prop_assert_ne!(history(&all).status(&TERMS), Status::Rewinding);
    }

    #[test]
    fn a_history_is_bounded_and_in_order(times in prop::collection::vec(0..100_i64, 0..200), capacity in 0..20_usize) {
        let mut history = History::new(capacity);
        let mut last = None;
        for time_ms in times {
            let taken = history.push(Observation { time_ms, ..observations(0, 5, &[])[0] });
            prop_assert_eq!(taken, last.is_none_or(|last| time_ms > last));
            last = last.max(Some(time_ms));
            prop_assert!(history.len() <= capacity.max(2));
            prop_assert_eq!(history.last().map(|seen| seen.time_ms), last);
        }
    }

    #[test]
    fn nothing_overflows(numbers in prop::array::uniform5(any::<i64>()), settled in any::<u64>(), more in any::<i64>()) {
        let [time_ms, committed, end, first, heard] = numbers;
        let one = Observation {
            time_ms, committed: Some(committed), settled_beyond: settled, end, first, nothing_unread: false, heard_ms: Some(heard),
        };
        let mut history = History::new(2);
        history.push(one);
        history.push(Observation { time_ms: more, end: i64::MAX, first: more, committed: Some(more), ..one });
        let _ = (history.status(&TERMS), history.rates(), history.drain_ms(), history.overtaken_ms());
        let _ = (one.lost(), one.slack(), until_gone(time_ms, settled, more), age(time_ms, more));
    }
}

#[test]
fn rates_drain_and_retention_are_worked_out() {
    // 1000 are left, 4 come and 6 go in a second.
    let look = |at: i64| {
        let now = observations(10_000 * at, 5, &[])[0];
        Observation { committed: Some(5 + 60 * at), end: 1045 + 40 * at, ..now }
    };
    let mut all = [look(0), look(1), look(2)];
    let drained = history(&all);
    assert_eq!(drained.rates(), Some(Rates { written: 4.0, read: 6.0, removed: 0.0 }));
    assert_eq!(drained.last().and_then(Observation::lag), Some(1000));
    assert_eq!((drained.drain_ms(), drained.overtaken_ms()), (Some(500_000), None));
    // Retention removes 8 in a second: 2 more than are read, and it is 85 behind.
    for (seen, first) in all.iter_mut().zip([-120, -40, 40]) {
        seen.first = first;
    }
    let overtaken = history(&all);
    assert_eq!(overtaken.last().and_then(Observation::slack), Some(85));
    assert_eq!(overtaken.overtaken_ms(), Some(42_500));
    assert_eq!(History::new(5).rates(), None);
    assert_eq!(history(&all[..1]).rates(), None);

    assert_eq!((until_gone(1000, 5000, 2000), until_gone(1000, 500, 2000)), (4000, 0));
    assert_eq!((age(1000, 2500), age(2500, 1000)), (1500, 0));
    let gone = Observation { first: 30, ..all[0] };
    assert_eq!((gone.lost(), gone.slack(), gone.lag()), (25, Some(0), Some(1015)));
}
