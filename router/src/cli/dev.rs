//! `pointsman dev`: the router on a laptop, with its plugins built from source and something to route.

use std::path::PathBuf;

use super::building::Builder;
use super::run::{bind, until_stopped};
use super::{Exit, complain, complain_of, configuration, say};
use crate::demo::{Console, Feeders};
use crate::running::Running;
use crate::toolchain::ToolchainChoice;

/// Build the plugins from source, run the router, feed it with the configuration's sample records, and show what
/// becomes of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    file: PathBuf,
    /// Which wasm32 toolchain to build with.
    #[arg(long, value_enum, default_value_t)]
    toolchain: ToolchainChoice,
    /// Don't feed the sample records.
    #[arg(long)]
    no_feeds: bool,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let configuration = match configuration::load(&arguments.file) {
        Ok(configuration) => configuration,
        Err(exit) => return exit,
    };
    let feeders = match Feeders::read(&configuration.plan, &configuration.directory) {
        Ok(feeders) => feeders,
        Err(error) => {
            complain_of(&error);
            return Exit::Configuration;
        }
    };
    let mut builder = Builder::new(arguments.toolchain);
    let bound = bind(configuration, |name, folder| {
        complain(&format!("building plugin {name} in {}", folder.display()));
        builder.build(&folder)
    });
    let ran = bound.and_then(|topology| {
        let file = arguments.file.display().to_string();
        until_stopped(&topology, |running: &Running| {
            let console = Console::start(&file, &topology, running.counters());
            let feeding = (!arguments.no_feeds).then(|| feeders.start(&topology));
            (console, feeding)
        })
    });
    match ran {
        Ok(exit) => {
            say(&format!("stopped; `{} dev {}` goes on from here", program(), arguments.file.display()));
            exit
        }
        Err(error) => {
            complain_of(&error);
            Exit::NotStarted
        }
    }
}

/// What the user types to run this program.
pub(crate) fn program() -> &'static str {
    // Cargo sets this for what it runs.
    if std::env::var_os("CARGO").is_some() { "cargo run --" } else { "pointsman" }
}
