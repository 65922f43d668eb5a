//! Prints how many records a second go into the log, and come out of it.
//!
//! ```text
//! cargo run -p pointsman-embedded --example throughput -- [RECORDS] [BATCH] [VALUE_BYTES] [DIRECTORY]
//! ```
//!
//! The defaults are 200,000 records in batches of 500, 200 bytes each, over four partitions, in a temporary directory. Every
//! batch is one transaction, which is synced: so the first figure is mostly one about the disk under the directory.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use pointsman_core::delivery::{Delivery, PartitionChoice, TopicId};
use pointsman_core::port::{Log, NewTopic, Token};
use pointsman_core::record::{Header, Headers, TopicPartition};
use pointsman_embedded::{EmbeddedLog, Options};

const PARTITIONS: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (records, batch, value_bytes) = (number(200_000)?, number(500)?, number(200)?);
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().to_owned(), Into::into);

    let log = EmbeddedLog::open(&directory, Options::default())?;
    log.create_topics(&[NewTopic { name: "throughput".into(), partitions: PARTITIONS, retention: None }])?;
    let partitions = (0..PARTITIONS).map(|number| TopicPartition::new("throughput", number.cast_signed()));
    // Where the directory is an old one, only the new records are read.
    let starts = partitions
        .map(|partition| Ok((log.watermarks(&partition)?.1, partition)))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;

    let began = Instant::now();
    write(&log, records, batch, value_bytes)?;
    let elapsed = began.elapsed().as_secs_f64();
    println!(
        "in:  {:>9.0} records/s  ({:.0} transactions/s)",
        records as f64 / elapsed,
        records.div_ceil(batch) as f64 / elapsed
    );

    let began = Instant::now();
    let mut read = 0;
    for (start, partition) in starts {
        let mut feed = log.read(&partition, start)?;
        while let Some(page) = feed.fetch(batch, usize::MAX)? {
            read += (0..page.len()).filter(|index| page.record(*index).value.is_some()).count();
        }
    }
    println!("out: {:>9.0} records/s", read as f64 / began.elapsed().as_secs_f64());
    if read == records { Ok(()) } else { Err(format!("{records} records went in, {read} came out").into()) }
}

fn write(log: &EmbeddedLog, records: usize, batch: usize, value_bytes: usize) -> Result<(), Box<dyn Error>> {
    let mut sink = log.sink(&["throughput".into()], Arc::new(|| {}))?;
    let value = vec![b'x'; value_bytes];
    let headers = [Header { name: b"trace", value: Some(b"0123456789abcdef") }];
    let mut reports = Vec::with_capacity(batch);
    for number in 0..records {
        let key = (number as u64).to_le_bytes();
        let delivery = Delivery {
            topic: TopicId(0),
            partition: PartitionChoice::ByKey,
            timestamp_ms: -1,
            key: Some(&key),
            value: Some(&value),
            headers: Headers::Borrowed(&headers),
            stamps: Headers::NONE,
        };
        sink.produce(&delivery, Token(number as u64))?;
        if (number + 1) % batch == 0 || number + 1 == records {
            sink.serve(&mut reports)?;
            reports.drain(..).try_for_each(|report| report.result.map(drop))?;
        }
    }
    Ok(())
}
