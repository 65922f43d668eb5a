//! The Rust plugins that tests run: those of `plugins/` and `tests/guests/`, built once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context as _, anyhow};
use pointsman::plugin_build;
use pointsman::toolchain::{Toolchain, ToolchainChoice};

use crate::places;

/// The workspaces of plugins.
const WORKSPACES: [&str; 2] = ["plugins", "tests/guests"];

/// The component of the plugin called `name`, such as `chaos` or `mirror`.
///
/// # Errors
/// When there is no such plugin, it does not compile, or no toolchain for plugins can be had.
pub fn component(name: &str) -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<BTreeMap<String, PathBuf>, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let components = built.as_ref().map_err(|error| anyhow!("can't build the plugins: {error}"))?;
    components.get(name).cloned().with_context(|| format!("there is no plugin {name} in {WORKSPACES:?}"))
}

fn build() -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut announce = |line: &str| eprintln!("{line}");
    let toolchain = Toolchain::find_or_make(ToolchainChoice::Auto, &mut announce)?;
    let mut components = BTreeMap::new();
    for workspace in WORKSPACES {
        components.append(&mut plugin_build::build_all(
            &places::workspace().join(workspace),
            &toolchain,
            &mut announce,
        )?);
    }
    Ok(components)
}
