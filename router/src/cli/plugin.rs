//! `pointsman plugin`: for those who write plugins.

use super::Exit;

mod bench;
mod build;
mod inspect;
mod new;
mod samples;
mod test;

/// For those who write plugins.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    New(new::Arguments),
    Build(build::Arguments),
    Inspect(inspect::Arguments),
    Test(test::Arguments),
    Bench(bench::Arguments),
}

pub(crate) fn execute(command: &Command) -> Exit {
    match command {
        Command::New(arguments) => new::execute(arguments),
        Command::Build(arguments) => build::execute(arguments),
        Command::Inspect(arguments) => inspect::execute(arguments),
        Command::Test(arguments) => test::execute(arguments),
        Command::Bench(arguments) => bench::execute(arguments),
    }
}
