//! Which dead letters are meant.

use std::fmt;
use std::str::FromStr;

use memchr::memmem::Finder;
use pointsman_core::condition::{DeadLetterCondition, DeadLetterView};
use pointsman_core::provenance::Writer;
use pointsman_core::record::{Header, Headers};
use thiserror::Error;

use super::letter::Letter;

/// Which dead letters are meant: those that every part agrees with. Without any, all of them are.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The route it failed on; for the letters of other tools, see [`Account`](pointsman_core::provenance::Account).
    pub route: Option<String>,
    /// The stage it failed in: its plugin's name, or the first digits of the plugin's digest, at least 8.
    pub stage: Option<String>,
    /// Class of the failure.
    pub class: Option<String>,
    /// Code of the failure.
    pub code: Option<String>,
    /// Where the record came from.
    pub origin: Option<OriginFilter>,
    /// Failed last at this time or later, in milliseconds since 1970-01-01 UTC.
    pub since_ms: Option<i64>,
    /// Failed last before this time, in milliseconds since 1970-01-01 UTC.
    pub until_ms: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// Headers that it has, those that tell why it is here included.
    pub headers: Vec<HeaderFilter>,
    /// Text in its payload.
    pub text: Option<Text>,
    /// What holds for it.
    pub condition: Option<DeadLetterCondition>,
}

/// Where a record came from, as narrow as it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginFilter {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: Option<i32>,
    /// Offset.
    pub offset: Option<i64>,
}

/// A text that says no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("it says no origin; write topic, topic/partition or topic/partition/offset")]
pub struct OriginError;

impl FromStr for OriginFilter {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let mut parts = text.split('/');
        let topic = parts.next().filter(|topic| !topic.is_empty()).ok_or(OriginError)?.to_owned();
        let mut number = || parts.next().map(|text| text.parse::<u64>().map_err(|_| OriginError)).transpose();
        let partition = number()?.map(i32::try_from).transpose().map_err(|_| OriginError)?;
        let offset = number()?.map(i64::try_from).transpose().map_err(|_| OriginError)?;
        if parts.next().is_some() { Err(OriginError) } else { Ok(Self { topic, partition, offset }) }
    }
}

/// A header that a letter has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFilter {
    /// Its name.
    pub name: String,
    /// Its value; `None` is any, null included.
    pub value: Option<Vec<u8>>,
}

impl HeaderFilter {
    fn is(&self, header: &Header<'_>) -> bool {
        header.name == self.name.as_bytes() && self.value.as_ref().is_none_or(|value| header.value == Some(value))
    }
}

/// Text that is searched for.
#[derive(Clone)]
pub struct Text(Finder<'static>);

impl Text {
    /// Searches for these bytes.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Finder::new(text.as_bytes()).into_owned())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Text").field(&String::from_utf8_lossy(self.0.needle())).finish()
    }
}

/// Whether a letter is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is.
    Selected,
    /// It is not.
    Other,
    /// The letter does not tell what is asked: why, in a clause.
    Unsure(String),
}

impl Selection {
    /// Whether the letter is meant. What part of the selection knows it is not, decides.
    #[must_use]
    pub fn judge(&self, letter: &Letter<'_>) -> Judgement {
        let mut unsure = None;
        // From cheap to costly: the condition may read the value as JSON.
        let parts: [fn(&Self, &Letter<'_>) -> Judgement; 4] =
            [Self::by_record, Self::by_account, Self::by_text, Self::by_condition];
        for part in parts {
            match part(self, letter) {
                Judgement::Selected => {}
                Judgement::Other => return Judgement::Other,
                Judgement::Unsure(why) => unsure = unsure.or(Some(why)),
            }
        }
        unsure.map_or(Judgement::Selected, Judgement::Unsure)
    }

    /// By time, key and headers.
    fn by_record(&self, letter: &Letter<'_>) -> Judgement {
        let has = |filter: &HeaderFilter| letter.record.headers.iter().any(|header| filter.is(&header));
        if !self.headers.iter().all(has) {
            return Judgement::Other;
        }
        if let Some(failed_ms) = letter.failed_ms() {
            if self.since_ms.is_some_and(|since| failed_ms < since)
                || self.until_ms.is_some_and(|until| failed_ms >= until)
            {
                return Judgement::Other;
            }
        } else if self.since_ms.is_some() || self.until_ms.is_some() {
            return Judgement::Unsure("it does not say when it failed".into());
        }
        match &self.key {
            Some(_) if letter.account.truncated => Judgement::Unsure("its key is only at its origin".into()),
            Some(key) if letter.record.key != Some(key) => Judgement::Other,
            _ => Judgement::Selected,
        }
    }

    /// By what the headers tell.
    fn by_account(&self, letter: &Letter<'_>) -> Judgement {
        let account = &letter.account;
        let is_digest =
            |text: &str| text.len() >= 8 && account.plugin_sha256.as_ref().is_some_and(|is| is.starts_with(text));
        let origin = self.origin.as_ref();
        let checks = [
            check("route", self.route.as_ref(), account.route.as_ref()),
            match &self.stage {
                Some(stage) if is_digest(stage) => Check::Agrees,
                _ => check("stage", self.stage.as_ref(), account.stage.as_ref()),
            },
            check("class", self.class.as_ref(), account.class.as_ref()),
            check("code", self.code.as_ref(), account.code.as_ref()),
            check("origin", origin.map(|origin| origin.topic.as_str()), account.origin.topic.as_deref()),
            check("origin", origin.and_then(|origin| origin.partition), account.origin.partition),
            check("origin", origin.and_then(|origin| origin.offset), account.origin.offset),
        ];
        // A writer that we know leaves out what is not so; a torn block may have lost it.
        let tells_all = !matches!(account.writer, Writer::Torn(_) | Writer::Unknown);
        let mut unsure = None;
        for check in checks {
            match check {
                Check::Agrees => {}
                Check::Differs => return Judgement::Other,
                Check::Untold(_) if tells_all => return Judgement::Other,
                Check::Untold(what) => unsure = unsure.or(Some(what)),
            }
        }
        unsure.map_or(Judgement::Selected, |what| Judgement::Unsure(format!("it does not tell its {what}")))
    }

    fn by_text(&self, letter: &Letter<'_>) -> Judgement {
        match &self.text {
            None => Judgement::Selected,
            Some(_) if letter.account.truncated => Judgement::Unsure("its payload is only at its origin".into()),
            Some(text) if letter.record.value.is_some_and(|value| text.0.find(value).is_some()) => Judgement::Selected,
            Some(_) => Judgement::Other,
        }
    }

    fn by_condition(&self, letter: &Letter<'_>) -> Judgement {
        let Some(condition) = &self.condition else { return Judgement::Selected };
        // Those of a torn letter, ours or not, are all there is.
        let originals = letter.originals().unwrap_or_else(|| letter.record.headers.iter().collect());
        let headers = Headers::Borrowed(&originals);
        match DeadLetterView::new(&letter.account, letter.record.key, letter.record.value, headers).holds(condition) {
            Ok(true) => Judgement::Selected,
            Ok(false) => Judgement::Other,
            Err(failure) => Judgement::Unsure(failure.message),
        }
    }
}

/// One part of a selection beside what a letter tells.
enum Check {
    Agrees,
    Differs,
    /// The letter does not tell this.
    Untold(&'static str),
}

fn check<T: PartialEq>(what: &'static str, wanted: Option<T>, told: Option<T>) -> Check {
    match (wanted, told) {
        (None, _) => Check::Agrees,
        (Some(wanted), Some(told)) if wanted == told => Check::Agrees,
        (Some(_), Some(_)) => Check::Differs,
        (Some(_), None) => Check::Untold(what),
    }
}
