//! The records that are copied: orders, as JSON of a given length, with a key of 16 bytes and two headers.

use std::fmt;

use pointsman_core::record::OwnedHeader;
use pointsman_tests::kafka::{Kafka, Sample};

/// Partitions of every topic.
pub(crate) const PARTITIONS: i32 = 4;

/// The header that tells the two halves of the records apart, and its value in one of them.
pub(crate) const HEADER: (&str, &str) = ("environment", "test");

/// How many records of which size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) records: u64,
    pub(crate) value_bytes: usize,
}

impl Workload {
    /// Makes the source topic and fills it; the answer is its name.
    pub(crate) fn fill(&self, kafka: &Kafka) -> anyhow::Result<String> {
        let topic = Kafka::unique("source");
        kafka.create_topic(&topic, PARTITIONS)?;
        kafka.fill_with(&topic, self.records, |number| self.sample(number))?;
        Ok(topic)
    }

    /// How many records have [`HEADER`]'s value: every second.
    pub(crate) fn of_tests(&self) -> u64 {
        self.records / 2
    }

    fn sample(&self, number: u64) -> Sample {
        let environment = if number % 2 == 1 { HEADER.1 } else { "live" };
        Sample {
            key: Some(format!("customer-{number:07}").into_bytes()),
            value: Some(self.value(number)),
            headers: vec![
                OwnedHeader::text(HEADER.0, environment),
                OwnedHeader::text("trace-id", format!("{:032x}", u128::from(number) << 64 | 0x8448_eb21)),
            ],
            ..Sample::default()
        }
    }

    fn value(&self, number: u64) -> Vec<u8> {
        let mut value = format!(
            r#"{{"id":"order-{number:010}","amount":{},"currency":"EUR","items":[{{"sku":"A-17","n":2}}],"note":""#,
            number % 900
        );
        // What closes the text and the object.
        let room = self.value_bytes.saturating_sub(value.len() + 2);
        value.extend(std::iter::repeat_n('x', room));
        value.push_str("\"}");
        value.into_bytes()
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, value_bytes } = self;
        write!(f, "{records} records of {value_bytes} bytes, key of 16 bytes, 2 headers, {PARTITIONS} partitions")
    }
}
