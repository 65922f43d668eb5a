//! The tests that need a broker: a real Apache Kafka, which they share.
#![allow(clippy::print_stderr, reason = "a skipped test says why on standard error")]

use std::process::ExitCode;

use libtest_mimic::Arguments;

mod client;
mod doctor;
mod flows;
mod harness;
mod lag;
mod offsets;
mod produce;
mod record_text;
mod transactions;

fn main() -> ExitCode {
    pointsman_tests::trials::run(
        &Arguments::from_args(),
        &[
            harness::TRIALS,
            lag::TRIALS,
            flows::TRIALS,
            client::groups::TRIALS,
            client::records::TRIALS,
            client::starts::TRIALS,
            client::topics::TRIALS,
            client::trouble::TRIALS,
            doctor::TRIALS,
            offsets::TRIALS,
            produce::TRIALS,
            record_text::TRIALS,
            transactions::TRIALS,
        ],
    )
}
