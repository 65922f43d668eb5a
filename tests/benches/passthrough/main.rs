//! What the router costs beside the client library underneath: CPU per event, and throughput, against a bare
//! pass-through written on librdkafka as well as it can be.
//!
//! ```text
//! cargo bench -p pointsman-tests --bench passthrough                        # a million records, five times
//! cargo bench -p pointsman-tests --bench passthrough -- --records 100000 --repetitions 3
//! ```
//!
//! A real Kafka is started and one topic filled. Then the subjects, each a process of its own, copy that topic to a
//! fresh one in turns, all of them in each repetition, forwards and backwards: what the machine does besides meets all
//! alike, and only ratios within one run mean something. The bare pass-through runs twice in each repetition, the second
//! time as a control: as far as it is from 1.00, so little do the other ratios say.
//!
//! CPU is user and system time of the process, from the moment at which it has its partitions until everything is
//! committed; what it took to get there is told apart. Records are counted at the sink topic. Nothing asserts a time.
#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

mod bare;
mod cpu;
mod subject;
mod table;
mod workload;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use pointsman_tests::kafka::Kafka;

use crate::subject::{Measured, Subject};
use crate::workload::Workload;

#[derive(Parser)]
#[command(about = "CPU and throughput of the router against a bare librdkafka pass-through")]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    role: Option<Role>,
    /// What Cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Args)]
struct Options {
    /// Records in the source topic.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    records: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(128..=65_536))]
    value_bytes: u32,
    /// Times that every subject runs.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Only these subjects, besides the bare pass-through and its control.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// What this program is to be, if not the benchmark.
#[derive(Subcommand)]
enum Role {
    /// The bare pass-through.
    #[command(hide = true)]
    Bare(bare::Order),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match &cli.role {
        Some(Role::Bare(order)) => bare::run(order),
        None => compare(&cli.options),
    }
}

fn compare(options: &Options) -> anyhow::Result<()> {
    let mut subjects = vec![Subject::bare("bare librdkafka"), Subject::bare("bare again (control)")];
    subjects.extend(Subject::routers(&options.only)?);
    let kafka = Kafka::start()?;
    let workload = Workload { records: options.records, value_bytes: options.value_bytes as usize };
    println!("{}", table::machine());
    println!("{workload}; {} repetitions; µs of CPU for each source record, median (least–most)", options.repetitions);
    let source = workload.fill(&kafka)?;

    // Not counted: the broker's compiler warms up.
    subjects[0].run(&kafka, &source, &workload).context("the warm-up failed")?;
    let mut rounds: Vec<Vec<Measured>> = Vec::new();
    for number in 0..options.repetitions {
        let mut round = vec![None; subjects.len()];
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let measured = subjects[index].run(&kafka, &source, &workload);
            let measured = measured.with_context(|| format!("{} failed", subjects[index].name()))?;
            println!("  {}: {measured}", subjects[index].name());
            round[index] = Some(measured);
        }
        rounds.push(round.into_iter().flatten().collect());
    }
    println!("\n{}", table::of(&subjects, &rounds, &workload));
    Ok(())
}
