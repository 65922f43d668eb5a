//! The programs that are there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::{TARGET, ToolchainError};

/// What the environment says about programs and folders, taken once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    /// `PATH`.
    pub(super) path: OsString,
    /// `RUSTC`, or `rustc`.
    pub(super) rustc: OsString,
    /// `CARGO`, or `cargo`.
    pub(super) cargo: OsString,
    /// Folder for what can be made again.
    pub(super) cache: Option<PathBuf>,
}

impl Tools {
    /// Those of this process.
    pub(super) fn from_env() -> Self {
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            // The specification has relative paths ignored.
            .filter(|folder| folder.is_absolute())
            .or_else(|| env::home_dir().map(|home| home.join(".cache")));
        Self {
            path: env::var_os("PATH").unwrap_or_default(),
            rustc: env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()),
            cargo: env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            cache,
        }
    }

    /// The compiler in use; its bare name where it is not on `PATH`, so that running it says so.
    pub(super) fn rustc(&self) -> PathBuf {
        self.resolve(&self.rustc)
    }

    /// A cargo that takes nothing from the environment which is meant for another build.
    pub(super) fn cargo(&self) -> Command {
        let mut cargo = Command::new(self.resolve(&self.cargo));
        cargo.env("PATH", &self.path);
        for variable in [
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTDOCFLAGS",
            "RUSTFLAGS",
        ] {
            cargo.env_remove(variable);
        }
        cargo
    }

    /// Looks a program up on `PATH`.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        env::split_paths(&self.path).map(|folder| folder.join(program)).find(|file| file.is_file())
    }

    fn resolve(&self, program: &OsString) -> PathBuf {
        program.to_str().and_then(|name| self.find(name)).unwrap_or_else(|| program.into())
    }

    /// Whether the compiler has a standard library for [`TARGET`].
    pub(super) fn has_std(&self, rustc: &Path) -> Result<bool, ToolchainError> {
        let folder = self.ask(rustc, &["--print", "target-libdir", "--target", TARGET])?;
        // A folder that is not there holds nothing.
        let Ok(entries) = fs::read_dir(folder.trim()) else { return Ok(false) };
        Ok(entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        }))
    }

    /// The folder of the programs that the compiler brings along for its host.
    pub(super) fn rustlib_bin(&self, rustc: &Path) -> Result<PathBuf, ToolchainError> {
        let sysroot = self.ask(rustc, &["--print", "sysroot"])?;
        let version = self.ask(rustc, &["-vV"])?;
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or_else(|| ToolchainError::Step {
                step: format!("learn the host of `{}`", rustc.display()),
                cause: format!("`-vV` does not name it: {version}"),
            })?;
        Ok(Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin"))
    }

    fn ask(&self, rustc: &Path, arguments: &[&str]) -> Result<String, ToolchainError> {
        let output = Command::new(rustc)
            .args(arguments)
            .env("PATH", &self.path)
            .output()
            .map_err(|cause| ToolchainError::NoRust { rustc: rustc.into(), cause })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(ToolchainError::Step {
            step: format!("ask the Rust compiler `{}` for {}", rustc.display(), arguments.join(" ")),
            cause: String::from_utf8_lossy(&output.stderr).trim().into(),
        })
    }

    /// Runs a program to its end, and returns what it wrote to its standard output. `step` says in an error what could
    /// not be done: "unpack the compiler".
    pub(super) fn run(&self, step: &str, command: &mut Command) -> Result<String, ToolchainError> {
        let failed = |cause| ToolchainError::Step { step: step.into(), cause };
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command
            .env("PATH", &self.path)
            .output()
            .map_err(|error| failed(format!("can't run `{program}`: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("`{program}` ended with {}: {}", output.status, said.trim())))
    }
}
