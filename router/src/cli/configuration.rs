//! Reading a configuration file, for every command that takes one.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use pointsman_config::{ConfigErrors, Plan, Variables, Warning};
use thiserror::Error;

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

/// A configuration file can't be used.
#[derive(Debug, Error)]
pub(crate) enum Unusable {
    #[error("can't read the configuration {name}: {error}")]
    Unread { name: String, error: std::io::Error },
    #[error(transparent)]
    Wrong(#[from] ConfigErrors),
}

/// Reads and compiles `file`. All its mistakes, and its warnings, are printed.
pub(crate) fn load(file: &Path) -> Result<Configuration, Exit> {
    load_with(file, &Environment)
}

/// The same, with variables from elsewhere.
pub(crate) fn load_with(file: &Path, variables: &dyn Variables) -> Result<Configuration, Exit> {
    let colours = std::io::stderr().is_terminal();
    let (configuration, warnings) = read(file, variables).map_err(|unusable| {
        match unusable {
            Unusable::Wrong(errors) => complain(&errors.render(colours)),
            unread @ Unusable::Unread { .. } => complain(&format!("error: {unread}")),
        }
        Exit::Configuration
    })?;
    for warning in warnings {
        complain(&warning.render(colours));
    }
    Ok(configuration)
}

/// Reads and compiles `file`, and prints nothing.
pub(crate) fn read(file: &Path, variables: &dyn Variables) -> Result<(Configuration, Vec<Warning>), Unusable> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| Unusable::Unread { name: name.clone(), error })?;
    let (plan, warnings) = pointsman_config::compile(&text, &name, variables)?;
    let directory = file.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok((Configuration { plan, directory }, warnings))
}
