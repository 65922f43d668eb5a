//! Builds plugins from source.
//!
//! The answer is a component. For Rust, with [`LINKER`](crate::toolchain) as its linker, cargo's own output is one, and cargo
//! decides what is fresh, so a plugin that has not changed costs a tenth of a second. For other languages it is made of
//! what their compilers leave.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use pointsman_wasm::ComponentizeError;
use serde::Deserialize;
use thiserror::Error;

use crate::toolchain::{TARGET, Toolchain};

mod language;

pub use language::{Language, build_c, build_go, build_javascript, build_python};

/// Builds the Rust plugin whose `Cargo.toml` is in `source`, and returns the path of the component. `announce` gets what cargo
/// says, line by line.
///
/// It is built in the release profile, into the target folder of the plugin's own workspace.
///
/// # Errors
/// [`BuildError`].
pub fn build(source: &Path, toolchain: &Toolchain, announce: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let source = existing(source)?;
    let manifest = source.join("Cargo.toml");
    let artifacts = cargo_build(&source, toolchain, announce)?;
    let component = artifacts
        .into_iter()
        .find(|artifact| artifact.manifest_path.canonicalize().is_ok_and(|path| path == manifest))
        .ok_or_else(|| BuildError::NoLibrary { folder: source.clone() })?;
    component.checked()
}

/// Builds all Rust plugins of the workspace in `source` in one go, and returns the paths of the components by package name.
///
/// # Errors
/// [`BuildError`].
pub fn build_all(
    source: &Path,
    toolchain: &Toolchain,
    announce: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let source = existing(source)?;
    let mut components = BTreeMap::new();
    for artifact in cargo_build(&source, toolchain, announce)? {
        components.insert(artifact.package(), artifact.checked()?);
    }
    if components.is_empty() {
        return Err(BuildError::NoLibrary { folder: source });
    }
    Ok(components)
}

/// Why there is no component.
#[derive(Debug, Error)]
pub enum BuildError {
    /// There is no crate.
    #[error(
        "there is no Rust plugin in {}: can't read its Cargo.toml: {cause}; the README shows what a plugin's Cargo.toml says",
        .folder.display()
    )]
    NoSource {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The folder has no plugin in a language that is known.
    #[error(
        "there is no plugin in {}: it has neither a Cargo.toml (Rust) nor a go.mod (Go) nor a plugin.py (Python) nor a \
         plugin.js (JavaScript) nor a plugin.ts (TypeScript) nor a file *.c (C); name the folder of a plugin",
        .folder.display()
    )]
    NoLanguage {
        /// The folder.
        folder: PathBuf,
    },
    /// The compiler of a language is missing.
    #[error(
        "there is no compiler of {what}: looked for {looked_for}{}; {remedy}",
        .cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default()
    )]
    NoCompiler {
        /// The language.
        what: &'static str,
        /// Programs that were tried.
        looked_for: &'static str,
        /// How to get it.
        remedy: &'static str,
        /// What the system said.
        cause: Option<io::Error>,
    },
    /// What the compiler left is no plugin.
    #[error("{} can't be made a component: {cause}", .file.display())]
    Componentize {
        /// The core module.
        file: PathBuf,
        /// The cause.
        cause: ComponentizeError,
    },
    /// Something can't be written.
    #[error("can't write {}: {cause}", .file.display())]
    Unwritable {
        /// The file or folder.
        file: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// Cargo can't be run.
    #[error("can't run `{cargo}`: {cause}; install Rust with rustup")]
    NoCargo {
        /// The program.
        cargo: String,
        /// The cause.
        cause: io::Error,
    },
    /// The plugin does not compile, or its dependencies can't be had. The compiler has said why.
    #[error("can't build the plugin in {}", .folder.display())]
    Failed {
        /// The folder.
        folder: PathBuf,
    },
    /// The crate is no plugin.
    #[error(
        "the crate in {} gives no component; set `crate-type = [\"cdylib\"]` under `[lib]` in its Cargo.toml",
        .folder.display()
    )]
    NoLibrary {
        /// The folder.
        folder: PathBuf,
    },
    /// What was built is not a component.
    #[error(
        "{} is not a component; remove what sets another linker or `-C linker` for {TARGET} from the plugin's \
         .cargo/config.toml",
        .file.display()
    )]
    NotAComponent {
        /// The file.
        file: PathBuf,
    },
    /// What was built can't be read.
    #[error("can't read {}: {cause}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// The folder, if it holds a crate or a workspace.
fn existing(source: &Path) -> Result<PathBuf, BuildError> {
    let folder = source.canonicalize();
    let manifest = folder.and_then(|folder| folder.join("Cargo.toml").metadata().map(|_| folder));
    manifest.map_err(|cause| BuildError::NoSource { folder: source.into(), cause })
}

/// What cargo built, or found fresh.
#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    manifest_path: PathBuf,
    target: Target,
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// A line of `--message-format=json`.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artifact),
    #[serde(other)]
    Other,
}

impl Artifact {
    /// Name of the package: the last part of `path+file:///plugins/chaos#0.1.0` or of `…/folder#name@0.1.0`.
    fn package(&self) -> String {
        let (path, version) = self.package_id.rsplit_once('#').unwrap_or((&self.package_id, ""));
        match version.split_once('@') {
            Some((name, _)) => name.into(),
            None => path.rsplit('/').next().unwrap_or(path).into(),
        }
    }

    /// The component among the files, which is one by its first bytes.
    fn checked(self) -> Result<PathBuf, BuildError> {
        let Some(file) = self.filenames.into_iter().find(|file| file.extension().is_some_and(|end| end == "wasm"))
        else {
            return Err(BuildError::NoLibrary { folder: self.manifest_path });
        };
        let mut head = [0; 8];
        let read = File::open(&file).and_then(|mut opened| opened.read_exact(&mut head));
        read.map_err(|cause| BuildError::Unreadable { file: file.clone(), cause })?;
        if is_component(head) { Ok(file) } else { Err(BuildError::NotAComponent { file }) }
    }
}

/// Whether a file that begins so is a component. A core module has the layer 0 in its last two bytes, a component 1.
const fn is_component(head: [u8; 8]) -> bool {
    matches!(head, [0, b'a', b's', b'm', _, _, 1, 0])
}

/// Runs cargo in the folder, and returns the libraries that are components to be.
fn cargo_build(
    source: &Path,
    toolchain: &Toolchain,
    announce: &mut dyn FnMut(&str),
) -> Result<Vec<Artifact>, BuildError> {
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(source)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let failed = |cause| BuildError::NoCargo { cargo: cargo_name(&toolchain.cargo()), cause };
    let (status, messages) = cargo.spawn().and_then(|child| collect(child, announce)).map_err(failed)?;
    if !status.success() {
        return Err(BuildError::Failed { folder: source.into() });
    }
    let artifacts = messages.lines().filter_map(|line| match serde_json::from_str(line) {
        Ok(Message::CompilerArtifact(artifact)) => Some(artifact),
        // Cargo may have more to tell than we know of; what is not there in the end is missed by name.
        Ok(Message::Other) | Err(_) => None,
    });
    Ok(artifacts.filter(|artifact| artifact.target.kind.iter().any(|kind| kind == "cdylib")).collect())
}

fn cargo_name(cargo: &Command) -> String {
    cargo.get_program().to_string_lossy().into_owned()
}

/// Reads both outputs to their ends: were they read in turn, a full pipe would stop the child. The answer has what is on its
/// standard output.
fn collect(mut child: Child, announce: &mut dyn FnMut(&str)) -> io::Result<(ExitStatus, String)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let messages = thread::scope(|scope| {
        let messages = scope.spawn(|| {
            let mut text = Vec::new();
            stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut text)).map(|_| text)
        });
        for line in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n')) {
            announce(&String::from_utf8_lossy(&line?));
        }
        messages.join().unwrap_or_else(|_| Err(io::Error::other("the thread that reads its output is gone")))
    })?;
    Ok((child.wait()?, String::from_utf8_lossy(&messages).into_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    #[test]
    fn a_component_is_told_from_a_core_module() {
        for (head, expected) in
            [(*b"\0asm\x0d\0\x01\0", true), (*b"\0asm\x01\0\0\0", false), (*b"\x7fELF\x02\x01\x01\0", false)]
        {
            assert_eq!(is_component(head), expected, "{head:?}");
        }
    }

    #[test]
    fn cargo_messages_name_package_and_files() {
        let line = r#"{"reason":"compiler-artifact","package_id":"ID","manifest_path":"/p/Cargo.toml",
            "target":{"kind":["cdylib"],"name":"a_b"},"filenames":["/t/a_b.wasm"],"fresh":true}"#;
        for (id, name) in [("path+file:///p/a-b#0.1.0", "a-b"), ("path+file:///p/x#a-b@0.1.0", "a-b")] {
            let Message::CompilerArtifact(artifact) = serde_json::from_str(&line.replace("ID", id)).unwrap() else {
                panic!("an artifact is one");
            };
            assert_eq!(artifact.package(), name);
            assert_eq!(artifact.filenames, [Path::new("/t/a_b.wasm")]);
        }
        let other = r#"{"reason":"build-finished","success":true}"#;
        assert!(matches!(serde_json::from_str(other).unwrap(), Message::Other));
    }

    #[test]
    fn a_folder_without_a_crate_is_named() {
        let error = existing(Path::new("no/such/plugin")).unwrap_err().to_string();
        assert!(error.contains("no/such/plugin") && error.contains("Cargo.toml"), "{error}");
    }
}
