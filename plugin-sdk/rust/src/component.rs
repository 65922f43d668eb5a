//! What [`export!`](crate::export) expands to. Not for authors.

use std::cell::RefCell;

use crate::bindings::exports::pointsman::plugin::columns::{self, Guest};
use crate::event::Shared;
use crate::{Config, Events, Fields, Plugin, Verdicts};

/// Holds the plugin of this instance.
pub struct Slot<P>(RefCell<Option<P>>);

impl<P> Slot<P> {
    /// Before `configure`.
    #[must_use]
    pub const fn empty() -> Self {
        Self(RefCell::new(None))
    }
}

impl<P: Plugin> Slot<P> {
    /// `configure` of the contract.
    ///
    /// # Errors
    /// As [`Plugin::configure`].
    pub fn configure(&self, config: String) -> Result<Fields, String> {
        // A panic on this target says nothing by itself: it is a bare `unreachable`.
        #[cfg(target_arch = "wasm32")]
        report_panics();
        self.0.replace(Some(P::configure(Config::from(config))?));
        Ok(P::FIELDS)
    }

    /// `process` of the contract.
    ///
    /// # Panics
    /// Before `configure` has succeeded, which the contract rules out.
    pub fn process(&self, batch: &columns::Batch) -> columns::Verdicts {
        match &mut *self.0.borrow_mut() {
            Some(plugin) => process(plugin, batch),
            #[allow(clippy::panic, reason = "a trap is all that can be said to a host that breaks the contract")]
            None => panic!("`process` was called before `configure` succeeded"),
        }
    }
}

pub(crate) fn process<P: Plugin>(plugin: &mut P, batch: &columns::Batch) -> columns::Verdicts {
    let shared = Shared { topic: &batch.topic, partition: batch.partition, fields: P::FIELDS };
    let mut verdicts = Verdicts::with_capacity(batch.offsets.len());
    plugin.process_batch(Events::new(batch, &shared), &mut verdicts);
    verdicts.into_columns()
}

/// The functions of the contract.
pub type Exports = (fn(String) -> Result<Fields, String>, fn(columns::Batch) -> columns::Verdicts);

/// The functions that `C` exports.
#[must_use]
pub const fn exports<C: Guest>() -> Exports {
    (C::configure, C::process)
}

/// Has the router told of each panic, with its place, its message and the event that it was at.
#[cfg(target_arch = "wasm32")]
fn report_panics() {
    use crate::bindings::pointsman::plugin::host;

    std::panic::set_hook(Box::new(|info| {
        // On one line: "panicked at src/lib.rs:7:5: index out of bounds".
        host::panic(crate::batch::present(), &info.to_string().replacen(":\n", ": ", 1));
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;
    use crate::{Event, Header, Output, Verdict};

    struct Counting(u32);

    impl Plugin for Counting {
        fn configure(config: Config) -> Result<Self, String> {
            config.text().parse().map(Self).map_err(|_| format!("`{}` is not a number", config.text()))
        }

        fn process(&mut self, event: &Event) -> Verdict {
            self.0 += 1;
            if event.is_tombstone() { Verdict::pass() } else { Verdict::drop(self.0.to_string()) }
        }
    }

    fn batch(values: &[Option<&str>]) -> columns::Batch {
        columns::Batch {
            topic: "t".into(),
            partition: 3,
            offsets: (0..).take(values.len()).collect(),
            timestamps: vec![-1; values.len()],
            attempts: vec![1; values.len()],
            key_lengths: vec![u32::MAX; values.len()],
            value_lengths: values.iter().map(|value| value.map_or(u32::MAX, |value| value.len() as u32)).collect(),
            header_counts: vec![0; values.len()],
            header_lengths: vec![],
            bytes: values.iter().flatten().flat_map(|value| value.bytes()).collect(),
        }
    }

    #[test]
    fn a_batch_gets_one_verdict_each_in_order_from_the_configured_plugin() {
        let slot = Slot::<Counting>::empty();
        slot.configure("10".into()).unwrap();
        let verdicts = slot.process(&batch(&[Some("a"), None, Some("b")]));
        assert_eq!(verdicts.kinds, [1, 0, 1]);
        assert_eq!((verdicts.lengths, verdicts.bytes), (vec![2, 2], b"1113".to_vec()));
    }

    /// Says which event of its batch it is at.
    struct Placed;

    impl Plugin for Placed {
        fn configure(_: Config) -> Result<Self, String> {
            Ok(Self)
        }

        fn process(&mut self, _: &Event) -> Verdict {
            Verdict::drop(crate::batch::present().to_string())
        }
    }

    #[test]
    fn the_event_that_a_panic_would_be_at_is_known() {
        let slot = Slot::<Placed>::empty();
        slot.configure("{}".into()).unwrap();
        for _ in 0..2 {
            assert_eq!(slot.process(&batch(&[None, None, None])).bytes, b"012");
        }
    }

    #[test]
    fn a_refused_configuration_says_why() {
        assert_eq!(Slot::<Counting>::empty().configure("x".into()), Err("`x` is not a number".into()));
    }

    #[test]
    #[should_panic(expected = "before `configure` succeeded")]
    fn an_instance_without_a_configuration_does_not_work() {
        let slot = Slot::<Counting>::empty();
        assert!(slot.configure(String::new()).is_err());
        slot.process(&batch(&[]));
    }

    /// Emits what it sees.
    struct Seeing;

    impl Plugin for Seeing {
        fn configure(_: Config) -> Result<Self, String> {
            Ok(Self)
        }

        fn process(&mut self, event: &Event) -> Verdict {
            let mut output = Output::to_port(event.topic().to_owned())
                .headers(event.headers().map(Header::from))
                .timestamp_ms(event.offset() + event.timestamp_ms().unwrap_or(0));
            output = event.key().map_or(output.clone().no_key(), |key| output.key(key));
            output = event.value().map_or(output.clone().tombstone(), |value| output.value(value));
            Verdict::emit([output])
        }
    }

    #[test]
    fn every_field_is_read_from_its_column_and_written_to_its_own() {
        let slot = Slot::<Seeing>::empty();
        slot.configure(String::new()).unwrap();
        let seen = columns::Batch {
            topic: "t".into(),
            partition: 3,
            offsets: vec![5, 6],
            timestamps: vec![100, -1],
            attempts: vec![1, 2],
            key_lengths: vec![1, u32::MAX],
            value_lengths: vec![u32::MAX, 0],
            header_counts: vec![2, 0],
            header_lengths: vec![1, 2, 1, u32::MAX],
            bytes: b"kavva".to_vec(),
        };
        let columns::Verdicts { kinds, lengths, numbers, outputs, bytes } = slot.process(&seen);
        assert_eq!((kinds, numbers, outputs), (vec![2, 2], vec![105, 6], vec![31, 31]));
        let first = [1, 1, 1, u32::MAX, 2, 1, 2, 1, u32::MAX];
        assert_eq!(lengths, [&first[..], &[1, 1, u32::MAX, 0, 0]].concat());
        assert_eq!(bytes, b"tkavvat");
    }

    /// Looks at its key, which it has not asked for.
    struct Careless;

    impl Plugin for Careless {
        const FIELDS: Fields = Fields::VALUE;

        fn configure(_: Config) -> Result<Self, String> {
            Ok(Self)
        }

        fn process(&mut self, event: &Event) -> Verdict {
            Verdict::drop(event.key().map_or("none", |_| "some"))
        }
    }

    #[test]
    #[should_panic(expected = "add Fields(KEY) to its `FIELDS`")]
    fn what_was_not_asked_for_is_not_given_out_as_null() {
        let slot = Slot::<Careless>::empty();
        assert_eq!(slot.configure(String::new()), Ok(Fields::VALUE));
        slot.process(&columns::Batch { key_lengths: vec![], ..batch(&[Some("v")]) });
    }
}
