//! `pointsman plugin build`: a component from a plugin's source folder.

use std::path::PathBuf;

use crate::cli::building::Builder;
use crate::cli::{Exit, complain_of, say};
use crate::plugin_build::BuildError;
use crate::toolchain::ToolchainChoice;
use crate::topology::StartError;

/// Build a component from a plugin's source folder, and print its path.
///
/// The language is told by what is in the folder: Cargo.toml (Rust), go.mod (Go), plugin.py (Python), plugin.js
/// (JavaScript), plugin.ts (TypeScript), *.c (C).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The plugin's folder.
    folder: PathBuf,
    /// Which wasm32 toolchain to use for Rust.
    #[arg(long, value_enum, default_value_t)]
    toolchain: ToolchainChoice,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    match Builder::new(arguments.toolchain).build(&arguments.folder) {
        Ok(component) => {
            say(&component.display().to_string());
            Exit::Fine
        }
        Err(error) => {
            complain_of(&error);
            exit_of(&error)
        }
    }
}

/// How a command ends whose plugin can't be built.
pub(super) fn exit_of(error: &StartError) -> Exit {
    match error {
        StartError::Build(BuildError::NoSource { .. } | BuildError::NoLanguage { .. }) => Exit::Configuration,
        StartError::Build(BuildError::NoCompiler { .. } | BuildError::NoCargo { .. }) => Exit::NotStarted,
        StartError::Build(_) => Exit::No,
        _ => Exit::NotStarted,
    }
}
