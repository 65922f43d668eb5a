//! What the fuzz targets look for, in small: whatever a file says or a guest returns, nothing panics.

use std::cell::RefCell;

use pointsman_config::compile;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use crate::parrot::{ANSWER_AT, Door, Parrot, words};
use crate::sources;

/// The answer is a plan or a list of mistakes that can be shown.
fn survive_config(text: &str) {
    let variables = |name: &str| (name != "UNSET").then(|| "value".to_owned());
    match compile(text, "fuzz.toml", &variables) {
        Ok((_, warnings)) => drop(warnings.iter().map(|warning| warning.render(true)).collect::<Vec<_>>()),
        Err(errors) => {
            assert!(!errors.mistakes().is_empty(), "a refusal without a reason");
            assert!(!errors.render(false).is_empty() && !errors.render(true).is_empty());
        }
    }
}

/// A word of a guest's answer: a small number, a pointer into the answer, or anything.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![0..8_u32, ANSWER_AT..ANSWER_AT + 512, any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_plan_or_a_list_of_mistakes(text in any::<String>()) {
        survive_config(&text);
    }

    /// The file that has every key, with some of its lines cut short, doubled, swapped or broken.
    #[test]
    fn a_damaged_configuration_is_a_plan_or_a_list_of_mistakes(
        damage in vec((any::<Index>(), any::<Index>(), 0..5_u8, any::<char>()), 1..6),
    ) {
        let reference = sources::read("configs/reference.toml");
        let mut lines: Vec<String> = reference.lines().map(str::to_owned).collect();
        for (line, at, kind, character) in damage {
            let other = at.index(lines.len());
            let line = line.index(lines.len());
            let place = lines[line].floor_char_boundary(at.index(lines[line].len() + 1));
            match kind {
                0 => lines[line].truncate(place),
                1 => lines[line].insert(place, character),
                2 => lines.swap(line, other),
                3 => lines.insert(other, lines[line].clone()),
                _ => lines[line].clear(),
            }
        }
        survive_config(&lines.join("\n"));
    }
}

/// One guest for all cases, since the property is about the next call, too. The strategy gives the pointers and lengths of
/// the lists of an answer, from the number of events.
fn survive_answers<S: Strategy<Value = Vec<u32>>>(door: Door, lists: impl Fn(u32) -> S) {
    let parrot = RefCell::new(Parrot::new(door).expect("the parrot loads"));
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() });
    let answers = (1..4_u32).prop_flat_map(|events| (Just(events), lists(events), vec(word(), 0..64)));
    let checked = runner.run(&answers, |(events, lists, rest)| {
        parrot.borrow_mut().survive(events as usize, &words(&[lists, rest].concat()));
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{door:?}: {error}"));
}

#[test]
fn whatever_a_guest_returns_is_an_answer_or_its_own_fault() {
    // A list of as many verdicts as there are events, more often than not, or it would hardly ever get further.
    survive_answers(Door::Records, |events| prop_oneof![3 => Just(vec![ANSWER_AT + 8, events]), 1 => vec(word(), 2)]);
    survive_answers(Door::Columns, |events| {
        let list = || prop_oneof![3 => (0..32_u32).prop_map(|at| ANSWER_AT + 40 + 8 * at), 1 => word()];
        let lengths = prop_oneof![5 => 0..6_u32, 1 => word()];
        let kinds = prop_oneof![5 => Just(events), 1 => word()];
        (list(), kinds, vec((list(), lengths), 4)).prop_map(|(at, kinds, others)| {
            [vec![at, kinds], others.into_iter().flat_map(|(at, length)| [at, length]).collect()].concat()
        })
    });
}
