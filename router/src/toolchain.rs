//! A Rust compiler that can build plugins: one whose target `wasm32-unknown-unknown` has a standard library.
//!
//! One that is installed is used. Otherwise one is made, without root and without touching what is installed, and kept
//! for the next time: see [`ToolchainChoice`]. Whatever is going to be downloaded is announced before.

mod debian;
mod tools;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

pub(crate) use self::tools::Tools;

/// The target of Rust plugins. It has no WASI: a component built for it imports nothing but what its plugin uses.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The linker whose output is a component. It comes with rustc, and needs rust-lld or wasm-ld beside it.
pub(crate) const LINKER: &str = "wasm-component-ld";

/// Where the compiler may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ToolchainChoice {
    /// The first that works: `installed`, then `debian` where there is `apt-get` with such a package, then
    /// `rustup`.
    #[default]
    Auto,
    /// The compiler in `RUSTC`, or `rustc`, as it is. Nothing is downloaded.
    Installed,
    /// Debian's `rustc-web`, unpacked into the user's cache folder (500 MB, nothing is installed), with the standard
    /// library built once from its source.
    Debian,
    /// `rustup target add wasm32-unknown-unknown`, for rustup's active toolchain.
    Rustup,
}

/// A compiler for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    tools: Tools,
    rustc: PathBuf,
}

impl Toolchain {
    /// Finds a toolchain, or makes one. `announce` gets a line before each step that downloads or takes long, and none
    /// where nothing has to be done, which takes a tenth of a second.
    ///
    /// One process makes it at a time; others wait.
    ///
    /// # Errors
    /// [`ToolchainError`].
    pub fn find_or_make(choice: ToolchainChoice, announce: &mut dyn FnMut(&str)) -> Result<Self, ToolchainError> {
        Self::find_or_make_with(Tools::from_env(), choice, announce)
    }

    fn find_or_make_with(
        tools: Tools,
        choice: ToolchainChoice,
        announce: &mut dyn FnMut(&str),
    ) -> Result<Self, ToolchainError> {
        let rustc = match choice {
            ToolchainChoice::Auto => auto(&tools, announce)?,
            ToolchainChoice::Installed => {
                installed(&tools)?.ok_or_else(|| ToolchainError::NoTarget { rustc: tools.rustc() })?
            }
            ToolchainChoice::Debian => debian::find_or_make(&tools, announce)?,
            ToolchainChoice::Rustup => rustup(&tools, announce)?,
        };
        Ok(Self { tools, rustc })
    }

    /// The compiler.
    #[must_use]
    pub fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// A cargo command that builds components with this compiler, wherever it is run.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = self.tools.cargo();
        if self.rustc != self.tools.rustc() {
            cargo.env("RUSTC", &self.rustc);
        }
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", LINKER);
        cargo
    }
}

/// Why there is no toolchain.
#[derive(Debug, Error)]
pub enum ToolchainError {
    /// No Rust at all.
    #[error("can't run the Rust compiler `{}`: {cause}; install Rust with rustup, or set RUSTC", .rustc.display())]
    NoRust {
        /// What was tried.
        rustc: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The compiler in use has no standard library for the target, and nothing else was allowed.
    #[error(
        "the Rust compiler `{}` has no standard library for {TARGET}; run `rustup target add {TARGET}`, or allow another \
         toolchain than `installed`",
        .rustc.display()
    )]
    NoTarget {
        /// The compiler.
        rustc: PathBuf,
    },
    /// There is no tool to get a toolchain with.
    #[error(
        "no `{tool}` is on PATH to get the target {TARGET} for Rust plugins with; install rustup, then run `rustup target add {TARGET}`"
    )]
    NoTool {
        /// What was looked for.
        tool: &'static str,
    },
    /// This distribution does not have the packages.
    #[error("apt knows no package `rustc-web`; install rustup, then run `rustup target add {TARGET}`")]
    NoPackage,
    /// No linker for components.
    #[error(
        "`{linker}` is neither in {} nor on PATH, so nothing can link a component; use a Rust toolchain of rustup, which \
         brings it along",
        .folder.display()
    )]
    NoLinker {
        /// The program.
        linker: &'static str,
        /// Where rustc keeps its own linkers.
        folder: PathBuf,
    },
    /// No place to keep a toolchain in.
    #[error("there is no folder to keep a Rust toolchain in; set XDG_CACHE_HOME or HOME")]
    NoCacheFolder,
    /// Others may have put something there that would be run.
    #[error(
        "{} is not this user's alone, and what is in it would be run; remove it, and it is made anew", .folder.display()
    )]
    NotOurs {
        /// The folder of the toolchain.
        folder: PathBuf,
    },
    /// A step failed.
    #[error("can't {step}: {cause}")]
    Step {
        /// What was tried.
        step: String,
        /// What the tool said, or the operating system.
        cause: String,
    },
}

/// The installed compiler, if it has the target.
fn installed(tools: &Tools) -> Result<Option<PathBuf>, ToolchainError> {
    let rustc = tools.rustc();
    Ok(tools.has_std(&rustc)?.then_some(rustc))
}

fn auto(tools: &Tools, announce: &mut dyn FnMut(&str)) -> Result<PathBuf, ToolchainError> {
    if let Some(rustc) = installed(tools)? {
        return Ok(rustc);
    }
    if tools.find("apt-get").is_some() {
        match debian::find_or_make(tools, announce) {
            // Any other failure may pass, or has a remedy: to go on with another download would hide it.
            Err(ToolchainError::NoPackage) => announce("apt knows no package rustc-web; trying rustup"),
            made => return made,
        }
    }
    rustup(tools, announce)
}

/// Adds the target to rustup's active toolchain.
fn rustup(tools: &Tools, announce: &mut dyn FnMut(&str)) -> Result<PathBuf, ToolchainError> {
    let rustup = tools.find("rustup").ok_or(ToolchainError::NoTool { tool: "rustup" })?;
    announce(&format!("downloading the Rust target {TARGET} (rustup target add {TARGET})"));
    tools.run("add the Rust target", Command::new(rustup).args(["target", "add", TARGET]))?;
    installed(tools)?.ok_or_else(|| ToolchainError::NoTarget { rustc: tools.rustc() })
}

#[cfg(test)]
mod tests;
