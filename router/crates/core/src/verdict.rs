//! What a plugin says of one event.

use bytes::Bytes;

use crate::record::{Headers, OwnedHeader};

/// The answer of a plugin for one event. Exactly one comes back for each event that went in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event goes on unchanged.
    Pass,
    /// The event ends here, on purpose.
    Drop {
        /// Why; a short word, counted.
        reason: String,
    },
    /// These go on in place of the event. An empty list ends the event as a drop with the reason
    /// [`EMITTED_NOTHING`](Self::EMITTED_NOTHING).
    Emit(Vec<Output>),
    /// A transient failure: the record should be tried again.
    Retry {
        /// Why.
        reason: String,
        /// The least delay the plugin asks for, in milliseconds; the route's own schedule may be longer.
        delay_ms: Option<u64>,
    },
    /// A permanent failure.
    Reject {
        /// A short word for the kind of failure, for metrics and filters.
        code: String,
        /// A sentence for a person.
        message: String,
    },
}

impl Verdict {
    /// The drop reason of an event for which a plugin emitted an empty list.
    pub const EMITTED_NOTHING: &str = "emitted-nothing";

    /// What is held of memory for the events that it emits, in bytes. The texts of the other answers are short: whoever gives
    /// verdicts cuts them.
    #[must_use]
    pub fn emitted_bytes(&self) -> usize {
        let Self::Emit(outputs) = self else { return 0 };
        let patch = |patch: &Patch| if let Patch::Set(bytes) = patch { bytes.len() } else { 0 };
        let fields = outputs.iter().map(|output| {
            let headers = output.headers.as_deref().unwrap_or_default();
            patch(&output.key) + patch(&output.value) + Headers::Owned(headers).bytes() + size_of_val(headers)
        });
        size_of_val(outputs.as_slice()) + fields.sum::<usize>()
    }
}

/// The answers of a plugin for a batch of events, in their order. Most events pass: only the other answers are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    len: usize,
    /// By the index of the event.
    others: Vec<(usize, Verdict)>,
}

impl Verdicts {
    /// Adds the answer for the next event.
    #[inline]
    pub fn push(&mut self, verdict: Verdict) {
        if !matches!(verdict, Verdict::Pass) {
            self.others.push((self.len, verdict));
        }
        self.len += 1;
    }

    /// Adds [`Verdict::Pass`] for so many events.
    pub fn pass(&mut self, count: usize) {
        self.len += count;
    }

    /// Number of answers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The answers that are not [`Verdict::Pass`], each with the index of its event.
    #[must_use]
    pub fn others(&self) -> &[(usize, Verdict)] {
        &self.others
    }

    /// [`others`](Self::others), by value.
    pub fn into_others(self) -> impl Iterator<Item = (usize, Verdict)> {
        self.others.into_iter()
    }

    /// One answer for each event.
    #[must_use]
    pub fn into_vec(self) -> Vec<Verdict> {
        let mut verdicts = vec![Verdict::Pass; self.len];
        for (index, verdict) in self.others {
            verdicts[index] = verdict;
        }
        verdicts
    }
}

impl Extend<Verdict> for Verdicts {
    fn extend<I: IntoIterator<Item = Verdict>>(&mut self, verdicts: I) {
        verdicts.into_iter().for_each(|verdict| self.push(verdict));
    }
}

impl FromIterator<Verdict> for Verdicts {
    fn from_iter<I: IntoIterator<Item = Verdict>>(verdicts: I) -> Self {
        let mut all = Self::default();
        all.extend(verdicts);
        all
    }
}

/// One event that a plugin emits, told as the difference to the event it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The port it leaves by; `None` keeps the event's port, which is the default one unless an earlier stage named one.
    pub port: Option<String>,
    /// Key.
    pub key: Patch,
    /// Value.
    pub value: Patch,
    /// Headers in place of the event's; `None` keeps them.
    pub headers: Option<Vec<OwnedHeader>>,
    /// Milliseconds since 1970-01-01 UTC; `None` keeps the event's.
    pub timestamp_ms: Option<i64>,
}

/// A change of a nullable field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// As the event has it; costs no copy.
    Keep,
    /// Null.
    Null,
    /// These bytes; those of one answer may share their memory.
    Set(Bytes),
}

impl Patch {
    /// The field after the change.
    #[must_use]
    pub fn over<'a>(&'a self, field: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match self {
            Self::Keep => field,
            Self::Null => None,
            Self::Set(bytes) => Some(bytes),
        }
    }
}
