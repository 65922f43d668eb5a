#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Log, NewTopic, Token};
use pointsman_core::record::{Headers, TopicPartition};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::catalog;
use crate::log::EmbeddedLog;
use crate::options::Options;

/// A log with one partition of records, given as bytes and timestamp.
fn log_with(directory: &TempDir, records: &[(usize, i64)]) -> EmbeddedLog {
    let log = EmbeddedLog::open(directory.path(), Options::default()).unwrap();
    log.create_topics(&[NewTopic { name: "t".into(), partitions: 1, retention: None }]).unwrap();
    let mut sink = log.sink(&["t".into()], Arc::new(|| {})).unwrap();
    let value = [0; 1000];
    for (bytes, timestamp_ms) in records {
        let delivery = Delivery {
            topic: TopicId(0),
            partition: PartitionChoice::Exactly(0),
            timestamp_ms: *timestamp_ms,
            key: None,
            value: Some(&value[..*bytes]),
            headers: Headers::Owned(&[]),
            stamps: Headers::NONE,
        };
        sink.produce(&delivery, Token(0)).unwrap();
    }
    sink.serve(&mut Vec::new()).unwrap();
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// The model: records go from the front as long as there is something left of the budget. Wherever that ends, times lead
    /// to the records that are left, and to no others.
    #[test]
    fn a_step_stays_in_its_budget_and_leaves_a_whole_log(
        runs in vec((1_usize..900, 0_usize..1000, 0_i64..9), 1..5),
        budget in (1_i64..1500, 1_i64..400_000),
        kept in 0_usize..50,
    ) {
        let directory = TempDir::new().unwrap();
        let records: Vec<_> = runs.iter().flat_map(|(count, bytes, time)| vec![(*bytes, *time); *count]).collect();
        let log = log_with(&directory, &records);
        let database = &log.shared().database;
        let name = TopicPartition::new("t", 0);
        let end = records.len().saturating_sub(kept);
        let doomed = |snapshot: &Connection| {
            let partition = catalog::partition(snapshot, &name)?.unwrap();
            let end = i64::try_from(end).unwrap();
            Ok(if partition.first < end { vec![Doomed { partition, end }] } else { Vec::new() })
        };
        let mut first = 0;
        while remove(database, Budget { records: budget.0, bytes: budget.1 }, doomed).unwrap() {
            let mut left = budget;
            while first < end && left.0 > 0 && left.1 > 0 {
                left = (left.0 - 1, left.1 - i64::try_from(records[first].0).unwrap());
                first += 1;
            }
            prop_assert_eq!(log.watermarks(&name).unwrap(), (first as i64, records.len() as i64));
            for time in 0..10 {
                let expected = records.iter().skip(first).position(|record| record.1 >= time);
                let expected = expected.map_or(records.len(), |at| first + at);
                prop_assert_eq!(log.offset_at(&name, time).unwrap(), expected as i64);
            }
        }
        prop_assert_eq!(first, end);
        let count = |sql| database.read(|snapshot| Ok(snapshot.query_row(sql, [], |row| row.get::<_, u32>(0))?)).unwrap();
        prop_assert_eq!(count("SELECT count(*) FROM records") as usize, records.len() - end);
        let segments = (end..records.len()).map(|offset| offset / SEGMENT as usize).collect::<std::collections::BTreeSet<_>>();
        prop_assert_eq!(count("SELECT count(*) FROM segments") as usize, segments.len());
    }
}

#[test]
fn a_partition_that_lacks_the_records_it_should_have_is_damaged() {
    let directory = TempDir::new().unwrap();
    let log = log_with(&directory, &[(1, 1), (1, 1)]);
    let database = &log.shared().database;
    database.write(|transaction| Ok(transaction.execute("DELETE FROM records", [])?)).unwrap();
    let doomed = |snapshot: &Connection| {
        let partition = catalog::partition(snapshot, &TopicPartition::new("t", 0))?.unwrap();
        Ok(vec![Doomed { partition, end: 2 }])
    };
    assert_eq!(remove(database, STEP, doomed).unwrap_err().code, "damaged");
}
