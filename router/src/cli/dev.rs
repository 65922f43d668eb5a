//! `pointsman dev`: the router on a laptop, with its plugins built from source and something to route.

use std::path::PathBuf;
use std::sync::Arc;

use super::run::{bind, until_stopped};
use super::{Exit, complain, complain_of, configuration, say};
use crate::demo::{Console, Feeders};
use crate::plugin_build;
use crate::running::Running;
use crate::toolchain::{Toolchain, ToolchainChoice, ToolchainError};
use crate::topology::StartError;

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
    let mut toolchain = None;
    let bound = bind(configuration, |name, folder| {
        complain(&format!("building plugin {name} in {}", folder.display()));
        build(&mut toolchain, arguments.toolchain, &folder)
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

fn build(
    toolchain: &mut Option<Arc<Toolchain>>,
    choice: ToolchainChoice,
    folder: &std::path::Path,
) -> Result<PathBuf, StartError> {
    let found = match toolchain {
        Some(found) => Arc::clone(found),
        None => Arc::clone(toolchain.insert(Arc::new(find(choice)?))),
    };
    Ok(plugin_build::build(folder, &found, &mut complain)?)
}

fn find(choice: ToolchainChoice) -> Result<Toolchain, ToolchainError> {
    Toolchain::find_or_make(choice, &mut complain)
}
