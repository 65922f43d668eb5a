//! `pointsman plugin`: for those who write plugins.

use super::Exit;

mod build;
mod inspect;

/// For those who write plugins.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Build(build::Arguments),
    Inspect(inspect::Arguments),
}

pub(crate) fn execute(command: &Command) -> Exit {
    match command {
        Command::Build(arguments) => build::execute(arguments),
        Command::Inspect(arguments) => inspect::execute(arguments),
    }
}
