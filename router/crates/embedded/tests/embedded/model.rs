//! The log against the simplest model of one: lists of records, and a number for each group and partition.

use pointsman_core::delivery::{PartitionChoice, partition_of_key};
use pointsman_core::port::{Log, Membership, Sink, StartAt, Token};
use pointsman_core::record::{OwnedRecord, TopicPartition};
use pointsman_embedded::EmbeddedLog;
use proptest::collection::vec;
use proptest::prelude::*;

use std::sync::Arc;

use crate::harness::*;
use crate::records::any_record;

const PARTITIONS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Queue records, and serve the sink.
    Produce(Vec<(OwnedRecord, Option<usize>)>),
    /// Fetch from an assigned partition.
    Fetch { partition: usize, max_records: usize, max_bytes: usize },
    /// Commit what was fetched.
    Commit { partition: usize, metadata: String },
    /// Leave, close, open, join.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS;
    let choice = proptest::option::of(partition.clone());
    prop_oneof![
        3 => vec((any_record(), choice), 1..20).prop_map(Step::Produce),
        3 => (partition.clone(), 1_usize..30, 0_usize..3000)
            .prop_map(|(partition, max_records, max_bytes)| Step::Fetch { partition, max_records, max_bytes }),
        2 => (partition, "[a-z]{0,8}").prop_map(|(partition, metadata)| Step::Commit { partition, metadata }),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    records: [Vec<OwnedRecord>; PARTITIONS],
    /// Where the feeds are.
    next: [usize; PARTITIONS],
    committed: [(usize, String); PARTITIONS],
}

impl Model {
    fn append(&mut self, record: &OwnedRecord, choice: Option<usize>) {
        let partition = choice.unwrap_or_else(|| match &record.key {
            Some(key) => partition_of_key(key, PARTITIONS as u32) as usize,
            None => self.records.iter().map(Vec::len).sum::<usize>() % PARTITIONS,
        });
        let offset = self.records[partition].len() as i64;
        self.records[partition].push(OwnedRecord { offset, ..record.clone() });
    }
}

struct Running {
    log: EmbeddedLog,
    sink: Box<dyn Sink>,
    member: Box<dyn Membership>,
    host: Arc<SimulatedHost>,
}

fn run(place: &Place) -> Running {
    let log = place.open();
    create(&log, &[("t", PARTITIONS as u32)]);
    let host = SimulatedHost::new();
    let member = log.join(plan("g", &[("t", None, StartAt::Earliest)]), host.clone()).unwrap();
    host.wait_for_assigned(PARTITIONS);
    Running { sink: sink(&log, "t"), log, member, host }
}

fn name(partition: usize) -> TopicPartition {
    TopicPartition::new("t", partition as i32)
}

/// What a feed gives is the next stretch of the model, and as long as it may be.
fn check_fetch(running: &Running, model: &mut Model, partition: usize, max_records: usize, max_bytes: usize) {
    let fetched: Vec<OwnedRecord> =
        running.host.with(|told| match told.assigned[partition].source.feed.fetch(max_records, max_bytes).unwrap() {
            Some(batch) => (0..batch.len()).map(|index| batch.record(index).into()).collect(),
            None => Vec::new(),
        });
    let rest = &model.records[partition][model.next[partition]..];
    assert_eq!(fetched, rest[..fetched.len()]);
    assert_eq!(fetched.is_empty(), rest.is_empty());
    assert!(fetched.len() <= max_records);
    let bytes: usize = fetched.iter().map(|record| record.as_record().bytes()).sum();
    assert!(fetched.len() <= 1 || bytes <= max_bytes);
    model.next[partition] += fetched.len();
}

fn reopen(place: &Place, running: Running, model: &mut Model) -> Running {
    assert!(running.member.leave(PATIENCE));
    drop((running.sink, running.log));
    let running = run(place);
    let starts: Vec<_> = running.host.with(|told| {
        let sources = told.assigned.iter().map(|assignment| &assignment.source);
        sources.map(|source| (source.start as usize, source.metadata.clone())).collect()
    });
    assert_eq!(starts, model.committed);
    model.next = std::array::from_fn(|partition| model.committed[partition].0);
    running
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_log_does_as_the_model_does(steps in vec(step(), 1..30)) {
        let place = Place::new();
        let mut model = Model::default();
        let mut running = run(&place);
        for step in steps {
            match step {
                Step::Produce(records) => {
                    for (record, choice) in &records {
                        let partition = choice.map_or(PartitionChoice::ByKey, |at| PartitionChoice::Exactly(at as i32));
                        running.sink.produce(&delivery(record, partition), Token(0)).unwrap();
                        model.append(record, *choice);
                    }
                    prop_assert_eq!(served(&mut *running.sink), vec![Ok(()); records.len()]);
                }
                Step::Fetch { partition, max_records, max_bytes } => {
                    check_fetch(&running, &mut model, partition, max_records, max_bytes);
                }
                Step::Commit { partition, metadata } => {
                    let offset = model.next[partition];
                    running.member.committer().commit(&[commit(&name(partition), offset as i64, &metadata)]);
                    model.committed[partition] = (offset, metadata);
                }
                Step::Reopen => running = reopen(&place, running, &mut model),
            }
        }
        running = reopen(&place, running, &mut model);
        for partition in 0..PARTITIONS {
            prop_assert_eq!(&contents(&running.log, &name(partition)), &model.records[partition]);
            let end = model.records[partition].len() as i64;
            prop_assert_eq!(running.log.watermarks(&name(partition)).unwrap(), (0, end));
            let (offset, metadata) = &model.committed[partition];
            let expected = Some(commit(&name(partition), *offset as i64, metadata));
            prop_assert_eq!(running.log.committed("g", &[name(partition)]).unwrap(), vec![expected]);
        }
        prop_assert!(running.member.leave(PATIENCE));
    }
}
