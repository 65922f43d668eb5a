//! `pointsman plugin build`: a component from a plugin's source folder.

use std::path::PathBuf;

use crate::cli::{Exit, complain, complain_of, say};
use crate::plugin_build::{self, BuildError};
use crate::toolchain::{Toolchain, ToolchainChoice};

/// Build a component from a plugin's source folder, and print its path.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The plugin's folder.
    folder: PathBuf,
    /// Which wasm32 toolchain to use.
    #[arg(long, value_enum, default_value_t)]
    toolchain: ToolchainChoice,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    let toolchain = match Toolchain::find_or_make(arguments.toolchain, &mut complain) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            complain_of(&error);
            return Exit::NotStarted;
        }
    };
    match plugin_build::build(&arguments.folder, &toolchain, &mut complain) {
        Ok(component) => {
            say(&component.display().to_string());
            Exit::Fine
        }
        Err(error) => {
            complain_of(&error);
            if matches!(error, BuildError::NoSource { .. }) { Exit::Configuration } else { Exit::No }
        }
    }
}
