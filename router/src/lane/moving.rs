//! Writing anew at the end of the retry partition what has waited there longest, so that what was settled behind it need not
//! be remembered.

use pointsman_core::delivery::{Delivery, PartitionChoice};
use pointsman_core::record::Headers;

use super::sending::{Full, token};
use super::undoing::Refused;
use super::{Intent, Lane, Tools, Unit};

impl Lane {
    /// Produces a parked record once more, as it is.
    pub(super) fn move_copy(&mut self, tools: &mut Tools<'_>, unit: Unit) -> Result<(), Full> {
        let Some(retry) = &mut self.retry else { return Ok(()) };
        retry.index_mut().hold_moved(unit.seq);
        let intent = Intent::Move { from: retry.tail_at() };
        if self.is_seen(unit) {
            self.all_sent(unit, intent, tools.now);
            return Ok(());
        }
        if self.is_refused_again(unit, Refused::Copy, &intent, tools.now) {
            return Ok(());
        }
        let (Some(topic), Some(record)) = (self.retry_topic, self.record(unit)) else { return Ok(()) };
        let delivery = Delivery {
            topic,
            partition: PartitionChoice::Exactly(self.source_partition().partition),
            timestamp_ms: tools.now.unix_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
            stamps: Headers::NONE,
        };
        let produced = tools.sink.produce(&delivery, token(self.id, unit));
        self.produced(unit, produced, tools.credit)?;
        self.all_sent(unit, intent, tools.now);
        Ok(())
    }

    /// The copy that was moved is written: the old one is not needed any more.
    pub(super) fn moved(&mut self, unit: Unit) {
        if let Some(retry) = &mut self.retry {
            retry.settle(unit.seq, true);
        }
    }

    /// The log refuses what it has taken before. So it stays where it is.
    pub(super) fn stay(&mut self, unit: Unit, code: &str, message: &str) {
        tracing::warn!(
            offset = self.offset_of(unit),
            "a parked record can't be moved to the end of its partition: {message} ({code})"
        );
        if let Some(retry) = &mut self.retry {
            retry.put_back(unit.seq);
        }
    }
}
