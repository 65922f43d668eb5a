//! What is told in JSON of letters that are handled.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::handle::{Handling, Outcome, Report};

/// One letter, as JSON.
#[derive(Debug, Serialize, ToSchema)]
pub struct HandlingLine {
    /// The letter, `topic/partition/offset`.
    letter: String,
    /// `replayed`, `parked`, `discarded`, `left-alone` or `failed`; in a dry run, what would be.
    outcome: &'static str,
    /// What was written, with topic and partition.
    #[schema(value_type = Option<Object>)]
    record: Option<Box<RawValue>>,
    /// Why nothing was.
    why: Option<String>,
}

impl HandlingLine {
    /// Of one letter.
    ///
    /// # Errors
    /// What can't be written as JSON.
    pub fn new(Handling { letter, outcome }: &Handling) -> Result<Self, serde_json::Error> {
        let record = match outcome {
            Outcome::Replayed(record) | Outcome::Parked(record) => Some(RawValue::from_string(record.to_line())?),
            Outcome::Discarded | Outcome::LeftAlone(_) | Outcome::Failed(_) => None,
        };
        let why = match outcome {
            Outcome::LeftAlone(why) => Some(why.to_string()),
            Outcome::Failed(why) => Some(why.clone()),
            Outcome::Replayed(_) | Outcome::Parked(_) | Outcome::Discarded => None,
        };
        let name = match outcome {
            Outcome::Replayed(_) => "replayed",
            Outcome::Parked(_) => "parked",
            Outcome::Discarded => "discarded",
            Outcome::LeftAlone(_) => "left-alone",
            Outcome::Failed(_) => "failed",
        };
        Ok(Self { letter: letter.to_string(), outcome: name, record, why })
    }

    /// About how many bytes it has in JSON.
    #[must_use]
    pub fn size(&self) -> usize {
        100 + self.record.as_ref().map_or(0, |record| record.get().len())
    }
}

/// All of them, as JSON.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportLine {
    /// Nothing was done, only told.
    pub dry_run: bool,
    /// Records that were replayed.
    pub replayed: u64,
    /// Letters that went to the parking topic.
    pub parked: u64,
    /// Letters that were discarded.
    pub discarded: u64,
    /// Letters that were left alone.
    pub left_alone: u64,
    /// Letters that the log has refused.
    pub failed: u64,
    /// Letters that were handled before.
    pub handled_before: u64,
    /// Letters that another run has handled meanwhile.
    pub handled_meanwhile: u64,
    /// All letters that were read.
    pub read: u64,
}

impl ReportLine {
    /// Of this report.
    #[must_use]
    pub fn new(report: &Report, dry_run: bool) -> Self {
        Self {
            dry_run,
            replayed: report.replayed,
            parked: report.parked,
            discarded: report.discarded,
            left_alone: report.left_alone.values().map(|left| left.count).sum(),
            failed: report.failed.as_ref().map_or(0, |left| left.count),
            handled_before: report.handled_before,
            handled_meanwhile: report.handled_meanwhile,
            read: report.read,
        }
    }
}
