//! The fate of each record by name, for those who need more than numbers: route tests, and whoever watches
//! [samples](crate::samples).

use std::sync::Arc;
use std::time::Instant;

use pointsman_core::failure::Failure;
use pointsman_core::provenance::{Provenance, cut};
use pointsman_core::record::TopicPartition;

use super::{Lane, Unit, Which};
use crate::counters::Fate;
use crate::samples::{KEY_MAX, PARTS_MAX, Parts, Sample, Watcher};
use crate::shared::Now;

/// How one run of one record ended. Only a parked record is told of again, once for each further run.
#[derive(Debug)]
pub(crate) struct Told {
    /// Where the record came from: for a retried one the source partition, not the retry partition.
    pub(crate) origin: TopicPartition,
    /// Its offset there.
    pub(crate) offset: i64,
    pub(crate) fate: Fate,
    pub(crate) why: Why,
}

/// Why it ended so.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// Every stage let it through, and outputs took it.
    Routed {
        outputs: Outputs,
    },
    /// A plugin's reason for a drop, or `filtered`.
    Reason(String),
    Failure(Failure),
}

/// Some outputs of a route. Every delivery has the place for them, so it is one number; those from the 64th on are not told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outputs(u64);

impl Outputs {
    const LAST: usize = u64::BITS as usize - 1;

    pub(crate) fn one(index: usize) -> Self {
        Self(1 << index.min(Self::LAST))
    }

    pub(crate) fn of(indices: impl Iterator<Item = usize>) -> Self {
        Self(indices.fold(0, |outputs, index| outputs | Self::one(index).0))
    }

    /// Their indices, but for those that are not told apart.
    pub(crate) fn indices(self) -> impl Iterator<Item = usize> {
        (0..Self::LAST).filter(move |index| self.0 & 1 << index != 0)
    }
}

/// Who wants to know fates.
#[derive(Default)]
pub(super) struct Telling {
    /// Nobody, mostly: that is what every record asks.
    pub(super) to: Option<Box<Listeners>>,
    /// Who watches, as of [this many changes](crate::samples::Samples::changes).
    as_of: u64,
}

impl Telling {
    /// Whether somebody may want to see records when they have their fates.
    pub(super) fn is_watched(&self) -> bool {
        self.to.as_ref().is_some_and(|to| !to.watchers.is_empty())
    }
}

#[derive(Default)]
pub(super) struct Listeners {
    /// The fates since they were last taken.
    all: Option<Vec<Told>>,
    watchers: Vec<Arc<Watcher>>,
}

impl Lane {
    /// From now on the lane tells of each record; [`take_told`](Self::take_told) is to be called, or what is told heaps
    /// up.
    pub(crate) fn tell_fates(&mut self) {
        self.telling.to.get_or_insert_default().all.get_or_insert_default();
    }

    /// What was told since the last time, in order.
    pub(crate) fn take_told(&mut self) -> Vec<Told> {
        self.telling.to.as_mut().and_then(|to| to.all.as_mut()).map(std::mem::take).unwrap_or_default()
    }

    /// Finds out who watches, where that has changed.
    #[inline]
    pub(super) fn look_for_watchers(&mut self) {
        let as_of = self.shared.samples.changes();
        if as_of != self.telling.as_of {
            let watchers = self.shared.samples.watchers_of(self.route, &self.source.partition);
            let all = self.telling.to.take().and_then(|to| to.all);
            let any = all.is_some() || !watchers.is_empty();
            self.telling = Telling { to: any.then(|| Box::new(Listeners { all, watchers })), as_of };
        }
    }

    fn partition(&self, which: Which) -> &TopicPartition {
        match (which, &self.retry) {
            (Which::Retry, Some(retry)) => &retry.partition,
            _ => &self.source.partition,
        }
    }

    /// Where a record in flight came from.
    pub(super) fn whence(&self, unit: Unit) -> Option<(TopicPartition, i64)> {
        let record = self.record(unit)?;
        Some(match self.origin_of(unit) {
            Ok(Some(parked)) => {
                let (_, Provenance { origin, .. }) = *parked;
                (origin.partition, origin.offset)
            }
            // A parked record that can't be read stands for itself.
            Ok(None) | Err(_) => (self.partition(unit.which).clone(), record.offset),
        })
    }

    /// To be called while the record is still in flight: before it is settled.
    #[inline]
    pub(super) fn tell(&mut self, unit: Unit, fate: Fate, why: impl FnOnce() -> Why) {
        if self.telling.to.is_some() {
            self.tell_listeners(unit, fate, why);
        }
    }

    fn tell_listeners(&mut self, unit: Unit, fate: Fate, why: impl FnOnce() -> Why) {
        let Some(Listeners { all, watchers }) = self.telling.to.as_deref() else { return };
        let picked = |watcher: &Arc<Watcher>| Some((Arc::clone(watcher), watcher.picks(fate)?));
        let mut picked: Vec<_> = watchers.iter().filter_map(picked).collect();
        if all.is_none() && picked.is_empty() {
            return;
        }
        let why = why();
        // What is delivered may have left with its headers.
        if !picked.is_empty()
            && let Some((batch, index, _)) = self.in_flight(unit)
            && !batch.restore(index, None)
        {
            // All of it was gone before anybody watched.
            picked.clear();
        }
        for (watcher, seen) in picked {
            let sample = self.sample(unit, fate, &why, watcher.wants_values());
            sample.into_iter().for_each(|sample| watcher.give(Sample { seen, ..sample }));
        }
        let whence = self.whence(unit);
        let all = self.telling.to.as_mut().and_then(|to| to.all.as_mut());
        if let Some((all, (origin, offset))) = all.zip(whence) {
            all.push(Told { origin, offset, fate, why });
        }
    }

    fn sample(&self, unit: Unit, fate: Fate, why: &Why, values: bool) -> Option<Sample> {
        // Of a parked record whose headers are torn, what can be read.
        let parked = self.origin_of(unit).ok().flatten();
        let event = self.event(unit, parked.as_deref())?;
        let fetched = match unit.which {
            Which::Source => self.source.fetched(unit.seq),
            Which::Retry => self.retry.as_ref().and_then(|retry| retry.fetched(unit.seq)),
        };
        let (mut why, plan) = (why.clone(), &self.shared.plan);
        let (mut stage, mut outputs) = (None, Vec::new());
        match &mut why {
            Why::Routed { outputs: taken } => {
                let routed = taken.indices().filter_map(|index| self.plan().outputs.get(index));
                outputs = routed.map(|output| Arc::clone(&plan.topics[output.topic.0 as usize].name)).collect();
            }
            Why::Reason(reason) => *reason = cut(reason, Failure::MESSAGE_MAX_BYTES).to_owned(),
            Why::Failure(failure) => {
                stage = self.blame(failure).stage;
                failure.message = cut(&failure.message, Failure::MESSAGE_MAX_BYTES).to_owned();
            }
        }
        let parts = values.then(|| {
            let headers: usize =
                event.headers.iter().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len)).sum();
            let bytes = headers + event.value.map_or(0, <[u8]>::len);
            if bytes > PARTS_MAX {
                return Err(bytes);
            }
            Ok(Parts { headers: event.headers.to_owned(), value: event.value.map(Into::into) })
        });
        Some(Sample {
            at_ms: Now::read().unix_ms,
            origin: TopicPartition::new(event.topic, event.partition),
            offset: event.offset,
            key: match event.key {
                Some(key) if key.len() > KEY_MAX => Err(key.len()),
                key => Ok(key.map(Into::into)),
            },
            fate,
            why,
            stage,
            outputs,
            attempt: event.attempt,
            took: fetched.map(|fetched| Instant::now().saturating_duration_since(fetched)).unwrap_or_default(),
            seen: 1,
            parts,
        })
    }
}
