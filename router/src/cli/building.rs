//! Plugins that are given as source, for the commands that build them.

use std::path::{Path, PathBuf};

use super::complain;
use crate::plugin_build;
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

    /// Makes a component from a plugin's folder. What that takes, and what the compiler says, is told to the user.
    pub(crate) fn build(&mut self, folder: &Path) -> Result<PathBuf, StartError> {
        let toolchain = match &mut self.toolchain {
            Some(toolchain) => toolchain,
            none => none.insert(Toolchain::find_or_make(self.choice, &mut complain)?),
        };
        Ok(plugin_build::build(folder, toolchain, &mut complain)?)
    }
}
