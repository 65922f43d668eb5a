//! Which requests brokers take: librdkafka asks each of them, and says it nowhere but in its log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What was told so far, by the `host:port` of the broker: API keys, and the latest version of each.
#[derive(Debug, Default)]
pub(crate) struct Requests(Mutex<BTreeMap<String, BTreeMap<i16, i16>>>);

impl Requests {
    /// The facility of the lines that tell it.
    pub(super) const FACILITY: &str = "APIVERSION";

    /// Takes a line of the log, such as `[thrd:a:9092/1]: a:9092/1:   ApiKey Produce (0) Versions 0..12`.
    pub(super) fn note(&self, line: &str) {
        if let Some((address, key, version)) = read(line) {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(address.to_owned()).or_default().insert(key, version);
        }
    }

    /// Those of the broker at this address; `None` where it has said nothing.
    pub(crate) fn of(&self, address: &str) -> Option<BTreeMap<i16, i16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(address).cloned()
    }
}

fn read(line: &str) -> Option<(&str, i16, i16)> {
    let (before, told) = line.split_once("ApiKey ")?;
    let broker = before.rsplit("]: ").next()?.trim_end().strip_suffix(':')?;
    let address = broker.rsplit_once('/')?.0;
    let address = address.rsplit("://").next()?;
    let (_, told) = told.split_once('(')?;
    let (key, told) = told.split_once(") Versions ")?;
    let (_, version) = told.split_once("..")?;
    Some((address, key.parse().ok()?, version.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_read_whatever_the_protocol() {
        for (line, found) in [
            ("[thrd:a:9092/1]: a:9092/1:   ApiKey Produce (0) Versions 0..12", Some(("a:9092", 0, 12))),
            (
                "[thrd:sasl_ssl://k:9093/bootstrap]: sasl_ssl://k:9093/bootstrap:   ApiKey TxnOffsetCommit (28) Versions 0..5",
                Some(("k:9093", 28, 5)),
            ),
            ("[thrd:[::1]:9092/2]: [::1]:9092/2:   ApiKey Unknown-74? (74) Versions 0..0", Some(("[::1]:9092", 74, 0))),
            ("[thrd:a:9092/1]: a:9092/1: Broker API support:", None),
            ("ApiKey", None),
        ] {
            assert_eq!(read(line), found, "{line}");
        }
    }
}
