//! `pointsman plugin build`: a component from a plugin's source folder.

use std::path::{Path, PathBuf};

use pointsman_wasm::Digest;
use serde::Serialize;

use crate::cli::building::Builder;
use crate::cli::{Exit, complain, complain_of, json, say};
use crate::plugin_build::{BuildError, Language};
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
    /// Print what was built as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was built.
#[derive(Serialize)]
struct Answer {
    /// Path of the component.
    component: String,
    /// As `plugin new --lang` has it.
    language: &'static str,
    /// Size of the component.
    bytes: usize,
    /// Digest of the component, as a configuration's `sha256` has it.
    sha256: String,
}

pub(crate) fn execute(arguments: &Arguments) -> Exit {
    match Builder::new(arguments.toolchain).build(&arguments.folder) {
        Ok(component) if arguments.json => told(&arguments.folder, &component),
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

fn told(folder: &Path, component: &Path) -> Exit {
    let language = match Language::of(folder) {
        Ok(language) => language.name(),
        Err(error) => {
            complain_of(&error);
            return Exit::Fatal;
        }
    };
    match std::fs::read(component) {
        Ok(bytes) => {
            let (component, sha256) = (component.display().to_string(), Digest::of(&bytes).to_string());
            json::answer(&Answer { component, language, bytes: bytes.len(), sha256 }, Exit::Fine)
        }
        Err(error) => {
            complain(&format!("error: can't read {}, which was built just now: {error}", component.display()));
            Exit::Fatal
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
