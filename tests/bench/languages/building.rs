//! Components of each language, by the program itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use pointsman_tests::places::Scratch;
use pointsman_tests::router;

/// Builds the plugin in this folder.
pub(crate) fn component(folder: &Path) -> anyhow::Result<PathBuf> {
    Ok(PathBuf::from(program(&[OsStr::new("plugin"), OsStr::new("build"), folder.as_os_str()], None)?.trim()))
}

/// How long it takes to build a new plugin of this language: with caches that are empty, and once more.
pub(crate) fn new_plugin(language: &str) -> anyhow::Result<[Duration; 2]> {
    let folder = Scratch::new("building-")?;
    program(&["plugin", "new", "--lang", language, "fresh"].map(OsStr::new), Some(folder.path()))?;
    let build = || {
        let began = Instant::now();
        program(&["plugin", "build", "fresh"].map(OsStr::new), Some(folder.path()))?;
        Ok(began.elapsed())
    };
    let cold: anyhow::Result<Duration> = build();
    Ok([cold?, build()?])
}

/// Runs `pointsman`, in this folder if there is one, where compilers keep what they keep, too.
fn program(arguments: &[&OsStr], folder: Option<&Path>) -> anyhow::Result<String> {
    let mut command = router::command()?;
    command.args(arguments);
    if let Some(folder) = folder {
        command.current_dir(folder);
        for (variable, name) in [("GOCACHE", "go"), ("ZIG_GLOBAL_CACHE_DIR", "zig"), ("npm_config_cache", "npm")] {
            command.env(variable, folder.join("caches").join(name));
        }
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
