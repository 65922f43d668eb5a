//! Reading a configuration file, for every command that takes one.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use pointsman_config::{Plan, Variables};

use super::{Exit, complain};

/// Variables are those of the environment.
pub(crate) struct Environment;

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// A configuration file, compiled.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) plan: Plan,
    /// The folder of the file: paths in it start here.
    pub(crate) directory: PathBuf,
}

/// Reads and compiles `file`. All its mistakes, and its warnings, are printed.
pub(crate) fn load(file: &Path) -> Result<Configuration, Exit> {
    load_with(file, &Environment)
}

/// The same, with variables from elsewhere.
pub(crate) fn load_with(file: &Path, variables: &dyn Variables) -> Result<Configuration, Exit> {
    let colours = std::io::stderr().is_terminal();
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        complain(&format!("error: can't read the configuration {name}: {error}"));
        Exit::Configuration
    })?;
    let (plan, warnings) = pointsman_config::compile(&text, &name, variables).map_err(|errors| {
        complain(&errors.render(colours));
        Exit::Configuration
    })?;
    for warning in warnings {
        complain(&warning.render(colours));
    }
    let directory = file.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(Configuration { plan, directory })
}
