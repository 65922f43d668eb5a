//! The plugins of `plugins/`: each passes its unit test, and judges its samples as it is to, in the sandbox.
//!
//! A folder with samples is a test. Those in Rust are one workspace, whose unit tests `.ci/run` runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use pointsman::plugin_build::Language;
use pointsman_tests::{places, router};

use crate::languages::skipped;
use crate::sources;

fn folder() -> PathBuf {
    places::workspace().join("plugins")
}

/// The folders that hold a plugin, by name, in order.
fn examples() -> anyhow::Result<Vec<(String, Language)>> {
    let mut examples = Vec::new();
    for entry in folder().read_dir()? {
        let entry = entry?;
        if let Ok(language) = Language::of(&entry.path()) {
            examples.push((entry.file_name().to_string_lossy().into_owned(), language));
        }
    }
    examples.sort_by(|one, other| one.0.cmp(&other.0));
    ensure!(examples.len() >= 11, "the examples are not found");
    Ok(examples)
}

/// Runs a program in a folder. The answer is what it says, where it has succeeded; `None` where it is not there.
fn run(mut command: Command, folder: &Path) -> anyhow::Result<Option<String>> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.current_dir(folder).output() {
        Ok(output) => {
            let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
            // There is a compiler missing.
            if output.status.code() == Some(3) && said.contains("there is no compiler of") {
                return skipped(&said).map(|()| None);
            }
            ensure!(output.status.success(), "{program} in {}: {said}", folder.display());
            Ok(Some(said))
        }
        Err(error) => skipped(&format!("{program}: {error}")).map(|()| None),
    }
}

#[test]
fn each_example_judges_its_samples_as_it_is_to() -> anyhow::Result<()> {
    let mut tested = 0;
    let mut failures = Vec::new();
    for (name, _) in examples()? {
        let samples = folder().join(&name).join("samples/events.jsonl");
        let Ok(events) = fs::read_to_string(&samples) else { continue };
        let mut test = router::command()?;
        test.args(["plugin", "test", &name]);
        tested += 1;
        match run(test, &folder()) {
            Ok(Some(said)) if !said.contains(&format!("{} passed, 0 failed", events.lines().count())) => {
                failures.push(said);
            }
            Ok(_) => {}
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    ensure!(tested >= 10, "only {tested} examples have samples");
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

#[test]
fn each_example_in_another_language_passes_its_unit_test() -> anyhow::Result<()> {
    for (name, language) in examples()? {
        let command = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments);
            command
        };
        let mut test = match language {
            Language::Rust => continue,
            Language::Go => command("go", &["test", "./..."]),
            Language::Python => command("python3", &["-m", "unittest"]),
            Language::C => command("make", &["test"]),
            Language::JavaScript | Language::TypeScript => command("npm", &["test"]),
        };
        test.env("PYTHONPATH", places::workspace().join("plugin-sdk/python"));
        run(test, &folder().join(name))?;
    }
    Ok(())
}

#[test]
fn the_readme_lists_each_example_with_its_configuration() -> anyhow::Result<()> {
    let readme = sources::read("plugins/README.md");
    for (name, _) in examples()? {
        let row = readme.lines().find(|line| line.starts_with(&format!("| [{name}]({name}) |")));
        let row = row.with_context(|| format!("plugins/README.md has no row for {name}"))?;
        let config = row.rsplit('|').nth(1).unwrap_or_default().trim().trim_matches('`');
        let config: toml::Table = match toml::from_str(config) {
            Ok(config) => config,
            Err(error) => bail!("the configuration of {name} is not TOML: {config}: {error}"),
        };
        ensure!(config.contains_key("config"), "{name}: {config:?}");
    }
    Ok(())
}
