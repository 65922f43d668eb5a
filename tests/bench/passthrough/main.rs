//! What the router costs beside the client library underneath: CPU per event, throughput and latency, against a bare
//! pass-through written on librdkafka as well as it can be.
//!
//! ```text
//! cargo bench -p pointsman-tests --bench passthrough                         # in short: some minutes
//! cargo bench -p pointsman-tests --bench passthrough -- --part failures,latency
//! cargo bench -p pointsman-tests --bench passthrough -- --part all           # some hours; keeps tests/bench/results
//! cargo bench -p pointsman-tests --bench passthrough -- --records 100000 --repetitions 3 --only identity
//! ```
//!
//! A real Kafka is started and topics are filled. Then the subjects, each a process of its own, started anew for every run,
//! copy those topics to fresh ones in turns, all of them in each repetition, forwards and backwards: what the machine does
//! besides meets all alike, and only figures of one call of this program compare. What a bar is about stands next to its
//! baseline there: the same program at the two ends of a turn had 1.05 of itself.
//!
//! A machine that does something besides takes time from a run and never gives any, and it does so in phases that outlast
//! several runs: the same program has been seen to use anything from 1.03 to 2.06 µs for each event. A median says in which
//! phase most runs fell. So the headline of CPU is the least over the repetitions, that of throughput the most, and a ratio
//! is that of two headlines; median and spread stand beside it, and tell how far to trust it. The bare pass-through runs
//! twice in each repetition, the second time as a control: as far as its ratio is from 1.00, so little do the others say.
//! Up to three runs of each subject before all others are not counted: the broker's own compiler warms up in them, to what this
//! subject asks of it.
//!
//! CPU is user and system time of the process from its start until the last record is where it ends, less what it costs to
//! start the same on topics without records, which is told apart. Records are counted where they end, and are to be
//! committed, in every run. Bars are told as met or not; nothing asserts a time.
//!
//! A subject is data ([`catalogue`]): a file for the router, and where its records are to end. So is a part that copies
//! topics ([`parts`]): subjects on records, and the bars for them. [`latency`] and [`start`] measure in ways of their own.
#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

mod bare;
mod catalogue;
mod chart;
mod figure;
mod kernel;
mod latency;
mod part;
mod parts;
mod process;
mod report;
mod run;
mod setting;
mod start;
mod subject;
mod table;
mod workload;

use std::time::Duration;

use anyhow::ensure;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::part::Part;
use crate::parts::Extent;
use crate::report::Report;
use crate::setting::Bench;

#[derive(Parser)]
#[command(about = "CPU, throughput and latency of the router against a bare librdkafka pass-through")]
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
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "short")]
    part: Vec<Name>,
    /// Records of 200 bytes of each source topic, in place of a part's own number; of larger ones there are fewer.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1000..))]
    records: Option<u64>,
    /// Times that every subject runs, in place of a part's own number.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: Option<u32>,
    /// Only these subjects, and what they are compared with, in the parts that copy topics.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only the records of these labels, as `200 B` or `512 partitions`, in the parts that copy topics.
    #[arg(long, value_delimiter = ',')]
    group: Vec<String>,
    /// Records a second in the part `latency`, in place of half of what goes.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Seconds of load in the part `latency`, and of idleness in the part `start`.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Keep tables and charts in tests/bench/results, as `--part all` always does.
    #[arg(long)]
    save: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The most important subjects, and the bars for them.
    Short,
    /// All subjects, on records of three sizes.
    Subjects,
    /// Batches of several sizes.
    Batches,
    /// Topics of 1, 4 and 32 partitions.
    Partitions,
    /// Shares of records that are rejected or trap.
    Failures,
    /// Exactly once against at least once.
    Delivery,
    /// Metrics and traces against none.
    Telemetry,
    /// A million records that wait for their retry.
    Backlog,
    /// Latency at half load.
    Latency,
    /// Many partitions, routes and plugins.
    Scaling,
    /// Time to start, and what a router takes that has nothing to do.
    Start,
    /// All of these.
    All,
}

const ALL: [Name; 11] = [
    Name::Short,
    Name::Subjects,
    Name::Batches,
    Name::Partitions,
    Name::Failures,
    Name::Delivery,
    Name::Telemetry,
    Name::Backlog,
    Name::Latency,
    Name::Scaling,
    Name::Start,
];

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
    let is_all = options.part.contains(&Name::All);
    let names = if is_all { &ALL } else { &*options.part };
    let circumstances = report::circumstances();
    let bench = Bench::start()?;
    println!("{circumstances}");
    for name in names {
        let report = options.run(*name, &bench)?;
        println!("\n{}", report.text());
        if options.save || is_all {
            report.save(&circumstances)?;
        }
    }
    Ok(())
}

impl Options {
    fn run(&self, name: Name, bench: &Bench) -> anyhow::Result<Report> {
        let extent = Extent { records: self.records, repetitions: self.repetitions };
        let time = Duration::from_secs(self.seconds);
        let repetitions = extent.repetitions(3);
        let part = match name {
            Name::Short | Name::All => parts::short(extent),
            Name::Subjects => parts::subjects(extent),
            Name::Batches => parts::batches(extent),
            Name::Partitions => parts::partitions(extent),
            Name::Failures => parts::failures(extent),
            Name::Delivery => parts::delivery(extent),
            Name::Telemetry => parts::telemetry(extent),
            Name::Backlog => parts::backlog(extent),
            Name::Scaling => parts::scaling(extent),
            Name::Latency => {
                return latency::report(bench, latency::Wanted { rate: self.rate, time, repetitions });
            }
            Name::Start => return start::report(bench, start::Wanted { idle: time, repetitions }),
        };
        self.copy(part, bench)
    }

    fn copy(&self, mut part: Part, bench: &Bench) -> anyhow::Result<Report> {
        part.keep_groups(&self.group);
        ensure!(!part.groups.is_empty(), "the part {} has no records of {:?}", part.name, self.group);
        part.keep_only(&self.only);
        ensure!(!part.groups.is_empty(), "the part {} has no subject of {:?}", part.name, self.only);
        Ok(Report::of(&part.run(bench)?))
    }
}
