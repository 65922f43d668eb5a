//! What a history says of a group.

use std::collections::VecDeque;
use std::fmt;

use super::{Observation, pairs};

/// Whether a group is well in a partition.
///
/// Where several hold, it is the first of: rewinding, ok for having read everything, stopped or stalled, falling behind, ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It keeps up: it has nothing to read now, whether or not anything comes in; or it has had nothing to read at some time of the
    /// history and is at work; or it is behind, and what is left does not grow.
    ///
    /// An idle partition is ok, whoever commits there or does not. So is a slow one, in which a record has come a moment ago: that is
    /// told by how long something has been *unread*, not by how long ago the last commit was.
    Ok,
    /// It stands before where it was: its offset was set back, and it has yet to come to where it was at the highest. This goes before
    /// everything else, and is over as soon as it has. Not of a partition that was made anew or cut off: its history begins anew.
    Rewinding,
    /// There are records to read, and for [as long as is patient](Terms::patience_ms) nothing was heard of the group: no offset that
    /// moved, and, as far as whoever looks can see it, neither another commit nor a member.
    Stopped,
    /// There are records to read, somebody was heard of meanwhile, and for as long as is patient the offset has not moved.
    Stalled,
    /// It commits, and what is left was never less than before and is more now, over as long as is patient and at least three
    /// commits, and it has never come to the end. Only what is left at commits is compared: between two of them it grows always.
    FallingBehind,
    /// It can't be told.
    Unknown(Missing),
}

/// What is missing to tell a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Two observations, at least.
    Observations,
    /// A commit of the group.
    Commit,
    /// Time: something may be wrong, but not for long enough to say so.
    Time,
}

impl Status {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Rewinding => "rewinding",
            Self::Stopped => "stopped",
            Self::Stalled => "stalled",
            Self::FallingBehind => "falling-behind",
            Self::Unknown(_) => "unknown",
        }
    }

    /// How bad it is, among others: the greater, the worse.
    #[must_use]
    pub const fn weight(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unknown(_) => 1,
            Self::Rewinding => 2,
            Self::FallingBehind => 3,
            Self::Stalled => 4,
            Self::Stopped => 5,
        }
    }

    /// Whether it says that something is wrong.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        !matches!(self, Self::Ok | Self::Unknown(_))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observations => "too few observations",
            Self::Commit => "nothing was committed",
            Self::Time => "not watched for long enough",
        })
    }
}

/// What a status is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long something must be unread without progress before it counts as stopped or stalled, and how long what is left must grow
    /// before it counts as falling behind; in milliseconds. It has to be longer than the group takes between two commits. Where a
    /// history shows that this is longer than half of it, twice that time is waited for instead: a group need not commit regularly.
    pub patience_ms: u64,
}

pub(super) fn judge(observations: &VecDeque<Observation>, terms: &Terms) -> Status {
    let Some(last) = observations.back().filter(|_| observations.len() > 1) else {
        return Status::Unknown(Missing::Observations);
    };
    let (Some(committed), Some(lag)) = (last.committed, last.lag()) else { return Status::Unknown(Missing::Commit) };
    if observations.iter().filter_map(|observation| observation.committed).any(|before| before > committed) {
        return Status::Rewinding;
    }
    if lag == 0 {
        return Status::Ok;
    }
    let patience_ms = terms.patience_ms.max(longest_gap(observations).saturating_mul(2));
    let (waited_ms, since_ms) = waited(observations, last);
    if waited_ms >= patience_ms {
        let was_heard = last.heard_ms.is_some_and(|heard_ms| heard_ms > since_ms);
        return if was_heard { Status::Stalled } else { Status::Stopped };
    }
    let is_at_work = pairs(observations).any(|(before, after)| has_moved(before, after));
    if observations.iter().any(|observation| observation.lag() == Some(0)) {
        return Status::Ok;
    }
    if !is_at_work {
        return Status::Unknown(Missing::Time);
    }
    pace(observations, terms)
}

fn has_moved(before: &Observation, after: &Observation) -> bool {
    before.progress() < after.progress()
}

/// The longest time between two looks at which the group had moved on; the first counts from the beginning of the history, which makes
/// it no longer than it was. It is what the group is known to take for a commit.
fn longest_gap(observations: &VecDeque<Observation>) -> u64 {
    let Some(mut mark) = observations.front().map(|observation| observation.time_ms) else { return 0 };
    let mut longest = 0;
    for (before, after) in pairs(observations) {
        if has_moved(before, after) {
            longest = longest.max(after.time_ms.saturating_sub(mark).unsigned_abs());
            mark = after.time_ms;
        } else if before.lag() == Some(0) {
            // It had nothing to commit.
            mark = after.time_ms;
        }
    }
    longest
}

/// How long something has been unread without any progress, and since when.
fn waited(observations: &VecDeque<Observation>, last: &Observation) -> (u64, i64) {
    let stands = |observation: &&Observation| {
        observation.progress() == last.progress() && observation.lag().is_some_and(|lag| lag > 0)
    };
    let since_ms = observations.iter().rev().take_while(stands).last().map_or(last.time_ms, |first| first.time_ms);
    (last.time_ms.saturating_sub(since_ms).unsigned_abs(), since_ms)
}

/// Of a group that is at work and has not come to the end: whether what is left grows.
fn pace(observations: &VecDeque<Observation>, terms: &Terms) -> Status {
    let commits: Vec<(i64, u64)> = pairs(observations)
        .filter(|(before, after)| has_moved(before, after))
        .filter_map(|(_, after)| Some((after.time_ms, after.lag()?)))
        .collect();
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Status::Unknown(Missing::Time) };
    let shrinks = commits.windows(2).any(|pair| matches!(pair, [(_, before), (_, after)] if after < before));
    if shrinks || (commits.len() > 1 && last.1 <= first.1) {
        return Status::Ok;
    }
    let over_ms = last.0.saturating_sub(first.0).unsigned_abs();
    if commits.len() >= 3 && last.1 > first.1 && over_ms >= terms.patience_ms {
        Status::FallingBehind
    } else {
        Status::Unknown(Missing::Time)
    }
}
