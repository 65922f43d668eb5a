//! Dead letters by why they failed.

use std::collections::HashMap;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::letter::{Letter, Place};
use super::pattern::pattern;
use super::summary::{as_time, text};
use super::topic::{Expiry, Topic};

/// Letters of one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Group {
    /// What they have in common.
    #[serde(flatten)]
    pub cause: Cause,
    /// How many there are.
    pub count: u64,
    /// The first time that one of them failed for good, in milliseconds since 1970-01-01 UTC; in JSON, RFC 3339.
    #[serde(serialize_with = "as_time")]
    #[schema(value_type = Option<String>)]
    pub first_seen: Option<i64>,
    /// The last time.
    #[serde(serialize_with = "as_time")]
    #[schema(value_type = Option<String>)]
    pub last_seen: Option<i64>,
    /// When the first of them may be gone.
    #[schema(value_type = Option<String>)]
    pub expires: Expiry,
    /// The one that was written last.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String)]
    pub newest: Place,
    /// Its message, word by word.
    pub message: Option<String>,
}

/// What letters of one cause have in common. Whatever they do not tell is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Cause {
    /// Who wrote them.
    pub writer: &'static str,
    /// The route.
    pub route: Option<String>,
    /// The stage.
    pub stage: Option<String>,
    /// Class of the failure.
    pub class: Option<String>,
    /// Code of the failure.
    pub code: Option<String>,
    /// What their messages have in common: see [`pattern`](super::pattern).
    pub pattern: Option<String>,
}

/// Groups of letters, counted. Their number is bounded: beyond [`MAX_GROUPS`](Self::MAX_GROUPS) causes, further ones are
/// counted together.
#[derive(Debug, Default)]
pub struct Causes {
    groups: HashMap<Cause, Group>,
    others: u64,
}

impl Causes {
    /// Most causes that are told apart.
    pub const MAX_GROUPS: usize = 1000;

    /// Counts a letter.
    pub fn add(&mut self, topic: &Topic, letter: &Letter<'_>) {
        let account = &letter.account;
        let cause = Cause {
            writer: account.writer.name(),
            route: account.route.clone(),
            stage: account.stage.clone(),
            class: account.class.clone(),
            code: account.code.clone(),
            pattern: account.message.as_deref().map(pattern),
        };
        let (failed, expires) = (letter.failed_ms(), topic.expiry(letter.record.timestamp_ms));
        if let Some(group) = self.groups.get_mut(&cause) {
            group.count += 1;
            group.first_seen = group.first_seen.into_iter().chain(failed).min();
            group.last_seen = group.last_seen.max(failed);
            group.expires = group.expires.sooner(expires);
            group.newest = letter.place();
            group.message.clone_from(&account.message);
        } else if self.groups.len() < Self::MAX_GROUPS {
            let group = Group {
                cause: cause.clone(),
                count: 1,
                first_seen: failed,
                last_seen: failed,
                expires,
                newest: letter.place(),
                message: account.message.clone(),
            };
            self.groups.insert(cause, group);
        } else {
            self.others += 1;
        }
    }

    /// The groups, the largest first, and how many letters are in none.
    #[must_use]
    pub fn into_groups(self) -> (Vec<Group>, u64) {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.cause.cmp(&other.cause)));
        (groups, self.others)
    }
}

impl Serialize for Expiry {
    /// A time, `"never"`, or null where it is not known.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown => serializer.serialize_none(),
            Self::At(ms) => as_time(&Some(*ms), serializer),
            Self::Never => serializer.serialize_str("never"),
        }
    }
}
