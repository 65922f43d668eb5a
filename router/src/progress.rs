//! How far long work has come, for whoever wants to be told: a callback, which what takes long is handed beside `stop` and `note`.
//!
//! It is told often, as after each record that was read; to show it, and how often, is the affair of who is told.

/// Who is told how far work has come.
pub type Progress<'a> = &'a dyn Fn(&Stand<'_>);

/// Tells nobody.
pub const UNTOLD: Progress<'static> = &|_| {};

/// How far a piece of work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand<'a> {
    /// What is done: `reading orders.dead-letter`. Another text is another piece of work, whose account begins anew.
    pub what: &'a str,
    /// What is counted.
    pub unit: Unit,
    /// How many are done.
    pub done: u64,
    /// How many there are in all.
    pub total: Total,
    /// How many of the done ones are meant, where some are picked.
    pub picked: Option<u64>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Records of a log.
    Records,
    /// Keys of records.
    Keys,
    /// Milliseconds of work that takes a time that was chosen.
    Milliseconds,
}

/// How many there are in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// So many.
    Exactly(u64),
    /// No more than so many. Offsets tell no more of records: some have none, since transactions and compaction leave gaps; and whoever
    /// reads may have had enough before the end. As gaps show, it comes down.
    AtMost(u64),
    /// It is not known.
    Unknown,
}

impl Total {
    /// The number, as far as there is one.
    #[must_use]
    pub const fn number(self) -> Option<u64> {
        match self {
            Self::Exactly(number) | Self::AtMost(number) => Some(number),
            Self::Unknown => None,
        }
    }
}
