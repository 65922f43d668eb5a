//! Plugins that are given as source, for the commands that build them.

use std::path::{Path, PathBuf};

use super::complain;
use crate::plugin_build::{self, Language};
use crate::toolchain::{Toolchain, ToolchainChoice};
use crate::topology::StartError;

/// Builds plugins; the toolchain is looked for with the first, and kept for the others.
pub(crate) struct Builder {
    choice: ToolchainChoice,
    toolchain: Option<Toolchain>,
}

impl Builder {
    pub(crate) const fn new(choice: ToolchainChoice) -> Self {
        Self { choice, toolchain: None }
    }

    /// Makes a component from a plugin's folder, in whatever language. What that takes, and what the compiler says, is told
    /// to the user.
    pub(crate) fn build(&mut self, folder: &Path) -> Result<PathBuf, StartError> {
        match Language::of(folder)? {
            Language::Go => Ok(plugin_build::build_go(folder, &mut complain)?),
            Language::Python => Ok(plugin_build::build_python(folder, &mut complain)?),
            Language::JavaScript | Language::TypeScript => Ok(plugin_build::build_javascript(folder, &mut complain)?),
            Language::C => Ok(plugin_build::build_c(folder, &mut complain)?),
            Language::Rust => {
                let toolchain = match &mut self.toolchain {
                    Some(toolchain) => toolchain,
                    none => none.insert(Toolchain::find_or_make(self.choice, &mut complain)?),
                };
                Ok(plugin_build::build(folder, toolchain, &mut complain)?)
            }
        }
    }
}
