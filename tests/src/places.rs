//! Where things are: the workspace, its target folder, and folders for files that a test makes.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The folder of the test's own profile: where its binaries are, `target/debug` for instance.
///
/// # Errors
/// When the test binary was moved away.
pub fn profile() -> anyhow::Result<PathBuf> {
    let exe = env::current_exe().context("can't find the path of this test binary")?;
    exe.ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "deps"))
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .with_context(|| format!("{} is in no `deps` folder of Cargo; run it by `cargo test`", exe.display()))
}

/// A folder for what the tests keep between runs, such as the jars of Kafka: beside the folders of Cargo's profiles, so that
/// all of them share it.
///
/// # Errors
/// When it can't be made.
pub fn cache() -> anyhow::Result<PathBuf> {
    let folder = profile()?.with_file_name("pointsman-tests");
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    Ok(folder)
}

/// Waits until no other process holds the lock called `name`; it is held until the answer is dropped.
///
/// # Errors
/// When the lock file can't be made or locked.
pub fn lock(name: &str) -> anyhow::Result<File> {
    let path = cache()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("can't make {}", path.display()))?;
    file.lock().with_context(|| format!("can't lock {}", path.display()))?;
    Ok(file)
}

/// A folder that goes when it is dropped; one that a killed test left behind goes when the next is made.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    /// Says that somebody still uses the folder.
    _lock: File,
}

impl Scratch {
    /// Makes a folder, called after `prefix`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(prefix: &str) -> anyhow::Result<Self> {
        let all = cache()?.join("scratch");
        fs::create_dir_all(&all).with_context(|| format!("can't make {}", all.display()))?;
        // Nobody removes leftovers between the making of a folder and its lock.
        let _making = lock("scratch")?;
        remove_leftovers(&all)?;
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(&all)
            .with_context(|| format!("can't make a folder in {}", all.display()))?;
        let lock = File::create(folder.path().join(IN_USE)).context("can't make a lock file")?;
        lock.lock().context("can't lock a new file")?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The lock file in each scratch folder.
const IN_USE: &str = "in-use.lock";

fn remove_leftovers(all: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(all).with_context(|| format!("can't read {}", all.display()))? {
        let folder = entry.with_context(|| format!("can't read {}", all.display()))?.path();
        let in_use = File::open(folder.join(IN_USE)).is_ok_and(|file| file.try_lock().is_err());
        if !in_use {
            // Its owner may be removing it right now.
            drop(fs::remove_dir_all(&folder));
        }
    }
    Ok(())
}
