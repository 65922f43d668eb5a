//! New plugins: a folder with one that works, its tests, and a copy of the SDK, so that nothing has to be downloaded for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::plugin_build::Language;

/// A file that is written: its path in the new folder, and its text.
type File = (&'static str, &'static str);

/// Files of this repository by their paths below `from`, to be written below `to`.
macro_rules! files {
    ($from:literal => $to:literal: $($path:literal),+ $(,)?) => {
        &[$((concat!($to, $path), include_str!(concat!("../../plugin-sdk/", $from, $path)))),+]
    };
}

/// What a plugin in any language has.
const SAMPLES: &[File] = files!("template/" => "": "samples/events.jsonl", "samples/verdicts.jsonl");

const README: &str = include_str!("../../plugin-sdk/template/README.md.in");

/// What git is not to keep.
const IGNORED: File = (".gitignore", "/build/\n/target/\n/.venv/\n/node_modules/\n__pycache__/\n");

/// What a language brings.
struct Template {
    /// As the README calls it.
    language: &'static str,
    files: &'static [File],
    sdk: &'static [File],
    sdk_folder: &'static str,
    /// The file to begin with.
    source: &'static str,
    /// What runs the unit test.
    native: &'static str,
    /// Where the component is, with `{{name}}` and, as Rust writes it, `{{crate}}`.
    component: &'static str,
}

const RUST: Template = Template {
    language: "Rust",
    files: &[
        ("Cargo.toml", include_str!("../../plugin-sdk/rust/template/Cargo.toml.in")),
        ("src/lib.rs", include_str!("../../plugin-sdk/rust/template/src/lib.rs.in")),
    ],
    sdk: files!("rust/" => "pointsman-sdk/":
        "Cargo.toml", "src/allocator.rs", "src/batch.rs", "src/bindings.rs", "src/component.rs", "src/config.rs",
        "src/event.rs", "src/host.rs", "src/json.rs", "src/lib.rs", "src/testing.rs", "src/testing/columns.rs",
        "src/verdict.rs",
    ),
    sdk_folder: "pointsman-sdk",
    source: "src/lib.rs",
    native: "cargo test",
    component: "target/wasm32-unknown-unknown/release/{{crate}}.wasm",
};

const GO: Template = Template {
    language: "Go",
    files: &[
        ("go.mod", include_str!("../../plugin-sdk/go/template/go.mod.in")),
        ("plugin.go", include_str!("../../plugin-sdk/go/template/plugin.go.in")),
        ("plugin_test.go", include_str!("../../plugin-sdk/go/template/plugin_test.go.in")),
    ],
    sdk: files!("go/" => "pointsman/": "go.mod", "pointsman.go", "verdict.go", "columns.go", "component.go", "native.go"),
    sdk_folder: "pointsman",
    source: "plugin.go",
    native: "go test",
    component: "build/{{name}}.wasm",
};

const PYTHON: Template = Template {
    language: "Python",
    files: &[
        ("plugin.py", include_str!("../../plugin-sdk/python/template/plugin.py.in")),
        ("test_plugin.py", include_str!("../../plugin-sdk/python/template/test_plugin.py.in")),
    ],
    sdk: files!("python/pointsman/" => "pointsman/": "__init__.py", "component.py", "py.typed"),
    sdk_folder: "pointsman",
    source: "plugin.py",
    native: "python3 -m unittest",
    component: "build/{{name}}.wasm",
};

/// The SDK of both languages.
const JAVASCRIPT_SDK: &[File] = files!("js/" => "pointsman/":
    "package.json", "event.js", "host.component.js", "host.js", "json.js", "pointsman.d.ts", "pointsman.js", "text.js",
    "verdict.js",
);

const JAVASCRIPT: Template = Template {
    language: "JavaScript",
    files: &[
        ("package.json", include_str!("../../plugin-sdk/js/template/js/package.json.in")),
        ("plugin.js", include_str!("../../plugin-sdk/js/template/js/plugin.js.in")),
        ("plugin.test.js", include_str!("../../plugin-sdk/js/template/js/plugin.test.js.in")),
    ],
    sdk: JAVASCRIPT_SDK,
    sdk_folder: "pointsman",
    source: "plugin.js",
    native: "node --test",
    component: "build/{{name}}.wasm",
};

const TYPESCRIPT: Template = Template {
    language: "TypeScript",
    files: &[
        ("package.json", include_str!("../../plugin-sdk/js/template/ts/package.json.in")),
        ("tsconfig.json", include_str!("../../plugin-sdk/js/template/ts/tsconfig.json.in")),
        ("plugin.ts", include_str!("../../plugin-sdk/js/template/ts/plugin.ts.in")),
        ("plugin.test.ts", include_str!("../../plugin-sdk/js/template/ts/plugin.test.ts.in")),
    ],
    sdk: JAVASCRIPT_SDK,
    sdk_folder: "pointsman",
    source: "plugin.ts",
    native: "npm install && npm test",
    component: "build/{{name}}.wasm",
};

const C: Template = Template {
    language: "C",
    files: &[
        ("plugin.c", include_str!("../../plugin-sdk/c/template/plugin.c.in")),
        ("plugin_test.c", include_str!("../../plugin-sdk/c/template/plugin_test.c.in")),
        ("Makefile", include_str!("../../plugin-sdk/c/template/Makefile.in")),
    ],
    sdk: files!("c/" => "pointsman/": "pointsman.h", "pointsman.c"),
    sdk_folder: "pointsman",
    source: "plugin.c",
    native: "make test",
    component: "build/{{name}}.wasm",
};

/// A new plugin can't be made.
#[derive(Debug, Error)]
pub enum NewError {
    /// The name can't be that of a crate, a module and a file.
    #[error(
        "a plugin can't be called {name:?}; begin with a letter a-z, and go on with letters a-z, digits and `-`, 64 at most"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is something.
    #[error("{} is there already; remove it, or choose another name", .0.display())]
    Exists(PathBuf),
    /// A file can't be written.
    #[error("can't write {}: {cause}", .file.display())]
    Unwritable {
        /// The file or folder.
        file: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// Makes the folder of a plugin called `name` in `parent`, and returns its path.
///
/// # Errors
/// [`NewError`]. Nothing that is there is written over.
pub fn create(parent: &Path, name: &str, language: Language) -> Result<PathBuf, NewError> {
    let is_fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_fit) || name.len() > 64 {
        return Err(NewError::Name { name: name.into() });
    }
    let folder = parent.join(name);
    match fs::create_dir(&folder) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return Err(NewError::Exists(folder)),
        made => made.map_err(|cause| NewError::Unwritable { file: folder.clone(), cause })?,
    }
    let template = match language {
        Language::Rust => RUST,
        Language::Go => GO,
        Language::Python => PYTHON,
        Language::JavaScript => JAVASCRIPT,
        Language::TypeScript => TYPESCRIPT,
        Language::C => C,
    };
    let fill = |text: &str| {
        text.replace("{{component}}", template.component)
            .replace("{{language}}", template.language)
            .replace("{{source}}", template.source)
            .replace("{{native}}", template.native)
            .replace("{{sdk}}", template.sdk_folder)
            .replace("{{crate}}", &name.replace('-', "_"))
            .replace("{{name}}", name)
    };
    let filled = template.files.iter().chain(SAMPLES).chain([&IGNORED]).map(|(path, text)| (*path, fill(text)));
    let copied = template.sdk.iter().map(|(path, text)| (*path, (*text).to_owned()));
    for (path, text) in filled.chain([("README.md", fill(README))]).chain(copied) {
        let file = folder.join(path);
        let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, text));
        written.map_err(|cause| NewError::Unwritable { file, cause })?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_new_plugin_has_its_name_in_all_its_places() {
        for (language, template) in [
            (Language::Rust, RUST),
            (Language::Go, GO),
            (Language::Python, PYTHON),
            (Language::JavaScript, JAVASCRIPT),
            (Language::TypeScript, TYPESCRIPT),
            (Language::C, C),
        ] {
            let parent = tempfile::tempdir().unwrap();
            let folder = create(parent.path(), "by-country", language).unwrap();
            assert_eq!(Language::of(&folder).unwrap(), language);
            for (path, _) in template.files.iter().chain([&("README.md", "")]) {
                let text = fs::read_to_string(folder.join(path)).unwrap();
                for place in ["component", "language", "source", "native", "sdk", "crate", "name"] {
                    assert!(!text.contains(&format!("{{{{{place}}}}}")), "{language:?}: {path}: {text}");
                }
            }
            let again = create(parent.path(), "by-country", language).unwrap_err();
            assert!(matches!(again, NewError::Exists(_)), "{again}");
        }
    }

    #[test]
    fn names_are_those_of_crates_modules_and_files() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["", "-a", "1a", "A", "a_b", "a/b", "../a", "é", &"a".repeat(65)] {
            let refused = create(parent.path(), name, Language::C).unwrap_err();
            assert!(matches!(refused, NewError::Name { .. }), "{name}: {refused}");
        }
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    /// Paths of files below `folder`, but for those of tests, templates and what is built.
    fn below(folder: &Path, inside: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder.join(inside)).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
            let is_left_out = ["template", "target", "bindings", "tests", "Cargo.lock", "__pycache__", "node_modules"]
                .contains(&&*name);
            if folder.join(&path).is_dir() && !is_left_out {
                below(folder, &path, found);
            } else if !is_left_out && !name.ends_with("_test.go") && !name.ends_with(".test.js") {
                found.insert(path);
            }
        }
    }

    #[test]
    fn the_copy_of_an_sdk_is_whole() {
        for (template, folder) in
            [(RUST, "rust"), (GO, "go"), (PYTHON, "python/pointsman"), (JAVASCRIPT, "js"), (C, "c")]
        {
            let mut files = BTreeSet::new();
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk").join(folder);
            below(&root, "", &mut files);
            let copied = template.sdk.iter().map(|(path, _)| path.split_once('/').unwrap().1.to_owned()).collect();
            assert_eq!(files, copied);
        }
    }
}
