//! What the guides for authors of plugins show: each block of code is built, run, or read by what it is for.
//!
//! In a guide a block that follows a line with nothing but a file's name in back quotes is that file. The blocks of a section
//! are one folder, in which its commands are run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use pointsman_tests::places::{self, Scratch};
use pointsman_tests::{plugins, router};
use serde_json::Value;

use crate::languages::skipped;
use crate::sources;

/// The guides.
const GUIDES: [&str; 3] = ["plugin-sdk/README.md", "plugin-sdk/contract.md", "plugins/README.md"];

/// A fenced block of a guide.
#[derive(Debug)]
struct Block {
    /// The heading that it is under.
    section: String,
    /// The word behind its fence.
    language: String,
    /// The file that it is said to be.
    file: Option<String>,
    text: String,
}

fn blocks(guide: &str) -> Vec<Block> {
    let text = sources::read(guide);
    let (mut blocks, mut section, mut before) = (Vec::new(), String::new(), "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let file = before.strip_prefix('`').and_then(|name| name.strip_suffix("`:"));
            let (language, file) = (language.to_owned(), file.map(str::to_owned));
            blocks.push(Block { section: section.clone(), language, file, text: code.join("\n") + "\n" });
        }
        if line.starts_with('#') {
            section = line.trim_start_matches(['#', ' ']).to_owned();
        }
        if !line.trim().is_empty() {
            before = line;
        }
    }
    blocks
}

/// The commands of `pointsman` in a shell's text, without what is not about them.
fn commands(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter_map(|line| {
        let line = line.split(" #").next().unwrap_or(line);
        line.strip_prefix("pointsman ").map(|arguments| arguments.split_whitespace().collect())
    })
}

/// The program knows the command, and each of the options.
fn is_known(arguments: &[&str]) -> anyhow::Result<()> {
    let names: Vec<&str> =
        arguments.iter().copied().take_while(|word| word.chars().all(char::is_lowercase)).take(2).collect();
    let output = router::command()?.args(&names).arg("--help").output()?;
    let help = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "there is no command {names:?}: {}", String::from_utf8_lossy(&output.stderr));
    for option in arguments.iter().filter(|word| word.starts_with("--")) {
        ensure!(help.split([' ', ',', '\n', '[', '=']).any(|word| word == *option), "{names:?} has no option {option}");
    }
    Ok(())
}

#[test]
fn every_block_of_the_guides_is_what_it_seems() -> anyhow::Result<()> {
    let mut seen = BTreeMap::new();
    for guide in GUIDES {
        for block in blocks(guide) {
            *seen.entry(block.language.clone()).or_insert(0) += 1;
            let checked = match &*block.language {
                "json" => block.text.lines().try_for_each(|line| {
                    serde_json::from_str::<Value>(line).map(drop).with_context(|| line.to_owned())
                }),
                "toml" => toml::from_str::<toml::Table>(&block.text).map(drop).map_err(Into::into),
                "sh" => commands(&block.text).try_for_each(|arguments| is_known(&arguments)),
                // Built with the others of its section: `a_plugin_is_made_of_the_contract_alone`.
                "rust" if block.file.is_some() => Ok(()),
                other => bail!("{guide}: no test is known for a block of {other:?} under {:?}", block.section),
            };
            checked.with_context(|| format!("{guide}, under {:?}:\n{}", block.section, block.text))?;
        }
    }
    ensure!(seen["sh"] >= 4 && seen["json"] >= 3 && seen["toml"] >= 3 && seen["rust"] >= 1, "{seen:?}");
    Ok(())
}

/// The guide has the table that was kept last.
#[test]
fn costs_in_the_guide_are_those_that_were_measured() {
    let (guide, measured) = (sources::read("plugin-sdk/README.md"), sources::read("tests/bench/results/languages.md"));
    for line in measured.lines().filter(|line| line.starts_with('|')) {
        assert!(guide.lines().any(|other| other == line), "the guide lacks {line}");
    }
}

/// Verdicts in the guide have the form that the program reads.
#[test]
fn the_verdicts_of_the_guide_are_those_that_there_are() -> anyhow::Result<()> {
    let guide = blocks("plugin-sdk/README.md");
    let verdicts = guide.iter().find(|block| block.section == "Tests" && block.language == "json");
    let kinds: Vec<String> = verdicts
        .context("the guide shows verdicts")?
        .text
        .lines()
        .map(|line| match serde_json::from_str(line)? {
            Value::String(kind) => Ok(kind),
            Value::Object(verdict) => verdict.keys().next().cloned().context("an empty verdict"),
            other => bail!("{other} is no verdict"),
        })
        .collect::<anyhow::Result<_>>()?;
    assert_eq!(kinds, ["pass", "drop", "emit", "retry", "reject", "fails"]);
    Ok(())
}

#[test]
fn a_plugin_is_made_of_the_contract_alone() -> anyhow::Result<()> {
    let folder = Scratch::new("guide-")?;
    let guide = blocks("plugin-sdk/README.md");
    let section = || guide.iter().filter(|block| block.section == "Without an SDK");
    for block in section() {
        let Some(file) = &block.file else { continue };
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().context("a file is in a folder")?)?;
        fs::write(file, &block.text)?;
    }
    // What it needs has been built for other guests: the same versions, where it looks for them.
    let guests = places::workspace().canonicalize()?.join("tests/guests");
    plugins::component("mirror-records")?;
    fs::copy(guests.join("Cargo.lock"), folder.path().join("Cargo.lock"))?;
    std::os::unix::fs::symlink(guests.join("target"), folder.path().join("target"))?;
    let programs = folder.path().join("programs");
    fs::create_dir(&programs)?;
    std::os::unix::fs::symlink(router::command()?.get_program(), programs.join("pointsman"))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = [programs].into_iter().chain(std::env::split_paths(&path));
    let commands = section().find(|block| block.language == "sh").context("the section has commands")?;
    let output = Command::new("sh")
        .args(["-e", "-c", &commands.text])
        .current_dir(folder.path())
        .env("PATH", std::env::join_paths(paths)?)
        .env("POINTSMAN", places::workspace().canonicalize()?)
        .output()?;
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    ensure!(output.status.success() && said.contains("2 passed, 0 failed"), "{said}");
    ensure!(said.contains("pointsman:plugin/processor@0.1.0"), "it is inspected, too: {said}");
    Ok(())
}

/// The code in the comment that a file begins with: what is indented by `indent`, run by run.
fn shown(file: &str, indent: &str) -> Vec<String> {
    let text = sources::read(file);
    let mut runs = vec![String::new()];
    for line in text.lines() {
        match (line.strip_prefix(indent), line.trim_matches([' ', '*', '/']).is_empty()) {
            (Some(code), _) => *runs.last_mut().unwrap_or(&mut String::new()) += &format!("{code}\n"),
            // An empty line of the comment, between two lines of code.
            (None, true) => *runs.last_mut().unwrap_or(&mut String::new()) += "\n",
            (None, false) => runs.push(String::new()),
        }
    }
    runs.into_iter().filter(|run| !run.trim().is_empty()).collect()
}

/// A command ends well, where its program is there.
fn ends_well(program: &str, arguments: &[&str], folder: &Path, variable: (&str, PathBuf)) -> anyhow::Result<()> {
    match Command::new(program).args(arguments).current_dir(folder).env(variable.0, variable.1).output() {
        Ok(output) => {
            ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        }
        Err(error) => skipped(&format!("{program}: {error}")),
    }
}

#[test]
fn what_the_sdks_show_compiles() -> anyhow::Result<()> {
    let sdk = places::workspace().canonicalize()?.join("plugin-sdk");
    let folder = Scratch::new("shown-")?;
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);

    let [go] = &shown("plugin-sdk/go/pointsman.go", "//\t")[..] else { bail!("one program in Go is shown") };
    write("plugin.go", go)?;
    let requirement = format!("require pointsman v0.0.0\nreplace pointsman => {}\n", sdk.join("go").display());
    write("go.mod", &format!("module shown\n\ngo 1.24\n\n{requirement}"))?;
    ends_well("go", &["vet", "."], folder.path(), ("GOFLAGS", PathBuf::new()))?;

    let python = shown("plugin-sdk/python/pointsman/__init__.py", "    ");
    let python = python.first().context("a program in Python is shown")?;
    let indented = python.lines().all(|line| line.is_empty() || !line.starts_with('\t'));
    ensure!(indented && python.contains("pointsman.export(Recent)"), "{python}");
    write("plugin.py", python)?;
    let judge = "import plugin, pointsman\n\
        judge = lambda at: plugin.Recent('{}').process(pointsman.Event(timestamp_ms=at))\n\
        assert judge(1) == pointsman.drop('too-old') and judge(None) == pointsman.keep()";
    ends_well("python3", &["-c", judge], folder.path(), ("PYTHONPATH", sdk.join("python")))?;

    let (mut programs, mut parts) = (0, 0);
    for c in shown("plugin-sdk/c/pointsman.h", " *     ") {
        let text = if c.contains("#include") {
            programs += 1;
            c
        } else {
            parts += 1;
            format!(
                "#include \"pointsman.h\"\n#include <string.h>\n\
                 void shown(pointsman_answer *answer, const char *text) {{\n{c}}}\n"
            )
        };
        write("shown.c", &text)?;
        let include = format!("-I{}", sdk.join("c").display());
        let arguments = ["-std=c11", "-Wall", "-Werror", "-fsyntax-only", &include, "shown.c"];
        ends_well("cc", &arguments, folder.path(), ("LC_ALL", "C".into()))?;
    }
    assert_eq!((programs, parts), (1, 1), "what the SDK for C shows");
    Ok(())
}
